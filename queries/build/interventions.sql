-- Interventions of one run: what controls what.
select
    intervention,
    rule::varchar as rule,
    coalesce(control_of, -1) as control_of,
    coalesce(control::varchar, '') as control,
    coalesce(distinct_sets, 0) as distinct_sets
from intervention
where run_id = $run
order by intervention;
