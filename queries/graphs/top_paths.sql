-- Which chains through a graph carry most?
--
-- Exact top-K over the layered graph, each chain once; the score is the product of normalised weights of one kind (METHODS, section 6).
-- decides: which chains to report as a mechanism and to test as a circuit
-- grain: one row per path
-- main: path
-- key: graph, kind, rank
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | null | only this graph; null is all
--   kind | varchar | null | only this kind of edge; null is all | star_total, star_direct, virtual_weight, attribution, causal
--   top | integer | 50 | rows at most of each graph and kind
-- columns:
--   graph | integer | - | graph
--   kind | varchar | - | kind of the edges
--   rank | integer | - | 0 is strongest
--   score | double | - | product of the normalised weights
--   n_edges | bigint | edges | edges of the chain
--   chain | varchar | - | nodes in text
--   weakest | double | - | smallest absolute weight of a step
--   target | varchar | - | sink it ends in
--   circuit | integer | - | circuit it belongs to
with picked as (
    select *
    from path
    where run_id = $run and ($graph is null or graph = $graph) and ($kind is null or kind::varchar = $kind)
    qualify row_number() over (partition by graph, kind order by rank) <= $top
),
steps as (
    select graph, kind, rank, unnest(nodes) as node, generate_subscripts(nodes, 1) as place
    from picked
),
named as (
    select s.graph, s.kind, s.rank, string_agg(coalesce(n.label, s.node::varchar), ' > ' order by s.place) as chain
    from steps s
    left join node n on n.run_id = $run and n.graph = s.graph and n.node = s.node
    group by s.graph, s.kind, s.rank
)
select
    p.graph,
    p.kind::varchar as kind,
    p.rank,
    p.score,
    len(p.weights) as n_edges,
    n.chain,
    list_min(list_transform(p.weights, lambda weight : abs(weight))) as weakest,
    p.target,
    p.circuit
from picked p
join named n on n.graph = p.graph and n.kind = p.kind and n.rank = p.rank
order by p.graph, p.kind, p.rank;
