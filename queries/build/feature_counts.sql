-- Counts of one run by feature and language, features of too little support left out.
select layer, feature, language, n_tokens, n_active, n_prompts, n_prompts_active, sum_activation, sum_squares
from feature_language
where run_id = $run and language <> 'xx'
qualify sum(n_prompts_active) over (partition by layer, feature) >= $support
order by layer, feature, language;
