-- Which features support the answer in both of two languages when they are ablated?
--
-- A bridge has a mean effect below 0 in both languages; a causal bridge has one below its matched random controls' in both, tested over
-- concepts (the larger one-sided p), then Benjamini-Hochberg. The sign alone is true of half of all features in an inert layer twice over.
-- decides: which features to call shared machinery of two languages
-- grain: one row per ablated feature
-- main: feature_score
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   parameter_set | varchar | default | default tests over concepts, per_prompt over prompts as if independent | default, per_prompt
--   bridges | boolean | false | only features whose sign is right in both languages
--   top | integer | 1000 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   worst_effect | double | logits | the less negative of the two mean effects
--   is_bridge | boolean | - | both mean effects are below 0
--   p_bridge | double | - | larger one-sided p of the two
--   q_bridge | double | - | Benjamini-Hochberg over the run's ablated features
--   worst_beyond_control | double | logits | the same after the matched controls' mean effect is taken off; null without controls
--   p_causal | double | - | larger one-sided p of the two, beyond controls
--   q_causal | double | - | Benjamini-Hochberg over the run's ablated features
--   is_causal_bridge | boolean | - | q_causal at most .05
--   n_prompts | bigint | prompts | prompts of both languages
--   sound | boolean | - | false: the ablation was done at the wrong place
with pair as (
    select least($language_a, $language_b) || '+' || greatest($language_a, $language_b) as languages
),
bridge as (
    select *
    from feature_score
    where run_id = $run and score = 'bridge' and parameter_set = $parameter_set and languages = (select languages from pair)
),
causal as (
    select *
    from feature_score
    where run_id = $run and score = 'causal_bridge' and parameter_set = 'default' and languages = (select languages from pair)
),
done as (
    select m.layer, m.feature, bool_and(i.sound) as sound
    from intervention_member m
    join intervention i using (run_id, intervention)
    where i.run_id = $run and i.rule = 'zero' and i.n_members = 1 and i.control is null
    group by m.layer, m.feature
)
select
    b.layer,
    b.feature,
    'L' || b.layer || '_F' || b.feature as name,
    b.value as worst_effect,
    b.flag as is_bridge,
    b.p_value as p_bridge,
    b.q_value as q_bridge,
    c.value as worst_beyond_control,
    c.p_value as p_causal,
    c.q_value as q_causal,
    c.flag and c.q_value <= 0.05 as is_causal_bridge,
    b.n as n_prompts,
    d.sound
from bridge b
left join causal c on c.layer = b.layer and c.feature = b.feature
left join done d on d.layer = b.layer and d.feature = b.feature
where b.flag or not $bridges
order by coalesce(c.p_value, b.p_value), b.layer, b.feature
limit $top;
