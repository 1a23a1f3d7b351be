-- Which circuits were found, how large are they, and what are their random matches?
--
-- decides: which circuit a text speaks of
-- grain: one row per circuit that is not a random match
-- main: circuit
-- key: circuit
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   circuit | integer | - | circuit
--   name | varchar | - | its name
--   behaviour | varchar | - | behaviour
--   method | varchar | - | how it was found
--   reference | varchar | - | reference values of non-members
--   n_features | integer | features | features, inputs and outputs not counted
--   n_edges | integer | edges | edges
--   n_causal | bigint | edges | causal edges among its members
--   n_star | bigint | edges | star edges among its members
--   layer_low | smallint | - | lowest layer of a feature
--   layer_high | smallint | - | highest layer
--   n_paths | bigint | paths | paths that belong to it
--   n_controls | bigint | circuits | random matches
--   unexplained_share | double | share | input of the output that reconstruction errors carry, in the graph it was found in
--   fvu | double | share | variance of the MLP outputs that the dictionary leaves unexplained, mean over its layers and all tokens
with members as (
    select
        circuit,
        count(*) filter (where kind = 'edge' and edge_kind = 'causal') as n_causal,
        count(*) filter (where kind = 'edge' and edge_kind in ('star_total', 'star_direct')) as n_star,
        min(layer) filter (where kind = 'feature') as layer_low,
        max(layer) filter (where kind = 'feature') as layer_high
    from circuit_member
    where run_id = $run
    group by circuit
),
chains as (
    select circuit, count(*) as n_paths
    from path
    where run_id = $run and circuit is not null
    group by circuit
),
controls as (
    select control_of as circuit, count(*) as n_controls
    from circuit
    where run_id = $run and control_of is not null
    group by control_of
)
select
    c.circuit,
    c.name,
    c.behaviour,
    c.method,
    c.reference,
    c.n_features,
    c.n_edges,
    coalesce(m.n_causal, 0) as n_causal,
    coalesce(m.n_star, 0) as n_star,
    m.layer_low,
    m.layer_high,
    coalesce(p.n_paths, 0) as n_paths,
    coalesce(x.n_controls, 0) as n_controls,
    g.unexplained_share,
    (
        select sum(q.fvu * q.n_tokens) / sum(q.n_tokens) filter (where q.fvu is not null)
        from transcoder_quality q
        where q.run_id = $run and q.language <> 'xx' and q.layer between m.layer_low and m.layer_high
    ) as fvu
from circuit c
left join graph g on g.run_id = c.run_id and g.graph = c.graph
left join members m using (circuit)
left join chains p using (circuit)
left join controls x using (circuit)
where c.run_id = $run and c.control_of is null
order by c.circuit;
