-- Which features separate prompts that the model answers rightly from those it gets wrong?
--
-- Area under the curve of the largest activation on a prompt (0 where silent): .5 separates nothing. Prompts of one concept are not
-- independent, so n_concepts and not n_prompts says how much this rests on.
-- decides: which features to test as causes of errors
-- grain: one row per feature
-- main: activation
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   behaviour | varchar | null | only this behaviour; null is all
--   language | varchar | null | only this language; null is all
--   support | integer | 3 | least prompts with the feature active
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   auc | double | share | chance that a right prompt has the larger value than a wrong one, ties half
--   n_right | bigint | prompts | prompts answered rightly
--   n_wrong | bigint | prompts | prompts answered wrongly
--   n_active_right | bigint | prompts | of the right ones, with the feature active
--   n_active_wrong | bigint | prompts | of the wrong ones
--   n_concepts | bigint | concepts | concepts among the active prompts
with asked as (
    select b.prompt, b.correct, p.concept
    from baseline b
    join prompt p using (run_id, prompt)
    where b.run_id = $run
        and ($behaviour is null or p.behaviour = $behaviour)
        and ($language is null or p.language = $language)
),
size as (
    select count(*) filter (where correct) as n_right, count(*) filter (where not correct) as n_wrong
    from asked
),
sink as (
    select item as prompt, position
    from token
    where run_id = $run and source = 'prompt' and role = 'sink'
),
active as (
    select a.layer, a.feature, a.prompt, max(a.activation) as activation
    from activation a
    anti join sink using (prompt, position)
    where a.run_id = $run and ($layer is null or a.layer = $layer)
    group by a.layer, a.feature, a.prompt
),
ranked as (
    select
        a.layer,
        a.feature,
        s.correct,
        s.concept,
        rank() over (partition by a.layer, a.feature order by a.activation)
            + (count(*) over (partition by a.layer, a.feature, a.activation) - 1) / 2 as place
    from active a
    join asked s using (prompt)
),
summed as (
    select
        layer,
        feature,
        count(*) filter (where correct) as active_right,
        count(*) filter (where not correct) as active_wrong,
        coalesce(sum(place) filter (where correct), 0) as places,
        count(distinct concept) as n_concepts
    from ranked
    group by layer, feature
)
select
    m.layer,
    m.feature,
    'L' || m.layer || '_F' || m.feature as name,
    (
        m.places - m.active_right * (m.active_right + 1) / 2
        + m.active_right * (s.n_wrong - m.active_wrong)
        + 0.5 * (s.n_right - m.active_right) * (s.n_wrong - m.active_wrong)
    ) / (s.n_right * s.n_wrong) as auc,
    s.n_right,
    s.n_wrong,
    m.active_right as n_active_right,
    m.active_wrong as n_active_wrong,
    m.n_concepts
from summed m
cross join size s
where m.active_right + m.active_wrong >= $support and s.n_right > 0 and s.n_wrong > 0
order by abs(auc - 0.5) desc, m.layer, m.feature
limit $top;
