-- How many features of each layer never fire, fire once, or fire all the time?
--
-- decides: whether the prompts cover what the dictionary can say
-- grain: one row per layer
-- main: feature
-- key: layer
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   always | double | 0.5 | density from which a feature counts as always on
-- columns:
--   layer | smallint | - | layer
--   n_features | bigint | features | features of the layer
--   n_dead | bigint | features | never active
--   dead_share | double | share | n_dead / n_features
--   n_once | bigint | features | active at one token
--   n_always | bigint | features | density at least `always`
--   median_density | double | share | median of the live ones
--   n_tokens | bigint | tokens | tokens looked at
select
    layer,
    count(*) as n_features,
    count(*) filter (where n_active = 0) as n_dead,
    count(*) filter (where n_active = 0) / count(*) as dead_share,
    count(*) filter (where n_active = 1) as n_once,
    count(*) filter (where density >= $always) as n_always,
    median(density) filter (where n_active > 0) as median_density,
    max(n_tokens) as n_tokens
from feature
where run_id = $run
group by layer
order by layer;
