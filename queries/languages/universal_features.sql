-- Which features fire on nearly every prompt, and would a frequency ceiling have hidden shared ones?
--
-- A ceiling on frequency drops these before any language question is asked; some of them are shared because they mark what all languages do.
-- decides: whether to set a ceiling, and at what cost
-- grain: one row per feature above the ceiling in every language
-- main: feature_language
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   ceiling | double | 0.8 | least share of prompts with the feature active, in every language
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   lowest_rate | double | share | smallest share of prompts over languages
--   highest_rate | double | share | largest
--   n_languages | bigint | languages | languages of the run
--   density | double | share | active tokens / tokens
--   mean_activation | float | activation | mean over active tokens
--   bridge | double | logits | less negative of the mean ablation effects in two languages, where it was ablated
--   bridge_q | double | - | q-value of both being below 0
-- example: ceiling=0.6
with rates as (
    select
        layer,
        feature,
        min(n_prompts_active / n_prompts) as lowest_rate,
        max(n_prompts_active / n_prompts) as highest_rate,
        count(*) as n_languages
    from feature_language
    where run_id = $run and language <> 'xx' and n_prompts > 0
    group by layer, feature
),
ablated as (
    select layer, feature, max(value) as bridge, max(q_value) as bridge_q
    from feature_score
    where run_id = $run and score = 'bridge' and parameter_set = 'default'
    group by layer, feature
)
select
    r.layer,
    r.feature,
    'L' || r.layer || '_F' || r.feature as name,
    r.lowest_rate,
    r.highest_rate,
    r.n_languages,
    f.density,
    f.mean_activation,
    a.bridge,
    a.bridge_q
from rates r
left join feature f on f.run_id = $run and f.layer = r.layer and f.feature = r.feature
left join ablated a on a.layer = r.layer and a.feature = r.feature
where r.lowest_rate >= $ceiling
order by r.lowest_rate desc, r.layer, r.feature
limit $top;
