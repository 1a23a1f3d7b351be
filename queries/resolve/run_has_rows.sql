-- One row if a table has a row of a run, else none.
select 1
from query_table($table)
where run_id = $run
limit 1;
