-- How are a feature's activations distributed?
--
-- Without layer and feature: the one that is active on most prompts.
-- decides: where to put a threshold, and whether a feature has two regimes
-- grain: one row per bin
-- main: histogram
-- key: bin
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | layer; null is any
--   feature | integer | null | feature; null is any
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   bin | smallint | - | ordinal
--   low | float | activation | lower edge
--   high | float | activation | upper edge
--   n | bigint | tokens | activations in the bin
--   share | double | share | of all positive activations
with chosen as (
    select layer, feature
    from feature
    where run_id = $run and ($layer is null or layer = $layer) and ($feature is null or feature = $feature)
    order by n_prompts_active desc, max_activation desc nulls last, layer, feature
    limit 1
)
select h.layer, h.feature, h.bin, h.low, h.high, h.n, h.n / sum(h.n) over () as share
from histogram h
join chosen using (layer, feature)
where h.run_id = $run
order by h.bin;
