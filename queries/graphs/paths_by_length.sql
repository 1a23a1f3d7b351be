-- How many chains end in each sink, and how long are they?
--
-- Chains that differ only in their sink are one chain with two ends.
-- decides: whether a number of paths in a text counts chains or ends
-- grain: one row per graph, kind, circuit and number of edges
-- main: path
-- key: graph, kind, circuit, n_edges
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   graph | integer | - | graph
--   kind | varchar | - | kind of the edges
--   circuit | integer | - | circuit; -1 is none
--   n_edges | bigint | edges | edges of a chain
--   n_paths | bigint | paths | paths
--   n_chains | bigint | chains | distinct chains, sinks left out
--   n_targets | bigint | nodes | distinct sinks
--   best_score | double | - | largest score
select
    graph,
    kind::varchar as kind,
    coalesce(circuit, -1) as circuit,
    len(weights) as n_edges,
    count(*) as n_paths,
    count(distinct nodes[:-2]) as n_chains,
    count(distinct nodes[-1]) as n_targets,
    max(score) as best_score
from path
where run_id = $run
group by graph, kind, coalesce(circuit, -1), len(weights)
order by graph, kind, circuit, n_edges;
