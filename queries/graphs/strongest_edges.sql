-- Which star and virtual-weight edges are strongest?
--
-- Weights of different kinds are not comparable, so each kind has its own ranking. star_total predicts small interventions and is not summed
-- over layers; virtual_weight is a static path through the residual stream (METHODS, section 3).
-- decides: which edges to test causally
-- grain: one row per edge
-- main: edge
-- key: kind, graph, source, target
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | null | kind of edge; null is star_total and virtual_weight | star_total, star_direct, virtual_weight, attribution, causal
--   layer | smallint | null | only this layer; null is all
--   top | integer | 50 | rows at most of each kind
-- columns:
--   kind | varchar | - | how the weight is defined
--   place | bigint | - | place by absolute weight among its kind
--   graph | integer | - | graph
--   source | integer | - | source node
--   source_name | varchar | - | source in text
--   target | integer | - | target node
--   target_name | varchar | - | target in text
--   weight | double | - | mean over prompts where the source is active; logits for star edges
--   sd | double | - | standard deviation over prompts
--   n_prompts | integer | prompts | prompts it was measured on
--   frequency | double | share | prompts with a nonzero value
--   ci_low | double | - | 95 % interval over concepts
--   ci_high | double | - | 95 % interval over concepts
--   sign_stability | double | share | prompts with the sign of the mean
--   selection_frequency | double | share | resamples that select it
--   attribution | double | - | virtual weights: expected residual attribution
with ranked as (
    select *, row_number() over (partition by kind order by abs(weight) desc, source, target) as place
    from edge
    where run_id = $run
        and graph = $graph
        and accepted
        and ($kind is null and kind in ('star_total', 'virtual_weight') or kind::varchar = $kind)
        and ($layer is null or source_layer = $layer)
)
select
    e.kind::varchar as kind,
    e.place,
    e.graph,
    e.source,
    coalesce(s.label, 'L' || e.source_layer || '_F' || e.source_feature) as source_name,
    e.target,
    coalesce(t.label, 'L' || e.target_layer || '_F' || e.target_feature) as target_name,
    e.weight,
    e.sd,
    e.n_prompts,
    e.frequency,
    e.ci_low,
    e.ci_high,
    e.sign_stability,
    e.selection_frequency,
    e.attribution
from ranked e
left join node s on s.run_id = $run and s.graph = e.graph and s.node = e.source
left join node t on t.run_id = $run and t.graph = e.graph and t.node = e.target
where e.place <= $top
order by e.kind, e.place, e.graph, e.source, e.target;
