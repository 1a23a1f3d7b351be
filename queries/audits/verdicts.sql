-- feature_verdict and score_summary are what feature_score says, and shared_count what feature_language says.
with judged as (
    select
        run_id,
        layer,
        score,
        parameter_set,
        languages,
        count(*) as n_features,
        count(flag) as n_judged,
        count(*) filter (where flag) as n_yes
    from feature_score
    where run_id in (select run_id from score_summary)
    group by run_id, layer, score, parameter_set, languages
),
said as (
    select
        run_id,
        layer,
        parameter_set,
        language_a || '+' || language_b as languages,
        count(*) filter (where yes_profile) as language_profile,
        count(*) filter (where yes_rate) as bilingual_rate,
        count(*) filter (where yes_lift) as translation_lift,
        count(*) filter (where yes_bridge) as bridge,
        count(*) filter (where yes_causal_bridge) as causal_bridge
    from feature_verdict
    group by run_id, layer, parameter_set, language_a, language_b
),
unfolded as (
    unpivot said
    on language_profile, bilingual_rate, translation_lift, bridge, causal_bridge
    into name score value n_yes
),
counted as (
    select run_id, layer, language_a, language_b, sum(n_features) as n, sum(n_features * n_active_a) as n_a, sum(n_features * n_active_b) as n_b
    from shared_count
    group by run_id, layer, language_a, language_b
),
spoken as (
    select run_id, layer, language, sum(n_prompts_active) as n, count(*) filter (where n_prompts_active > 0) as n_active
    from feature_language
    where run_id in (select run_id from shared_count)
    group by run_id, layer, language
)
select 'score_summary' as place, run_id, layer, concat_ws(' ', score, parameter_set, languages) as key
from judged j
full join score_summary s using (run_id, layer, score, parameter_set, languages)
where j.n_features is distinct from s.n_features or j.n_judged is distinct from s.n_judged or j.n_yes is distinct from s.n_yes
union all
select 'feature_verdict' as place, u.run_id, u.layer, concat_ws(' ', u.score, u.parameter_set, u.languages) as key
from unfolded u
left join judged j using (run_id, layer, score, parameter_set, languages)
where u.n_yes <> coalesce(j.n_yes, 0)
union all
select 'shared_count' as place, c.run_id, c.layer, concat_ws(' ', c.language_a, c.language_b) as key
from counted c
join spoken a on a.run_id = c.run_id and a.layer = c.layer and a.language = c.language_a
join spoken b on b.run_id = c.run_id and b.layer = c.layer and b.language = c.language_b
where c.n_a <> a.n or c.n_b <> b.n or c.n < greatest(a.n_active, b.n_active)
order by place, run_id, layer, key
limit 20;
