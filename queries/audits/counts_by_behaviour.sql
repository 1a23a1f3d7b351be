-- feature_behaviour is what the raw activations say, role by role and over all of them: for all features of a small atlas, for every
-- n-th feature of a large one, so that half a million activations are looked at.
with every as (
    select greatest(1, count(*) // 500000) as n from activation
),
asked as (
    select run_id from run where run_id in (select run_id from feature_behaviour)
),
raw as (
    select a.run_id, a.layer, a.feature, p.behaviour, p.language, t.role, a.prompt
    from activation a
    join asked using (run_id)
    join prompt p using (run_id, prompt)
    left join token t on t.run_id = a.run_id and t.source = 'prompt' and t.item = a.prompt and t.position = a.position
    where a.feature % (select n from every) = 0 and coalesce(t.role::varchar, 'other') <> 'sink'
),
counted as (
    select run_id, layer, feature, behaviour, language, role, count(distinct prompt) as n
    from raw
    where role is not null
    group by run_id, layer, feature, behaviour, language, role
    union all
    select run_id, layer, feature, behaviour, language, null as role, count(distinct prompt) as n
    from raw
    group by run_id, layer, feature, behaviour, language
),
stored as (
    select run_id, layer, feature, behaviour, language, role, n_prompts_active as n
    from feature_behaviour
    where feature % (select n from every) = 0
)
(select run_id, layer, feature, behaviour, language, role, n, 'not in feature_behaviour' as problem from counted
except
select run_id, layer, feature, behaviour, language, role, n, 'not in feature_behaviour' as problem from stored)
union all
(select run_id, layer, feature, behaviour, language, role, n, 'not in activation' as problem from stored
except
select run_id, layer, feature, behaviour, language, role, n, 'not in activation' as problem from counted)
order by run_id, layer, feature, behaviour, language, role
limit 20;
