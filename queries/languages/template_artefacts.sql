-- Which features that look bilingual fire only in one template?
--
-- Such a feature is shared because the prompts are written alike, and not because the languages are.
-- decides: which features to leave out of a claim about meaning
-- grain: one row per feature
-- main: activation
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
with asked as (
    select prompt, language, concept, template
    from prompt
    where run_id = $run and language in ($language_a, $language_b)
),
place as (
    select item as prompt, position
    from token
    where run_id = $run and source = 'prompt' and role = 'sink'
),
active as (
    select distinct a.layer, a.feature, a.prompt
    from activation a
    anti join place using (prompt, position)
    where a.run_id = $run and ($layer is null or a.layer = $layer)
),
by_template as (
    select
        layer,
        feature,
        template,
        count(*) as n,
        count(*) filter (where language = $language_a) as n_a,
        count(*) filter (where language = $language_b) as n_b
    from active
    join asked using (prompt)
    group by layer, feature, template
),
totals as (
    select
        *,
        n / sum(n) over (partition by layer, feature) as share,
        sum(n_a) over (partition by layer, feature) as active_a,
        sum(n_b) over (partition by layer, feature) as active_b,
        row_number() over (partition by layer, feature order by n desc, template) as place
    from by_template
),
spread as (
    select layer, feature, count(distinct concept) as n_concepts
    from active
    join asked using (prompt)
    group by layer, feature
)
select
    t.layer,
    t.feature,
    'L' || t.layer || '_F' || t.feature as name,
    t.template,
    t.share,
    t.active_a::bigint as n_active_a,
    t.active_b::bigint as n_active_b,
    s.n_concepts,
    (select count(distinct template) from asked) as n_templates
from totals t
join spread s using (layer, feature)
where t.place = 1 and t.share >= $share and t.active_a >= $support and t.active_b >= $support
order by t.share desc, t.active_a + t.active_b desc, t.layer, t.feature
limit $top;
