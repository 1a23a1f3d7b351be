-- Prompts that are translations of each other, the language that sorts first in front: as stored, or, where a run stores no
-- translation pair, all prompts of one behaviour, concept, template and variant in two languages.
with stored as (
    select a.prompt as prompt_a, b.prompt as prompt_b, a.language as language_a, b.language as language_b
    from prompt_pair x
    join prompt a on a.run_id = x.run_id and a.prompt = x.prompt_a
    join prompt b on b.run_id = x.run_id and b.prompt = x.prompt_b
    where x.run_id = $run and x.kind = 'translation'
),
turned as (
    select
        if(language_a < language_b, prompt_a, prompt_b) as prompt_a,
        if(language_a < language_b, prompt_b, prompt_a) as prompt_b,
        least(language_a, language_b) as language_a,
        greatest(language_a, language_b) as language_b
    from stored
    where language_a <> language_b
),
matched as (
    select a.prompt as prompt_a, b.prompt as prompt_b, a.language as language_a, b.language as language_b
    from prompt a
    join prompt b
        on b.run_id = a.run_id
        and b.behaviour = a.behaviour
        and b.concept = a.concept
        and b.template = a.template
        and b.variant is not distinct from a.variant
        and a.language < b.language
    where a.run_id = $run and not exists (select 1 from turned)
)
select distinct prompt_a, prompt_b, language_a, language_b from turned
union
select distinct prompt_a, prompt_b, language_a, language_b from matched
order by language_a, language_b, prompt_a, prompt_b;
