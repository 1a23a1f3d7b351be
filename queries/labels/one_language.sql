-- Which labels hold in one language only?
--
-- A label is listed where its scores in the two languages, from the same scorer, differ by more than `gap` with 95 % confidence (Newcombe
-- 1998, method 10). A label written from one language can miss what the feature does in another.
-- decides: which labels must not be used for a claim about several languages
-- grain: one row per label, score and version of the scoring prompt
-- main: feature
-- key: label_id, score, prompt_version
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   score | varchar | null | how it was scored; null is all | detection, fuzzing
--   method | varchar | null | how labels were made; null is all | manual, mechanical, imported, language_model
--   gap | double | 0 | smallest difference that the interval leaves no doubt about
--   top | integer | 100 | rows at most
-- columns:
--   label_id | varchar | - | label
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   text | varchar | - | the label
--   method | varchar | - | how it was made
--   score | varchar | - | detection or fuzzing
--   holds_in | varchar | - | language in which it scores higher
--   value_a | double | share | balanced accuracy in the first language
--   value_b | double | share | balanced accuracy in the second language
--   difference | double | share | value_a - value_b
--   difference_low | double | share | 95 % interval
--   difference_high | double | share | 95 % interval
--   n_a | integer | examples | examples of the first language
--   n_b | integer | examples | examples of the second language
--   scorer | varchar | - | model that judged; null is a rule
--   prompt_version | varchar | - | version of the scoring prompt, scorer, run of the examples
with paired as (
    select
        label_id,
        a.score,
        a.prompt_version,
        a.model as scorer,
        a.value as value_a,
        b.value as value_b,
        a.n_examples as n_a,
        b.n_examples as n_b,
        a.value - b.value - sqrt((a.value - a.ci_low) ** 2 + (b.ci_high - b.value) ** 2) as difference_low,
        a.value - b.value + sqrt((a.ci_high - a.value) ** 2 + (b.value - b.ci_low) ** 2) as difference_high
    from label_score a
    join label_score b using (label_id, score, prompt_version)
    where a.language = $language_a and b.language = $language_b and ($score is null or score = $score)
)
select
    l.label_id,
    l.layer,
    l.feature,
    'L' || l.layer || '_F' || l.feature as name,
    l.text,
    l.method::varchar as method,
    p.score,
    case when p.value_a > p.value_b then $language_a else $language_b end as holds_in,
    p.value_a,
    p.value_b,
    p.value_a - p.value_b as difference,
    p.difference_low,
    p.difference_high,
    p.n_a,
    p.n_b,
    p.scorer,
    p.prompt_version
from paired p
join label l using (label_id)
join run r on r.run_id = $run and r.transcoder_set = l.transcoder_set
where not l.retired
    and (p.difference_low > $gap or p.difference_high < -$gap)
    and ($method is null or l.method::varchar = $method)
order by abs(p.value_a - p.value_b) desc, l.layer, l.feature, l.label_id, p.score, p.prompt_version
limit $top;
