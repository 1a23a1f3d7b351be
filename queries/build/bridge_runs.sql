-- Complete runs with outcomes of single-feature ablations and no bridge scores yet.
select run_id
from run
where state = 'complete'
    and kind in ('ingest', 'import')
    and exists (
        select 1
        from intervention i
        where i.run_id = run.run_id and i.rule = 'zero' and i.n_members = 1 and i.control is null
    )
    and not exists (select 1 from feature_score s where s.run_id = run.run_id and s.score = 'bridge' and s.parameter_set = 'default')
order by run_id;
