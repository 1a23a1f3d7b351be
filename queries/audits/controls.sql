-- A control points at an intervention that is none itself; a no-op that was done soundly changes nothing.
select 'control of nothing' as what, i.run_id, i.intervention
from intervention i
left join intervention o on o.run_id = i.run_id and o.intervention = i.control_of
where i.control_of is not null and (o.intervention is null or o.control_of is not null)
union all
select 'kind without subject' as what, run_id, intervention
from intervention
where (control is null) <> (control_of is null)
union all
select 'effect of a control' as what, e.run_id, e.intervention
from effect e
join intervention i using (run_id, intervention)
where i.control_of is not null
union all
select distinct 'no-op with an effect' as what, o.run_id, o.intervention
from outcome o
join intervention i using (run_id, intervention)
where i.rule = 'no_op' and i.sound and o.effect <> 0
order by what, run_id, intervention
limit 20;
