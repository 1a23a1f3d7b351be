-- Counts of a feature are the sums of its counts by language, for runs that have both.
with spoken as (
    select
        run_id,
        layer,
        feature,
        sum(n_tokens) as n_tokens,
        sum(n_active) as n_active,
        sum(n_prompts_active) as n_prompts_active
    from feature_language
    where language <> 'xx'
    group by run_id, layer, feature
)
select f.run_id, f.layer, f.feature, f.n_active, s.n_active as n_active_by_language, f.n_tokens, s.n_tokens as n_tokens_by_language
from feature f
left join spoken s using (run_id, layer, feature)
where f.run_id in (select run_id from feature_language)
    and (
        f.n_active <> coalesce(s.n_active, 0)
        or (f.n_active > 0 and f.n_tokens <> s.n_tokens)
        or f.n_prompts_active <> coalesce(s.n_prompts_active, 0)
    )
order by f.run_id, f.layer, f.feature
limit 20;
