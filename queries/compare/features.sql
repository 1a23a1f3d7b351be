-- Which feature of the other run is this one, and what do both fire on?
--
-- decides: which features to report under one name in two dictionaries
-- grain: one row per pair of features, or feature of one run alone
-- main: feature_match
-- key: measure, match
-- parameters:
--   run | varchar | null | comparing run, by id or name; null is the newest complete one with rows of the main table
--   measure | varchar | decoder | how likeness is measured | decoder, coactivation
--   relation | varchar | null | only this relation; null is all | identical, matched, split, merged, weak, gone, new
--   layer | smallint | null | only this layer; null is all
--   feature | integer | null | only pairs with this feature, of either run; null is all
--   top | integer | 200 | rows at most
-- columns:
--   measure | varchar | - | decoder or coactivation
--   match | integer | - | ordinal within the run and measure
--   relation | varchar | - | identical, matched, split, merged, weak, gone or new
--   layer | smallint | - | layer
--   feature_a | integer | - | feature of the first run
--   feature_b | integer | - | feature of the second run
--   similarity | double | - | by the measure
--   cosine | double | - | of decoder rows, where known
--   jaccard | double | share | of active tokens, where known
--   label_a | varchar | - | label of the first, where this atlas has one
--   label_b | varchar | - | label of the second, where this atlas has one
with compared as (
    select run_a as run_id, transcoder_set_a as transcoder_set
    from feature_match
    where run_id = $run
    union
    select run_b, transcoder_set_b
    from feature_match
    where run_id = $run
),
named as (
    select
        c.run_id,
        l.layer,
        l.feature,
        arg_max(l.text, (l.method <> 'mechanical', l.source_run is not distinct from c.run_id, l.created_at, l.label_id)) as text
    from label l
    join compared c using (transcoder_set)
    where not l.retired
    group by c.run_id, l.layer, l.feature
)
select
    m.measure,
    m.match,
    m.relation,
    coalesce(m.layer_a, m.layer_b) as layer,
    m.feature_a,
    m.feature_b,
    m.similarity,
    m.cosine,
    m.jaccard,
    a.text as label_a,
    b.text as label_b
from feature_match m
left join named a on a.run_id = m.run_a and a.layer = m.layer_a and a.feature = m.feature_a
left join named b on b.run_id = m.run_b and b.layer = m.layer_b and b.feature = m.feature_b
where m.run_id = $run
    and m.measure = $measure
    and ($relation is null or m.relation = $relation)
    and ($layer is null or coalesce(m.layer_a, m.layer_b) = $layer)
    and ($feature is null or m.feature_a = $feature or m.feature_b = $feature)
order by m.similarity desc nulls last, m.measure, m.match
limit $top;
