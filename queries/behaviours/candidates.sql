-- Which candidate answers does the model weigh, and how far apart are they?
--
-- Probability of each candidate and the mass of all candidates: filtering among candidates needs mass on more than one.
-- decides: whether a behaviour can be one of choosing among candidates
-- grain: one row per behaviour, language and role of the answer
-- main: answer
-- key: behaviour, language, role
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   behaviour | varchar | - | behaviour
--   language | varchar | - | language
--   role | varchar | - | role of the answer
--   n_answers | bigint | answers | answers with a log-probability
--   mean_probability | double | share | mean probability
--   mean_logprob | double | nats | mean log-probability
--   median_rank | double | - | median rank, 0 is the top token
--   first | double | share | answers that are the top token
--   candidate_mass | double | share | mean mass of all candidates of a prompt
with scored as (
    select
        p.behaviour,
        p.language,
        a.role,
        a.logprob::double as logprob,
        a.rank,
        sum(exp(a.logprob::double)) over (partition by a.prompt) as mass
    from answer a
    join prompt p using (run_id, prompt)
    where a.run_id = $run and a.logprob is not null
)
select
    behaviour,
    language,
    role::varchar as role,
    count(*) as n_answers,
    avg(exp(logprob)) as mean_probability,
    avg(logprob) as mean_logprob,
    median(rank) as median_rank,
    avg((rank = 0)::integer) as first,
    avg(mass) as candidate_mass
from scored
group by behaviour, language, role
order by behaviour, language, role;
