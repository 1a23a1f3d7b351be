-- At which kinds of token are features shared by two languages?
--
-- A feature is shared at a role where its rate over tokens of that role reaches `rate` in both languages. Sharing at template and operator
-- tokens is about form, at content tokens about meaning.
-- decides: at which positions to patch
-- grain: one row per layer and token role
-- main: feature_role
-- key: layer, role
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   rate | double | 0.1 | least share of tokens with the feature active, in each language
-- columns:
--   layer | smallint | - | layer
--   role | varchar | - | token role
--   n_a | bigint | features | features at the rate in the first language
--   n_b | bigint | features | features at the rate in the second language
--   n_both | bigint | features | in both
--   iou | double | share | n_both / features at the rate in either
with rates as (
    select
        layer,
        feature,
        role,
        coalesce(max(n_active / n_tokens) filter (where language = $language_a), 0) >= $rate as in_a,
        coalesce(max(n_active / n_tokens) filter (where language = $language_b), 0) >= $rate as in_b
    from feature_role
    where run_id = $run and language in ($language_a, $language_b) and role not in ('sink', 'padding')
    group by layer, feature, role
)
select
    layer,
    role::varchar as role,
    count(*) filter (where in_a) as n_a,
    count(*) filter (where in_b) as n_b,
    count(*) filter (where in_a and in_b) as n_both,
    count(*) filter (where in_a and in_b) / nullif(count(*) filter (where in_a or in_b), 0) as iou
from rates
group by layer, role
order by layer, role;
