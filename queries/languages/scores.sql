-- What does every language score say of the same features, side by side?
--
-- The scores are those of METHODS section 7 under one parameter set; each is stored with its denominator and, where there is one, its null
-- (table feature_score). Features without support are not scored.
-- decides: which score a claim of bilinguality rests on, and whether another one would overturn it
-- grain: one row per scored feature
-- main: feature_score
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   parameter_set | varchar | default | parameter set, see provenance/parameter_sets
--   layer | smallint | null | only this layer; null is all
--   top | integer | 1000 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   profile | double | - | language profile: -1 leans to the language that sorts first, 0 balanced, 1 leans to the other
--   rate_low | double | share | bilingual by rate: smaller Wilson bound over prompts
--   rate_q | double | - | q-value that both rates are equal within the margin
--   effective_languages | double | languages | exp(LAPE)
--   lape_q | double | - | q-value that LAPE is lower than languages dealt anew give (language-specific)
--   shared_k | double | languages | languages with a rate near the largest
--   monolinguality_a | double | activation | mean in the first language minus the others' mean
--   monolinguality_b | double | activation | the same of the second language
--   lift | double | ratio | translation lift
--   lift_p | double | - | p-value of the lift against concepts dealt anew
--   phi | double | - | phi of the same table
--   bridge | double | logits | less negative of the two mean ablation effects
--   causal_bridge_q | double | - | q-value that the effect beyond matched controls is below 0 in both languages
--   n_yes | bigint | scores | scores out of profile, rate, LAPE, shared_k, lift and causal bridge that say bilingual
with scored as (
    select layer, feature, score, languages, value, flag, p_value, q_value
    from feature_score
    where run_id = $run
        and parameter_set = $parameter_set
        and ($layer is null or layer = $layer)
        and (
            languages in (least($language_a, $language_b) || '+' || greatest($language_a, $language_b), $language_a, $language_b)
            or score in ('lape', 'shared_k')
        )
),
wide as (
    select
        layer,
        feature,
        max(value) filter (where score = 'language_profile') as profile,
        max(value) filter (where score = 'bilingual_rate') as rate_low,
        max(q_value) filter (where score = 'bilingual_rate') as rate_q,
        exp(max(value) filter (where score = 'lape')) as effective_languages,
        max(q_value) filter (where score = 'lape') as lape_q,
        max(value) filter (where score = 'shared_k') as shared_k,
        max(value) filter (where score = 'monolinguality' and languages = $language_a) as monolinguality_a,
        max(value) filter (where score = 'monolinguality' and languages = $language_b) as monolinguality_b,
        max(value) filter (where score = 'translation_lift') as lift,
        max(p_value) filter (where score = 'translation_lift') as lift_p,
        max(value) filter (where score = 'translation_phi') as phi,
        max(value) filter (where score = 'bridge') as bridge,
        max(q_value) filter (where score = 'causal_bridge') as causal_bridge_q,
        count(*) filter (
            where flag and score in ('language_profile', 'bilingual_rate', 'lape', 'shared_k', 'translation_lift')
        ) + count(*) filter (where score = 'causal_bridge' and flag and q_value < 0.05) as n_yes
    from scored
    group by layer, feature
)
select
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    profile,
    rate_low,
    rate_q,
    effective_languages,
    lape_q,
    shared_k,
    monolinguality_a,
    monolinguality_b,
    lift,
    lift_p,
    phi,
    bridge,
    causal_bridge_q,
    n_yes
from wide
order by n_yes desc, rate_low desc nulls last, layer, feature
limit $top;
