-- Which model and which dictionaries does a run analyse, and where did they come from?
--
-- What a program needs to load them again: sources are hub ids or `embedded:NAME`; a directory is only named, since its path is nobody else's.
-- decides: what to load to ask the model of this atlas something new
-- grain: one row, the run
-- main: feature
-- key: run_id
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   parameter_set | varchar | default | parameter set of the scores
-- columns:
--   run_id | varchar | - | run
--   name | varchar | - | its name
--   model_id | varchar | - | model
--   model | varchar | - | its name
--   model_source | varchar | - | where it was loaded from
--   revision | varchar | - | hub revision, where known
--   dtype | varchar | - | dtype of the analysis
--   n_layers | smallint | layers | layers of the model
--   d_model | integer | - | width of the residual stream
--   config_hash | varchar | - | SHA-256 of config.json
--   transcoder_set | varchar | - | set of dictionaries
--   transcoder_source | varchar | - | where it was loaded from
--   layers | smallint[] | - | layers with features in this run
--   languages | varchar[] | - | languages with counts in this run, pseudo-languages left out
--   scores | varchar[] | - | scores of its features under the parameter set, named as in features/cards
with spoken as (
    select list(distinct l.language order by l.language) as languages
    from feature_language l
    where l.run_id = $run and l.language <> 'xx'
),
scored as (
    select distinct
        s.score || case when s.languages = (select array_to_string(languages, '+') from spoken) then '' else '.' || s.languages end as score
    from score_summary s
    where s.run_id = $run and s.parameter_set = $parameter_set
)
select
    r.run_id,
    r.name,
    m.model_id,
    m.name as model,
    m.source as model_source,
    m.revision,
    m.dtype,
    m.n_layers,
    m.d_model,
    m.config_hash,
    r.transcoder_set,
    (select min(t.source) from transcoder t where t.transcoder_set = r.transcoder_set) as transcoder_source,
    (select list(distinct f.layer order by f.layer) from feature f where f.run_id = r.run_id) as layers,
    (select languages from spoken) as languages,
    (select list(score order by score) from scored) as scores
from run r
left join model m using (model_id)
where r.run_id = $run and exists (select 1 from feature f where f.run_id = r.run_id)
order by r.run_id;
