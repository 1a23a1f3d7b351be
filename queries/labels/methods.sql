-- Which way of making labels gives labels that hold, in each language?
--
-- decides: which labels to make more of
-- grain: one row per way of making labels, score, language and version of the scoring prompt
-- main: feature
-- key: method, model, score, language, prompt_version
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   method | varchar | - | how the labels were made
--   model | varchar | - | model that wrote them; empty where none did
--   score | varchar | - | detection or fuzzing
--   language | varchar | - | language of the texts
--   prompt_version | varchar | - | version of the scoring prompt, scorer, run of the examples
--   n_labels | bigint | labels | labels scored
--   mean | double | share | mean balanced accuracy
--   median | double | share | median
--   n_hold | bigint | labels | labels whose interval lies above .5
--   share_hold | double | share | their share
select
    l.method::varchar as method,
    coalesce(l.model, '') as model,
    s.score,
    s.language,
    s.prompt_version,
    count(*) as n_labels,
    avg(s.value) as mean,
    median(s.value) as median,
    count(*) filter (where s.ci_low > 0.5) as n_hold,
    count(*) filter (where s.ci_low > 0.5) / count(*) as share_hold
from label_score s
join label l using (label_id)
join run r on r.run_id = $run and r.transcoder_set = l.transcoder_set
where not l.retired
group by l.method, coalesce(l.model, ''), s.score, s.language, s.prompt_version
order by method, model, s.score, s.language, s.prompt_version;
