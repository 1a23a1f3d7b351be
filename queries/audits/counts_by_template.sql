-- feature_template is what the raw activations say: for all features of a small atlas, for every n-th of a large one.
with every as (
    select greatest(1, count(*) // 500000) as n from activation
),
active as (
    select distinct a.run_id, a.layer, a.feature, p.language, p.concept, p.template, a.prompt
    from activation a
    join prompt p using (run_id, prompt)
    anti join (select run_id, item as prompt, position from token where source = 'prompt' and role = 'sink') s
        using (run_id, prompt, position)
    where a.feature % (select n from every) = 0 and p.language <> 'xx'
),
stored as (
    select * from feature_template where feature % (select n from every) = 0
),
counted as (
    select
        s.run_id,
        s.layer,
        s.feature,
        s.language_a,
        s.language_b,
        s.template,
        s.n_prompts_active,
        s.n_active_a,
        s.n_active_b,
        s.n_concepts,
        count(*) filter (where a.template = s.template) as n,
        count(*) filter (where a.language = s.language_a) as n_a,
        count(*) filter (where a.language = s.language_b) as n_b,
        count(distinct a.concept) as n_found
    from stored s
    join active a
        on a.run_id = s.run_id
        and a.layer = s.layer
        and a.feature = s.feature
        and a.language in (s.language_a, s.language_b)
    group by all
),
larger as (
    select s.run_id, s.layer, s.feature, s.language_a, s.language_b, a.template, count(*) as n
    from stored s
    join active a
        on a.run_id = s.run_id
        and a.layer = s.layer
        and a.feature = s.feature
        and a.language in (s.language_a, s.language_b)
    group by s.run_id, s.layer, s.feature, s.language_a, s.language_b, a.template, s.n_prompts_active, s.template
    having count(*) > s.n_prompts_active or (count(*) = s.n_prompts_active and a.template < s.template)
)
select run_id, layer, feature, language_a, language_b, 'counts differ' as problem
from counted
where n <> n_prompts_active or n_a <> n_active_a or n_b <> n_active_b or n_found <> n_concepts
union all
select run_id, layer, feature, language_a, language_b, 'another template has more' as problem
from larger
union all
select run_id, layer, feature, language, null as language_b, 'not in feature_template' as problem
from (select distinct run_id, layer, feature, language from active where run_id in (select run_id from feature_template)) a
anti join stored s
    on s.run_id = a.run_id and s.layer = a.layer and s.feature = a.feature and a.language in (s.language_a, s.language_b)
order by run_id, layer, feature, language_a, language_b
limit 20;
