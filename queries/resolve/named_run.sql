-- The runs that a person can mean by an id, by the start of an id, or by a name; an exact id beats a name, a name beats a start.
with meant as (
    select
        run_id,
        name,
        case when run_id = $run then 0 when name = $run then 1 else 2 end as closeness,
        row_number() over (
            partition by case when run_id = $run then 0 when name = $run then 1 else 2 end, name
            order by coalesce(finished_at, started_at) desc nulls last, run_id
        ) as age
    from run
    where state = 'complete' and (run_id = $run or name = $run or (length($run) >= 4 and starts_with(run_id, $run)))
)
select run_id, name
from meant
where closeness = (select min(closeness) from meant) and (closeness <> 1 or age = 1)
order by run_id;
