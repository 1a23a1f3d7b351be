-- Effects of one run by intervention and prompt; several sources of a swap count once, as their mean.
select
    intervention,
    prompt,
    avg(effect::double) as effect,
    case when count(delta_norm) = count(*) then avg(delta_norm::double) else 'nan' end::double as delta_norm
from outcome
where run_id = $run
group by intervention, prompt
order by intervention, prompt;
