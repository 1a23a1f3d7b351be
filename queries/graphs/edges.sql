-- What are all edges of a graph, of every kind, the rejected ones too?
--
-- Edges of several kinds between two nodes are rows of their own; weights of different kinds are not comparable.
-- decides: what another program is given to draw or to analyse
-- grain: one row per edge
-- main: edge
-- key: graph, kind, source, target
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | null | only this kind of edge; null is all | star_total, star_direct, virtual_weight, attribution, causal
-- columns:
--   graph | integer | - | graph
--   kind | varchar | - | how the weight is defined
--   source | integer | - | source node
--   target | integer | - | target node
--   weight | double | - | mean over prompts where the source is active; the value itself in a graph of one prompt
--   sd | double | - | standard deviation over prompts
--   n_prompts | integer | prompts | prompts it was measured on
--   frequency | double | share | prompts with a nonzero value
--   static_weight | double | - | V_ij of a virtual weight, without activations
--   attribution | double | - | expected residual attribution of a virtual weight
--   selection_frequency | double | share | bootstrap resamples that select it
--   sign_stability | double | share | prompts with the sign of the mean
--   ci_low | double | - | 95 % interval over concepts
--   ci_high | double | - | 95 % interval over concepts
--   p_value | double | - | over concept clusters; causal edges
--   q_value | double | - | Benjamini-Hochberg over all candidates of the graph
--   accepted | boolean | - | false: tested and rejected, or pruned
select
    graph,
    kind::varchar as kind,
    source,
    target,
    weight,
    sd,
    n_prompts,
    frequency,
    static_weight,
    attribution,
    selection_frequency,
    sign_stability,
    ci_low,
    ci_high,
    p_value,
    q_value,
    accepted
from edge
where run_id = $run and graph = $graph and ($kind is null or kind::varchar = $kind)
order by graph, kind, source, target;
