-- Complete runs with scores that are not summarised yet, by layer.
select distinct run_id, layer
from feature_score
where run_id not in (select run_id from score_summary)
    and run_id in (select run_id from run where state = 'complete' and kind in ('ingest', 'import'))
order by run_id, layer;
