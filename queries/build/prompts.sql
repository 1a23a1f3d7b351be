-- Prompts of one run with what statistics need: cluster, stratum, length, and the concept whose operand is this one's answer.
with answered as (
    select p.*, lower(trim(a.text)) as answer_text
    from prompt p
    left join answer a on a.run_id = p.run_id and a.prompt = p.prompt and a.answer = 0
    where p.run_id = $run
),
partner as (
    select x.behaviour, x.language, x.concept, min(y.concept) as partner
    from answered x
    join answered y
        on y.behaviour = x.behaviour
        and y.language = x.language
        and lower(y.operand) = x.answer_text
        and y.concept <> x.concept
    group by x.behaviour, x.language, x.concept
),
length as (
    select item as prompt, count(*) filter (where role <> 'sink') as n_tokens
    from token
    where run_id = $run and source = 'prompt'
    group by item
)
select
    p.prompt,
    p.behaviour,
    p.language,
    p.concept,
    coalesce(p.cluster, p.concept) as cluster,
    p.template,
    coalesce(p.variant, '') as variant,
    coalesce(partner.partner, '') as partner,
    coalesce(length.n_tokens, p.n_tokens, 0)::integer as n_tokens
from answered p
left join partner using (behaviour, language, concept)
left join length on length.prompt = p.prompt
order by p.prompt;
