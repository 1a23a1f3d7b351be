-- What does the model say on each prompt?
--
-- decides: which prompts to look at one by one
-- grain: one row per prompt
-- main: prompt
-- key: prompt
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   behaviour | varchar | null | only this behaviour; null is all
--   language | varchar | null | only this language; null is all
--   concept | varchar | null | only this concept; null is all
--   wrong | boolean | false | only prompts answered wrongly
--   top | integer | 1000 | rows at most
-- columns:
--   prompt | integer | - | prompt
--   behaviour | varchar | - | behaviour
--   language | varchar | - | language
--   concept | varchar | - | concept
--   template | varchar | - | template
--   split | varchar | - | split
--   variant | varchar | - | variant of a minimal pair
--   text | varchar | - | the prompt
--   answer | varchar | - | correct answer
--   contrasts | varchar | - | contrast answers
--   margin | float | logits | logit(correct) - largest logit of a contrast
--   correct | boolean | - | margin above 0
--   top1 | varchar | - | most probable next token
--   rank | integer | - | rank of the correct answer, 0 is first
with answers as (
    select
        prompt,
        max(text) filter (where answer = 0) as answer,
        max(rank) filter (where answer = 0) as rank,
        string_agg(trim(text), ', ' order by answer) filter (where answer > 0) as contrasts
    from answer
    where run_id = $run
    group by prompt
)
select
    p.prompt,
    p.behaviour,
    p.language,
    p.concept,
    p.template,
    p.split::varchar as split,
    p.variant,
    p.text,
    a.answer,
    a.contrasts,
    b.margin,
    b.correct,
    b.top1_token as top1,
    a.rank
from prompt p
left join answers a using (prompt)
left join baseline b on b.run_id = p.run_id and b.prompt = p.prompt
where p.run_id = $run
    and ($behaviour is null or p.behaviour = $behaviour)
    and ($language is null or p.language = $language)
    and ($concept is null or p.concept = $concept)
    and (not $wrong or not b.correct)
order by p.prompt
limit $top;
