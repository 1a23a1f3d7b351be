-- In which windows of text is a feature strongest, in which weaker, and in which silent?
--
-- Without layer and feature: the feature that is active on most prompts. The window's tokens are looked up, no text is copied.
-- decides: whether a label holds over the whole range of a feature's activations
-- grain: one row per kind of context and rank
-- main: context
-- key: kind, rank
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | layer; null is any
--   feature | integer | null | feature; null is any
--   kind | varchar | null | top, quantile or non_activating; null is all | top, quantile, non_activating
--   top | integer | 20 | rows at most of each kind
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   kind | varchar | - | how the context was chosen
--   rank | smallint | - | 0 is strongest
--   activation | float | activation | value at the token
--   quantile | smallint | decile | decile of positive activations, 9 is strongest
--   language | varchar | - | language
--   source | varchar | - | prompt or document
--   item | integer | - | its ordinal
--   position | smallint | - | position of the token
--   token | varchar | - | the token
--   window_tokens | varchar[] | - | tokens of the window
--   window_activations | float[] | activation | value at each of them
with chosen as (
    select layer, feature
    from feature
    where run_id = $run and ($layer is null or layer = $layer) and ($feature is null or feature = $feature)
    order by n_prompts_active desc, max_activation desc nulls last, layer, feature
    limit 1
),
picked as (
    select c.*
    from context c
    join chosen using (layer, feature)
    where c.run_id = $run and ($kind is null or c.kind::varchar = $kind)
    qualify row_number() over (partition by c.kind order by c.rank) <= $top
),
windows as (
    select
        p.kind,
        p.rank,
        list(t.token order by t.position) as tokens,
        max(t.token) filter (where t.position = p.position) as token
    from picked p
    join token t
        on t.run_id = $run
        and t.source = p.source
        and t.item = p.item
        and t.position between p.window_start and p.window_end
    group by p.kind, p.rank
)
select
    p.layer,
    p.feature,
    p.kind::varchar as kind,
    p.rank,
    p.activation,
    p.quantile,
    p.language,
    p.source::varchar as source,
    p.item,
    p.position,
    w.token,
    w.tokens as window_tokens,
    p.window_activations
from picked p
left join windows w on w.kind = p.kind and w.rank = p.rank
order by kind, p.rank;
