-- What became of the features of one run in another, layer by layer?
--
-- Relations are defined in docs/compare.md; `atlas compare A B --keep` fills the table.
-- decides: whether results on one dictionary can be read as results on the other
-- grain: one row per measure, layer and relation
-- main: feature_match
-- key: measure, layer, relation
-- parameters:
--   run | varchar | null | comparing run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   measure | varchar | - | decoder (cosine) or coactivation (Jaccard)
--   layer | smallint | - | layer
--   relation | varchar | - | identical, matched, split, merged, weak, gone or new
--   n_pairs | bigint | pairs | rows
--   n_a | bigint | features | different features of the first run
--   n_b | bigint | features | different features of the second run
--   share_a | double | share | n_a / features of the first run that the measure speaks of
--   share_b | double | share | n_b / features of the second run
--   similarity | double | - | mean similarity by the measure
--   cosine | double | - | mean cosine of decoder rows, where known
--   jaccard | double | share | mean Jaccard of active tokens, where known
with own as (
    select *, coalesce(layer_a, layer_b) as layer
    from feature_match
    where run_id = $run
),
totals as (
    select measure, layer, count(distinct feature_a) as all_a, count(distinct feature_b) as all_b
    from own
    group by measure, layer
)
select
    o.measure,
    o.layer,
    o.relation,
    count(*) as n_pairs,
    count(distinct o.feature_a) as n_a,
    count(distinct o.feature_b) as n_b,
    count(distinct o.feature_a) / nullif(any_value(t.all_a), 0) as share_a,
    count(distinct o.feature_b) / nullif(any_value(t.all_b), 0) as share_b,
    avg(o.similarity) as similarity,
    avg(o.cosine) as cosine,
    avg(o.jaccard) as jaccard
from own o
join totals t using (measure, layer)
group by o.measure, o.layer, o.relation
order by o.measure, o.layer, o.relation;
