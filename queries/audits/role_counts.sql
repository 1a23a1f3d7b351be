-- Counts by role, sinks left out, add up to the counts by language, for runs that have both.
with by_role as (
    select run_id, layer, feature, language, sum(n_active) as n
    from feature_role
    where role <> 'sink'
    group by run_id, layer, feature, language
)
select run_id, layer, feature, language, r.n as n_by_role, l.n_active as n_by_language
from by_role r
full join (select * from feature_language where run_id in (select run_id from feature_role)) l using (run_id, layer, feature, language)
where coalesce(r.n, 0) <> coalesce(l.n_active, 0)
order by run_id, layer, feature, language
limit 20;
