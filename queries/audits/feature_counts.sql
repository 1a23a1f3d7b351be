-- Counts of a feature are the sums of its counts by language, for runs that have both. First by layer, as sums in which every feature has a
-- weight of its own: millions of features then need no memory. Only layers in which such a sum differs are looked at feature by feature.
with counted as (
    select *, (hash(feature) % 1048573 + 1)::bigint as weight
    from feature
    where run_id in (select run_id from feature_language)
),
whole as (
    select
        run_id,
        layer,
        sum(n_active * weight) as n_active,
        sum(n_prompts_active * weight) as n_prompts_active,
        sum(n_tokens * weight) as n_tokens,
        coalesce(sum(n_tokens * weight) filter (where n_active > 0), 0) as n_tokens_alive
    from counted
    group by run_id, layer
),
parts as (
    select
        run_id,
        layer,
        sum(n_active * weight) as n_active,
        sum(n_prompts_active * weight) as n_prompts_active,
        sum(n_tokens * weight) as n_tokens
    from (select *, (hash(feature) % 1048573 + 1)::bigint as weight from feature_language where language <> 'xx')
    group by run_id, layer
),
suspect as (
    select run_id, layer
    from whole w
    left join parts p using (run_id, layer)
    where w.n_active is distinct from coalesce(p.n_active, 0)
        or w.n_prompts_active is distinct from coalesce(p.n_prompts_active, 0)
        or coalesce(p.n_tokens, 0) not in (w.n_tokens, w.n_tokens_alive)
),
spoken as (
    select
        run_id,
        layer,
        feature,
        sum(n_tokens) as n_tokens,
        sum(n_active) as n_active,
        sum(n_prompts_active) as n_prompts_active
    from feature_language
    semi join suspect using (run_id, layer)
    where language <> 'xx'
    group by run_id, layer, feature
)
select f.run_id, f.layer, f.feature, f.n_active, s.n_active as n_active_by_language, f.n_tokens, s.n_tokens as n_tokens_by_language
from feature f
semi join suspect using (run_id, layer)
left join spoken s using (run_id, layer, feature)
where f.n_active <> coalesce(s.n_active, 0)
    or (f.n_active > 0 and f.n_tokens <> s.n_tokens)
    or f.n_prompts_active <> coalesce(s.n_prompts_active, 0)
order by f.run_id, f.layer, f.feature
limit 20;
