-- Counts per feature, language and token role for runs that brought activations and tokens without them.
insert into feature_role by name
with lacking as (
    select distinct run_id
    from activation
    where run_id not in (select run_id from feature_role)
),
place as (
    select t.run_id, t.item as prompt, t.position, t.role, p.language
    from token t
    join lacking using (run_id)
    join prompt p on p.run_id = t.run_id and p.prompt = t.item
    where t.source = 'prompt' and t.role <> 'sink' and p.language <> 'xx'
),
denominator as (
    select run_id, language, role, count(*) as n_tokens
    from place
    group by run_id, language, role
)
select
    a.run_id,
    a.layer,
    a.feature,
    place.language,
    place.role,
    any_value(d.n_tokens) as n_tokens,
    count(*) as n_active,
    sum(a.activation::double) as sum_activation
from activation a
join place using (run_id, prompt, position)
join denominator d on d.run_id = a.run_id and d.language = place.language and d.role = place.role
group by a.run_id, a.layer, a.feature, place.language, place.role
order by a.run_id, a.layer, a.feature, place.language, place.role;
