-- activation_by_prompt is sorted by prompt, position, layer, feature within a run, a run stands in one piece, and it has as many rows as
-- activation.
with beside as (
    select
        run_id,
        (prompt, position, layer, feature) as key,
        lag(run_id) over () as run_before,
        lag((prompt, position, layer, feature)) over () as key_before
    from activation_by_prompt
)
select run_id, key::varchar as problem
from beside
where run_before = run_id and key_before >= key
union all
select run_id, 'in ' || count(*) || ' pieces' as problem
from beside
where run_before is distinct from run_id
group by run_id
having count(*) > 1
union all
select coalesce(a.run_id, b.run_id) as run_id, 'rows: ' || coalesce(a.n, 0) || ' and ' || coalesce(b.n, 0) as problem
from (select run_id, count(*) as n from activation group by run_id) a
full join (select run_id, count(*) as n from activation_by_prompt group by run_id) b using (run_id)
where a.n is distinct from b.n
limit 20;
