-- What is known about each of these features?
--
-- A short card for many features at once: what `atlas ask-text` joins with what fires on a text. Scores are those of one parameter set, in
-- the order of their names; one that speaks of other languages than all of the run's carries them in its name after a point.
-- decides: which of many features to look at
-- grain: one row per feature
-- main: feature
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   features | varchar | null | names joined by commas, e.g. L3_F17,L4_F20; null is every feature that fires
--   parameter_set | varchar | default | parameter set of the scores
--   top | integer | 1000000 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   label | varchar | - | newest label that was not retired, people's and imported ones before mechanical ones
--   n_active | bigint | tokens | tokens of the run with the feature active
--   density | double | share | n_active / n_tokens
--   max_activation | float | activation | largest value in the run
--   mean_activation | float | activation | mean over active tokens
--   sd_activation | float | activation | standard deviation over active tokens
--   promoted_tokens | varchar[] | - | tokens its decoder raises most
--   languages | varchar[] | - | languages with counts
--   rates | double[] | share | share of each language's prompts with the feature active
--   scores | varchar[] | - | names of its scores
--   score_values | double[] | - | their values, null where support is too small
with wanted as (
    select distinct
        split_part(split_part(upper(trim(part)), '_F', 1), 'L', 2)::smallint as layer,
        split_part(upper(trim(part)), '_F', 2)::integer as feature
    from (select unnest(string_split($features, ',')) as part)
    where $features is not null
),
here as (
    select f.*
    from feature f
    where f.run_id = $run
        and (
            ($features is null and f.n_active > 0)
            or ($features is not null and (f.layer, f.feature) in (select (layer, feature) from wanted))
        )
    order by f.layer, f.feature
    limit $top
),
spoken as (
    select
        l.layer,
        l.feature,
        list(l.language order by l.language) as languages,
        list(l.n_prompts_active / nullif(l.n_prompts, 0) order by l.language) as rates
    from feature_language l
    semi join here using (layer, feature)
    where l.run_id = $run and l.language <> 'xx'
    group by l.layer, l.feature
),
scored as (
    select
        s.layer,
        s.feature,
        s.value,
        s.score || case when s.languages = array_to_string(p.languages, '+') then '' else '.' || s.languages end as score
    from feature_score s
    join spoken p using (layer, feature)
    where s.run_id = $run and s.parameter_set = $parameter_set
),
values_of as (
    select layer, feature, list(score order by score) as scores, list(value order by score) as score_values
    from scored
    group by layer, feature
),
named as (
    select
        l.layer,
        l.feature,
        arg_max(l.text, (l.method <> 'mechanical', l.source_run is not distinct from $run, l.created_at, l.label_id)) as label
    from label l
    semi join here using (layer, feature)
    where not l.retired and l.transcoder_set = (select r.transcoder_set from run r where r.run_id = $run)
    group by l.layer, l.feature
)
select
    f.layer,
    f.feature,
    'L' || f.layer || '_F' || f.feature as name,
    n.label,
    f.n_active,
    f.density,
    f.max_activation,
    f.mean_activation,
    f.sd_activation,
    f.promoted_tokens,
    s.languages,
    s.rates,
    v.scores,
    v.score_values
from here f
left join spoken s using (layer, feature)
left join values_of v using (layer, feature)
left join named n using (layer, feature)
order by f.layer, f.feature;
