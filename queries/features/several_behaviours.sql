-- Which features serve several behaviours?
--
-- decides: which features are machinery of the model and not of one task
-- grain: one row per feature
-- main: activation
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
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
with sink as (
    select item as prompt, position
    from token
    where run_id = $run and source = 'prompt' and role = 'sink'
),
size as (
    select behaviour, count(*) as n_prompts
    from prompt
    where run_id = $run
    group by behaviour
),
active as (
    select distinct a.layer, a.feature, a.prompt
    from activation a
    anti join sink using (prompt, position)
    where a.run_id = $run and ($layer is null or a.layer = $layer)
),
rates as (
    select a.layer, a.feature, p.behaviour, count(*) / any_value(s.n_prompts) as rate
    from active a
    join prompt p on p.run_id = $run and p.prompt = a.prompt
    join size s using (behaviour)
    group by a.layer, a.feature, p.behaviour
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
where rate >= $rate
group by layer, feature
having count(*) >= 2
order by n_behaviours desc, lowest_rate desc, layer, feature
limit $top;
