-- How many ablated features are bridges, by sign alone and after a test, layer by layer?
--
-- Layer -1 stands for all layers. Layers that are all bridge or no bridge say that the effect belongs to the layer, not to its features.
-- decides: whether a share of bridges may be reported
-- grain: one row per layer
-- main: feature_score
-- key: layer
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   parameter_set | varchar | default | default tests over concepts, per_prompt over prompts as if independent | default, per_prompt
--   q | double | 0.05 | largest q-value
-- columns:
--   layer | smallint | - | layer; -1 is all together
--   n_features | bigint | features | ablated features
--   n_bridges | bigint | features | mean effect below 0 in both languages
--   n_tested | bigint | features | of these, with q of the bridge test at most `q`
--   n_causal | bigint | features | with q beyond matched controls at most `q`
--   share | double | share | n_bridges / n_features
--   pure | boolean | - | several features, and all or none of them are bridges
select
    coalesce(layer, -1)::smallint as layer,
    count(*) filter (where score = 'bridge') as n_features,
    count(*) filter (where score = 'bridge' and flag) as n_bridges,
    count(*) filter (where score = 'bridge' and flag and q_value <= $q) as n_tested,
    count(*) filter (where score = 'causal_bridge' and flag and q_value <= $q) as n_causal,
    count(*) filter (where score = 'bridge' and flag) / nullif(count(*) filter (where score = 'bridge'), 0) as share,
    count(*) filter (where score = 'bridge') > 1
        and count(*) filter (where score = 'bridge' and flag) in (0, count(*) filter (where score = 'bridge')) as pure
from feature_score
where run_id = $run
    and (score = 'bridge' and parameter_set = $parameter_set or score = 'causal_bridge' and parameter_set = 'default')
    and languages = least($language_a, $language_b) || '+' || greatest($language_a, $language_b)
group by grouping sets ((layer), ())
having count(*) > 0
order by layer;
