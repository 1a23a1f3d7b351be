-- Only activations above 0 are stored.
select run_id, layer, feature, prompt, position, activation
from activation
where not activation > 0 or not isfinite(activation)
limit 20;
