-- Layers of one run that have activations.
select distinct layer
from activation
where run_id = $run
order by layer;
