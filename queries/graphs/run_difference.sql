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
ends as (
    select
        run_id = $run as here,
        kind,
        source_layer,
        source_feature,
        if(target_feature is null, null, target_layer) as target_layer,
        if(target_layer is null, null, target_feature) as target_feature,
        if(target_layer is null or target_feature is null, target_kind, null) as target_kind,
        weight
    from edge
    where accepted
        and source_feature is not null
        and (run_id = $run or run_id in (select run_id from other))
        and ($kind is null or kind::varchar = $kind)
),
strongest as materialized (
    select
        here,
        kind,
        source_layer,
        source_feature,
        target_layer,
        target_feature,
        target_kind,
        if(max(weight) >= -min(weight), max(weight), min(weight)) as weight
    from ends
    group by here, kind, source_layer, source_feature, target_layer, target_feature, target_kind
),
this as (
    select * from strongest where here
),
that as (
    select * from strongest where not here
),
joined as (
    select
        coalesce(a.kind, b.kind) as kind,
        coalesce(a.source_layer, b.source_layer) as source_layer,
        coalesce(a.source_feature, b.source_feature) as source_feature,
        coalesce(a.target_layer, b.target_layer) as target_layer,
        coalesce(a.target_feature, b.target_feature) as target_feature,
        coalesce(a.target_kind, b.target_kind) as target_kind,
        a.weight as weight_this,
        b.weight as weight_other
    from this a
    full join that b
        on b.kind = a.kind
        and b.source_layer is not distinct from a.source_layer
        and b.source_feature = a.source_feature
        and b.target_layer is not distinct from a.target_layer
        and b.target_feature is not distinct from a.target_feature
        and b.target_kind is not distinct from a.target_kind
),
picked as (
    select *, abs(coalesce(weight_this, 0) - coalesce(weight_other, 0)) as distance
    from joined
    order by distance desc, kind, source_layer, source_feature, target_layer, target_feature, target_kind
    limit $top
)
select
    kind::varchar as kind,
    'L' || source_layer || '_F' || source_feature as source_name,
    coalesce('L' || target_layer || '_F' || target_feature, target_kind::varchar) as target_name,
    case when weight_other is null then 'this' when weight_this is null then 'other' else 'both' end as found_in,
    weight_this,
    weight_other,
    weight_other - weight_this as difference,
    sign(weight_this) = sign(weight_other) as same_sign
from picked
order by distance desc, kind, source_name, target_name;
