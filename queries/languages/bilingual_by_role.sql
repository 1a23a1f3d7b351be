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
with frequent as (
    select layer, feature, role, language
    from feature_role
    where run_id = $run
        and language in ($language_a, $language_b)
        and role not in ('sink', 'padding')
        and n_active >= $rate * n_tokens
),
rates as (
    select
        layer,
        feature,
        role,
        bool_or(language = $language_a) as in_a,
        bool_or(language = $language_b) as in_b
    from frequent
    group by layer, feature, role
),
counted as (
    select
        layer,
        role,
        count(*) filter (where in_a) as n_a,
        count(*) filter (where in_b) as n_b,
        count(*) filter (where in_a and in_b) as n_both,
        count(*) as n_either
    from rates
    group by layer, role
),
place as (
    select distinct layer, role
    from feature_role
    where run_id = $run and language in ($language_a, $language_b) and role not in ('sink', 'padding')
)
select
    p.layer,
    p.role::varchar as role,
    coalesce(c.n_a, 0) as n_a,
    coalesce(c.n_b, 0) as n_b,
    coalesce(c.n_both, 0) as n_both,
    c.n_both / c.n_either as iou
from place p
left join counted c using (layer, role)
order by p.layer, p.role::varchar;
