-- With which settings was each graph made?
--
-- decides: whether two graphs may be compared
-- grain: one row per graph and setting
-- main: graph
-- key: graph, setting
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   graph | integer | - | graph
--   name | varchar | - | its name
--   setting | varchar | - | path of the setting, parts joined by points
--   value | varchar | - | its value as JSON
with recursive settings as (
    select graph, name, '' as setting, parameters::json as value
    from graph
    where run_id = $run and parameters is not null
    union all
    select
        s.graph,
        s.name,
        if(s.setting = '', '', s.setting || '.') || k.key as setting,
        json_extract(s.value, '$."' || k.key || '"') as value
    from settings s, unnest(json_keys(s.value)) as k (key)
    where json_type(s.value) = 'OBJECT'
)
select graph, name, setting, value::varchar as value
from settings
where json_type(value) <> 'OBJECT' and setting <> ''
order by graph, setting;
