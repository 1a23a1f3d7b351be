-- Which features that fire often has nobody labelled?
--
-- Mechanical labels do not count, and stand beside as what is known.
-- decides: which features to look at, or to send to a language model, next
-- grain: one row per feature
-- main: feature
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | only this layer; null is all
--   density | double | 1 | density at most
--   top | integer | 50 | features at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   n_prompts_active | integer | prompts | prompts or documents it fires in
--   density | double | share | active tokens / tokens
--   max_activation | float | activation | largest value
--   mechanical | varchar | - | its mechanical label
with labelled as (
    select
        l.layer,
        l.feature,
        bool_or(l.method <> 'mechanical') as is_written,
        arg_max(l.text, (l.source_run is not distinct from $run, l.created_at, l.label_id)) filter (where l.method = 'mechanical') as mechanical
    from label l
    join run r on r.run_id = $run and r.transcoder_set = l.transcoder_set
    where not l.retired
    group by l.layer, l.feature
)
select
    f.layer,
    f.feature,
    'L' || f.layer || '_F' || f.feature as name,
    f.n_prompts_active,
    f.density,
    f.max_activation,
    l.mechanical
from feature f
left join labelled l on l.layer = f.layer and l.feature = f.feature
where f.run_id = $run
    and not coalesce(l.is_written, false)
    and coalesce(f.n_active, 1) > 0
    and coalesce(f.density, 0) <= $density
    and ($layer is null or f.layer = $layer)
order by f.n_prompts_active desc nulls last, f.density desc nulls last, f.layer, f.feature
limit $top;
