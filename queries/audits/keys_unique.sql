-- Keys that schema.sql leaves to a comment are unique. The two orders of activation are checked by their order instead, and so are the largest
-- other tables: where the rows of a piece (a run; of feature_score a run's score) rise in the order of their key and stand in one piece, no
-- key can stand twice. Only a run where they do not is grouped by its key.
with feature_language_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, language) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, language)) over () as key_before
        from feature_language
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
feature_role_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, language, role) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, language, role)) over () as key_before
        from feature_role
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
feature_score_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            (run_id, score, parameter_set, languages) as piece,
            (layer, feature) as key,
            lag((run_id, score, parameter_set, languages)) over () as piece_before,
            lag((layer, feature)) over () as key_before
        from feature_score
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
feature_behaviour_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, behaviour, language, coalesce(enum_code(role), -1)) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, behaviour, language, coalesce(enum_code(role), -1))) over () as key_before
        from feature_behaviour
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
feature_cluster_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, language) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, language)) over () as key_before
        from feature_cluster
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
feature_template_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, language_a, language_b) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, language_a, language_b)) over () as key_before
        from feature_template
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
feature_contrast_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, behaviour, coalesce(language, ''), variant, other_variant, feature) as key,
            lag(run_id) over () as piece_before,
            lag((layer, behaviour, coalesce(language, ''), variant, other_variant, feature)) over () as key_before
        from feature_contrast
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
feature_correctness_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, coalesce(behaviour, ''), coalesce(language, ''), feature) as key,
            lag(run_id) over () as piece_before,
            lag((layer, coalesce(behaviour, ''), coalesce(language, ''), feature)) over () as key_before
        from feature_correctness
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
histogram_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, bin) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, bin)) over () as key_before
        from histogram
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
neighbour_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, kind, rank) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, kind, rank)) over () as key_before
        from neighbour
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
),
context_unsorted as (
    select distinct run_id
    from (
        select
            run_id,
            run_id as piece,
            (layer, feature, kind, rank) as key,
            lag(run_id) over () as piece_before,
            lag((layer, feature, kind, rank)) over () as key_before
        from context
    )
    where piece_before is distinct from piece or key_before >= key
    group by run_id, piece
    having count(*) > 1
)
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
where run_id in (select run_id from feature_language_unsorted)
group by run_id, layer, feature, language
having count(*) > 1
union all
select 'feature_role' as table_name, concat_ws(' ', run_id, layer, feature, language, role) as key, count(*) as n
from feature_role
where run_id in (select run_id from feature_role_unsorted)
group by run_id, layer, feature, language, role
having count(*) > 1
union all
select 'feature_score' as table_name, concat_ws(' ', run_id, layer, feature, score, parameter_set, languages) as key, count(*) as n
from feature_score
where run_id in (select run_id from feature_score_unsorted)
group by run_id, layer, feature, score, parameter_set, languages
having count(*) > 1
union all
select 'feature_behaviour' as table_name, concat_ws(' ', run_id, layer, feature, behaviour, language, role) as key, count(*) as n
from feature_behaviour
where run_id in (select run_id from feature_behaviour_unsorted)
group by run_id, layer, feature, behaviour, language, role
having count(*) > 1
union all
select 'feature_cluster' as table_name, concat_ws(' ', run_id, layer, feature, language) as key, count(*) as n
from feature_cluster
where run_id in (select run_id from feature_cluster_unsorted)
group by run_id, layer, feature, language
having count(*) > 1
union all
select 'feature_template' as table_name, concat_ws(' ', run_id, layer, feature, language_a, language_b) as key, count(*) as n
from feature_template
where run_id in (select run_id from feature_template_unsorted)
group by run_id, layer, feature, language_a, language_b
having count(*) > 1
union all
select 'feature_contrast' as table_name, concat_ws(' ', run_id, behaviour, language, variant, other_variant, layer, feature) as key, count(*) as n
from feature_contrast
where run_id in (select run_id from feature_contrast_unsorted)
group by run_id, behaviour, language, variant, other_variant, layer, feature
having count(*) > 1
union all
select 'feature_correctness' as table_name, concat_ws(' ', run_id, behaviour, language, layer, feature) as key, count(*) as n
from feature_correctness
where run_id in (select run_id from feature_correctness_unsorted)
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
where run_id in (select run_id from histogram_unsorted)
group by run_id, layer, feature, bin
having count(*) > 1
union all
select 'neighbour' as table_name, concat_ws(' ', run_id, layer, feature, kind, rank) as key, count(*) as n
from neighbour
where run_id in (select run_id from neighbour_unsorted)
group by run_id, layer, feature, kind, rank
having count(*) > 1
union all
select 'context' as table_name, concat_ws(' ', run_id, layer, feature, kind, rank) as key, count(*) as n
from context
where run_id in (select run_id from context_unsorted)
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
