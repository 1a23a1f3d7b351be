-- How much of what drives a target is outside the stored edges?
--
-- Shares of the target's absolute input: stored sources, other sources, and constants that no source carries.
-- decides: whether normalised edge weights of a target mean what they seem to
-- grain: one row per attributed target
-- main: target_total
-- key: graph, node
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | null | only this graph; null is all
--   top | integer | 100 | rows at most
-- columns:
--   graph | integer | - | graph
--   node | integer | - | target
--   label | varchar | - | target in text
--   absolute_total | double | - | sum of absolute weights over all sources
--   stored_share | double | share | of it carried by stored sources
--   cancellation | double | share | 1 - |signed total| / absolute total
--   constant_ratio | double | ratio | |constant| / absolute total
select
    t.graph,
    t.node,
    n.label,
    t.absolute_total,
    t.absolute_selected / nullif(t.absolute_total, 0) as stored_share,
    1 - abs(t.signed_total) / nullif(t.absolute_total, 0) as cancellation,
    abs(t.constant) / nullif(t.absolute_total, 0) as constant_ratio
from target_total t
left join node n on n.run_id = t.run_id and n.graph = t.graph and n.node = t.node
where t.run_id = $run and ($graph is null or t.graph = $graph)
order by stored_share nulls first, t.graph, t.node
limit $top;
