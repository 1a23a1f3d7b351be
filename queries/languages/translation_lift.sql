-- Which features fire on a prompt and on its translation more often than chance puts them together?
--
-- A rate cannot tell a feature of the concept from one of the template: the lift over concepts dealt anew can. A feature of a single concept
-- among G can have no p below about 1 / G, because one deal keeps a concept's templates together.
-- decides: which features carry meaning over from one language to another
-- grain: one row per feature
-- main: feature_score
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   language_a | varchar | en | first language
--   language_b | varchar | fr | second language
--   p | double | 1 | largest p-value
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   lift | double | ratio | P(active in one, given the other) / P(active in one)
--   null_mean | double | ratio | mean lift with concepts dealt anew
--   null_high | double | ratio | 95 % quantile of the same
--   phi | double | - | phi coefficient of the same table
--   p_value | double | - | one-sided
--   q_value | double | - | Benjamini-Hochberg over the run's features
--   n_pairs | bigint | pairs | translation pairs
select
    t.layer,
    t.feature,
    'L' || t.layer || '_F' || t.feature as name,
    t.value as lift,
    t.null_mean,
    t.null_high,
    phi.value as phi,
    t.p_value,
    t.q_value,
    t.n as n_pairs
from feature_score t
left join feature_score phi
    on phi.run_id = $run
    and phi.score = 'translation_phi'
    and phi.parameter_set = t.parameter_set
    and phi.languages = t.languages
    and phi.layer = t.layer
    and phi.feature = t.feature
where t.run_id = $run
    and t.score = 'translation_lift'
    and t.parameter_set = 'default'
    and t.languages = least($language_a, $language_b) || '+' || greatest($language_a, $language_b)
    and t.value is not null
    and t.p_value <= $p
    and ($layer is null or t.layer = $layer)
order by t.p_value, t.value desc, t.layer, t.feature
limit $top;
