-- Complete runs, ingests before imports, newest first.
select run_id
from run
where state = 'complete' and kind in ('ingest', 'import')
order by kind, coalesce(finished_at, started_at) desc nulls last, run_id;
