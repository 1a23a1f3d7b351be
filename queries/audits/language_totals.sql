-- Every feature of a run has the same tokens and prompts of a language behind it, and never more active ones than there are.
select run_id, language, layer, min(n_tokens) as n_tokens_low, max(n_tokens) as n_tokens_high
from feature_language
group by run_id, language, layer
having min(n_tokens) <> max(n_tokens)
    or min(n_prompts) <> max(n_prompts)
    or max(n_active - n_tokens) > 0
    or max(n_prompts_active - n_prompts) > 0
    or min(n_active) < 0
order by run_id, language, layer
limit 20;
