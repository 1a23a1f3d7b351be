-- Every row points at something that is there.
with runs as (
    select run_id from run where state = 'complete'
),
lost as (
    select 'activation: prompt' as reference, run_id, prompt::varchar as missing
    from (select distinct run_id, prompt from activation) x
    anti join prompt using (run_id, prompt)
    union all
    select 'prompt: run', run_id, prompt::varchar
    from prompt
    anti join runs using (run_id)
    union all
    select 'token: prompt', t.run_id, t.item::varchar
    from (select distinct run_id, item from token where source = 'prompt') t
    anti join prompt p on p.run_id = t.run_id and p.prompt = t.item
    union all
    select 'token: document', t.run_id, t.item::varchar
    from (select distinct run_id, item from token where source = 'document') t
    anti join document d on d.run_id = t.run_id and d.document = t.item
    union all
    select 'answer: prompt', run_id, prompt::varchar
    from answer
    anti join prompt using (run_id, prompt)
    union all
    select 'baseline: prompt', run_id, prompt::varchar
    from baseline
    anti join prompt using (run_id, prompt)
    union all
    select 'prompt_pair: prompt', x.run_id, x.prompt_a::varchar
    from prompt_pair x
    anti join prompt p on p.run_id = x.run_id and p.prompt = x.prompt_a
    union all
    select 'prompt_pair: prompt', x.run_id, x.prompt_b::varchar
    from prompt_pair x
    anti join prompt p on p.run_id = x.run_id and p.prompt = x.prompt_b
    union all
    select 'node: graph', run_id, graph::varchar
    from (select distinct run_id, graph from node) x
    anti join graph using (run_id, graph)
    union all
    select 'edge: source node', e.run_id, e.graph || ' ' || e.source
    from (select distinct run_id, graph, source from edge) e
    anti join node n on n.run_id = e.run_id and n.graph = e.graph and n.node = e.source
    union all
    select 'edge: target node', e.run_id, e.graph || ' ' || e.target
    from (select distinct run_id, graph, target from edge) e
    anti join node n on n.run_id = e.run_id and n.graph = e.graph and n.node = e.target
    union all
    select 'edge_language: edge', run_id, concat_ws(' ', graph, kind, source, target)
    from edge_language
    anti join edge using (run_id, graph, kind, source, target)
    union all
    select 'edge_prompt: edge', run_id, concat_ws(' ', graph, kind, source, target)
    from edge_prompt
    anti join edge using (run_id, graph, kind, source, target)
    union all
    select 'node_language: node', run_id, graph || ' ' || node
    from node_language
    anti join node using (run_id, graph, node)
    union all
    select 'target_total: node', run_id, graph || ' ' || node
    from target_total
    anti join node using (run_id, graph, node)
    union all
    select 'community: node', run_id, graph || ' ' || node
    from community
    anti join node using (run_id, graph, node)
    union all
    select 'community: partition', run_id, graph || ' ' || partition
    from community
    anti join partition using (run_id, graph, partition)
    union all
    select 'supernode: node', run_id, graph || ' ' || node
    from supernode
    anti join node using (run_id, graph, node)
    union all
    select 'supernode: partition', run_id, graph || ' ' || partition
    from supernode
    anti join partition using (run_id, graph, partition)
    union all
    select 'intervention_member: intervention', run_id, intervention::varchar
    from intervention_member
    anti join intervention using (run_id, intervention)
    union all
    select 'outcome: intervention', run_id, intervention::varchar
    from outcome
    anti join intervention using (run_id, intervention)
    union all
    select 'continuation: intervention', run_id, intervention::varchar
    from continuation
    anti join intervention using (run_id, intervention)
    union all
    select 'continuation: prompt', run_id, prompt::varchar
    from continuation
    anti join prompt using (run_id, prompt)
    union all
    select 'next_token: intervention', run_id, intervention::varchar
    from next_token
    anti join intervention using (run_id, intervention)
    union all
    select 'feature_change: intervention', run_id, intervention::varchar
    from feature_change
    anti join intervention using (run_id, intervention)
    union all
    select 'outcome: prompt', run_id, prompt::varchar
    from outcome
    anti join prompt using (run_id, prompt)
    union all
    select 'outcome_answer: outcome', run_id, concat_ws(' ', intervention, prompt, source_prompt)
    from outcome_answer
    anti join outcome using (run_id, intervention, prompt, source_prompt)
    union all
    select 'transfer: outcome', run_id, concat_ws(' ', intervention, prompt, source_prompt)
    from transfer
    anti join outcome using (run_id, intervention, prompt, source_prompt)
    union all
    select 'effect: intervention', run_id, intervention::varchar
    from effect
    anti join intervention using (run_id, intervention)
    union all
    select 'circuit_member: circuit', run_id, circuit::varchar
    from circuit_member
    anti join circuit using (run_id, circuit)
    union all
    select 'label_score: label', '', label_id
    from label_score
    anti join label using (label_id)
)
select distinct reference, run_id, missing
from lost
order by reference, run_id, missing
limit 20;
