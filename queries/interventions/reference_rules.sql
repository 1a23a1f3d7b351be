-- Does it matter whether a feature is set to zero, to its mean, or to another prompt's value?
--
-- decides: which ablation to report, and whether zero is off the model's usual path
-- grain: one row per set of members, mode, positions and language with at least two rules
-- main: effect
-- key: members, mode, positions, language
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   members | varchar | - | edited features in text
--   mode | varchar | - | what recomputes after the edit
--   positions | varchar | - | where
--   language | varchar | - | language, or all
--   zero | double | logits | mean effect of zero ablation
--   mean | double | logits | mean effect of mean ablation
--   resample | double | logits | mean effect of resampling
--   widest | double | logits | largest difference between two rules
--   same_sign | boolean | - | whether all rules agree in sign
with listed as (
    select
        m.intervention,
        list(distinct 'L' || m.layer || '_F' || m.feature) as names,
        list_sort(list((m.layer, m.feature, m.position, m.concept)))::varchar as everything
    from intervention_member m
    join intervention i using (run_id, intervention)
    where m.run_id = $run and i.control is null and i.rule in ('zero', 'mean', 'resample')
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
wide as (
    select
        n.members,
        i.mode::varchar as mode,
        i.positions::varchar as positions,
        e.language,
        avg(e.mean) filter (where i.rule = 'zero') as zero,
        avg(e.mean) filter (where i.rule = 'mean') as mean,
        avg(e.mean) filter (where i.rule = 'resample') as resample,
        max(e.mean) - min(e.mean) as widest,
        min(sign(e.mean)) = max(sign(e.mean)) as same_sign,
        count(distinct i.rule) as n_rules
    from intervention i
    join named n using (intervention)
    join effect e on e.run_id = i.run_id and e.intervention = i.intervention and e.split = 'all'
    where i.run_id = $run
    group by n.members, i.mode, i.positions, e.language
)
select members, mode, positions, language, zero, mean, resample, widest, same_sign
from wide
where n_rules >= 2
order by widest desc, members, mode, positions, language;
