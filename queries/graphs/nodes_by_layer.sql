-- In which layers are a graph's features, and at which kinds of token?
--
-- decides: which layers carry a behaviour
-- grain: one row per layer and role
-- main: node
-- key: layer, role
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
-- columns:
--   layer | smallint | - | layer
--   role | varchar | - | role of the position; all is every role
--   n_nodes | bigint | nodes | feature nodes
--   n_kept | bigint | nodes | of these, kept by pruning
--   mean_frequency | double | share | mean share of prompts a node is active on
--   mean_influence | double | share | mean influence, attribution graphs
with features as (
    select layer, coalesce(role::varchar, 'none') as role, kept, frequency, influence
    from node
    where run_id = $run and graph = $graph and kind = 'feature'
)
select
    layer,
    coalesce(role, 'all') as role,
    count(*) as n_nodes,
    count(*) filter (where kept) as n_kept,
    avg(frequency) as mean_frequency,
    avg(influence) as mean_influence
from features
group by grouping sets ((layer, role), (layer))
order by layer, role;
