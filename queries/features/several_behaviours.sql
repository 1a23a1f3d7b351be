-- Which features serve several behaviours?
--
-- decides: which features are machinery of the model and not of one task
-- grain: one row per feature
-- main: feature_behaviour
-- fits: several_behaviours
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with several behaviours
--   rate | double | 0.1 | least share of a behaviour's prompts with the feature active
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   n_behaviours | bigint | behaviours | behaviours at the rate
--   behaviours | varchar[] | - | their names
--   rates | double[] | share | share of each one's prompts
--   lowest_rate | double | share | smallest of these
with frequent as (
    -- Over all languages a rate is not above the largest of one language: a feature that reaches it nowhere need not be counted.
    select distinct layer, feature
    from feature_behaviour
    where run_id = $run
        and role is null
        and ($layer is null or layer = $layer)
        and n_prompts_active >= $rate * n_prompts * 0.999999
),
counted as (
    select b.layer, b.feature, b.behaviour, sum(b.n_prompts_active) as n_active
    from feature_behaviour b
    semi join frequent f on f.layer = b.layer and f.feature = b.feature
    where b.run_id = $run and b.role is null and ($layer is null or b.layer = $layer)
    group by b.layer, b.feature, b.behaviour
),
size as (
    select behaviour, count(*) as n_prompts
    from prompt
    where run_id = $run
    group by behaviour
),
rates as (
    select c.layer, c.feature, c.behaviour, c.n_active / s.n_prompts as rate
    from counted c
    join size s using (behaviour)
    where c.n_active / s.n_prompts >= $rate
)
select
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    count(*) as n_behaviours,
    list(behaviour order by behaviour) as behaviours,
    list(rate order by behaviour) as rates,
    min(rate) as lowest_rate
from rates
group by layer, feature
having count(*) >= 2
order by n_behaviours desc, lowest_rate desc, layer, feature
limit $top;
