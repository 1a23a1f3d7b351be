-- Which edges differ between two languages?
--
-- decides: which parts of a graph are one language's own wiring
-- grain: one row per edge measured in both languages
-- main: edge_language
-- key: kind, source, target
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | null | only this kind; null is all | star_total, star_direct, virtual_weight, attribution, causal
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   top | integer | 100 | rows at most
-- columns:
--   kind | varchar | - | kind of edge
--   source | integer | - | source node
--   source_name | varchar | - | source in text
--   target | integer | - | target node
--   target_name | varchar | - | target in text
--   weight_a | double | - | mean over prompts of the first language
--   weight_b | double | - | mean over prompts of the second language
--   difference | double | - | weight_b - weight_a
--   standardised | double | ratio | difference over its standard error, prompts taken as independent
--   same_sign | boolean | - | whether the edge has one sign in both
--   n_a | integer | prompts | prompts of the first language
--   n_b | integer | prompts | prompts of the second language
with paired as (
    select
        a.kind,
        a.source,
        a.target,
        a.weight as weight_a,
        b.weight as weight_b,
        sqrt(a.sd * a.sd / nullif(a.n_prompts, 0) + b.sd * b.sd / nullif(b.n_prompts, 0)) as error,
        a.n_prompts as n_a,
        b.n_prompts as n_b
    from edge_language a
    join edge_language b
        on b.run_id = a.run_id and b.graph = a.graph and b.kind = a.kind and b.source = a.source and b.target = a.target
    where a.run_id = $run
        and a.graph = $graph
        and a.language = $language_a
        and b.language = $language_b
        and ($kind is null or a.kind::varchar = $kind)
)
select
    p.kind::varchar as kind,
    p.source,
    s.label as source_name,
    p.target,
    t.label as target_name,
    p.weight_a,
    p.weight_b,
    p.weight_b - p.weight_a as difference,
    (p.weight_b - p.weight_a) / nullif(p.error, 0) as standardised,
    sign(p.weight_a) = sign(p.weight_b) as same_sign,
    p.n_a,
    p.n_b
from paired p
left join node s on s.run_id = $run and s.graph = $graph and s.node = p.source
left join node t on t.run_id = $run and t.graph = $graph and t.node = p.target
order by abs(p.weight_b - p.weight_a) desc, p.kind, p.source, p.target
limit $top;
