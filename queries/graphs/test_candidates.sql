-- Which static edges would a cheap score choose for a causal test, and which of them held?
--
-- Virtual-weight edges by |static weight| x frequency of both ends; the first `share` of them. An edge that was tested and stored shows what
-- the test found.
-- decides: how many interventions a causal graph needs, and what a shorter list would miss
-- grain: one row per virtual-weight edge within the share
-- main: edge
-- key: source, target
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   share | double | 0.6 | share of the edges, strongest first
-- columns:
--   place | bigint | - | place by score, 1 is first
--   source | integer | - | source node
--   source_name | varchar | - | source in text
--   target | integer | - | target node
--   target_name | varchar | - | target in text
--   score | double | - | |static weight| x frequency of source and target
--   static_weight | double | - | virtual weight
--   causal_weight | double | activation | measured causal weight; null where none is stored
--   accepted | boolean | - | whether the causal test accepted it; null where none is stored
with scored as (
    select
        e.source,
        s.label as source_name,
        e.target,
        t.label as target_name,
        coalesce(e.static_weight, e.weight) as static_weight,
        abs(coalesce(e.static_weight, e.weight)) * coalesce(s.frequency, 0) * coalesce(t.frequency, 0) as score
    from edge e
    join node s on s.run_id = e.run_id and s.graph = e.graph and s.node = e.source
    join node t on t.run_id = e.run_id and t.graph = e.graph and t.node = e.target
    where e.run_id = $run and e.graph = $graph and e.kind = 'virtual_weight'
),
placed as (
    select *, row_number() over (order by score desc, source, target) as place, count(*) over () as n
    from scored
)
select
    p.place,
    p.source,
    p.source_name,
    p.target,
    p.target_name,
    p.score,
    p.static_weight,
    c.weight as causal_weight,
    c.accepted
from placed p
left join edge c
    on c.run_id = $run and c.graph = $graph and c.kind = 'causal' and c.source = p.source and c.target = p.target
where p.place <= ceil($share * p.n)
order by p.place, p.source, p.target;
