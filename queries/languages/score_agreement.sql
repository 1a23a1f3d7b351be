-- How far do two language scores agree on which features are bilingual?
--
-- Over features that both scores judged. Kappa is agreement beyond what the two shares of yes give by chance.
-- decides: whether a result depends on the score that was chosen
-- grain: one row per pair of scores
-- main: feature_score
-- key: score_a, score_b
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   parameter_set | varchar | default | parameter set
-- columns:
--   score_a | varchar | - | one score
--   score_b | varchar | - | the other, later in the alphabet
--   n_features | bigint | features | judged by both
--   n_a | bigint | features | yes by the first
--   n_b | bigint | features | yes by the second
--   n_both | bigint | features | yes by both
--   jaccard | double | share | n_both / yes by either; null where none says yes
--   kappa | double | - | Cohen's kappa; null where either score gives one answer only
with judged as (
    select layer, feature, score, flag::integer as yes
    from feature_score
    where run_id = $run
        and parameter_set = $parameter_set
        and flag is not null
        and score in ('language_profile', 'bilingual_rate', 'lape', 'shared_k', 'translation_lift', 'bridge', 'causal_bridge')
        and (
            languages = least($language_a, $language_b) || '+' || greatest($language_a, $language_b)
            or score in ('lape', 'shared_k')
        )
),
paired as (
    select
        a.score as score_a,
        b.score as score_b,
        count(*) as n_features,
        sum(a.yes)::bigint as n_a,
        sum(b.yes)::bigint as n_b,
        sum(a.yes * b.yes)::bigint as n_both
    from judged a
    join judged b on b.layer = a.layer and b.feature = a.feature and a.score < b.score
    group by a.score, b.score
),
chance as (
    select
        *,
        (n_both + (n_features - n_a - n_b + n_both)) / n_features as agreement,
        (n_a / n_features) * (n_b / n_features) + (1 - n_a / n_features) * (1 - n_b / n_features) as expected
    from paired
)
select
    score_a,
    score_b,
    n_features,
    n_a,
    n_b,
    n_both,
    n_both / nullif(n_a + n_b - n_both, 0) as jaccard,
    (agreement - expected) / nullif(1 - expected, 0) as kappa
from chance
order by score_a, score_b;
