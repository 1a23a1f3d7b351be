-- Role of every token of a run's prompts, as its place in the enum.
select item as prompt, position, enum_code(role)::tinyint as role
from token
where run_id = $run and source = 'prompt'
order by prompt, position;
