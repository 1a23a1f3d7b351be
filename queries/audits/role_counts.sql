-- Counts by role, sinks left out, add up to the counts by language, for runs that have both. First by layer and language, as sums in which
-- every feature has a weight of its own; only layers in which such a sum differs are looked at feature by feature.
with by_layer as (
    select run_id, layer, language, sum(n_active * weight) as n
    from (select *, (hash(feature) % 1048573 + 1)::bigint as weight from feature_role where role <> 'sink')
    group by run_id, layer, language
),
spoken as (
    select run_id, layer, language, sum(n_active * weight) as n
    from (select *, (hash(feature) % 1048573 + 1)::bigint as weight from feature_language)
    where run_id in (select run_id from feature_role)
    group by run_id, layer, language
),
suspect as (
    select distinct run_id, layer
    from by_layer r
    full join spoken l using (run_id, layer, language)
    where coalesce(r.n, 0) <> coalesce(l.n, 0)
),
by_role as (
    select run_id, layer, feature, language, sum(n_active) as n
    from feature_role
    semi join suspect using (run_id, layer)
    where role <> 'sink'
    group by run_id, layer, feature, language
)
select run_id, layer, feature, language, r.n as n_by_role, l.n_active as n_by_language
from by_role r
full join (select * from feature_language semi join suspect using (run_id, layer)) l using (run_id, layer, feature, language)
where coalesce(r.n, 0) <> coalesce(l.n_active, 0)
order by run_id, layer, feature, language
limit 20;
