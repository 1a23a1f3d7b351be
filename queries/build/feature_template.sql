-- The template with most of a feature's prompts, for every two languages, for one layer.
insert into feature_template by name
with asked as (
    select prompt, language, concept, template
    from prompt
    where run_id = $run and language <> 'xx'
),
spoken as (
    select distinct language from asked
),
pair as (
    select a.language as language_a, b.language as language_b
    from spoken a
    join spoken b on a.language < b.language
),
active as (
    select s.feature, p.language_a, p.language_b, a.template, a.concept, a.language = p.language_a as first
    from seen s
    join asked a using (prompt)
    join pair p on a.language = p.language_a or a.language = p.language_b
),
by_template as (
    select
        feature,
        language_a,
        language_b,
        template,
        count(*) as n,
        count(*) filter (where first) as n_a,
        count(*) filter (where not first) as n_b
    from active
    group by feature, language_a, language_b, template
),
spread as (
    select feature, language_a, language_b, count(*)::integer as n_concepts
    from (select distinct feature, language_a, language_b, concept from active)
    group by feature, language_a, language_b
),
strongest as (
    select
        feature,
        language_a,
        language_b,
        min_by(template, (-n, template)) as template,
        max(n)::integer as n_prompts_active,
        sum(n_a)::integer as n_active_a,
        sum(n_b)::integer as n_active_b
    from by_template
    group by feature, language_a, language_b
)
select
    $run as run_id,
    $layer as layer,
    t.feature,
    t.language_a,
    t.language_b,
    t.template,
    t.n_prompts_active,
    t.n_active_a,
    t.n_active_b,
    s.n_concepts
from strongest t
join spread s using (feature, language_a, language_b)
order by t.feature, t.language_a, t.language_b;
