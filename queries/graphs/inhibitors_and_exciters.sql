-- Which features push the answer up or down directly, and which through other features?
--
-- Direct: the star edge to the output. Through others: sum over outgoing edges of weight times the target's star edge, one step deep; a sum of
-- linear predictions, to be tested by ablation.
-- decides: which features to ablate to raise or lower the margin
-- grain: one row per feature node with a star edge or an outgoing edge
-- main: edge
-- key: node
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   graph | integer | 0 | graph within the run
--   kind | varchar | virtual_weight | kind of the edges between features | virtual_weight, attribution, causal
--   star | varchar | star_total | kind of the edges to the output | star_total, star_direct
--   top | integer | 100 | rows at most
-- columns:
--   node | integer | - | node
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   label | varchar | - | the node in text
--   direct | double | logits | star edge to the output
--   n_excited | bigint | features | later features it drives up
--   n_inhibited | bigint | features | later features it drives down
--   excitation | double | - | sum of positive outgoing weights
--   inhibition | double | - | sum of negative outgoing weights
--   through_others | double | - | sum of outgoing weight times the target's star edge
--   acts_as | varchar | - | exciter or inhibitor by the direct edge; none without one
with stars as (
    select source as node, sum(weight) as weight
    from edge
    where run_id = $run and graph = $graph and kind::varchar = $star and accepted and target_kind in ('output', 'logit')
        and weight is not null
    group by source
),
outgoing as (
    select
        e.source as node,
        count(*) filter (where e.weight > 0) as n_excited,
        count(*) filter (where e.weight < 0) as n_inhibited,
        coalesce(sum(e.weight) filter (where e.weight > 0), 0) as excitation,
        coalesce(sum(e.weight) filter (where e.weight < 0), 0) as inhibition,
        sum(e.weight * coalesce(s.weight, 0)) as through_others
    from edge e
    left join stars s on s.node = e.target
    where e.run_id = $run and e.graph = $graph and e.kind::varchar = $kind and e.accepted and e.target_kind = 'feature'
    group by e.source
)
select
    n.node,
    n.layer,
    n.feature,
    n.label,
    s.weight as direct,
    coalesce(o.n_excited, 0) as n_excited,
    coalesce(o.n_inhibited, 0) as n_inhibited,
    coalesce(o.excitation, 0) as excitation,
    coalesce(o.inhibition, 0) as inhibition,
    coalesce(o.through_others, 0) as through_others,
    case when s.weight > 0 then 'exciter' when s.weight < 0 then 'inhibitor' else 'none' end as acts_as
from node n
left join stars s on s.node = n.node
left join outgoing o on o.node = n.node
where n.run_id = $run and n.graph = $graph and n.kind = 'feature' and (s.node is not null or o.node is not null)
order by abs(coalesce(s.weight, 0)) + abs(coalesce(o.through_others, 0)) desc, n.node
limit $top;
