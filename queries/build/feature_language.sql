-- Counts per feature and language for runs that brought activations without them: sinks and pseudo-languages left out, zeros kept.
-- Where an import has no tokens, the positions that carry any activation are the denominator.
insert into feature_language by name
with lacking as (
    select distinct run_id
    from activation
    where run_id not in (select run_id from feature_language)
),
place as (
    select t.run_id, t.item as prompt, t.position
    from token t
    join lacking using (run_id)
    where t.source = 'prompt' and t.role <> 'sink'
    union
    select a.run_id, a.prompt, a.position
    from activation a
    join lacking using (run_id)
    where a.run_id not in (select run_id from token where source = 'prompt')
),
denominator as (
    select run_id, p.language, count(*) as n_tokens, count(distinct prompt) as n_prompts
    from place
    join prompt p using (run_id, prompt)
    where p.language <> 'xx'
    group by run_id, p.language
),
active as (
    select
        a.run_id,
        a.layer,
        a.feature,
        p.language,
        count(*) as n_active,
        count(distinct a.prompt) as n_prompts_active,
        sum(a.activation::double) as sum_activation,
        sum(a.activation::double * a.activation) as sum_squares,
        max(a.activation) as max_activation
    from activation a
    join place using (run_id, prompt, position)
    join prompt p using (run_id, prompt)
    where p.language <> 'xx'
    group by a.run_id, a.layer, a.feature, p.language
)
select
    f.run_id,
    f.layer,
    f.feature,
    d.language,
    d.n_tokens,
    coalesce(x.n_active, 0) as n_active,
    d.n_prompts,
    coalesce(x.n_prompts_active, 0) as n_prompts_active,
    coalesce(x.sum_activation, 0) as sum_activation,
    coalesce(x.sum_squares, 0) as sum_squares,
    coalesce(x.max_activation, 0) as max_activation
from (select distinct run_id, layer, feature from active) f
join denominator d using (run_id)
left join active x using (run_id, layer, feature, language)
order by f.run_id, f.layer, f.feature, d.language;
