-- Which features fire for one concept and not for the others?
--
-- Rate over the concept's prompts against the rate over the rest of its behaviour, both with half a prompt added. Without a concept: the first.
-- decides: what to patch or swap to change the concept
-- grain: one row per feature
-- main: feature_behaviour
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   concept | varchar | null | concept; null is the first by name
--   language | varchar | null | only prompts of this language; null is all
--   role | varchar | null | only positions of this role; null is all but sinks | content, operator, quote, template, decision, other
--   layer | smallint | null | only this layer; null is all
--   top | integer | 100 | rows at most
-- columns:
--   concept | varchar | - | the concept
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   n_in | bigint | prompts | prompts of the concept with the feature active
--   n_out | bigint | prompts | other prompts with it active
--   rate_in | double | share | n_in / prompts of the concept
--   rate_out | double | share | n_out / other prompts
--   log_odds | double | log odds | log odds of rate_in against rate_out, smoothed
--   mean_in | double | activation | mean of the largest values on prompts of the concept
with chosen as (
    select behaviour, concept
    from prompt
    where run_id = $run and ($concept is null or concept = $concept)
    order by concept, behaviour
    limit 1
),
asked as (
    select p.prompt
    from prompt p
    join chosen c on c.behaviour = p.behaviour and c.concept = p.concept
    where p.run_id = $run and ($language is null or p.language = $language)
),
size as (
    select count(*) filter (where p.concept = c.concept) as n_in, count(*) filter (where p.concept <> c.concept) as n_out
    from prompt p
    join chosen c using (behaviour)
    where p.run_id = $run and ($language is null or p.language = $language)
),
active as (
    select a.layer, a.feature, a.prompt, max(a.activation) as activation
    from activation_by_prompt a
    left join token t on t.run_id = a.run_id and t.source = 'prompt' and t.item = a.prompt and t.position = a.position
    where a.run_id = $run
        and a.prompt in (select prompt from asked)
        and ($layer is null or a.layer = $layer)
        and coalesce(t.role::varchar, 'other') <> 'sink'
        and ($role is null or t.role::varchar = $role)
    group by a.layer, a.feature, a.prompt
),
inside as (
    select layer, feature, count(*) as n_in, avg(activation::double) as mean_in
    from active
    group by layer, feature
),
everywhere as (
    select layer, feature, sum(n_prompts_active)::bigint as n
    from feature_behaviour
    where run_id = $run
        and behaviour = (select behaviour from chosen)
        and role::varchar is not distinct from $role
        and ($language is null or language = $language)
        and ($layer is null or layer = $layer)
    group by layer, feature
),
counted as (
    select i.layer, i.feature, i.n_in, e.n - i.n_in as n_out, i.mean_in
    from inside i
    join everywhere e using (layer, feature)
)
select
    (select concept from chosen) as concept,
    c.layer,
    c.feature,
    'L' || c.layer || '_F' || c.feature as name,
    c.n_in,
    c.n_out,
    c.n_in / s.n_in as rate_in,
    c.n_out / nullif(s.n_out, 0) as rate_out,
    ln((c.n_in + 0.5) / (s.n_in - c.n_in + 0.5)) - ln((c.n_out + 0.5) / (s.n_out - c.n_out + 0.5)) as log_odds,
    c.mean_in
from counted c
cross join size s
order by log_odds desc, c.layer, c.feature
limit $top;
