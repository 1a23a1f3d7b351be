-- Which features separate prompts that the model answers rightly from those it gets wrong?
--
-- Area under the curve of the largest activation on a prompt (0 where silent): .5 separates nothing. Prompts of one concept are not
-- independent, so n_concepts and not n_prompts says how much this rests on.
-- decides: which features to test as causes of errors
-- grain: one row per feature
-- main: feature_correctness
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   behaviour | varchar | null | only this behaviour; null is all
--   language | varchar | null | only this language; null is all
--   support | integer | 3 | least prompts with the feature active
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   auc | double | share | chance that a right prompt has the larger value than a wrong one, ties half
--   n_right | bigint | prompts | prompts answered rightly
--   n_wrong | bigint | prompts | prompts answered wrongly
--   n_active_right | bigint | prompts | of the right ones, with the feature active
--   n_active_wrong | bigint | prompts | of the wrong ones
--   n_concepts | bigint | concepts | concepts among the active prompts
select
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    auc,
    n_right::bigint as n_right,
    n_wrong::bigint as n_wrong,
    n_active_right::bigint as n_active_right,
    n_active_wrong::bigint as n_active_wrong,
    n_concepts::bigint as n_concepts
from feature_correctness
where run_id = $run
    and behaviour is not distinct from $behaviour
    and language is not distinct from $language
    and ($layer is null or layer = $layer)
    and n_active_right + n_active_wrong >= $support
order by abs(auc - 0.5) desc, layer, feature
limit $top;
