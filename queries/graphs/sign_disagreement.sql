-- On which edges does the static sign disagree with what the intervention did?
--
-- A virtual weight knows one path, the residual stream; a causal edge is measured with everything that lies between.
-- decides: where the static graph must not be read as a mechanism
-- grain: one row per pair of features with both edges
-- main: edge
-- key: graph, source_layer, source_feature, target_layer, target_feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   disagreeing | boolean | true | only pairs whose signs differ
--   accepted | boolean | true | only accepted causal edges
-- columns:
--   graph | integer | - | graph of the causal edge
--   source_layer | smallint | - | source
--   source_feature | integer | - | source
--   target_layer | smallint | - | target
--   target_feature | integer | - | target
--   static_weight | double | - | virtual weight, its static part where stored apart
--   causal_weight | double | activation | causal effect of the source on the target
--   agree | boolean | - | whether the signs are equal
--   q_value | double | - | of the causal edge
--   sign_stability | double | share | prompts with the causal edge's sign
-- example: disagreeing=false
with causal as (
    select
        graph,
        source_layer,
        source_feature,
        target_layer,
        target_feature,
        arg_max(weight, (abs(weight), -source, -target)) as weight,
        min(q_value) as q_value,
        max(sign_stability) as sign_stability
    from edge
    where run_id = $run and kind = 'causal' and target_kind = 'feature' and (accepted or not $accepted)
    group by graph, source_layer, source_feature, target_layer, target_feature
),
static as (
    select
        source_layer,
        source_feature,
        target_layer,
        target_feature,
        arg_max(coalesce(static_weight, weight), (abs(weight), -graph, -source, -target)) as weight
    from edge
    where run_id = $run and kind = 'virtual_weight'
    group by source_layer, source_feature, target_layer, target_feature
)
select
    c.graph,
    c.source_layer,
    c.source_feature,
    c.target_layer,
    c.target_feature,
    s.weight as static_weight,
    c.weight as causal_weight,
    sign(s.weight) = sign(c.weight) as agree,
    c.q_value,
    c.sign_stability
from causal c
join static s using (source_layer, source_feature, target_layer, target_feature)
where not $disagreeing or sign(s.weight) <> sign(c.weight)
order by abs(c.weight) desc, c.graph, c.source_layer, c.source_feature, c.target_layer, c.target_feature;
