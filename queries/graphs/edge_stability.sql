-- Which edges hold over prompts and resamples, and which rest on a few?
--
-- Virtual weights are static: they have no sign stability and no interval.
-- decides: which edges may be drawn in a figure
-- grain: one row per edge
-- main: edge
-- key: kind, source, target
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | null | only this kind; null is all | star_total, star_direct, virtual_weight, attribution, causal
--   top | integer | 100 | rows at most
-- columns:
--   kind | varchar | - | kind of edge
--   source | integer | - | source node
--   source_name | varchar | - | source in text
--   target | integer | - | target node
--   target_name | varchar | - | target in text
--   weight | double | - | mean over prompts
--   signal | double | ratio | absolute mean over standard deviation
--   sign_stability | double | share | prompts with the sign of the mean
--   selection_frequency | double | share | resamples that select it
--   n_prompts | integer | prompts | prompts it was measured on
--   excludes_zero | boolean | - | whether the 95 % interval over concepts leaves 0 out
--   steady | double | share | the smaller of sign stability and selection frequency; static weights have the latter alone
-- example: kind=star_total
select
    e.kind::varchar as kind,
    e.source,
    s.label as source_name,
    e.target,
    t.label as target_name,
    e.weight,
    abs(e.weight) / nullif(e.sd, 0) as signal,
    e.sign_stability,
    e.selection_frequency,
    e.n_prompts,
    e.ci_low > 0 or e.ci_high < 0 as excludes_zero,
    least(e.sign_stability, e.selection_frequency) as steady
from edge e
left join node s on s.run_id = $run and s.graph = $graph and s.node = e.source
left join node t on t.run_id = $run and t.graph = $graph and t.node = e.target
where e.run_id = $run and e.graph = $graph and e.accepted and ($kind is null or e.kind::varchar = $kind)
order by steady desc nulls last, signal desc nulls last, e.kind, e.source, e.target
limit $top;
