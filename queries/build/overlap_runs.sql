-- Complete runs with activations and no overlap of languages yet.
select run_id
from run
where state = 'complete'
    and kind in ('ingest', 'import')
    and exists (select 1 from activation a where a.run_id = run.run_id)
    and not exists (select 1 from layer_score s where s.run_id = run.run_id and s.parameter_set = 'default')
order by run_id;
