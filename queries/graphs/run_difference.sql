-- What does one run's graph have that another's has not, and which weights changed?
--
-- Edges are matched by the features at their ends, over all graphs of a run; of several edges between two features the strongest counts.
-- decides: whether a circuit survives another seed, prompt set or version
-- grain: one row per kind and pair of features in either run
-- main: edge
-- key: kind, source_name, target_name
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   other | varchar | null | id of the other run; null is the newest other complete run with edges
--   kind | varchar | null | only this kind; null is all | star_total, star_direct, virtual_weight, attribution, causal
--   top | integer | 1000 | rows at most
-- columns:
--   kind | varchar | - | kind of edge
--   source_name | varchar | - | source feature
--   target_name | varchar | - | target feature, or the kind of another target
--   found_in | varchar | - | both, this or other
--   weight_this | double | - | weight in this run
--   weight_other | double | - | weight in the other run
--   difference | double | - | weight_other - weight_this
--   same_sign | boolean | - | null where it is in one run only
with other as (
    select run_id
    from run
    where state = 'complete'
        and run_id <> $run
        and run_id = coalesce($other, run_id)
        and exists (select 1 from edge e where e.run_id = run.run_id)
    order by kind, coalesce(finished_at, started_at) desc nulls last, run_id
    limit 1
),
named as (
    select
        run_id,
        kind,
        'L' || source_layer || '_F' || source_feature as source_name,
        coalesce('L' || target_layer || '_F' || target_feature, target_kind::varchar) as target_name,
        arg_max(weight, (abs(weight), -graph, -source, -target)) as weight
    from edge
    where accepted
        and source_feature is not null
        and (run_id = $run or run_id in (select run_id from other))
        and ($kind is null or kind::varchar = $kind)
    group by run_id, kind, source_name, target_name
),
this as (
    select * from named where run_id = $run
),
that as (
    select * from named where run_id <> $run
)
select
    coalesce(a.kind, b.kind)::varchar as kind,
    coalesce(a.source_name, b.source_name) as source_name,
    coalesce(a.target_name, b.target_name) as target_name,
    case when b.weight is null then 'this' when a.weight is null then 'other' else 'both' end as found_in,
    a.weight as weight_this,
    b.weight as weight_other,
    b.weight - a.weight as difference,
    sign(a.weight) = sign(b.weight) as same_sign
from this a
full join that b on b.kind = a.kind and b.source_name = a.source_name and b.target_name = a.target_name
order by abs(coalesce(a.weight, 0) - coalesce(b.weight, 0)) desc, kind, source_name, target_name
limit $top;
