-- Complete runs but publishes: ingests before imports before other kinds, newest first.
select run_id
from run
where state = 'complete' and kind <> 'publish'
order by kind, coalesce(finished_at, started_at) desc nulls last, run_id;
