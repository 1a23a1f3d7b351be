-- Counts by language are what the raw activations say, layer by layer, sinks left out. Runs whose raw rows were not kept are passed over,
-- and so are runs without tokens, in which a sink cannot be told.
with asked as (
    select run_id
    from run
    where exists (select 1 from activation a where a.run_id = run.run_id)
        and exists (select 1 from token t where t.run_id = run.run_id and t.source = 'prompt')
),
raw as (
    select a.run_id, a.layer, p.language, count(*) as n, sum(a.activation::double) as total
    from activation a
    join asked using (run_id)
    join prompt p using (run_id, prompt)
    join token t on t.run_id = a.run_id and t.source = 'prompt' and t.item = a.prompt and t.position = a.position
    where t.role <> 'sink'
    group by a.run_id, a.layer, p.language
),
spoken as (
    select run_id, layer, language, sum(n_active) as n, sum(sum_activation) as total
    from feature_language
    join asked using (run_id)
    group by run_id, layer, language
)
select run_id, layer, language, raw.n, spoken.n as n_by_language, raw.total, spoken.total as total_by_language
from raw
full join spoken using (run_id, layer, language)
where coalesce(raw.n, 0) <> coalesce(spoken.n, 0)
    or abs(coalesce(raw.total, 0) - coalesce(spoken.total, 0)) > 1e-4 * (1 + abs(coalesce(raw.total, 0)))
order by run_id, layer, language
limit 20;
