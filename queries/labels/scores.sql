-- How well do labels say where their features fire, in each language?
--
-- Balanced accuracy over texts on which the feature fires and texts of the same language on which it does not; .5 is what a label that
-- says nothing has.
-- decides: which labels to trust, and in which language
-- grain: one row per label, score, language and version of the scoring prompt
-- main: feature
-- key: label_id, score, language, prompt_version
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   score | varchar | null | how it was scored; null is all | detection, fuzzing
--   language | varchar | null | only this language; null is all
--   method | varchar | null | how labels were made; null is all | manual, mechanical, imported, language_model
--   layer | smallint | null | only this layer; null is all
--   feature | integer | null | only this feature; null is all
--   top | integer | 100 | rows at most
-- columns:
--   label_id | varchar | - | label
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   text | varchar | - | the label
--   method | varchar | - | how it was made
--   score | varchar | - | detection or fuzzing
--   language | varchar | - | language of the texts
--   value | double | share | balanced accuracy
--   ci_low | double | share | 95 % interval over texts
--   ci_high | double | share | 95 % interval over texts
--   sensitivity | double | share | texts with the feature that were recognised
--   specificity | double | share | texts without it that were recognised
--   auc | double | share | area under the ROC curve, where the scorer gives probabilities
--   n_examples | integer | examples | examples
--   scorer | varchar | - | model that judged; null is a rule
--   prompt_version | varchar | - | version of the scoring prompt, scorer, run of the examples
select
    l.label_id,
    l.layer,
    l.feature,
    'L' || l.layer || '_F' || l.feature as name,
    l.text,
    l.method::varchar as method,
    s.score,
    s.language,
    s.value,
    s.ci_low,
    s.ci_high,
    s.sensitivity,
    s.specificity,
    s.auc,
    s.n_examples,
    s.model as scorer,
    s.prompt_version
from label_score s
join label l using (label_id)
join run r on r.run_id = $run and r.transcoder_set = l.transcoder_set
where not l.retired
    and ($score is null or s.score = $score)
    and ($language is null or s.language = $language)
    and ($method is null or l.method::varchar = $method)
    and ($layer is null or l.layer = $layer)
    and ($feature is null or l.feature = $feature)
order by s.value desc, l.layer, l.feature, l.label_id, s.score, s.language, s.prompt_version
limit $top;
