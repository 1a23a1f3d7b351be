-- How much of what a run says of its model do reconstruction errors carry, graph by graph, circuit by circuit, language by language?
--
-- A feature that is absent where much is unexplained is no evidence: what it would have said may stand in the error. `share` is the part of
-- the output's input that errors carry (graphs and their circuits), or the variance of the MLP outputs that the dictionary leaves
-- unexplained (a language, one layer or the mean over layers).
-- decides: how much weight the absence of a feature can bear
-- grain: one row per graph, circuit, language, or language and layer
-- main: transcoder_quality
-- key: subject, number, language, layer
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   subject | varchar | - | graph, circuit or dictionary
--   number | integer | - | graph or circuit; -1 for dictionaries
--   name | varchar | - | its name
--   behaviour | varchar | - | behaviour, of graphs and circuits
--   language | varchar | - | language of the tokens; all for graphs and circuits
--   layer | smallint | - | layer; -1 is all layers
--   share | double | share | share that is unexplained
--   kl_replaced | double | nats | dictionaries: KL(model || model with this MLP, or with all, replaced) at decision positions
--   top1_agreement | double | share | dictionaries: decision positions whose top token stays
with graphs as (
    select graph, name, behaviour, unexplained_share
    from graph
    where run_id = $run
),
dictionaries as (
    select
        q.language,
        coalesce(q.layer, -1)::smallint as layer,
        sum(q.fvu * q.n_tokens) filter (where q.layer >= 0) / sum(q.n_tokens) filter (where q.layer >= 0 and q.fvu is not null) as fvu
    from transcoder_quality q
    where q.run_id = $run and q.layer >= 0
    group by grouping sets ((q.language, q.layer), (q.language))
)
select
    'graph' as subject, graph as number, name, behaviour, 'all' as language, (-1)::smallint as layer, unexplained_share as share,
    null::double as kl_replaced, null::double as top1_agreement
from graphs
union all
select 'circuit', c.circuit, c.name, c.behaviour, 'all', (-1)::smallint, g.unexplained_share, null, null
from circuit c
left join graphs g using (graph)
where c.run_id = $run and c.control_of is null
union all
select 'dictionary', -1, r.transcoder_set, null, d.language, d.layer, d.fvu, q.kl, q.top1_agreement
from dictionaries d
join run r on r.run_id = $run
left join transcoder_quality q on q.run_id = $run and q.layer = d.layer and q.language = d.language
order by subject, number, language, layer;
