-- What share of interventions hurts the answer, and by how much, for each rule and layer?
--
-- Over single rows of outcome, one per intervention and prompt, as published tables count them; layer -1 is all layers.
-- decides: whether a published share of effects below zero is what the data say
-- grain: one row per rule, kind of control and layer
-- main: outcome
-- key: rule, control, layer
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   rule | varchar | - | rule
--   control | varchar | - | kind of control, none for the intervention itself
--   layer | smallint | - | lowest edited layer; -1 is all
--   n_rows | bigint | rows | effects on single prompts
--   n_interventions | bigint | interventions | interventions
--   below_zero | double | share | effects below 0
--   mean_effect | double | logits | mean effect
--   sd_effect | double | logits | standard deviation of the effects
--   flipped | double | share | margins whose sign changed
--   hook | varchar | - | tensor that was edited
--   sound | boolean | - | whether all interventions are free of known faults
with effects as (
    select
        i.rule::varchar as rule,
        coalesce(i.control::varchar, 'none') as control,
        i.layer_low as layer,
        i.intervention,
        i.hook,
        i.sound,
        o.effect::double as effect,
        sign(o.margin_before) <> sign(o.margin_after) as flipped
    from outcome o
    join intervention i using (run_id, intervention)
    where o.run_id = $run
)
select
    rule,
    control,
    case when grouping(layer) = 1 then -1 else layer end::smallint as layer,
    count(*) as n_rows,
    count(distinct intervention) as n_interventions,
    avg((effect < 0)::integer) as below_zero,
    avg(effect) as mean_effect,
    stddev_samp(effect) as sd_effect,
    avg(flipped::integer) as flipped,
    string_agg(distinct hook, ', ' order by hook) as hook,
    bool_and(sound) as sound
from effects
group by grouping sets ((rule, control, layer), (rule, control))
order by rule, control, layer;
