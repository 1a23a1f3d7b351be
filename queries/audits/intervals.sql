-- Probabilities and shares lie between 0 and 1, intervals are in order.
select 'feature_score' as place, run_id, concat_ws(' ', layer, feature, score, parameter_set, languages) as key
from feature_score
where p_value < 0 or p_value > 1 or q_value < p_value - 1e-12 or q_value > 1 or ci_low > ci_high
union all
select 'layer_score' as place, run_id, concat_ws(' ', layer, score, languages, baseline) as key
from layer_score
where p_value < 0 or p_value > 1 or ci_low > ci_high or null_low > null_high or starts_with(score, 'iou') and (value < 0 or value > 1)
union all
select 'effect' as place, run_id, concat_ws(' ', intervention, language, split, control) as key
from effect
where p_value < 0 or p_value > 1 or q_value < p_value - 1e-12 or ci_low > ci_high or control_low > control_high
union all
select 'edge' as place, run_id, concat_ws(' ', graph, kind, source, target) as key
from edge
where p_value < 0 or p_value > 1 or ci_low > ci_high
    or frequency < 0 or frequency > 1 + 1e-9
    or sign_stability < 0 or sign_stability > 1 + 1e-9
    or selection_frequency < 0 or selection_frequency > 1 + 1e-9
union all
select 'evaluation' as place, run_id, evaluation::varchar as key
from evaluation
where p_value < 0 or p_value > 1 or ci_low > ci_high
order by place, run_id, key
limit 20;
