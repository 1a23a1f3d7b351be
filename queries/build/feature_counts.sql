-- Counts of one layer in one language, a row for every feature that is active on enough prompts of all languages together.
with supported as (
    select feature
    from feature_language
    where run_id = $run and layer = $layer and language <> 'xx'
    group by feature
    having sum(n_prompts_active) >= $support
),
spoken as (
    select feature, n_tokens, n_active, n_prompts, n_prompts_active, sum_activation, sum_squares
    from feature_language
    where run_id = $run and layer = $layer and language = $language
)
select
    s.feature,
    coalesce(l.n_tokens, 0) as n_tokens,
    coalesce(l.n_active, 0) as n_active,
    coalesce(l.n_prompts, 0) as n_prompts,
    coalesce(l.n_prompts_active, 0) as n_prompts_active,
    coalesce(l.sum_activation, 0) as sum_activation,
    coalesce(l.sum_squares, 0) as sum_squares
from supported s
left join spoken l using (feature)
order by s.feature;
