-- How does the model go on when features are changed?
--
-- What `atlas steer --keep` has put into the atlas: each continuation beside the unsteered one with the same random numbers, the KL of the
-- token after the prompt, and the tokens that gained and lost most probability. Runs of their own: name one (provenance/runs lists them).
-- decides: whether a feature does to the text what its label says
-- grain: one row per intervention, prompt and sample
-- main: continuation
-- key: intervention, prompt, sample
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   tokens | integer | 5 | tokens to name that gained and lost
-- columns:
--   intervention | integer | - | intervention
--   name | varchar | - | what was set; `unsteered` for the model itself
--   prompt | integer | - | prompt
--   prompt_text | varchar | - | its text
--   sample | smallint | - | ordinal of the sample
--   temperature | double | - | 0 is greedy
--   text | varchar | - | how it went on
--   unsteered | varchar | - | how the unedited model went on, with the same random numbers
--   logprob | double | nats | log-probability of the continuation under the run that wrote it
--   kl | double | nats | KL(unedited || edited) of the token after the prompt
--   gains | varchar[] | - | tokens that gained most probability as the next one
--   losses | varchar[] | - | tokens that lost most
with shifts as (
    select
        intervention,
        prompt,
        token,
        token_id,
        exp(logprob_after) - exp(logprob_before) as rise
    from next_token
    where run_id = $run
),
gained as (
    select intervention, prompt, (list(token order by rise desc, token_id))[1:$tokens] as gains
    from shifts
    where rise > 0
    group by intervention, prompt
),
lost as (
    select intervention, prompt, (list(token order by rise, token_id))[1:$tokens] as losses
    from shifts
    where rise < 0
    group by intervention, prompt
),
plain as (
    select c.prompt, c.sample, c.text
    from continuation c
    join intervention i using (run_id, intervention)
    where c.run_id = $run and i.rule = 'no_op' and i.n_members = 0
)
select
    c.intervention,
    i.name,
    c.prompt,
    p.text as prompt_text,
    c.sample,
    c.temperature,
    c.text,
    b.text as unsteered,
    list_sum(c.token_logprobs::double[]) as logprob,
    c.kl,
    g.gains,
    l.losses
from continuation c
join intervention i using (run_id, intervention)
join prompt p using (run_id, prompt)
left join plain b on b.prompt = c.prompt and b.sample = c.sample
left join gained g on g.intervention = c.intervention and g.prompt = c.prompt
left join lost l on l.intervention = c.intervention and l.prompt = c.prompt
where c.run_id = $run
order by c.intervention, c.prompt, c.sample;
