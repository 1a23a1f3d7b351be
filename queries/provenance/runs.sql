-- What runs are in this atlas, made from what, by what, and how long did they take?
--
-- decides: which run to ask, and whether two runs can be compared
-- grain: one row per run
-- key: run_id
-- columns:
--   run_id | varchar | - | id
--   name | varchar | - | name in the plan
--   kind | varchar | - | ingest, import or publish
--   state | varchar | - | complete, or how it stopped
--   model | varchar | - | model's name
--   model_dtype | varchar | - | dtype of the analysis
--   transcoder_set | varchar | - | dictionaries
--   prompt_set_hash | varchar | - | SHA-256 over prompts and answers
--   plan_hash | varchar | - | SHA-256 of the plan, which holds the hashes of its inputs
--   seed | integer | - | base seed
--   n_prompts | bigint | prompts | prompts
--   languages | varchar[] | - | languages of the prompts
--   n_rows | bigint | rows | rows written
--   unsound | bigint | interventions | interventions known to be done at the wrong place
--   code_version | varchar | - | package that wrote it
--   finished_at | timestamp | UTC | end
--   seconds | double | s | wall-clock time
--   machine | varchar | - | processor, memory, device
--   method | varchar | - | how an imported run was made
with spoken as (
    select run_id, count(*) as n_prompts, list(distinct language order by language) as languages
    from prompt
    group by run_id
),
written as (
    select run_id, sum(n_rows)::bigint as n_rows
    from run_table
    group by run_id
),
faulty as (
    select run_id, count(*) filter (where not sound) as unsound
    from intervention
    group by run_id
)
select
    r.run_id,
    r.name,
    r.kind::varchar as kind,
    r.state::varchar as state,
    m.name as model,
    m.dtype as model_dtype,
    r.transcoder_set,
    r.prompt_set_hash,
    r.plan_hash,
    r.seed,
    coalesce(s.n_prompts, 0) as n_prompts,
    s.languages,
    coalesce(w.n_rows, 0) as n_rows,
    coalesce(f.unsound, 0) as unsound,
    r.code_version,
    r.finished_at,
    r.seconds,
    r.machine,
    r.method
from run r
left join model m using (model_id)
left join spoken s using (run_id)
left join written w using (run_id)
left join faulty f using (run_id)
order by r.finished_at desc nulls last, r.run_id;
