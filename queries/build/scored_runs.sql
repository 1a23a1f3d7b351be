-- Complete runs with counts per feature and language and no scores yet.
select run_id
from run
where state = 'complete'
    and kind in ('ingest', 'import')
    and exists (select 1 from feature_language l where l.run_id = run.run_id)
    and not exists (select 1 from feature_score s where s.run_id = run.run_id and s.score = 'language_profile' and s.parameter_set = 'default')
order by run_id;
