-- Which features fire far more or far less often than their layer's others?
--
-- Distance from the layer's median of log10 density in robust standard deviations (1.4826 x median absolute deviation), live features only.
-- decides: which features to look at for artefacts of the dictionary
-- grain: one row per feature
-- main: feature
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   deviations | double | 2 | least distance from the median
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   density | double | share | active tokens / tokens
--   median_density | double | share | median of the layer's live features
--   deviations | double | robust sd | signed distance in log10 density
--   n_prompts_active | integer | prompts | prompts with an active token
--   max_activation | float | activation | largest value
with live as (
    select layer, feature, density, log10(density) as log_density, n_prompts_active, max_activation
    from feature
    where run_id = $run and n_active > 0 and density > 0
),
centre as (
    select layer, median(log_density) as centre
    from live
    group by layer
),
spread as (
    select l.layer, any_value(c.centre) as centre, 1.4826 * median(abs(l.log_density - c.centre)) as spread
    from live l
    join centre c using (layer)
    group by l.layer
),
placed as (
    select l.*, s.centre, (l.log_density - s.centre) / nullif(s.spread, 0) as deviations
    from live l
    join spread s using (layer)
)
select
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    density,
    power(10, centre) as median_density,
    deviations,
    n_prompts_active,
    max_activation
from placed
where abs(deviations) >= $deviations
order by abs(deviations) desc, layer, feature
limit $top;
