-- What have people and programs called features, and how good are the labels in each language?
--
-- Mechanical labels are those counted on this run's texts; others belong to the dictionary, whatever run they were written from.
-- decides: which labels to trust in a figure
-- grain: one row per label
-- main: feature
-- key: label_id
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   contains | varchar | null | only labels with this text; null is all
--   method | varchar | null | how labels were made; null is all | manual, mechanical, imported, language_model
--   retired | boolean | false | show labels that were replaced too
--   top | integer | 100 | rows at most
-- columns:
--   label_id | varchar | - | label
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   text | varchar | - | the label
--   method | varchar | - | how it was made
--   model | varchar | - | model that wrote it
--   author | varchar | - | person or tool
--   scores | varchar[] | - | score and language of each measurement
--   accuracies | double[] | share | balanced accuracy of each
--   density | double | share | active tokens / tokens in this run
select
    l.label_id,
    l.layer,
    l.feature,
    'L' || l.layer || '_F' || l.feature as name,
    l.text,
    l.method::varchar as method,
    l.model,
    l.author,
    list(s.score || ' ' || s.language order by s.score, s.language, s.prompt_version)
        filter (where s.label_id is not null) as scores,
    list(s.value order by s.score, s.language, s.prompt_version) filter (where s.label_id is not null) as accuracies,
    any_value(f.density) as density
from label l
join run r on r.run_id = $run and r.transcoder_set = l.transcoder_set
left join label_score s on s.label_id = l.label_id
left join feature f on f.run_id = r.run_id and f.layer = l.layer and f.feature = l.feature
where (l.method <> 'mechanical' or l.source_run is null or l.source_run = $run)
    and ($contains is null or l.text ilike '%' || $contains || '%') and ($method is null or l.method::varchar = $method)
    and ($retired or not l.retired)
group by l.label_id, l.layer, l.feature, l.text, l.method, l.model, l.author
order by l.layer, l.feature, l.label_id
limit $top;
