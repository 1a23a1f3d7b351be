-- Activations of one layer of one run, in the order in which they are stored.
select feature, prompt, position, activation
from activation
where run_id = $run and layer = $layer;
