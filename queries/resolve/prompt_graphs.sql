-- One row if a run has the attribution graph of a single prompt, else none.
select 1
from graph
where run_id = $run and kind = 'attribution'
limit 1;
