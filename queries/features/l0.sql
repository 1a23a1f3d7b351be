-- How many features are active a token, by layer, language and token role?
--
-- decides: whether dictionaries are equally sparse where languages or positions are compared
-- grain: one row per layer, language and role
-- main: feature_role
-- key: layer, language, role
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | only this layer; null is all
-- columns:
--   layer | smallint | - | layer
--   language | varchar | - | language
--   role | varchar | - | token role; all is every role but sinks
--   n_tokens | bigint | tokens | tokens
--   l0 | double | features | active features a token
--   n_features | bigint | features | distinct features active at least once
--   mean_activation | double | activation | mean over active (token, feature) pairs
with by_role as (
    select
        layer,
        language,
        role::varchar as role,
        max(n_tokens) as n_tokens,
        sum(n_active) as n_active,
        count(*) as n_features,
        sum(sum_activation) as sum_activation
    from feature_role
    where run_id = $run and ($layer is null or layer = $layer)
    group by layer, language, role
),
whole as (
    select
        layer,
        language,
        'all' as role,
        max(n_tokens) as n_tokens,
        sum(n_active) as n_active,
        count(*) filter (where n_active > 0) as n_features,
        sum(sum_activation) as sum_activation
    from feature_language
    where run_id = $run and ($layer is null or layer = $layer)
    group by layer, language
),
together as (
    select * from by_role
    union all
    select * from whole
)
select
    layer,
    language,
    role,
    n_tokens::bigint as n_tokens,
    n_active / n_tokens as l0,
    n_features::bigint as n_features,
    sum_activation / nullif(n_active, 0) as mean_activation
from together
order by layer, language, role;
