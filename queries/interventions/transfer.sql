-- Does putting one prompt's features into another language's prompt bring its answer along?
--
-- Rise of logit(source's answer in the target language) - logit(target's own answer) after a swap; the source's answer in its own language and
-- the antonym partner stand beside it, since features that only switch the language or the pair would raise those. Interval of a swap: cluster
-- t over source concepts (quantile by Abramowitz and Stegun 26.7.5); of a control with several draws: 2.5 to 97.5 % of the draws' means.
-- matched_random are the drawn features as they are, matched_random_rescaled the same with changes as long as the swap's, layer by layer.
-- decides: whether features are shared in what they do, beyond when they fire
-- grain: one row per swap, direction and kind of control
-- main: transfer
-- key: intervention, source_language, target_language, control
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   intervention | integer | - | the swap
--   name | varchar | - | its name
--   source_language | varchar | - | language the values come from
--   target_language | varchar | - | language of the prompt that is run
--   control | varchar | - | none for the swap itself, else the kind of control
--   n_draws | bigint | draws | interventions of this kind
--   n_pairs | bigint | pairs | source-target pairs of one draw
--   n_source_concepts | bigint | concepts | source concepts
--   mean_rise | double | logits | mean rise of the expected answer
--   ci_low | double | logits | interval, see above
--   ci_high | double | logits | interval, see above
--   mean_rise_source_language | double | logits | the same for the answer in the source language
--   mean_rise_partner | double | logits | the same for the antonym partner
--   preferred | double | share | pairs in which the expected answer beats the target's own
--   above_zero | double | share | pairs with a rise
--   length_ratio | double | share | mean length of a control's changes over that of the swap's own
--   n_in_caliper | integer | draws | draws whose change is as long as the swap's own, within 20 %
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
by_draw as (
    select
        coalesce(i.control_of, i.intervention) as swap,
        b.source_language,
        b.target_language,
        b.control,
        b.intervention,
        sum(b.n)::bigint as n_pairs,
        count(*) as n_source_concepts,
        sum(b.rise * b.n) / sum(b.n) as rise,
        avg(b.rise) as concept_mean,
        stddev_samp(b.rise) / sqrt(count(*)) as error,
        sum(b.rise_source_language * b.n) / sum(b.n) as rise_source_language,
        sum(b.rise_partner * b.n) / sum(b.n) as rise_partner,
        sum(b.n_preferred) / sum(b.n) as preferred,
        sum(b.n_above) / sum(b.n) as above_zero
    from by_concept b
    join intervention i on i.run_id = $run and i.intervention = b.intervention
    group by all
),
pooled as (
    select
        swap,
        source_language,
        target_language,
        control,
        count(*) as n_draws,
        max(n_pairs) as n_pairs,
        max(n_source_concepts) as n_source_concepts,
        avg(rise) as mean_rise,
        quantile_cont(rise, 0.025) as draws_low,
        quantile_cont(rise, 0.975) as draws_high,
        max(concept_mean) as concept_mean,
        max(error) as error,
        max(n_source_concepts) - 1 as df,
        avg(rise_source_language) as mean_rise_source_language,
        avg(rise_partner) as mean_rise_partner,
        avg(preferred) as preferred,
        avg(above_zero) as above_zero
    from by_draw
    group by swap, source_language, target_language, control
),
bounded as (
    select
        *,
        case when n_draws = 1 and df > 3
            then error * (1.959964 + 2.372273 / df + 2.822508 / df ** 2 + 2.555850 / df ** 3) end as half
    from pooled
)
select
    b.swap as intervention,
    i.name,
    b.source_language,
    b.target_language,
    b.control,
    b.n_draws,
    b.n_pairs,
    b.n_source_concepts,
    b.mean_rise,
    case when b.n_draws > 1 then b.draws_low else b.concept_mean - b.half end as ci_low,
    case when b.n_draws > 1 then b.draws_high else b.concept_mean + b.half end as ci_high,
    b.mean_rise_source_language,
    b.mean_rise_partner,
    b.preferred,
    b.above_zero,
    e.length_ratio,
    e.n_in_caliper
from bounded b
join intervention i on i.run_id = $run and i.intervention = b.swap
left join effect e
    on e.run_id = $run
    and e.intervention = b.swap
    and e.language = 'all'
    and e.split = 'all'
    and e.control = b.control
order by intervention, b.source_language, b.target_language, b.control <> 'none', b.control;
