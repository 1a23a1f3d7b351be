-- Which features are active on a prompt, where, and how strongly?
--
-- Without a prompt: the first one.
-- decides: which features to ablate to find what drives an answer
-- grain: one row per feature
-- main: activation_by_prompt
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   prompt | integer | 0 | prompt
--   position | smallint | null | only this position; null is all
--   layer | smallint | null | only this layer; null is all
--   sinks | boolean | false | count the first token too
--   compare | boolean | true | look up density, largest value and promoted tokens too: a scan of table feature
--   top | integer | 200 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   activation | float | activation | largest value on the prompt
--   position | smallint | - | position of that value
--   token | varchar | - | token there
--   role | varchar | - | what the token does in the prompt
--   n_positions | bigint | positions | positions with the feature active
--   density | double | share | active tokens / tokens over the whole run; null without `compare`
--   relative | double | share | activation / the feature's largest
--   promoted_tokens | varchar[] | - | tokens its decoder raises most
with active as (
    select a.layer, a.feature, a.position, a.activation, t.token, t.role
    from activation_by_prompt a
    left join token t
        on t.run_id = a.run_id and t.source = 'prompt' and t.item = a.prompt and t.position = a.position
    where a.run_id = $run
        and a.prompt = $prompt
        and ($position is null or a.position = $position)
        and ($layer is null or a.layer = $layer)
        and ($sinks or coalesce(t.role::varchar, 'other') <> 'sink')
),
strongest as materialized (
    select
        layer,
        feature,
        max(activation) as activation,
        arg_max(position, (activation, -position)) as position,
        arg_max(token, (activation, -position)) as token,
        arg_max(role::varchar, (activation, -position)) as role,
        count(*) as n_positions
    from active
    group by layer, feature
    order by activation desc, layer, feature
    limit $top
),
-- Row ids first: the lists of tokens are then read for these features alone.
known as (
    select *
    from feature
    where rowid in (
        select f.rowid
        from feature f
        join strongest s on s.layer = f.layer and s.feature = f.feature
        where f.run_id = $run and $compare and ($layer is null or f.layer = $layer)
    )
)
select
    s.layer,
    s.feature,
    'L' || s.layer || '_F' || s.feature as name,
    s.activation,
    s.position,
    s.token,
    s.role,
    s.n_positions,
    f.density,
    s.activation::double / f.max_activation as relative,
    f.promoted_tokens
from strongest s
left join known f on f.layer = s.layer and f.feature = s.feature
order by s.activation desc, s.layer, s.feature;
