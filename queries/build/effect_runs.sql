-- Complete runs with interventions that have outcomes, are no controls and no no-ops, and have no effects yet.
select run_id
from run
where state = 'complete'
    and kind in ('ingest', 'import')
    and exists (
        select 1
        from intervention i
        where i.run_id = run.run_id
            and i.control is null
            and i.rule <> 'no_op'
            and exists (select 1 from outcome o where o.run_id = i.run_id and o.intervention = i.intervention)
            and not exists (select 1 from effect e where e.run_id = i.run_id and e.intervention = i.intervention)
    )
order by run_id;
