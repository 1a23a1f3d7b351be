-- What does one run's graph have that another's has not, and which weights changed?
--
-- Edges are matched by the features at their ends, over all graphs of a run; of several edges between two features the strongest counts.
-- decides: whether a circuit survives another seed, prompt set or version
-- grain: one row per kind and pair of features in either run
-- main: edge
-- key: kind, source_name, target_name
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   other | varchar | null | id of the other run; null is the newest other complete run with edges between
--     features of the same dictionary
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
        and ($other is not null or transcoder_set is not distinct from (select transcoder_set from run where run_id = $run))
        and exists (select 1 from edge e where e.run_id = run.run_id)
    order by kind, coalesce(finished_at, started_at) desc nulls last, run_id
    limit 1
),
-- An end is one number: layer and feature, or minus the kind of a node that is no feature. Names are made for what is shown.
ends as (
    select
        run_id = $run as here,
        kind,
        source_layer::bigint * 4294967296 + source_feature as source_end,
        coalesce(target_layer::bigint * 4294967296 + target_feature, -1 - enum_code(target_kind)) as target_end,
        weight
    from edge
    where accepted
        and source_feature is not null
        and (run_id = $run or run_id in (select run_id from other))
        and ($kind is null or kind::varchar = $kind)
),
strongest as materialized (
    select here, kind, source_end, target_end, if(max(weight) >= -min(weight), max(weight), min(weight)) as weight
    from ends
    group by here, kind, source_end, target_end
),
joined as (
    select
        coalesce(a.kind, b.kind) as kind,
        coalesce(a.source_end, b.source_end) as source_end,
        coalesce(a.target_end, b.target_end) as target_end,
        a.weight as weight_this,
        b.weight as weight_other
    from (select * from strongest where here) a
    full join (select * from strongest where not here) b
        on b.kind = a.kind and b.source_end = a.source_end and b.target_end = a.target_end
),
picked as (
    select *, abs(coalesce(weight_this, 0) - coalesce(weight_other, 0)) as distance
    from joined
    order by distance desc, kind, source_end, target_end
    limit $top
)
select
    kind::varchar as kind,
    'L' || source_end // 4294967296 || '_F' || source_end % 4294967296 as source_name,
    if(
        target_end >= 0,
        'L' || target_end // 4294967296 || '_F' || target_end % 4294967296,
        enum_range(null::node_kind)[-target_end]
    ) as target_name,
    case when weight_other is null then 'this' when weight_this is null then 'other' else 'both' end as found_in,
    weight_this,
    weight_other,
    weight_other - weight_this as difference,
    sign(weight_this) = sign(weight_other) as same_sign
from picked
order by distance desc, kind, source_name, target_name;
