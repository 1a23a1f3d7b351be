-- How many features does a circuit get when it is the union of the K strongest chains?
--
-- All chains from an input or first feature over edges of one kind to the output, scored by the product of absolute weights: the star edge
-- of the first feature, the edges between, the star edge of the last feature. Exact, so for graphs of up to some thousand edges. A chain
-- counts once for each sink, as the texts count paths.
-- decides: whether the size of a circuit is a finding or a setting
-- grain: one row per K
-- main: edge
-- key: k
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | causal | kind of the edges between features | virtual_weight, causal
--   star | varchar | star_total | kind of the edges to the output | star_total, star_direct
--   longest | integer | 3 | most edges between features on one chain
--   step | integer | 10 | distance between the values of K
--   top | integer | 200 | largest K
-- columns:
--   k | bigint | paths | strongest paths taken
--   n_features | bigint | features | distinct features on them
--   n_edges | bigint | edges | distinct edges between features on them
--   weakest_score | double | - | score of the weakest path taken
--   n_all | bigint | paths | all paths there are
with recursive ends as (
    select source as node, target as sink, max(abs(weight)) as weight
    from edge
    where run_id = $run and graph = $graph and kind::varchar = $star and accepted and target_kind in ('output', 'logit')
    group by source, target
),
starts as (
    select target as node, max(abs(weight)) as weight
    from edge
    where run_id = $run and graph = $graph and kind::varchar = $star and accepted and target_kind = 'feature'
    group by target
),
first as (
    -- Where the graph has no edges from an input, a chain begins with the star edge of its first feature.
    select node, weight from starts
    union all
    select node, max(weight) as weight from ends where not exists (select 1 from starts) group by node
),
links as (
    select source, target, abs(weight) as weight
    from edge
    where run_id = $run and graph = $graph and kind::varchar = $kind and accepted and target_kind = 'feature' and source_feature is not null
),
chains as (
    select f.node, [f.node] as nodes, f.weight as score
    from first f
    where exists (select 1 from links l where l.source = f.node)
    union all
    select l.target as node, list_append(c.nodes, l.target) as nodes, c.score * l.weight as score
    from chains c
    join links l on l.source = c.node
    where len(c.nodes) <= $longest
),
paths as (
    select c.nodes, e.sink, c.score * e.weight as score
    from chains c
    join ends e on e.node = c.node
    where len(c.nodes) > 1
),
ranked as (
    select nodes, score, row_number() over (order by score desc, nodes, sink) as place, count(*) over () as n_all
    from paths
),
taken as (
    select s.k, r.nodes, r.score, r.n_all
    from (select unnest(range($step, $top + 1, $step)) as k) s
    join ranked r on r.place <= s.k
),
features as (
    select k, count(distinct node) as n_features
    from (select k, unnest(nodes) as node from taken)
    group by k
),
steps as (
    select k, count(distinct (here, there)) as n_edges
    from (select k, unnest(nodes[:-2]) as here, unnest(nodes[2:]) as there from taken)
    group by k
)
select t.k, any_value(f.n_features) as n_features, any_value(s.n_edges) as n_edges, min(t.score) as weakest_score, max(t.n_all) as n_all
from taken t
join features f using (k)
join steps s using (k)
group by t.k
order by t.k;
