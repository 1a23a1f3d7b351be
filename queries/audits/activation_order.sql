-- activation is sorted by layer, feature, prompt, position within a run, and a run stands in one piece: so no key can stand twice.
with beside as (
    select
        run_id,
        (layer, feature, prompt, position) as key,
        lag(run_id) over () as run_before,
        lag((layer, feature, prompt, position)) over () as key_before
    from activation
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
limit 20;
