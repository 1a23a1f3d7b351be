-- Which features raise or lower a token most?
--
-- From the stored lists of promoted and suppressed tokens: a feature that raises it less than its own top tokens is not found. Without a
-- token: the correct answer of the first prompt.
-- decides: where in the model an answer is written
-- grain: one row per feature and direction
-- main: feature
-- key: layer, feature, direction
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   token | varchar | null | token text, with or without its leading space; null is the first prompt's answer
--   top | integer | 100 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   direction | varchar | - | promoted or suppressed
--   token | varchar | - | the token
--   weight | float | logits | logit weight of the decoder row
--   place | bigint | - | place in the feature's list, 1 is first
--   density | double | share | active tokens / tokens
--   max_activation | float | activation | largest value
with asked as (
    select coalesce($token, (select min_by(text, prompt) from answer where run_id = $run and answer = 0)) as token
),
listed as (
    select layer, feature, 'promoted' as direction, promoted_tokens as tokens, promoted_weights as weights, density, max_activation
    from feature
    where run_id = $run
    union all
    select layer, feature, 'suppressed' as direction, suppressed_tokens as tokens, suppressed_weights as weights, density, max_activation
    from feature
    where run_id = $run
),
found as (
    select
        l.*,
        coalesce(list_position(l.tokens, a.token), list_position(l.tokens, ' ' || a.token)) as place
    from listed l
    cross join asked a
    where list_contains(l.tokens, a.token) or list_contains(l.tokens, ' ' || a.token)
)
select
    layer,
    feature,
    'L' || layer || '_F' || feature as name,
    direction,
    tokens[place] as token,
    weights[place] as weight,
    place::bigint as place,
    density,
    max_activation
from found
order by direction, abs(weights[place]) desc, layer, feature
limit $top;
