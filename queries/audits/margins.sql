-- Margins are what they say: an effect is after minus before, a correct prompt has a margin above 0, and a margin is the difference of the
-- stored logits, or of summed log-probabilities where a prompt has an answer of several tokens.
with several as (
    select distinct run_id, prompt
    from answer
    where token_ids is not null
),
sums as (
    select
        run_id,
        prompt,
        max(logprob) filter (where answer = 0) - max(logprob) filter (where role in ('contrast', 'distractor')) as margin
    from answer
    semi join several using (run_id, prompt)
    group by run_id, prompt
),
logits as (
    select
        run_id,
        prompt,
        max(logit) filter (where answer = 0) - max(logit) filter (where role in ('contrast', 'distractor')) as margin
    from answer
    anti join several using (run_id, prompt)
    where logit is not null
    group by run_id, prompt
)
select 'effect' as what, run_id, intervention || ' ' || prompt as place, effect::double as stored, (margin_after - margin_before)::double as expected
from outcome
where abs(effect - (margin_after - margin_before)) > 1e-3 * (1 + abs(margin_after) + abs(margin_before))
union all
select 'correct' as what, run_id, prompt::varchar as place, correct::integer::double as stored, margin::double as expected
from baseline
where correct <> (margin > 0)
union all
select 'margin' as what, b.run_id, b.prompt::varchar as place, b.margin::double as stored, l.margin::double as expected
from baseline b
join logits l using (run_id, prompt)
where abs(b.margin - l.margin) > 1e-3 * (1 + abs(b.margin))
union all
select 'margin' as what, b.run_id, b.prompt::varchar as place, b.margin::double as stored, s.margin::double as expected
from baseline b
join sums s using (run_id, prompt)
where abs(b.margin - s.margin) > 1e-3 * (1 + abs(b.margin))
limit 20;
