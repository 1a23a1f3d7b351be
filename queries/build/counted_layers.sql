-- Layers of one run that have counts by language.
select distinct layer
from feature_language
where run_id = $run
order by layer;
