-- Is the effect of editing features together the sum of editing them one by one?
--
-- decides: whether single-feature effects may be added up in a story
-- grain: one row per joint intervention and language whose members were all edited alone by the same rule
-- main: effect
-- key: intervention, language
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   intervention | integer | - | joint intervention
--   name | varchar | - | its name
--   rule | varchar | - | rule
--   language | varchar | - | language, or all
--   n_members | integer | features | features edited together
--   joint | double | logits | mean effect of editing them together
--   sum_of_singles | double | logits | sum of the mean effects of editing each alone
--   interaction | double | logits | joint - sum_of_singles
--   ratio | double | ratio | joint / sum_of_singles
with single as (
    select m.layer, m.feature, i.rule, i.mode, i.strength, e.language, avg(e.mean) as mean
    from intervention i
    join intervention_member m using (run_id, intervention)
    join effect e on e.run_id = i.run_id and e.intervention = i.intervention and e.split = 'all'
    where i.run_id = $run and i.n_members = 1 and i.control is null
    group by m.layer, m.feature, i.rule, i.mode, i.strength, e.language
),
members as (
    select distinct i.intervention, i.rule, i.mode, i.strength, m.layer, m.feature
    from intervention i
    join intervention_member m using (run_id, intervention)
    where i.run_id = $run and i.n_members > 1 and i.control is null
),
summed as (
    select m.intervention, s.language, count(*) as n_found, sum(s.mean) as total
    from members m
    join single s
        on s.layer = m.layer
        and s.feature = m.feature
        and s.rule = m.rule
        and s.mode = m.mode
        and s.strength is not distinct from m.strength
    group by m.intervention, s.language
),
joint as (
    select intervention, language, avg(mean) as mean
    from effect
    where run_id = $run and split = 'all'
    group by intervention, language
)
select
    i.intervention,
    i.name,
    i.rule::varchar as rule,
    s.language,
    i.n_members,
    j.mean as joint,
    s.total as sum_of_singles,
    j.mean - s.total as interaction,
    j.mean / nullif(s.total, 0) as ratio
from intervention i
join summed s using (intervention)
join joint j on j.intervention = i.intervention and j.language = s.language
where i.run_id = $run
    and s.n_found = (select count(*) from members m where m.intervention = i.intervention)
order by abs(j.mean - s.total) desc, i.intervention, s.language;
