-- Which features fire in both of two languages on enough prompts to be called bilingual by rate?
--
-- A feature counts where Wilson's lower bound of its rate over prompts reaches `rate` in each language. Chance, equality of the two rates
-- and the other scores stand in languages/scores; a rate says that a feature is shared, never that it means the same.
-- decides: which features to take into interventions as shared between two languages
-- grain: one row per feature that reaches the rate in both languages
-- main: feature_language
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   rate | double | 0.1 | least lower bound of the share of prompts, in each language
--   z | double | 1.959964 | normal quantile of the bound; 1.959964 gives the 95 % interval
--   layer | smallint | null | only this layer; null is all
--   top | integer | 1000 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   n_active_a | integer | prompts | prompts of the first language with the feature active
--   n_prompts_a | integer | prompts | prompts of the first language
--   rate_a | double | share | n_active_a / n_prompts_a
--   low_a | double | share | Wilson's lower bound of rate_a
--   n_active_b | integer | prompts | the same of the second language
--   n_prompts_b | integer | prompts | the same of the second language
--   rate_b | double | share | n_active_b / n_prompts_b
--   low_b | double | share | Wilson's lower bound of rate_b
--   lowest | double | share | the smaller of the two bounds
--   density | double | share | active tokens / tokens of the two languages
-- example: rate=0.05
with a as (
    select
        layer,
        feature,
        n_prompts_active as n_active,
        n_prompts,
        n_prompts_active / n_prompts as rate,
        n_active as n_active_tokens,
        n_tokens
    from feature_language
    where run_id = $run
        and language = $language_a
        and ($layer is null or layer = $layer)
        and n_prompts_active >= $rate * n_prompts
        and n_prompts_active > 0
),
b as (
    select
        layer,
        feature,
        n_prompts_active as n_active,
        n_prompts,
        n_prompts_active / n_prompts as rate,
        n_active as n_active_tokens,
        n_tokens
    from feature_language
    where run_id = $run
        and language = $language_b
        and ($layer is null or layer = $layer)
        and n_prompts_active >= $rate * n_prompts
        and n_prompts_active > 0
),
bounded as (
    select
        a.layer,
        a.feature,
        a.n_active as n_active_a,
        a.n_prompts as n_prompts_a,
        a.rate as rate_a,
        (a.rate + $z * $z / (2 * a.n_prompts)
            - $z * sqrt(a.rate * (1 - a.rate) / a.n_prompts + $z * $z / (4.0 * a.n_prompts * a.n_prompts)))
            / (1 + $z * $z / a.n_prompts) as low_a,
        b.n_active as n_active_b,
        b.n_prompts as n_prompts_b,
        b.rate as rate_b,
        (b.rate + $z * $z / (2 * b.n_prompts)
            - $z * sqrt(b.rate * (1 - b.rate) / b.n_prompts + $z * $z / (4.0 * b.n_prompts * b.n_prompts)))
            / (1 + $z * $z / b.n_prompts) as low_b,
        (a.n_active_tokens + b.n_active_tokens) / nullif(a.n_tokens + b.n_tokens, 0) as density
    from a
    join b using (layer, feature)
)
select
    x.layer,
    x.feature,
    'L' || x.layer || '_F' || x.feature as name,
    x.n_active_a,
    x.n_prompts_a,
    x.rate_a,
    x.low_a,
    x.n_active_b,
    x.n_prompts_b,
    x.rate_b,
    x.low_b,
    least(x.low_a, x.low_b) as lowest,
    x.density
from bounded x
where least(x.low_a, x.low_b) >= $rate
order by lowest desc, x.layer, x.feature
limit $top;
