-- Interventions of one run that brought their own effects.
select distinct intervention
from effect
where run_id = $run
order by intervention;
