-- What matched random controls did on average, for interventions that brought only this and not their controls' outcomes: by language, on
-- held-out prompts where there are any. `alternative` is the side that the p-value looks at.
select
    e.intervention,
    e.language,
    e.control_mean,
    case
        when e.mean >= e.control_mean or coalesce(i.parameters::json ->> 'alternative', 'less') = 'greater' then 1
        else coalesce(e.p_value, 1)
    end::double as p_value,
    e.split = 'held_out' as held_out
from effect e
join intervention i using (run_id, intervention)
where e.run_id = $run
    and i.rule = 'zero'
    and i.n_members = 1
    and e.control = 'matched_random'
    and e.control_mean is not null
    and e.language <> 'all'
    and e.split in ('all', 'held_out')
    and not exists (select 1 from intervention c where c.run_id = e.run_id and c.control_of = e.intervention and c.control = 'matched_random')
qualify row_number() over (partition by e.intervention, e.language order by e.split = 'held_out' desc) = 1
order by e.intervention, e.language;
