-- Which features tell the two prompts of a minimal pair apart?
--
-- Features active on one prompt of the pair and not on the other, over all pairs of a behaviour; both directions.
-- decides: which features to patch to flip a gate
-- grain: one row per behaviour, variant and feature
-- main: prompt_pair
-- key: behaviour, variant, layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language | varchar | null | only pairs of this language; null is all
--   least | double | 0.25 | least share of pairs in which the feature is on this side only
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   behaviour | varchar | - | behaviour
--   variant | varchar | - | variant on which the feature is active
--   other_variant | varchar | - | variant on which it is silent
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   n_pairs | bigint | pairs | pairs
--   n_only_here | bigint | pairs | pairs with the feature on this side only
--   n_both | bigint | pairs | pairs with the feature on both sides
--   share | double | share | n_only_here / n_pairs
--   n_concepts | bigint | concepts | concepts among the former
with sides as (
    select x.pair, a.behaviour, a.concept, a.variant, b.variant as other_variant, a.prompt, b.prompt as other_prompt
    from prompt_pair x
    join prompt a on a.run_id = x.run_id and a.prompt = x.prompt_a
    join prompt b on b.run_id = x.run_id and b.prompt = x.prompt_b
    where x.run_id = $run and x.kind = 'minimal' and ($language is null or a.language = $language)
    union all
    select x.pair, b.behaviour, b.concept, b.variant, a.variant as other_variant, b.prompt, a.prompt as other_prompt
    from prompt_pair x
    join prompt a on a.run_id = x.run_id and a.prompt = x.prompt_a
    join prompt b on b.run_id = x.run_id and b.prompt = x.prompt_b
    where x.run_id = $run and x.kind = 'minimal' and ($language is null or a.language = $language)
),
size as (
    select behaviour, variant, other_variant, count(*) as n_pairs
    from sides
    group by behaviour, variant, other_variant
),
sink as (
    select item as prompt, position
    from token
    where run_id = $run and source = 'prompt' and role = 'sink'
),
active as (
    select distinct a.prompt, a.layer, a.feature
    from activation_by_prompt a
    anti join sink using (prompt, position)
    where a.run_id = $run and ($layer is null or a.layer = $layer)
),
here as (
    select s.*, a.layer, a.feature, o.prompt is not null as in_other
    from sides s
    join active a on a.prompt = s.prompt
    left join active o on o.prompt = s.other_prompt and o.layer = a.layer and o.feature = a.feature
),
counted as (
    select
        behaviour,
        variant,
        other_variant,
        layer,
        feature,
        count(*) filter (where not in_other) as n_only_here,
        count(*) filter (where in_other) as n_both,
        count(distinct concept) filter (where not in_other) as n_concepts
    from here
    group by behaviour, variant, other_variant, layer, feature
)
select
    c.behaviour,
    c.variant,
    c.other_variant,
    c.layer,
    c.feature,
    'L' || c.layer || '_F' || c.feature as name,
    s.n_pairs,
    c.n_only_here,
    c.n_both,
    c.n_only_here / s.n_pairs as share,
    c.n_concepts
from counted c
join size s
    on s.behaviour = c.behaviour
    and s.variant is not distinct from c.variant
    and s.other_variant is not distinct from c.other_variant
where c.n_only_here / s.n_pairs >= $least
order by share desc, c.behaviour, c.variant, c.layer, c.feature
limit $top;
