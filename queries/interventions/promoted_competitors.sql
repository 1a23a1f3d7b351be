-- Which answers take over when a feature is edited?
--
-- Change of log-probability of each candidate answer, by its role; and how often the top token changes.
-- decides: whether an edit removes an answer, or makes another one win
-- grain: one row per intervention, language and role of the answer
-- main: outcome_answer
-- key: intervention, language, role
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   controls | boolean | false | show the controls too
--   top | integer | 1000 | rows at most
-- columns:
--   intervention | integer | - | intervention
--   name | varchar | - | its name
--   rule | varchar | - | rule
--   language | varchar | - | language of the prompts
--   role | varchar | - | role of the answer
--   n_prompts | bigint | prompts | prompts
--   mean_change | double | nats | mean change of log-probability
--   risen | double | share | prompts on which it rises
--   top1_changed | double | share | prompts on which the top token changes
--   strongest_rise | varchar | - | answer text that rises most on average
--   its_change | double | nats | its mean change
with known as (
    -- Tokens that are no answer of the prompt itself, such as an injected one, are answers of another.
    select token_id, min(text) as text
    from answer
    where run_id = $run
    group by token_id
),
changes as (
    select
        o.intervention,
        p.language,
        coalesce(
            a.role::varchar,
            case o.answer when -1 then 'expected' when -2 then 'source_language' when -3 then 'partner' end,
            'other'
        ) as role,
        trim(coalesce(a.text, k.text, o.token_id::varchar)) as text,
        o.prompt,
        o.logprob_after - o.logprob_before as change,
        x.top1_before is distinct from x.top1_after as top1_changed
    from outcome_answer o
    join intervention i using (run_id, intervention)
    join prompt p using (run_id, prompt)
    left join answer a using (run_id, prompt, answer)
    left join known k on k.token_id = o.token_id
    left join outcome x using (run_id, intervention, prompt, source_prompt)
    where o.run_id = $run and (i.control is null or $controls)
),
by_text as (
    select intervention, language, role, text, avg(change) as change
    from changes
    group by intervention, language, role, text
),
strongest as (
    select
        intervention,
        language,
        role,
        arg_max(text, (change, text)) as text,
        max(change) as change
    from by_text
    group by intervention, language, role
),
summed as (
    select
        intervention,
        language,
        role,
        count(distinct prompt) as n_prompts,
        avg(change) as mean_change,
        avg((change > 0)::integer) as risen,
        avg(top1_changed::integer) as top1_changed
    from changes
    group by intervention, language, role
)
select
    s.intervention,
    i.name,
    i.rule::varchar as rule,
    s.language,
    s.role,
    s.n_prompts,
    s.mean_change,
    s.risen,
    s.top1_changed,
    t.text as strongest_rise,
    t.change as its_change
from summed s
join strongest t using (intervention, language, role)
join intervention i on i.run_id = $run and i.intervention = s.intervention
order by abs(s.mean_change) desc, s.intervention, s.language, s.role
limit $top;
