-- What does every language score say of the same features, side by side?
--
-- The scores are those of METHODS section 7 under one parameter set; each is stored with its denominator and, where there is one, its null
-- (table feature_score). Features without support are not scored.
-- decides: which score a claim of bilinguality rests on, and whether another one would overturn it
-- grain: one row per scored feature
-- main: feature_verdict
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
select
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    profile,
    rate_low,
    rate_q,
    exp(lape) as effective_languages,
    lape_q,
    shared_k,
    if($language_a < $language_b, monolinguality_a, monolinguality_b) as monolinguality_a,
    if($language_a < $language_b, monolinguality_b, monolinguality_a) as monolinguality_b,
    lift,
    lift_p,
    phi,
    bridge,
    causal_bridge_q,
    n_yes::bigint as n_yes
from feature_verdict
where run_id = $run
    and parameter_set = $parameter_set
    and language_a = least($language_a, $language_b)
    and language_b = greatest($language_a, $language_b)
    and ($layer is null or layer = $layer)
order by n_yes desc, rate_low desc nulls last, layer, feature
limit $top;
