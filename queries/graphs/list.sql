-- Which graphs does a run hold, and how much of the model do they leave unexplained?
--
-- decides: which graph to look at, and which to give to another program
-- grain: one row per graph
-- main: graph
-- key: graph
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   graph | integer | - | graph
--   name | varchar | - | its name
--   kind | varchar | - | over a prompt set, or the attribution graph of one prompt
--   behaviour | varchar | - | behaviour
--   n_prompts | integer | prompts | prompts it summarises
--   n_nodes | integer | nodes | nodes stored
--   n_edges | bigint | edges | edges stored
--   replacement_score | double | share | influence through features instead of errors; attribution graphs
--   completeness_score | double | share | inputs of nodes that are explained, weighted by influence; attribution graphs
--   unexplained_share | double | share | output carried by reconstruction errors
--   node_threshold | double | share | cumulated influence kept by pruning
--   edge_threshold | double | share | cumulated edge score kept by pruning
--   prompt | integer | - | prompt of an attribution graph
--   text | varchar | - | text of that prompt
--   tokens | varchar[] | - | its tokens, in order
--   transcoder_set | varchar | - | dictionaries; their name on Neuronpedia where they have one
--   n_layers | smallint | layers | layers of the model
with tokens as (
    select item as prompt, list(token order by position) as tokens
    from token
    where run_id = $run and source = 'prompt'
    group by item
),
known as (
    select transcoder_set, min(neuronpedia) as neuronpedia
    from transcoder
    group by transcoder_set
)
select
    g.graph,
    g.name,
    g.kind::varchar as kind,
    g.behaviour,
    g.n_prompts,
    g.n_nodes,
    g.n_edges,
    g.replacement_score,
    g.completeness_score,
    g.unexplained_share,
    g.node_threshold,
    g.edge_threshold,
    g.prompt,
    p.text,
    t.tokens,
    coalesce(k.neuronpedia, r.transcoder_set) as transcoder_set,
    m.n_layers
from graph g
join run r on r.run_id = g.run_id
left join model m on m.model_id = r.model_id
left join known k on k.transcoder_set = r.transcoder_set
left join prompt p on p.run_id = g.run_id and p.prompt = g.prompt
left join tokens t on t.prompt = g.prompt
where g.run_id = $run
order by g.graph;
