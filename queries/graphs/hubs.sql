-- Which features have most edges, and how much of their weight comes in and goes out?
--
-- decides: which single features to test first
-- grain: one row per feature node
-- main: edge
-- key: node
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | virtual_weight | kind of edge | star_total, star_direct, virtual_weight, attribution, causal
--   top | integer | 100 | rows at most
-- columns:
--   node | integer | - | node
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   label | varchar | - | the node in text
--   n_in | bigint | edges | accepted edges that end in it
--   n_out | bigint | edges | accepted edges that begin in it
--   weight_in | double | - | sum of absolute weights that come in
--   weight_out | double | - | sum of absolute weights that go out
--   frequency | double | share | prompts it is active on
with ends as (
    select target as node, 1 as incoming, abs(weight) as weight
    from edge
    where run_id = $run and graph = $graph and kind::varchar = $kind and accepted
    union all
    select source as node, 0 as incoming, abs(weight) as weight
    from edge
    where run_id = $run and graph = $graph and kind::varchar = $kind and accepted
)
select
    n.node,
    n.layer,
    n.feature,
    n.label,
    count(*) filter (where e.incoming = 1) as n_in,
    count(*) filter (where e.incoming = 0) as n_out,
    coalesce(sum(e.weight) filter (where e.incoming = 1), 0) as weight_in,
    coalesce(sum(e.weight) filter (where e.incoming = 0), 0) as weight_out,
    any_value(n.frequency) as frequency
from ends e
join node n on n.run_id = $run and n.graph = $graph and n.node = e.node and n.kind = 'feature'
group by n.node, n.layer, n.feature, n.label
order by count(*) desc, weight_in + weight_out desc, n.node
limit $top;
