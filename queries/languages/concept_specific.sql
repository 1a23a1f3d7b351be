-- Which features stand for one concept, or one antonym pair, in both languages?
--
-- Share of the feature's active prompts that belong to its strongest concept cluster, in each language; both must be the same cluster.
-- decides: which features to inject to carry one concept from a language into another
-- grain: one row per feature
-- main: feature_cluster
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   purity | double | 0.5 | least share of active prompts in the strongest cluster, in each language
--   support | integer | 2 | least active prompts in the strongest cluster, in each language
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   cluster | varchar | - | concept, or the unit that statistics resample
--   purity_a | double | share | active prompts of the cluster / active prompts, first language
--   purity_b | double | share | the same, second language
--   n_a | bigint | prompts | active prompts of the cluster, first language
--   n_b | bigint | prompts | the same, second language
--   coverage | double | share | active prompts of the cluster / its prompts, the smaller of the two languages
--   max_activation | float | activation | largest value on prompts of the cluster
with pure as (
    select layer, feature, language, cluster, purity, n_prompts_active as n, n_prompts_active / n_prompts as coverage, max_activation
    from feature_cluster
    where run_id = $run
        and language in ($language_a, $language_b)
        and ($layer is null or layer = $layer)
        and purity >= $purity
        and n_prompts_active >= $support
)
select
    a.layer,
    a.feature,
    'L' || a.layer || '_F' || a.feature as name,
    a.cluster,
    a.purity as purity_a,
    b.purity as purity_b,
    a.n::bigint as n_a,
    b.n::bigint as n_b,
    least(a.coverage, b.coverage) as coverage,
    greatest(a.max_activation, b.max_activation) as max_activation
from pure a
join pure b on b.layer = a.layer and b.feature = a.feature and b.cluster = a.cluster and b.language = $language_b
where a.language = $language_a
order by coverage desc, least(a.purity, b.purity) desc, a.layer, a.feature
limit $top;
