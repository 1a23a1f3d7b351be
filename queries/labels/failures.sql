-- What did a language model give no usable label or judgement for, and why?
--
-- decides: whether to ask again, with a longer timeout or another model
-- grain: one row per failure
-- main: label_failure
-- key: failure
-- parameters:
--   run | varchar | null | labelling or scoring run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   failure | integer | - | ordinal within the run
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   step | varchar | - | write, detection, fuzzing or intruder
--   language | varchar | - | language of the texts
--   label_id | varchar | - | label that was to be scored
--   reason | varchar | - | what went wrong
--   attempts | smallint | tries | times it was asked
select
    failure,
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    step,
    language,
    label_id,
    reason,
    attempts
from label_failure
where run_id = $run
order by failure;
