-- Which features are most like a given one, by what they write and by when they fire?
--
-- Stored neighbours of both kinds side by side. Without layer and feature: the one with most neighbours.
-- decides: whether two features are one computation in two places
-- grain: one row per neighbour
-- main: neighbour
-- key: neighbour_layer, neighbour_feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | layer; null is any
--   feature | integer | null | feature; null is any
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   neighbour_layer | smallint | - | layer of the neighbour
--   neighbour_feature | integer | - | the neighbour
--   decoder_cosine | float | cosine | of the decoder rows; null where it is no near neighbour by this
--   coactivation | float | share | Jaccard of active positions; null where it is no near neighbour by this
--   promoted_tokens | varchar[] | - | tokens the neighbour raises most
with chosen as (
    select layer, feature
    from neighbour
    where run_id = $run and ($layer is null or layer = $layer) and ($feature is null or feature = $feature)
    group by layer, feature
    order by count(*) desc, layer, feature
    limit 1
)
select
    n.layer,
    n.feature,
    n.neighbour_layer,
    n.neighbour_feature,
    max(n.similarity) filter (where n.kind = 'decoder_cosine') as decoder_cosine,
    max(n.similarity) filter (where n.kind = 'coactivation') as coactivation,
    any_value(f.promoted_tokens) as promoted_tokens
from neighbour n
join chosen using (layer, feature)
left join feature f on f.run_id = $run and f.layer = n.neighbour_layer and f.feature = n.neighbour_feature
where n.run_id = $run
group by n.layer, n.feature, n.neighbour_layer, n.neighbour_feature
order by max(n.similarity) desc, n.neighbour_layer, n.neighbour_feature;
