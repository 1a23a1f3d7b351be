-- Into how many separate pieces do a graph's edges fall?
--
-- Weakly connected components over accepted edges between features. A circuit of many pieces is not one mechanism.
-- decides: whether a set of edges can be called a circuit
-- grain: one row per component
-- main: edge
-- key: component
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | causal | kind of edge | star_total, star_direct, virtual_weight, attribution, causal
--   least | double | 0 | least absolute weight
--   circuit | integer | null | only edges of this circuit; null is all edges
-- columns:
--   component | integer | - | smallest node of the component
--   n_nodes | bigint | nodes | nodes
--   n_edges | bigint | edges | edges
--   layer_low | smallint | - | lowest layer
--   layer_high | smallint | - | highest layer
--   total_weight | double | - | sum of absolute weights
--   members | varchar[] | - | nodes in text
with recursive picked as (
    select e.source, e.target, e.weight
    from edge e
    where e.run_id = $run
        and e.graph = $graph
        and e.kind::varchar = $kind
        and e.accepted
        and e.target_kind = 'feature'
        and e.source_feature is not null
        and abs(e.weight) >= $least
        and (
            $circuit is null
            or exists (
                select 1
                from circuit_member m
                where m.run_id = e.run_id
                    and m.circuit = $circuit
                    and m.kind = 'edge'
                    and m.edge_kind = e.kind
                    and m.layer = e.source_layer
                    and m.feature = e.source_feature
                    and m.target_layer = e.target_layer
                    and m.target_feature = e.target_feature
            )
        )
),
links as (
    select source as here, target as there from picked
    union
    select target as here, source as there from picked
),
labelled (node, component) using key (node) as (
    select here, min(least(here, there))
    from links
    group by here
    union
    select l.there, min(x.component)
    from labelled x
    join links l on l.here = x.node
    join recurring.labelled known on known.node = l.there
    where x.component < known.component
    group by l.there
),
edges as (
    select x.component, count(*) as n_edges, sum(abs(p.weight)) as total_weight
    from picked p
    join labelled x on x.node = p.source
    group by x.component
),
nodes as (
    select
        x.component,
        count(*) as n_nodes,
        min(n.layer) as layer_low,
        max(n.layer) as layer_high,
        list(n.label order by n.layer, n.feature, n.node) as members
    from labelled x
    join node n on n.run_id = $run and n.graph = $graph and n.node = x.node
    group by x.component
)
select n.component, n.n_nodes, e.n_edges, n.layer_low, n.layer_high, e.total_weight, n.members
from nodes n
join edges e using (component)
order by n.n_nodes desc, n.component;
