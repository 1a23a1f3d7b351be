-- How far do two language scores agree on which features are bilingual?
--
-- Over features that both scores judged. Kappa is agreement beyond what the two shares of yes give by chance.
-- decides: whether a result depends on the score that was chosen
-- grain: one row per pair of scores
-- main: feature_verdict
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
with patterns as (
    select yes_profile, yes_rate, yes_lape, yes_shared_k, yes_lift, yes_bridge, yes_causal_bridge, count(*) as n
    from feature_verdict
    where run_id = $run
        and parameter_set = $parameter_set
        and language_a = least($language_a, $language_b)
        and language_b = greatest($language_a, $language_b)
    group by all
),
judged as (
    select
        row_number() over () as pattern,
        n,
        unnest([
            'language_profile', 'bilingual_rate', 'lape', 'shared_k', 'translation_lift', 'bridge', 'causal_bridge'
        ]) as score,
        unnest([
            yes_profile, yes_rate, yes_lape, yes_shared_k, yes_lift, yes_bridge, yes_causal_bridge
        ])::integer as yes
    from patterns
),
paired as (
    select
        a.score as score_a,
        b.score as score_b,
        sum(a.n)::bigint as n_features,
        sum(a.n * a.yes)::bigint as n_a,
        sum(a.n * b.yes)::bigint as n_b,
        sum(a.n * a.yes * b.yes)::bigint as n_both
    from judged a
    join judged b on b.pattern = a.pattern and a.score < b.score
    where a.yes is not null and b.yes is not null
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
