-- How well do gradients and integrated gradients predict what an edit does?
--
-- decides: whether cheap predictions may stand for interventions
-- grain: one row per rule, lowest layer and mode
-- main: outcome
-- key: rule, mode, layer
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   rule | varchar | - | rule
--   mode | varchar | - | what recomputes after the edit
--   layer | smallint | - | lowest edited layer
--   n_effects | bigint | effects | effects with a prediction
--   r_gradient | double | - | correlation of effect and gradient prediction
--   slope_gradient | double | ratio | slope of effect on gradient prediction
--   r_integrated | double | - | correlation of effect and integrated gradients
--   rms_error_gradient | double | logits | root mean square error of the gradient prediction
--   rms_effect | double | logits | root mean square of the effect
select
    i.rule::varchar as rule,
    i.mode::varchar as mode,
    i.layer_low as layer,
    count(*) as n_effects,
    corr(o.effect, o.predicted_gradient) as r_gradient,
    regr_slope(o.effect, o.predicted_gradient) as slope_gradient,
    corr(o.effect, o.predicted_integrated) as r_integrated,
    sqrt(avg((o.effect::double - o.predicted_gradient) ** 2)) as rms_error_gradient,
    sqrt(avg(o.effect::double ** 2)) as rms_effect
from outcome o
join intervention i using (run_id, intervention)
where o.run_id = $run and o.predicted_gradient is not null and i.rule <> 'no_op'
group by i.rule, i.mode, i.layer_low
order by i.rule, i.mode, i.layer_low;
