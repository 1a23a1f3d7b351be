-- Were the interventions done in the right place, and does the no-op change nothing?
--
-- decides: whether any effect of a run may be used
-- grain: one row per hook, rule, mode and positions
-- main: intervention
-- key: hook, rule, mode, positions, keeps_error, sound
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   hook | varchar | - | tensor that was edited
--   rule | varchar | - | rule
--   mode | varchar | - | what recomputes after the edit
--   positions | varchar | - | where
--   keeps_error | boolean | - | whether the reconstruction error stays
--   sound | boolean | - | false: known to be done at the wrong place
--   n_interventions | bigint | interventions | interventions, controls included
--   n_controls | bigint | interventions | of these, controls
--   n_outcomes | bigint | rows | outcomes
--   largest_effect | double | logits | largest absolute effect
--   noise_floor | double | logits | largest effect of the no-op over batch shapes
--   n_unchanged | bigint | rows | outcomes in which no feature really changed; null for edits that are not of features
--   method | varchar | - | what the run says of how it was made
with done as (
    select
        i.intervention,
        count(o.prompt) as n_outcomes,
        max(abs(o.effect)) as largest_effect,
        count(*) filter (where o.n_edited = 0) as n_unchanged
    from intervention i
    left join outcome o using (run_id, intervention)
    where i.run_id = $run
    group by i.intervention
)
select
    i.hook,
    i.rule::varchar as rule,
    i.mode::varchar as mode,
    i.positions::varchar as positions,
    i.keeps_error,
    i.sound,
    count(*) as n_interventions,
    count(*) filter (where i.control is not null) as n_controls,
    sum(d.n_outcomes)::bigint as n_outcomes,
    max(d.largest_effect)::double as largest_effect,
    max(i.noise_floor) as noise_floor,
    case when i.rule not in ('error_only', 'whole_mlp') then sum(d.n_unchanged)::bigint end as n_unchanged,
    any_value(r.method) as method
from intervention i
join done d using (intervention)
join run r using (run_id)
where i.run_id = $run
group by i.hook, i.rule, i.mode, i.positions, i.keeps_error, i.sound
order by i.hook, i.rule, i.mode, i.positions, i.keeps_error, i.sound;
