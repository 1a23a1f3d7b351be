-- Complete runs with activations whose prompts by feature have not been counted yet.
select run_id
from run
where state = 'complete'
    and kind in ('ingest', 'import')
    and exists (select 1 from activation a where a.run_id = run.run_id)
    and not exists (select 1 from feature_behaviour f where f.run_id = run.run_id)
order by run_id;
