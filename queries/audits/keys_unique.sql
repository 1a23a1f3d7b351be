-- Keys that schema.sql leaves to a comment are unique. The two orders of activation are checked by their order instead.
select 'token' as table_name, concat_ws(' ', run_id, source, item, position) as key, count(*) as n
from token
group by run_id, source, item, position
having count(*) > 1
union all
select 'term' as table_name, concat_ws(' ', run_id, term) as key, count(*) as n
from term
group by run_id, term
having count(*) > 1
union all
select 'feature_term' as table_name, concat_ws(' ', run_id, layer, feature, rank) as key, count(*) as n
from feature_term
group by run_id, layer, feature, rank
having count(*) > 1
union all
select 'feature_language' as table_name, concat_ws(' ', run_id, layer, feature, language) as key, count(*) as n
from feature_language
group by run_id, layer, feature, language
having count(*) > 1
union all
select 'feature_role' as table_name, concat_ws(' ', run_id, layer, feature, language, role) as key, count(*) as n
from feature_role
group by run_id, layer, feature, language, role
having count(*) > 1
union all
select 'feature_score' as table_name, concat_ws(' ', run_id, layer, feature, score, parameter_set, languages) as key, count(*) as n
from feature_score
group by run_id, layer, feature, score, parameter_set, languages
having count(*) > 1
union all
select 'feature_behaviour' as table_name, concat_ws(' ', run_id, layer, feature, behaviour, language, role) as key, count(*) as n
from feature_behaviour
group by run_id, layer, feature, behaviour, language, role
having count(*) > 1
union all
select 'feature_cluster' as table_name, concat_ws(' ', run_id, layer, feature, language) as key, count(*) as n
from feature_cluster
group by run_id, layer, feature, language
having count(*) > 1
union all
select 'feature_template' as table_name, concat_ws(' ', run_id, layer, feature, language_a, language_b) as key, count(*) as n
from feature_template
group by run_id, layer, feature, language_a, language_b
having count(*) > 1
union all
select 'feature_contrast' as table_name, concat_ws(' ', run_id, behaviour, language, variant, other_variant, layer, feature) as key, count(*) as n
from feature_contrast
group by run_id, behaviour, language, variant, other_variant, layer, feature
having count(*) > 1
union all
select 'feature_correctness' as table_name, concat_ws(' ', run_id, behaviour, language, layer, feature) as key, count(*) as n
from feature_correctness
group by run_id, behaviour, language, layer, feature
having count(*) > 1
union all
select 'shared_count' as table_name, concat_ws(' ', run_id, layer, language_a, language_b, n_active_a, n_active_b) as key, count(*) as n
from shared_count
group by run_id, layer, language_a, language_b, n_active_a, n_active_b
having count(*) > 1
union all
select 'feature_verdict' as table_name, concat_ws(' ', run_id, parameter_set, language_a, language_b, layer, feature) as key, count(*) as n
from feature_verdict
group by run_id, parameter_set, language_a, language_b, layer, feature
having count(*) > 1
union all
select 'histogram' as table_name, concat_ws(' ', run_id, layer, feature, bin) as key, count(*) as n
from histogram
group by run_id, layer, feature, bin
having count(*) > 1
union all
select 'neighbour' as table_name, concat_ws(' ', run_id, layer, feature, kind, rank) as key, count(*) as n
from neighbour
group by run_id, layer, feature, kind, rank
having count(*) > 1
union all
select 'context' as table_name, concat_ws(' ', run_id, layer, feature, kind, rank) as key, count(*) as n
from context
group by run_id, layer, feature, kind, rank
having count(*) > 1
union all
select 'node' as table_name, concat_ws(' ', run_id, graph, node) as key, count(*) as n
from node
group by run_id, graph, node
having count(*) > 1
union all
select 'node_language' as table_name, concat_ws(' ', run_id, graph, node, language) as key, count(*) as n
from node_language
group by run_id, graph, node, language
having count(*) > 1
union all
select 'edge' as table_name, concat_ws(' ', run_id, graph, kind, source, target) as key, count(*) as n
from edge
group by run_id, graph, kind, source, target
having count(*) > 1
union all
select 'edge_language' as table_name, concat_ws(' ', run_id, graph, kind, source, target, language) as key, count(*) as n
from edge_language
group by run_id, graph, kind, source, target, language
having count(*) > 1
union all
select 'edge_prompt' as table_name, concat_ws(' ', run_id, graph, kind, source, target, prompt) as key, count(*) as n
from edge_prompt
group by run_id, graph, kind, source, target, prompt
having count(*) > 1
union all
select 'target_total' as table_name, concat_ws(' ', run_id, graph, node) as key, count(*) as n
from target_total
group by run_id, graph, node
having count(*) > 1
union all
select 'community' as table_name, concat_ws(' ', run_id, graph, partition, node) as key, count(*) as n
from community
group by run_id, graph, partition, node
having count(*) > 1
union all
select 'supernode' as table_name, concat_ws(' ', run_id, graph, partition, node) as key, count(*) as n
from supernode
group by run_id, graph, partition, node
having count(*) > 1
union all
select 'intervention_member' as table_name, concat_ws(' ', run_id, intervention, layer, feature, position, concept) as key, count(*) as n
from intervention_member
group by run_id, intervention, layer, feature, position, concept
having count(*) > 1
union all
select 'outcome' as table_name, concat_ws(' ', run_id, intervention, prompt, source_prompt) as key, count(*) as n
from outcome
group by run_id, intervention, prompt, source_prompt
having count(*) > 1
union all
select 'outcome_answer' as table_name, concat_ws(' ', run_id, intervention, prompt, source_prompt, answer) as key, count(*) as n
from outcome_answer
group by run_id, intervention, prompt, source_prompt, answer
having count(*) > 1
union all
select 'transfer' as table_name, concat_ws(' ', run_id, intervention, prompt, source_prompt) as key, count(*) as n
from transfer
group by run_id, intervention, prompt, source_prompt
having count(*) > 1
union all
select 'feature_profile' as table_name, concat_ws(' ', run_id, layer, feature) as key, count(*) as n
from feature_profile
group by run_id, layer, feature
having count(*) > 1
union all
select 'label_example' as table_name, concat_ws(' ', run_id, label_id, layer, feature, score, language, example) as key, count(*) as n
from label_example
group by run_id, label_id, layer, feature, score, language, example
having count(*) > 1
union all
select 'feature_match' as table_name, concat_ws(' ', run_id, measure, match) as key, count(*) as n
from feature_match
group by run_id, measure, match
having count(*) > 1
order by table_name, key
limit 20;
