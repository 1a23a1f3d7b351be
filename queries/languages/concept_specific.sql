-- Which features stand for one concept, or one antonym pair, in both languages?
--
-- Share of the feature's active prompts that belong to its strongest concept cluster, in each language; both must be the same cluster.
-- decides: which features to inject to carry one concept from a language into another
-- grain: one row per feature
-- main: activation
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
with asked as (
    select prompt, language, coalesce(cluster, concept) as cluster
    from prompt
    where run_id = $run and language in ($language_a, $language_b)
),
size as (
    select language, cluster, count(*) as n_prompts
    from asked
    group by language, cluster
),
place as (
    select item as prompt, position
    from token
    where run_id = $run and source = 'prompt' and role = 'sink'
),
active as (
    select a.layer, a.feature, a.prompt, max(a.activation) as activation
    from activation a
    anti join place using (prompt, position)
    where a.run_id = $run and ($layer is null or a.layer = $layer)
    group by a.layer, a.feature, a.prompt
),
counted as (
    select
        layer,
        feature,
        language,
        cluster,
        count(*) as n,
        count(*) / sum(count(*)) over (partition by layer, feature, language) as purity,
        max(activation) as max_activation
    from active
    join asked using (prompt)
    group by layer, feature, language, cluster
),
strongest as (
    select c.*, c.n / s.n_prompts as coverage
    from counted c
    join size s using (language, cluster)
    where c.purity >= $purity and c.n >= $support
    qualify row_number() over (partition by layer, feature, language order by c.purity desc, cluster) = 1
)
select
    a.layer,
    a.feature,
    'L' || a.layer || '_F' || a.feature as name,
    a.cluster,
    a.purity as purity_a,
    b.purity as purity_b,
    a.n as n_a,
    b.n as n_b,
    least(a.coverage, b.coverage) as coverage,
    greatest(a.max_activation, b.max_activation) as max_activation
from strongest a
join strongest b on b.layer = a.layer and b.feature = a.feature and b.cluster = a.cluster and b.language = $language_b
where a.language = $language_a
order by coverage desc, least(a.purity, b.purity) desc, a.layer, a.feature
limit $top;
