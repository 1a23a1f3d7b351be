-- How long is the longest chain of edges that ends in each feature?
--
-- Over accepted edges between features of rising layer; of equally long chains the one through the smallest nodes is shown.
-- decides: whether a graph has depth, or only pairs of neighbouring layers
-- grain: one row per feature that a chain ends in
-- main: edge
-- key: node
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | causal | kind of edge | virtual_weight, attribution, causal
--   least | double | 0 | least absolute weight
--   top | integer | 100 | rows at most
-- columns:
--   node | integer | - | node the chain ends in
--   layer | smallint | - | layer
--   label | varchar | - | the node in text
--   n_edges | integer | edges | edges of the longest chain
--   chain | varchar | - | its nodes in text
with recursive picked as (
    select distinct source, target
    from edge
    where run_id = $run
        and graph = $graph
        and kind::varchar = $kind
        and accepted
        and target_kind = 'feature'
        and source_feature is not null
        and source_layer < target_layer
        and abs(weight) >= $least
),
chains (node, n_edges, nodes) using key (node) as (
    select source, 0, [source]
    from picked
    group by source
    union
    select p.target, max(c.n_edges) + 1, min(list_append(c.nodes, p.target) order by -c.n_edges, c.nodes)
    from chains c
    join picked p on p.source = c.node
    left join recurring.chains known on known.node = p.target
    where known.node is null or c.n_edges + 1 > known.n_edges
    group by p.target
),
steps as (
    select node, unnest(nodes) as step, generate_subscripts(nodes, 1) as place
    from chains
    where n_edges > 0
),
named as (
    select s.node, string_agg(n.label, ' > ' order by s.place) as chain
    from steps s
    join node n on n.run_id = $run and n.graph = $graph and n.node = s.step
    group by s.node
)
select c.node, n.layer, n.label, c.n_edges, m.chain
from chains c
join named m using (node)
join node n on n.run_id = $run and n.graph = $graph and n.node = c.node
order by c.n_edges desc, c.node
limit $top;
