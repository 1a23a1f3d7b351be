-- How much of an answer do the attribution graphs explain?
--
-- decides: which prompts' graphs may be read at all
-- grain: one row per attribution graph
-- main: graph
-- fits: prompt_graphs
-- key: graph
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with a graph of one prompt
-- columns:
--   graph | integer | - | graph
--   name | varchar | - | its name
--   prompt | integer | - | prompt
--   language | varchar | - | language of the prompt
--   correct | boolean | - | whether the model answers it rightly
--   n_nodes | integer | nodes | nodes stored
--   n_edges | bigint | edges | edges stored
--   n_features | bigint | nodes | feature nodes kept
--   n_errors | bigint | nodes | error nodes kept
--   replacement_score | double | share | influence through features instead of errors
--   completeness_score | double | share | inputs explained, weighted by influence
--   unexplained_share | double | share | output carried by reconstruction errors
with kept as (
    select
        graph,
        count(*) filter (where kind = 'feature' and kept) as n_features,
        count(*) filter (where kind = 'error' and kept) as n_errors
    from node
    where run_id = $run
    group by graph
)
select
    g.graph,
    g.name,
    g.prompt,
    p.language,
    b.correct,
    g.n_nodes,
    g.n_edges,
    k.n_features,
    k.n_errors,
    g.replacement_score,
    g.completeness_score,
    g.unexplained_share
from graph g
left join kept k on k.graph = g.graph
left join prompt p on p.run_id = $run and p.prompt = g.prompt
left join baseline b on b.run_id = $run and b.prompt = g.prompt
where g.run_id = $run and g.kind = 'attribution'
order by g.graph;
