-- The layer's features by prompt, the weakest activation of a feature first.
select feature, prompt, activation
from seen
order by feature, activation;
