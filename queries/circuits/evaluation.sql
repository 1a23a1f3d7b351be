-- How necessary and how sufficient is a circuit, on prompts that were not used to find it, and against random circuits?
--
-- decides: whether a set of features may be called a circuit
-- grain: one row per measured property
-- main: evaluation
-- key: evaluation
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   circuit | integer | null | only this circuit; null is all
--   split | varchar | null | only this split; null is every row
-- columns:
--   evaluation | integer | - | ordinal within the run
--   circuit | integer | - | circuit
--   property | varchar | - | property
--   language | varchar | - | language, or all
--   split | varchar | - | split, or all
--   reference | varchar | - | reference values of non-members
--   error_mode | varchar | - | reconstruction error: clean, live or mean
--   x | double | - | point of a curve
--   value | double | - | measured
--   ci_low | double | - | interval
--   ci_high | double | - | interval
--   control_mean | double | - | mean over random circuits
--   control_low | double | - | 2.5 % quantile
--   control_high | double | - | 97.5 % quantile
--   n_controls | integer | circuits | random circuits
--   p_value | double | - | against these
--   n_prompts | integer | prompts | prompts
--   supports | boolean | - | evidence for or against, null where undecided
--   note | varchar | - | what to know when reading it
select
    evaluation,
    circuit,
    property,
    language,
    split,
    reference,
    error_mode,
    x,
    value,
    ci_low,
    ci_high,
    control_mean,
    control_low,
    control_high,
    n_controls,
    p_value,
    n_prompts,
    supports,
    note
from evaluation
where run_id = $run
    and circuit is not null
    and ($circuit is null or circuit = $circuit)
    and ($split is null or split = $split)
order by circuit, property, language, split, reference, error_mode, x, evaluation;
