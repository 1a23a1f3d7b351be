-- How many features each score judged, by layer, for runs without a summary.
insert into score_summary by name
select
    run_id,
    layer,
    score,
    parameter_set,
    languages,
    count(*) as n_features,
    count(flag) as n_judged,
    count(*) filter (where flag) as n_yes,
    avg(value) filter (where flag is not null) as mean_value
from feature_score
where run_id not in (select run_id from score_summary)
group by run_id, layer, score, parameter_set, languages
order by run_id, layer, score, parameter_set, languages;
