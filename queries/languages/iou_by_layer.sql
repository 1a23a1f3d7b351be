-- How much do the active features of a prompt and of its translation overlap, layer by layer, and how much would chance give?
--
-- Same concept beside other concepts, the antonym partner, and the halves of one language; interval over concepts, null from concepts dealt
-- anew within template and length. Unequal prompt lengths lower the overlap, so the lengths stand beside it.
-- decides: where shared features begin and end, and whether they carry the concept or only the antonym pair
-- grain: one row per layer, language pair and parameter set
-- main: layer_score
-- key: layer, languages, parameter_set
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   score | varchar | iou | positions that count: all but the sink, content, or decision | iou, iou_content, iou_decision
--   languages | varchar | null | language pair, e.g. en+fr; null is all
--   parameter_set | varchar | null | parameter set; null is all
-- columns:
--   layer | smallint | - | layer
--   languages | varchar | - | language pair
--   parameter_set | varchar | - | parameter set
--   same_concept | double | share | mean overlap of translations
--   ci_low | double | share | 95 % interval over concepts
--   ci_high | double | share | 95 % interval over concepts
--   null_mean | double | share | mean overlap with concepts dealt anew
--   null_low | double | share | 2.5 % quantile of that null
--   null_high | double | share | 97.5 % quantile of that null
--   p_value | double | - | one-sided, against that null
--   other_concept | double | share | mean overlap with another concept in the same template
--   antonym_partner | double | share | mean overlap with the opposite pole in the same template
--   split_half | double | share | mean overlap of two templates of one language, same concept
--   n_concepts | integer | clusters | clusters behind the interval
--   tokens_a | double | tokens | mean prompt length in the first language
--   tokens_b | double | tokens | mean prompt length in the second language
with length as (
    select language, avg(n_tokens) as n_tokens
    from prompt
    where run_id = $run
    group by language
),
wide as (
    select
        layer,
        languages,
        parameter_set,
        max(value) filter (where baseline = 'same_concept') as same_concept,
        max(ci_low) filter (where baseline = 'same_concept') as ci_low,
        max(ci_high) filter (where baseline = 'same_concept') as ci_high,
        max(null_mean) filter (where baseline = 'same_concept') as null_mean,
        max(null_low) filter (where baseline = 'same_concept') as null_low,
        max(null_high) filter (where baseline = 'same_concept') as null_high,
        max(p_value) filter (where baseline = 'same_concept') as p_value,
        max(value) filter (where baseline = 'other_concept') as other_concept,
        max(value) filter (where baseline = 'antonym_partner') as antonym_partner,
        max(value) filter (where baseline = 'split_half') as split_half,
        max(n_clusters) filter (where baseline = 'same_concept') as n_concepts
    from layer_score
    where run_id = $run
        and score = $score
        and ($languages is null or languages = $languages)
        and ($parameter_set is null or parameter_set = $parameter_set)
    group by layer, languages, parameter_set
)
select
    w.layer,
    w.languages,
    w.parameter_set,
    w.same_concept,
    w.ci_low,
    w.ci_high,
    w.null_mean,
    w.null_low,
    w.null_high,
    w.p_value,
    w.other_concept,
    w.antonym_partner,
    w.split_half,
    w.n_concepts,
    a.n_tokens as tokens_a,
    b.n_tokens as tokens_b
from wide w
left join length a on a.language = split_part(w.languages, '+', 1)
left join length b on b.language = split_part(w.languages, '+', 2)
order by w.layer, w.languages, w.parameter_set;
