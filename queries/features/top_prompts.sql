-- On which prompts is a feature most active, and at which token?
--
-- Without layer and feature: the feature that is active on most prompts. Sinks count only with `sinks`.
-- decides: what a feature stands for, read off its strongest prompts
-- grain: one row per prompt
-- main: activation
-- key: prompt
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | layer; null is any
--   feature | integer | null | feature; null is any
--   language | varchar | null | only prompts of this language; null is all
--   sinks | boolean | false | count the first token too
--   top | integer | 20 | rows at most
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   prompt | integer | - | prompt
--   activation | float | activation | largest value on the prompt
--   position | smallint | - | position of that value
--   token | varchar | - | token there
--   role | varchar | - | what the token does in the prompt
--   n_positions | bigint | positions | positions with the feature active
--   language | varchar | - | language
--   concept | varchar | - | concept asked about
--   template | varchar | - | template
--   correct | boolean | - | whether the model answers it rightly
--   text | varchar | - | the prompt
with chosen as (
    select layer, feature
    from feature
    where run_id = $run and ($layer is null or layer = $layer) and ($feature is null or feature = $feature)
    order by n_prompts_active desc, max_activation desc nulls last, layer, feature
    limit 1
),
active as (
    select a.layer, a.feature, a.prompt, a.position, a.activation, t.token, t.role
    from activation a
    join chosen using (layer, feature)
    left join token t
        on t.run_id = a.run_id and t.source = 'prompt' and t.item = a.prompt and t.position = a.position
    where a.run_id = $run and ($sinks or coalesce(t.role::varchar, 'other') <> 'sink')
),
strongest as (
    select
        layer,
        feature,
        prompt,
        max(activation) as activation,
        arg_max(position, (activation, -position)) as position,
        arg_max(token, (activation, -position)) as token,
        arg_max(role::varchar, (activation, -position)) as role,
        count(*) as n_positions
    from active
    group by layer, feature, prompt
)
select
    s.layer,
    s.feature,
    s.prompt,
    s.activation,
    s.position,
    s.token,
    s.role,
    s.n_positions,
    p.language,
    p.concept,
    p.template,
    b.correct,
    p.text
from strongest s
join prompt p on p.run_id = $run and p.prompt = s.prompt
left join baseline b on b.run_id = $run and b.prompt = s.prompt
where $language is null or p.language = $language
order by s.activation desc, s.prompt
limit $top;
