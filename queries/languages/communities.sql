-- Do the communities of a graph separate by language?
--
-- Profiles of their feature nodes by active prompts, as in languages/language_profile, from counts over the graph's prompts.
-- decides: whether a community can be called a language's own circuit
-- grain: one row per graph, partition and community
-- main: community
-- key: graph, partition, community
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   leaning | integer | 4 | active prompts that count as support
--   other | integer | 1 | active prompts that the other language may have
-- columns:
--   graph | integer | - | graph
--   partition | integer | - | partition of the graph
--   community | integer | - | community
--   n_nodes | bigint | nodes | feature nodes
--   layer_low | smallint | - | lowest layer
--   layer_high | smallint | - | highest layer
--   n_balanced | bigint | nodes | balanced
--   n_leaning_a | bigint | nodes | leaning to the first language
--   n_leaning_b | bigint | nodes | leaning to the second language
--   n_insufficient | bigint | nodes | too little support
--   balanced_share | double | share | n_balanced / n_nodes
--   leaning_a_share | double | share | n_leaning_a / n_nodes
--   leaning_b_share | double | share | n_leaning_b / n_nodes
--   stability | double | share | mean share of seeds in which a node stays with its group
with counts as (
    select
        graph,
        node,
        coalesce(sum(n_prompts) filter (where language = $language_a), 0) as active_a,
        coalesce(sum(n_prompts) filter (where language = $language_b), 0) as active_b
    from node_language
    where run_id = $run
    group by graph, node
),
profiled as (
    select
        c.graph,
        c.partition,
        c.community,
        c.stability,
        n.layer,
        case
            when active_a >= $leaning and active_b >= $leaning then 'balanced'
            when active_a >= $leaning and active_b <= $other then 'a'
            when active_b >= $leaning and active_a <= $other then 'b'
            else 'insufficient'
        end as profile
    from community c
    join node n on n.run_id = c.run_id and n.graph = c.graph and n.node = c.node and n.kind = 'feature'
    left join counts l on l.graph = c.graph and l.node = c.node
    where c.run_id = $run
),
grouped as (
    select
        graph,
        partition,
        community,
        count(*) as n_nodes,
        min(layer) as layer_low,
        max(layer) as layer_high,
        count(*) filter (where profile = 'balanced') as n_balanced,
        count(*) filter (where profile = 'a') as n_leaning_a,
        count(*) filter (where profile = 'b') as n_leaning_b,
        count(*) filter (where profile = 'insufficient') as n_insufficient,
        avg(stability) as stability
    from profiled
    group by graph, partition, community
)
select
    graph,
    partition,
    community,
    n_nodes,
    layer_low,
    layer_high,
    n_balanced,
    n_leaning_a,
    n_leaning_b,
    n_insufficient,
    n_balanced / n_nodes as balanced_share,
    n_leaning_a / n_nodes as leaning_a_share,
    n_leaning_b / n_nodes as leaning_b_share,
    stability
from grouped
order by graph, partition, community;
