-- Which language does each feature of a graph lean to?
--
-- decides: which nodes of a circuit to report as shared and which as one language's own
-- grain: one row per feature node
-- main: node_language
-- key: graph, node
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | null | only this graph; null is all
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   leaning | integer | 4 | active prompts that count as support
--   other | integer | 1 | active prompts that the other language may have
-- columns:
--   graph | integer | - | graph
--   node | integer | - | node
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   role | varchar | - | role of the position
--   n_a | bigint | prompts | prompts of the first language it is active on
--   n_b | bigint | prompts | prompts of the second language
--   asymmetry | double | share | frequency in the first language minus frequency in the second
--   profile | varchar | - | leans to a language, balanced or insufficient
with counts as (
    select
        graph,
        node,
        coalesce(sum(n_prompts) filter (where language = $language_a), 0)::bigint as n_a,
        coalesce(sum(n_prompts) filter (where language = $language_b), 0)::bigint as n_b,
        coalesce(max(frequency) filter (where language = $language_a), 0)
            - coalesce(max(frequency) filter (where language = $language_b), 0) as asymmetry
    from node_language
    where run_id = $run and ($graph is null or graph = $graph)
    group by graph, node
)
select
    c.graph,
    c.node,
    n.layer,
    n.feature,
    n.role::varchar as role,
    c.n_a,
    c.n_b,
    c.asymmetry,
    case
        when n_a >= $leaning and n_b >= $leaning then 'balanced'
        when n_a >= $leaning and n_b <= $other then $language_a || '_leaning'
        when n_b >= $leaning and n_a <= $other then $language_b || '_leaning'
        else 'insufficient'
    end as profile
from counts c
join node n on n.run_id = $run and n.graph = c.graph and n.node = c.node and n.kind = 'feature'
order by c.graph, c.node;
