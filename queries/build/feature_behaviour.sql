-- Prompts by feature, behaviour, language and role for one layer; without a role, at any position but the sink.
insert into feature_behaviour by name
with asked as (
    select prompt, behaviour, language
    from prompt
    where run_id = $run
),
size as (
    select behaviour, language, count(*)::integer as n_prompts
    from asked
    group by behaviour, language
),
counted as (
    select s.feature, a.behaviour, a.language, s.role, count(*)::integer as n_prompts_active
    from seen_role s
    join asked a using (prompt)
    group by s.feature, a.behaviour, a.language, s.role
    union all
    select s.feature, a.behaviour, a.language, null as role, count(*)::integer as n_prompts_active
    from seen s
    join asked a using (prompt)
    group by s.feature, a.behaviour, a.language
)
select
    $run as run_id,
    $layer as layer,
    c.feature,
    c.behaviour,
    c.language,
    enum_range(null::token_role)[c.role + 1] as role,
    z.n_prompts,
    c.n_prompts_active
from counted c
join size z using (behaviour, language)
order by c.feature, c.behaviour, c.language, c.role nulls first;
