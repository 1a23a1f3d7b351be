-- On how many prompts of two languages features are active, for runs that were not counted so yet.
insert into shared_count by name
select
    a.run_id,
    a.layer,
    a.language as language_a,
    b.language as language_b,
    a.n_prompts_active as n_active_a,
    b.n_prompts_active as n_active_b,
    count(*)::integer as n_features
from feature_language a
join feature_language b on b.run_id = a.run_id and b.layer = a.layer and b.feature = a.feature and a.language < b.language
where a.language <> 'xx'
    and b.language <> 'xx'
    and a.n_prompts_active + b.n_prompts_active > 0
    and a.run_id not in (select run_id from shared_count)
group by a.run_id, a.layer, a.language, b.language, a.n_prompts_active, b.n_prompts_active
order by a.run_id, a.layer, a.language, b.language, a.n_prompts_active, b.n_prompts_active;
