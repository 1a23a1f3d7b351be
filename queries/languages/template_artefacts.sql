-- Which features that look bilingual fire only in one template?
--
-- Such a feature is shared because the prompts are written alike, and not because the languages are.
-- decides: which features to leave out of a claim about meaning
-- grain: one row per feature
-- main: feature_template
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   share | double | 0.9 | least share of active prompts in one template
--   support | integer | 3 | least active prompts in each language
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   template | varchar | - | template with most of the active prompts
--   share | double | share | active prompts in that template / active prompts
--   n_active_a | bigint | prompts | active prompts, first language
--   n_active_b | bigint | prompts | active prompts, second language
--   n_concepts | bigint | concepts | concepts it is active on
--   n_templates | bigint | templates | templates of the run, for comparison
with counted as (
    select
        layer,
        feature,
        template,
        n_prompts_active / (n_active_a + n_active_b) as share,
        if($language_a < $language_b, n_active_a, n_active_b)::bigint as n_active_a,
        if($language_a < $language_b, n_active_b, n_active_a)::bigint as n_active_b,
        n_concepts::bigint as n_concepts
    from feature_template
    where run_id = $run
        and language_a = least($language_a, $language_b)
        and language_b = greatest($language_a, $language_b)
        and ($layer is null or layer = $layer)
)
select
    c.layer,
    c.feature,
    'L' || c.layer || '_F' || c.feature as name,
    c.template,
    c.share,
    c.n_active_a,
    c.n_active_b,
    c.n_concepts,
    (select count(distinct template) from prompt where run_id = $run and language in ($language_a, $language_b)) as n_templates
from counted c
where c.share >= $share and c.n_active_a >= $support and c.n_active_b >= $support
order by c.share desc, c.n_active_a + c.n_active_b desc, c.layer, c.feature
limit $top;
