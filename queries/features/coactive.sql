-- Which features of any layer fire at the same positions as a given one?
--
-- Jaccard overlap of active positions, sinks left out, counted from raw activations: over all layers this is a job of a second on a large
-- atlas; features/similar has the stored neighbours. Without layer and feature: the one that is active on most prompts.
-- decides: which features to merge into a supernode or to ablate together
-- grain: one row per other feature
-- main: activation
-- key: other_layer, other_feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | layer; null is any
--   feature | integer | null | feature; null is any
--   other_layer | smallint | null | only features of this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   other_layer | smallint | - | layer of the other feature
--   other_feature | integer | - | the other feature
--   name | varchar | - | the other feature in text
--   n_both | bigint | positions | positions where both are active
--   n_this | bigint | positions | positions of the given feature
--   n_other | bigint | positions | positions of the other feature
--   jaccard | double | share | n_both / positions of either
--   p_other_given_this | double | share | n_both / n_this
with chosen as (
    select layer, feature
    from feature
    where run_id = $run and ($layer is null or layer = $layer) and ($feature is null or feature = $feature)
    order by n_prompts_active desc, max_activation desc nulls last, layer, feature
    limit 1
),
sink as (
    select item as prompt, position
    from token
    where run_id = $run and source = 'prompt' and role = 'sink'
),
here as materialized (
    select a.prompt, a.position
    from activation a
    join chosen using (layer, feature)
    anti join sink using (prompt, position)
    where a.run_id = $run
),
together as (
    select a.layer, a.feature, count(*) as n_both
    -- The prompts alone first: files are sorted by prompt, so most of them is then not read.
    from (select * from activation_by_prompt where run_id = $run and prompt in (select prompt from here)) a
    join here using (prompt, position)
    where $other_layer is null or a.layer = $other_layer
    group by a.layer, a.feature
),
counted as (
    select t.layer, t.feature, t.n_both, (select count(*) from here) as n_this, f.n_active as n_other
    from together t
    join feature f on f.run_id = $run and f.layer = t.layer and f.feature = t.feature
    anti join chosen c on c.layer = t.layer and c.feature = t.feature
)
select
    layer as other_layer,
    feature as other_feature,
    'L' || layer || '_F' || feature as name,
    n_both,
    n_this,
    n_other,
    n_both / (n_this + n_other - n_both) as jaccard,
    n_both / n_this as p_other_given_this
from counted
order by jaccard desc, other_layer, other_feature
limit $top;
