-- What does each graph hold: how many nodes of each kind, how many edges of each kind, how strong?
--
-- decides: whether a graph is the one a text speaks of
-- grain: one row per graph, part (node or edge) and kind
-- main: graph
-- key: graph, part, kind
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   graph | integer | - | graph
--   name | varchar | - | its name
--   part | varchar | - | node or edge
--   kind | varchar | - | kind of node or edge
--   n | bigint | - | nodes or edges, rejected ones included
--   n_accepted | bigint | - | nodes kept by pruning, edges accepted
--   n_positive | bigint | edges | accepted edges of positive weight; null for nodes
--   n_negative | bigint | edges | accepted edges of negative weight; null for nodes
--   lowest | double | - | smallest weight of an accepted edge; null for nodes
--   highest | double | - | largest weight of an accepted edge; null for nodes
--   unexplained_share | double | share | input of the graph's output that reconstruction errors carry; null where not measured
with nodes as (
    select
        graph,
        'node' as part,
        kind::varchar as kind,
        count(*) as n,
        count(*) filter (where kept) as n_accepted,
        null::bigint as n_positive,
        null::bigint as n_negative,
        null::double as lowest,
        null::double as highest
    from node
    where run_id = $run
    group by graph, kind
),
edges as (
    select
        graph,
        'edge' as part,
        kind::varchar as kind,
        count(*) as n,
        count(*) filter (where accepted) as n_accepted,
        count(*) filter (where accepted and weight > 0) as n_positive,
        count(*) filter (where accepted and weight < 0) as n_negative,
        min(weight) filter (where accepted) as lowest,
        max(weight) filter (where accepted) as highest
    from edge
    where run_id = $run
    group by graph, kind
),
parts as (
    select * from nodes
    union all
    select * from edges
)
select p.graph, g.name, p.part, p.kind, p.n, p.n_accepted, p.n_positive, p.n_negative, p.lowest, p.highest, g.unexplained_share
from parts p
join graph g on g.run_id = $run and g.graph = p.graph
order by p.graph, p.part, p.kind;
