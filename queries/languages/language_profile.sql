-- How many features lean to one language, are balanced, or have too little support to say?
--
-- By active prompts, as the thesis does: leaning has `leaning` or more in one language and `other` or fewer in the other, balanced has
-- `leaning` or more in both, the rest is insufficient. Layer -1 stands for all layers.
-- decides: whether a layer is worth a bilingual analysis at all
-- grain: one row per layer and profile
-- main: shared_count
-- key: layer, profile
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   leaning | integer | 4 | active prompts that count as support
--   other | integer | 1 | active prompts that the other language may have
-- columns:
--   layer | smallint | - | layer; -1 is all layers together
--   profile | varchar | - | leans to a language, balanced or insufficient
--   n_features | bigint | features | features with that profile, active in either language
--   share | double | share | of the layer's features that are active in either language
with counted as (
    select
        layer,
        if($language_a < $language_b, n_active_a, n_active_b) as active_a,
        if($language_a < $language_b, n_active_b, n_active_a) as active_b,
        n_features
    from shared_count
    where run_id = $run
        and language_a = least($language_a, $language_b)
        and language_b = greatest($language_a, $language_b)
),
profiled as (
    select
        layer,
        case
            when active_a >= $leaning and active_b >= $leaning then 'balanced'
            when active_a >= $leaning and active_b <= $other then $language_a || '_leaning'
            when active_b >= $leaning and active_a <= $other then $language_b || '_leaning'
            else 'insufficient'
        end as profile,
        n_features
    from counted
),
grouped as (
    select coalesce(layer, -1)::smallint as layer, profile, sum(n_features)::bigint as n_features
    from profiled
    group by grouping sets ((layer, profile), (profile))
)
select layer, profile, n_features, n_features / sum(n_features) over (partition by layer) as share
from grouped
order by layer, profile;
