-- Split of each prompt of one run.
select prompt, split::varchar as split
from prompt
where run_id = $run
order by prompt;
