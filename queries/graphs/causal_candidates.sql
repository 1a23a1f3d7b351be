-- How many candidate edges were tested, accepted and of which sign, and do they agree with the virtual weights?
--
-- decides: how much of the static graph survives intervention
-- grain: one row per graph with causal edges
-- main: edge
-- key: graph
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   graph | integer | - | graph
--   n_virtual | bigint | edges | virtual-weight edges of the run
--   n_candidates | bigint | edges | causal candidates that were tested and stored
--   n_accepted | bigint | edges | accepted
--   n_positive | bigint | edges | accepted, excitatory
--   n_negative | bigint | edges | accepted, inhibitory
--   n_sources | bigint | features | distinct sources of candidates
--   n_agree | bigint | edges | accepted, with the sign of the virtual weight
--   lowest | double | activation | smallest accepted weight
--   highest | double | activation | largest accepted weight
with static as (
    select
        source_layer,
        source_feature,
        target_layer,
        target_feature,
        arg_max(coalesce(static_weight, weight), (abs(weight), -graph, -source, -target)) as weight
    from edge
    where run_id = $run and kind = 'virtual_weight'
    group by source_layer, source_feature, target_layer, target_feature
)
select
    e.graph,
    (select count(*) from edge where run_id = $run and kind = 'virtual_weight') as n_virtual,
    count(*) as n_candidates,
    count(*) filter (where e.accepted) as n_accepted,
    count(*) filter (where e.accepted and e.weight > 0) as n_positive,
    count(*) filter (where e.accepted and e.weight < 0) as n_negative,
    count(distinct (e.source_layer, e.source_feature)) as n_sources,
    count(*) filter (where e.accepted and sign(e.weight) = sign(s.weight)) as n_agree,
    min(e.weight) filter (where e.accepted) as lowest,
    max(e.weight) filter (where e.accepted) as highest
from edge e
left join static s using (source_layer, source_feature, target_layer, target_feature)
where e.run_id = $run and e.kind = 'causal'
group by e.graph
order by e.graph;
