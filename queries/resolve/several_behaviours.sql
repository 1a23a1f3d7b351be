-- One row if a run has several behaviours, else none.
select count(*) as n_behaviours
from behaviour
where run_id = $run
having count(*) > 1;
