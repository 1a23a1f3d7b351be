-- Which features belong to one language?
--
-- Monolinguality: mean activation in the language minus the mean of the others' means, and the same in standard deviations.
-- decides: which features to steer or ablate to change the output language
-- grain: one row per feature
-- main: feature_score
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language | varchar | fr | language
--   q | double | 0.05 | largest q-value against languages dealt anew per concept
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   nu | double | activation | monolinguality
--   d | double | sd | the same over the pooled standard deviation
--   null_mean | double | activation | mean of nu with languages dealt anew
--   p_value | double | - | one-sided
--   q_value | double | - | Benjamini-Hochberg over the run's features and languages
--   rate | double | share | share of the language's tokens with the feature active
--   promoted_tokens | varchar[] | - | tokens its decoder raises most
with nu as (
    select layer, feature, value, null_mean, p_value, q_value
    from feature_score
    where run_id = $run
        and score = 'monolinguality'
        and parameter_set = 'default'
        and languages = $language
        and q_value <= $q
        and value > 0
),
strongest as materialized (
    select nu.*, d.value as d
    from nu
    left join feature_score d
        on d.run_id = $run
        and d.score = 'monolinguality_d'
        and d.parameter_set = 'default'
        and d.languages = $language
        and d.layer = nu.layer
        and d.feature = nu.feature
    order by d.value desc nulls last, nu.layer, nu.feature
    limit $top
),
-- Row ids first: the lists of tokens are then read for these features alone.
known as (
    select *
    from feature
    where rowid in (
        select f.rowid
        from feature f
        join strongest s on s.layer = f.layer and s.feature = f.feature
        where f.run_id = $run
    )
)
select
    nu.layer,
    nu.feature,
    'L' || nu.layer || '_F' || nu.feature as name,
    nu.value as nu,
    nu.d,
    nu.null_mean,
    nu.p_value,
    nu.q_value,
    l.n_active / l.n_tokens as rate,
    f.promoted_tokens
from strongest nu
left join feature_language l
    on l.run_id = $run and l.language = $language and l.layer = nu.layer and l.feature = nu.feature
left join known f on f.layer = nu.layer and f.feature = nu.feature
order by nu.d desc nulls last, nu.layer, nu.feature;
