-- In which layers are features bilingual, by each score?
--
-- decides: which layers to ingest, to patch, or to leave out
-- grain: one row per layer and score
-- main: score_summary
-- key: layer, score
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   parameter_set | varchar | default | parameter set
-- columns:
--   layer | smallint | - | layer
--   score | varchar | - | score
--   n_features | bigint | features | features with a verdict
--   n_bilingual | bigint | features | of these, bilingual by the score
--   share | double | share | n_bilingual / n_features
--   mean_value | double | - | mean value of the score; profile as -1, 0, 1
select
    layer,
    score,
    sum(n_judged)::bigint as n_features,
    sum(n_yes)::bigint as n_bilingual,
    sum(n_yes) / sum(n_judged) as share,
    sum(mean_value * n_judged) / sum(n_judged) as mean_value
from score_summary
where run_id = $run
    and parameter_set = $parameter_set
    and n_judged > 0
    and score in ('language_profile', 'bilingual_rate', 'lape', 'shared_k', 'translation_lift', 'bridge', 'causal_bridge')
    and (
        languages = least($language_a, $language_b) || '+' || greatest($language_a, $language_b)
        or score in ('lape', 'shared_k')
    )
group by layer, score
order by layer, score;
