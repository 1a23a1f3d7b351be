-- Effects of one run by intervention and prompt; several sources of a swap count once, as their mean.
select intervention, prompt, avg(effect::double) as effect
from outcome
where run_id = $run
group by intervention, prompt
order by intervention, prompt;
