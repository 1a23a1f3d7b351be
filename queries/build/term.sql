-- Texts among the promoted tokens of each run that has none yet, numbered in the order of texts.
insert into term by name
with promoted as (
    select run_id, unnest(promoted_tokens) as token
    from feature
    where run_id not in (select run_id from term)
)
select run_id, (row_number() over (partition by run_id order by token) - 1)::integer as term, token, count(*) as n
from promoted
group by run_id, token
order by run_id, token;
