-- The verdicts in the order of the question that is asked most: its first rows are then read alone.
insert into feature_verdict by name
select *
from verdict
order by run_id, parameter_set, language_a, language_b, n_yes desc, rate_low desc nulls last, layer, feature;
