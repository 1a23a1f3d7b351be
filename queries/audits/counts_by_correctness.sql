-- feature_correctness is what the raw activations say, over all behaviours and languages and one by one: for all features of a small atlas,
-- for every n-th of a large one. The area under the curve is counted here from ranks with a window.
with every as (
    select greatest(1, count(*) // 100000) as n from activation
),
judged as (
    select b.run_id, b.prompt, b.correct, p.behaviour, p.language, p.concept
    from baseline b
    join prompt p using (run_id, prompt)
    where b.run_id in (select run_id from feature_correctness)
),
asked as (
    select run_id, prompt, correct, concept, x.behaviour, y.language
    from judged,
        lateral (values (judged.behaviour), (null)) x(behaviour),
        lateral (values (judged.language), (null)) y(language)
),
size as (
    select run_id, behaviour, language, count(*) filter (where correct) as n_right, count(*) filter (where not correct) as n_wrong
    from asked
    group by run_id, behaviour, language
),
active as (
    select a.run_id, a.layer, a.feature, a.prompt, max(a.activation) as activation
    from activation a
    anti join (select run_id, item as prompt, position from token where source = 'prompt' and role = 'sink') s
        using (run_id, prompt, position)
    where a.feature % (select n from every) = 0
    group by a.run_id, a.layer, a.feature, a.prompt
),
ranked as (
    select
        a.run_id,
        a.layer,
        a.feature,
        s.behaviour,
        s.language,
        s.correct,
        s.concept,
        rank() over (partition by a.run_id, a.layer, a.feature, s.behaviour, s.language order by a.activation)
            + (count(*) over (partition by a.run_id, a.layer, a.feature, s.behaviour, s.language, a.activation) - 1) / 2 as place
    from active a
    join asked s using (run_id, prompt)
),
summed as (
    select
        run_id,
        layer,
        feature,
        behaviour,
        language,
        count(*) filter (where correct) as active_right,
        count(*) filter (where not correct) as active_wrong,
        coalesce(sum(place) filter (where correct), 0) as places,
        count(distinct concept) as n_concepts
    from ranked
    group by run_id, layer, feature, behaviour, language
),
found as (
    select
        m.*,
        s.n_right,
        s.n_wrong,
        (
            m.places - m.active_right * (m.active_right + 1) / 2
            + m.active_right * (s.n_wrong - m.active_wrong)
            + 0.5 * (s.n_right - m.active_right) * (s.n_wrong - m.active_wrong)
        ) / (s.n_right * s.n_wrong) as auc
    from summed m
    join size s
        on s.run_id = m.run_id
        and s.behaviour is not distinct from m.behaviour
        and s.language is not distinct from m.language
    where s.n_right > 0 and s.n_wrong > 0
)
select
    coalesce(f.run_id, c.run_id) as run_id,
    coalesce(f.layer, c.layer) as layer,
    coalesce(f.feature, c.feature) as feature,
    coalesce(f.behaviour, c.behaviour) as behaviour,
    coalesce(f.language, c.language) as language,
    f.auc,
    c.auc as stored_auc
from found f
full join (select * from feature_correctness where feature % (select n from every) = 0) c
    on c.run_id = f.run_id
    and c.layer = f.layer
    and c.feature = f.feature
    and c.behaviour is not distinct from f.behaviour
    and c.language is not distinct from f.language
where f.feature is null
    or c.feature is null
    or f.active_right <> c.n_active_right
    or f.active_wrong <> c.n_active_wrong
    or f.n_concepts <> c.n_concepts
    or f.n_right <> c.n_right
    or f.n_wrong <> c.n_wrong
    or abs(f.auc - c.auc) > 1e-9
order by run_id, layer, feature, behaviour, language
limit 20;
