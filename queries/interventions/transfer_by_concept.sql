-- For which concepts does a swap carry the answer over, and for which not?
--
-- Each source concept against the matched random swaps of the same direction: those with changes as long as the swap's own where the run
-- has them (matched_random_rescaled), else the drawn features as they are.
-- decides: whether transfer is general or rests on a few concepts
-- grain: one row per direction and source concept
-- main: transfer
-- key: source_language, target_language, source_concept
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   source_language | varchar | - | language the values come from
--   target_language | varchar | - | language of the prompt that is run
--   source_concept | varchar | - | concept the values come from
--   n_pairs | bigint | pairs | source-target pairs of the swaps
--   mean_rise | double | logits | mean rise of the expected answer
--   preferred | double | share | pairs in which the expected answer wins
--   control_rise | double | logits | mean rise under random swaps; null without
--   control_preferred | double | share | the same share under random swaps
--   beyond_control | double | logits | mean_rise - control_rise
--   mean_rise_partner | double | logits | mean rise of the antonym partner
with best as (
    select coalesce(max(control::varchar) filter (where control = 'matched_random_rescaled'), 'matched_random') as control
    from transfer
    where run_id = $run
)
select
    source_language,
    target_language,
    source_concept,
    count(*) filter (where control is null) as n_pairs,
    avg(rise) filter (where control is null) as mean_rise,
    avg(prefers_expected::integer) filter (where control is null) as preferred,
    avg(rise) filter (where control::varchar = (select control from best)) as control_rise,
    avg(prefers_expected::integer) filter (where control::varchar = (select control from best)) as control_preferred,
    avg(rise) filter (where control is null) - avg(rise) filter (where control::varchar = (select control from best)) as beyond_control,
    avg(rise_partner) filter (where control is null) as mean_rise_partner
from transfer
where run_id = $run
group by source_language, target_language, source_concept
order by mean_rise desc nulls last, source_language, target_language, source_concept;
