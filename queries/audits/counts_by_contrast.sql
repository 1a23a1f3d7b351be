-- feature_contrast is what the raw activations say: for all features of a small atlas, for every n-th of a large one.
with every as (
    select greatest(1, count(*) // 500000) as n from activation
),
turned as (
    select run_id, pair, prompt_a, unnest([prompt_a, prompt_b]) as prompt, unnest([prompt_b, prompt_a]) as other_prompt
    from prompt_pair
    where kind = 'minimal' and run_id in (select run_id from feature_behaviour)
),
side as (
    select x.run_id, x.pair, a.language, p.behaviour, p.concept, p.variant, o.variant as other_variant, x.prompt, x.other_prompt
    from turned x
    join prompt a on a.run_id = x.run_id and a.prompt = x.prompt_a
    join prompt p on p.run_id = x.run_id and p.prompt = x.prompt
    join prompt o on o.run_id = x.run_id and o.prompt = x.other_prompt
),
active as (
    select distinct a.run_id, a.layer, a.feature, a.prompt
    from activation_by_prompt a
    semi join side s on s.run_id = a.run_id and s.prompt = a.prompt
    anti join (select run_id, item as prompt, position from token where source = 'prompt' and role = 'sink') s
        using (run_id, prompt, position)
    where a.feature % (select n from every) = 0
),
counted as (
    select
        s.run_id,
        s.behaviour,
        case when grouping(s.language) = 0 then s.language end as language,
        s.variant,
        s.other_variant,
        a.layer,
        a.feature,
        count(*) filter (where o.prompt is null) as n_only_here,
        count(*) filter (where o.prompt is not null) as n_both,
        count(distinct s.concept) filter (where o.prompt is null) as n_concepts
    from side s
    join active a using (run_id, prompt)
    left join active o on o.run_id = s.run_id and o.prompt = s.other_prompt and o.layer = a.layer and o.feature = a.feature
    group by grouping sets (
        (s.run_id, s.behaviour, s.variant, s.other_variant, a.layer, a.feature, s.language),
        (s.run_id, s.behaviour, s.variant, s.other_variant, a.layer, a.feature)
    )
),
stored as (
    select run_id, behaviour, language, variant, other_variant, layer, feature, n_only_here, n_both, n_concepts
    from feature_contrast
    where feature % (select n from every) = 0
)
(select *, 'not in feature_contrast' as problem from counted
except
select *, 'not in feature_contrast' as problem from stored)
union all
(select *, 'not in activation' as problem from stored
except
select *, 'not in activation' as problem from counted)
order by run_id, behaviour, layer, feature, variant
limit 20;
