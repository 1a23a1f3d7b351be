-- How directed, persistent and replaceable is each behaviour's computation?
--
-- Directionality: the predicted sign, more than controls. Persistence: the causal effect carries over templates and languages. Replaceability:
-- the answer moves to the predicted token (METHODS, section 6). Second to them: persistence_jaccard (overlap of the strongest sets),
-- replaceability_share (prompts that come to prefer the predicted token), and transfer_from_<language> (faithfulness of a circuit found on
-- that language's prompts). Rows of circuits, with sufficiency_linear and sufficiency_layer, stand in circuits/evaluation.
-- decides: whether a behaviour has a computation to speak of
-- grain: one row per measured property
-- main: evaluation
-- key: evaluation
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   property | varchar | null | only this property; null is the three and what is second to them
-- columns:
--   evaluation | integer | - | ordinal within the run
--   subject | varchar | - | what was measured
--   behaviour | varchar | - | behaviour
--   property | varchar | - | property
--   language | varchar | - | language, or all
--   split | varchar | - | split, or all
--   value | double | - | measured
--   ci_low | double | - | interval
--   ci_high | double | - | interval
--   control_mean | double | - | mean over matched random ones
--   control_high | double | - | 97.5 % quantile over these
--   beyond_control | double | - | value - control_mean
--   p_value | double | - | against these
--   n_concepts | integer | clusters | clusters
--   supports | boolean | - | evidence for or against, null where undecided
--   note | varchar | - | what to know when reading it
select
    evaluation,
    subject,
    behaviour,
    property,
    language,
    split,
    value,
    ci_low,
    ci_high,
    control_mean,
    control_high,
    value - control_mean as beyond_control,
    p_value,
    n_clusters as n_concepts,
    supports,
    note
from evaluation
where run_id = $run
    and (
        property = $property
        or $property is null and regexp_full_match(property, '(directionality|persistence|replaceability|transfer_from)(_.*)?')
    )
order by behaviour, property, language, split, evaluation;
