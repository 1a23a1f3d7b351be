-- Every score of one layer's features side by side, for every two languages; the rows wait in `verdict`.
insert into verdict by name
with scored as (
    select feature, score, parameter_set, languages, value, flag, p_value, q_value
    from feature_score
    where run_id = $run and layer = $layer
),
spoken as (
    select language
    from feature_language
    where run_id = $run and layer = $layer and language <> 'xx'
    union
    select language
    from prompt
    where run_id = $run and language <> 'xx'
),
pair as (
    select a.language as language_a, b.language as language_b, a.language || '+' || b.language as languages
    from spoken a
    join spoken b on a.language < b.language
),
wide as (
    select
        s.parameter_set,
        p.language_a,
        p.language_b,
        s.feature,
        max(value) filter (where score = 'language_profile') as profile,
        max(value) filter (where score = 'bilingual_rate') as rate_low,
        max(q_value) filter (where score = 'bilingual_rate') as rate_q,
        max(value) filter (where score = 'lape') as lape,
        max(q_value) filter (where score = 'lape') as lape_q,
        max(value) filter (where score = 'shared_k') as shared_k,
        max(value) filter (where score = 'monolinguality' and s.languages = p.language_a) as monolinguality_a,
        max(value) filter (where score = 'monolinguality' and s.languages = p.language_b) as monolinguality_b,
        max(value) filter (where score = 'translation_lift') as lift,
        max(p_value) filter (where score = 'translation_lift') as lift_p,
        max(value) filter (where score = 'translation_phi') as phi,
        max(value) filter (where score = 'bridge') as bridge,
        max(q_value) filter (where score = 'causal_bridge') as causal_bridge_q,
        bool_or(flag) filter (where score = 'language_profile') as yes_profile,
        bool_or(flag) filter (where score = 'bilingual_rate') as yes_rate,
        bool_or(flag) filter (where score = 'lape') as yes_lape,
        bool_or(flag) filter (where score = 'shared_k') as yes_shared_k,
        bool_or(flag) filter (where score = 'translation_lift') as yes_lift,
        bool_or(flag) filter (where score = 'bridge') as yes_bridge,
        bool_or(flag) filter (where score = 'causal_bridge') as yes_causal_bridge,
        (
            count(*) filter (
                where flag and score in ('language_profile', 'bilingual_rate', 'lape', 'shared_k', 'translation_lift')
            ) + count(*) filter (where score = 'causal_bridge' and flag and q_value < 0.05)
        )::smallint as n_yes
    from scored s
    join pair p on s.languages in (p.languages, p.language_a, p.language_b) or s.score in ('lape', 'shared_k')
    group by s.parameter_set, p.language_a, p.language_b, s.feature
)
select $run as run_id, $layer as layer, *
from wide
order by parameter_set, language_a, language_b, feature;
