-- How does the effect grow with the strength of an edit?
--
-- Scaled or added features: the interventions that edit the same members at several strengths; zero counts as scale 0, the clean run as
-- scale 1. A feature that carries the answer has a monotone curve.
-- decides: whether an effect is causal in degree, and which strength to steer at
-- grain: one row per set of members, rule, mode, positions, language and strength
-- main: effect
-- key: members, mode, positions, language, strength
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   rule | varchar | scale | scale or add | scale, add
-- columns:
--   members | varchar | - | edited features in text
--   rule | varchar | - | scale or add
--   mode | varchar | - | what recomputes after the edit
--   positions | varchar | - | where
--   language | varchar | - | language, or all
--   strength | double | - | alpha
--   mean | double | logits | mean effect on the margin
--   ci_low | double | logits | 95 % interval over concepts
--   ci_high | double | logits | 95 % interval over concepts
--   step | double | logits | change from the next lower strength
--   n_strengths | bigint | - | strengths of this curve
--   monotone | boolean | - | whether the means rise or fall over all strengths
with listed as (
    select
        m.intervention,
        list(distinct 'L' || m.layer || '_F' || m.feature) as names,
        list_sort(list((m.layer, m.feature, m.position, m.concept)))::varchar as everything
    from intervention_member m
    join intervention i using (run_id, intervention)
    where m.run_id = $run and i.control is null and i.rule in ('scale', 'add', 'zero')
    group by m.intervention
),
named as (
    -- A long set is named by its first members and a hash of all of them.
    select
        intervention,
        list_aggregate(list_sort(names)[:6], 'string_agg', ' ')
            || if(len(names) > 6, ' and ' || (len(names) - 6) || ' more (' || md5(everything)[:6] || ')', '') as members
    from listed
),
measured as (
    select
        n.members,
        i.mode::varchar as mode,
        i.positions::varchar as positions,
        e.language,
        case when i.rule = 'zero' then 0 else i.strength end as strength,
        e.mean,
        e.ci_low,
        e.ci_high,
        i.rule::varchar as rule,
        row_number() over (
            partition by n.members, i.mode, i.positions, e.language, case when i.rule = 'zero' then 0 else i.strength end
            order by i.rule <> 'zero', e.intervention, e.control
        ) as first
    from intervention i
    join named n using (intervention)
    join effect e on e.run_id = i.run_id and e.intervention = i.intervention and e.split = 'all'
    where i.run_id = $run and (i.rule::varchar = $rule or i.rule = 'zero' and $rule = 'scale')
),
curves as (
    select *, count(*) over (partition by members, mode, positions, language) as n_strengths
    from measured
    where first = 1
),
stepped as (
    select *, mean - lag(mean) over (partition by members, mode, positions, language order by strength) as step
    from curves
    where n_strengths > 1
)
select
    members,
    $rule as rule,
    mode,
    positions,
    language,
    strength,
    mean,
    ci_low,
    ci_high,
    step,
    n_strengths,
    bool_and(coalesce(step >= 0, true)) over (partition by members, mode, positions, language)
        or bool_and(coalesce(step <= 0, true)) over (partition by members, mode, positions, language) as monotone
from stepped
order by members, mode, positions, language, strength;
