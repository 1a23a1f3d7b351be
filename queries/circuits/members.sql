-- Which features make up a circuit, and what is known of each?
--
-- decides: which features to name in a text about the circuit
-- grain: one row per feature and position of the circuit
-- main: circuit_member
-- key: circuit, member
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   circuit | integer | 0 | circuit
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
-- columns:
--   circuit | integer | - | circuit
--   member | integer | - | ordinal
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   role | varchar | - | role of the position
--   n_edges | bigint | edges | edges of the circuit that begin or end in it
--   rate_a | double | share | prompts of the first language with it active
--   rate_b | double | share | prompts of the second language with it active
--   effect | double | logits | mean effect of ablating it alone
--   label | varchar | - | newest label that was not retired, people's and imported ones before mechanical ones
with edges as (
    select layer, feature, count(*) as n
    from (
        select layer, feature from circuit_member where run_id = $run and circuit = $circuit and kind = 'edge'
        union all
        select target_layer, target_feature from circuit_member where run_id = $run and circuit = $circuit and kind = 'edge'
    )
    group by layer, feature
),
ablated as (
    select m.layer, m.feature, avg(e.mean) as effect
    from intervention i
    join intervention_member m using (run_id, intervention)
    join effect e on e.run_id = i.run_id and e.intervention = i.intervention and e.language = 'all' and e.split = 'all'
    where i.run_id = $run and i.rule = 'zero' and i.n_members = 1 and i.control is null
    group by m.layer, m.feature
),
named as (
    select l.layer, l.feature, arg_max(l.text, (l.method <> 'mechanical', l.source_run is not distinct from $run, l.created_at, l.label_id)) as label
    from label l
    join run r on r.run_id = $run and r.transcoder_set = l.transcoder_set
    where not l.retired
    group by l.layer, l.feature
)
select
    c.circuit,
    c.member,
    c.layer,
    c.feature,
    'L' || c.layer || '_F' || c.feature as name,
    c.role::varchar as role,
    coalesce(e.n, 0) as n_edges,
    a.n_prompts_active / a.n_prompts as rate_a,
    b.n_prompts_active / b.n_prompts as rate_b,
    x.effect,
    n.label
from circuit_member c
left join edges e on e.layer = c.layer and e.feature = c.feature
left join feature_language a
    on a.run_id = $run and a.layer = c.layer and a.feature = c.feature and a.language = $language_a
left join feature_language b
    on b.run_id = $run and b.layer = c.layer and b.feature = c.feature and b.language = $language_b
left join ablated x on x.layer = c.layer and x.feature = c.feature
left join named n on n.layer = c.layer and n.feature = c.feature
where c.run_id = $run and c.circuit = $circuit and c.kind = 'feature'
order by c.circuit, c.member;
