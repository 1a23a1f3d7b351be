-- Which side of minimal pairs a feature is active on, for one layer; language null is all.
insert into feature_contrast by name
with sides as (
    select x.pair, a.language, a.behaviour, a.concept, a.variant, b.variant as other_variant, a.prompt, b.prompt as other_prompt
    from prompt_pair x
    join prompt a on a.run_id = x.run_id and a.prompt = x.prompt_a
    join prompt b on b.run_id = x.run_id and b.prompt = x.prompt_b
    where x.run_id = $run and x.kind = 'minimal'
    union all
    select x.pair, a.language, b.behaviour, b.concept, b.variant, a.variant as other_variant, b.prompt, a.prompt as other_prompt
    from prompt_pair x
    join prompt a on a.run_id = x.run_id and a.prompt = x.prompt_a
    join prompt b on b.run_id = x.run_id and b.prompt = x.prompt_b
    where x.run_id = $run and x.kind = 'minimal'
),
asked as (
    select * from sides
    union all
    select * replace (null as language) from sides
),
size as (
    select behaviour, language, variant, other_variant, count(*)::integer as n_pairs
    from asked
    group by behaviour, language, variant, other_variant
),
paired as (
    select s.feature, s.prompt
    from seen s
    semi join sides d using (prompt)
),
counted as (
    select
        s.behaviour,
        s.language,
        s.variant,
        s.other_variant,
        here.feature,
        count(*) filter (where other.prompt is null)::integer as n_only_here,
        count(*) filter (where other.prompt is not null)::integer as n_both,
        count(distinct s.concept) filter (where other.prompt is null)::integer as n_concepts
    from asked s
    join paired here on here.prompt = s.prompt
    left join paired other on other.prompt = s.other_prompt and other.feature = here.feature
    group by s.behaviour, s.language, s.variant, s.other_variant, here.feature
)
select
    $run as run_id,
    c.behaviour,
    c.language,
    c.variant,
    c.other_variant,
    $layer as layer,
    c.feature,
    z.n_pairs,
    c.n_only_here,
    c.n_both,
    c.n_concepts
from counted c
join size z
    on z.behaviour = c.behaviour
    and z.language is not distinct from c.language
    and z.variant is not distinct from c.variant
    and z.other_variant is not distinct from c.other_variant
order by c.behaviour, c.language nulls first, c.variant, c.other_variant, c.feature;
