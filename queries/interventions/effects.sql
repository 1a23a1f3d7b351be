-- What does each intervention do to the margin, in each language, and what do its controls do?
--
-- Mean of margin after minus before; negative: what was edited supported the answer. Interval over concepts, band and p over draws of the
-- control; p is null below 100 distinct control sets. matched_random are the drawn sets as they are, whose changes are often shorter than
-- what they control (length_ratio); matched_random_rescaled are the same sets with changes as long, layer by layer: read these first.
-- An injection read for another concept's answer (other_concept) is the same edit, with the same margin: interventions/transfer has it.
-- decides: which features matter, beyond what random ones would
-- grain: one row per intervention, language, split and kind of control
-- main: effect
-- key: intervention, language, split, control
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language | varchar | null | only this language, or all for the pooled rows; null is every row
--   split | varchar | all | split of the prompts | all, held_out, train, validation, test
--   rule | varchar | null | only this rule; null is all | no_op, zero, mean, resample, scale, add, patch, swap, random_direction, error_only, whole_mlp
--   sound | boolean | true | only interventions not known to be done at the wrong place
--   top | integer | 1000 | rows at most
-- columns:
--   intervention | integer | - | intervention
--   name | varchar | - | its name
--   rule | varchar | - | how target values follow from the clean run
--   n_members | integer | features | features edited together
--   language | varchar | - | language, or all
--   split | varchar | - | split
--   control | varchar | - | kind of control, or none
--   mean | double | logits | mean effect on the margin
--   ci_low | double | logits | 95 % interval over concepts
--   ci_high | double | logits | 95 % interval over concepts
--   n_prompts | integer | prompts | prompts
--   n_concepts | integer | clusters | clusters behind the interval
--   control_mean | double | logits | mean over draws of the control
--   control_low | double | logits | 2.5 % quantile over draws
--   control_high | double | logits | 97.5 % quantile over draws
--   n_controls | integer | draws | draws
--   length_ratio | double | share | mean length of the draws' changes over that of the intervention's own
--   n_in_caliper | integer | draws | draws whose change is as long as the intervention's own, within 20 %
--   n_left_out | integer | prompts | prompts without such a control, left out of this comparison
--   outside | boolean | - | whether the mean lies outside the band of the controls
--   p_value | double | - | against the draws, one- or two-sided as intervention.parameters says; null below 100 distinct draws
--   q_value | double | - | Benjamini-Hochberg over what was tested in this run with this rule and language (and, by an ingest, this split and control)
select
    e.intervention,
    i.name,
    i.rule::varchar as rule,
    i.n_members,
    e.language,
    e.split,
    e.control,
    e.mean,
    e.ci_low,
    e.ci_high,
    e.n_prompts,
    e.n_clusters as n_concepts,
    e.control_mean,
    e.control_low,
    e.control_high,
    e.n_controls,
    e.length_ratio,
    e.n_in_caliper,
    e.n_left_out,
    e.mean < e.control_low or e.mean > e.control_high as outside,
    e.p_value,
    e.q_value
from effect e
join intervention i using (run_id, intervention)
where e.run_id = $run
    and e.split = $split
    and e.control <> 'other_concept'
    and ($language is null or e.language = $language)
    and ($rule is null or i.rule::varchar = $rule)
    and (i.sound or not $sound)
order by abs(e.mean) desc, e.intervention, e.language, e.split, e.control
limit $top;
