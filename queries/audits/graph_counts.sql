-- A graph holds as many nodes and edges as it says; edges between features run from lower to higher layers.
with nodes as (
    select run_id, graph, count(*) as n from node group by run_id, graph
),
edges as (
    select run_id, graph, count(*) as n from edge group by run_id, graph
)
select 'nodes' as what, g.run_id, g.graph::varchar as place, g.n_nodes as stated, coalesce(n.n, 0) as found
from graph g
left join nodes n using (run_id, graph)
where g.n_nodes <> coalesce(n.n, 0)
union all
select 'edges' as what, g.run_id, g.graph::varchar as place, g.n_edges as stated, coalesce(e.n, 0) as found
from graph g
left join edges e using (run_id, graph)
where g.n_edges <> coalesce(e.n, 0)
union all
select 'layers' as what, run_id, concat_ws(' ', graph, kind, source, target) as place, source_layer as stated, target_layer as found
from edge
where kind in ('virtual_weight', 'causal', 'attribution') and target_kind = 'feature' and source_layer >= target_layer
order by what, run_id, place
limit 20;
