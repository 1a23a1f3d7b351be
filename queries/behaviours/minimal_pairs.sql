-- Which features tell the two prompts of a minimal pair apart?
--
-- Features active on one prompt of the pair and not on the other, over all pairs of a behaviour; both directions.
-- decides: which features to patch to flip a gate
-- grain: one row per behaviour, variant and feature
-- main: feature_contrast
-- key: behaviour, variant, layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language | varchar | null | only pairs of this language; null is all
--   least | double | 0.25 | least share of pairs in which the feature is on this side only
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   behaviour | varchar | - | behaviour
--   variant | varchar | - | variant on which the feature is active
--   other_variant | varchar | - | variant on which it is silent
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   n_pairs | bigint | pairs | pairs
--   n_only_here | bigint | pairs | pairs with the feature on this side only
--   n_both | bigint | pairs | pairs with the feature on both sides
--   share | double | share | n_only_here / n_pairs
--   n_concepts | bigint | concepts | concepts among the former
select
    behaviour,
    variant,
    other_variant,
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    n_pairs::bigint as n_pairs,
    n_only_here::bigint as n_only_here,
    n_both::bigint as n_both,
    n_only_here / n_pairs as share,
    n_concepts::bigint as n_concepts
from feature_contrast
where run_id = $run
    and language is not distinct from $language
    and ($layer is null or layer = $layer)
    and n_only_here / n_pairs >= $least
order by share desc, behaviour, variant, layer, feature
limit $top;
