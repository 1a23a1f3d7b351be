-- Which features are coherent enough to be worth a label?
--
-- Intruder detection: of five texts with marks, which is the one that the feature does not fire on? It needs no label; `chance` is what
-- guessing gives.
-- decides: which features to label first, and which have nothing that a label could say
-- grain: one row per feature and language
-- main: intruder_score
-- key: layer, feature, language, prompt_version
-- parameters:
--   run | varchar | null | scoring run, by id or name; null is the newest complete one with rows of the main table
--   language | varchar | null | only this language; null is all
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   language | varchar | - | language of the texts
--   value | double | share | trials in which the intruder was found
--   chance | double | share | what guessing gives
--   ci_low | double | share | 95 % Wilson interval over trials
--   ci_high | double | share | 95 % Wilson interval over trials
--   n_trials | integer | trials | trials
--   above_chance | boolean | - | whether the interval lies above chance
--   scorer | varchar | - | model that judged; null: the likeness of marked tokens
--   prompt_version | varchar | - | version of the question, scorer, run of the texts
select
    i.layer,
    i.feature,
    'L' || i.layer || '_F' || i.feature as name,
    i.language,
    i.value,
    i.chance,
    i.ci_low,
    i.ci_high,
    i.n_trials,
    i.ci_low > i.chance as above_chance,
    i.model as scorer,
    i.prompt_version
from intruder_score i
where i.run_id = $run and ($language is null or i.language = $language) and ($layer is null or i.layer = $layer)
order by i.value desc, i.layer, i.feature, i.language, i.prompt_version
limit $top;
