-- activation is sorted by layer, feature, prompt, position within a run, each key once: in a rising order no key can stand twice.
with beside as (
    select
        run_id,
        (layer, feature, prompt, position) as key,
        lag(run_id) over () as run_before,
        lag((layer, feature, prompt, position)) over () as key_before
    from activation
)
select run_id, key
from beside
where run_before = run_id and key_before >= key
limit 20;
