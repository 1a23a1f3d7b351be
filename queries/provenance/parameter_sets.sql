-- With which parameters were the stored scores computed?
--
-- decides: what to state beside a score in a paper
-- grain: one row per parameter set, score and parameter
-- key: parameter_set, score, parameter
-- parameters:
--   score | varchar | null | only this score; null is all
-- columns:
--   parameter_set | varchar | - | parameter set
--   score | varchar | - | score; all is every score
--   parameter | varchar | - | parameter
--   value | varchar | - | value as text
--   n_scores | bigint | rows | rows of feature_score and layer_score that rest on it
with feature_rows as (
    select parameter_set, score, count(*) as n
    from feature_score
    group by parameter_set, score
    union all
    select parameter_set, score, count(*) as n
    from layer_score
    group by parameter_set, score
)
select
    p.parameter_set,
    p.score,
    p.parameter,
    p.value,
    coalesce(
        (
            select sum(f.n)
            from feature_rows f
            where f.parameter_set = p.parameter_set
                and (p.score = 'all' or f.score = p.score or f.score = p.score || '_d'
                    or p.score = 'translation_lift' and f.score = 'translation_phi'
                    or p.score = 'bridge' and f.score = 'causal_bridge')
        ),
        0
    )::bigint as n_scores
from parameter_set p
where $score is null or p.score = $score
order by p.parameter_set, p.score, p.parameter;
