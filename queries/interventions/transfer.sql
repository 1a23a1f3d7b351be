-- Does putting one prompt's features into another language's prompt bring its answer along?
--
-- Rise of logit(source's answer in the target language) - logit(target's own answer) after a swap; the source's answer in its own language and
-- the antonym partner stand beside it, since features that only switch the language or the pair would raise those.
-- decides: whether features are shared in what they do, beyond when they fire
-- grain: one row per swap, direction and kind of control
-- main: transfer
-- key: intervention, source_language, target_language, control
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   intervention | integer | - | swap, or its control
--   name | varchar | - | its name
--   source_language | varchar | - | language the values come from
--   target_language | varchar | - | language of the prompt that is run
--   control | varchar | - | none for the swap itself, else the kind of control
--   n_pairs | bigint | pairs | source-target pairs
--   n_source_concepts | bigint | concepts | source concepts
--   mean_rise | double | logits | mean rise of the expected answer
--   ci_low | double | logits | 95 % interval over source concepts, normal
--   ci_high | double | logits | 95 % interval over source concepts, normal
--   mean_rise_source_language | double | logits | the same for the answer in the source language
--   mean_rise_partner | double | logits | the same for the antonym partner
--   preferred | double | share | pairs in which the expected answer beats the target's own
--   above_zero | double | share | pairs with a rise
with by_concept as (
    select
        intervention,
        source_language,
        target_language,
        coalesce(control::varchar, 'none') as control,
        source_concept,
        count(*) as n,
        avg(rise) as rise,
        avg(rise_source_language) as rise_source_language,
        avg(rise_partner) as rise_partner,
        sum(prefers_expected::integer) as n_preferred,
        sum((rise > 0)::integer) as n_above
    from transfer
    where run_id = $run
    group by all
),
pooled as (
    select
        intervention,
        source_language,
        target_language,
        control,
        sum(n)::bigint as n_pairs,
        count(*) as n_source_concepts,
        sum(rise * n) / sum(n) as mean_rise,
        stddev_samp(rise) / sqrt(count(*)) as error,
        sum(rise_source_language * n) / sum(n) as mean_rise_source_language,
        sum(rise_partner * n) / sum(n) as mean_rise_partner,
        sum(n_preferred) / sum(n) as preferred,
        sum(n_above) / sum(n) as above_zero
    from by_concept
    group by intervention, source_language, target_language, control
)
select
    p.intervention,
    i.name,
    p.source_language,
    p.target_language,
    p.control,
    p.n_pairs,
    p.n_source_concepts,
    p.mean_rise,
    p.mean_rise - 1.959964 * p.error as ci_low,
    p.mean_rise + 1.959964 * p.error as ci_high,
    p.mean_rise_source_language,
    p.mean_rise_partner,
    p.preferred,
    p.above_zero
from pooled p
join intervention i on i.run_id = $run and i.intervention = p.intervention
order by coalesce(i.control_of, i.intervention), p.control <> 'none', p.intervention, p.source_language, p.target_language, p.control;
