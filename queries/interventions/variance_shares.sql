-- To what do the effects of single-feature ablations belong: the layer, the prompt, or the feature?
--
-- Shares of the total sum of squares: between layers, between prompts, between (prompt, layer) cells, and between features within a cell;
-- the last part is the mean square within cells of several features over the mean square of all, since a cell of one has nothing within.
-- Hardly any variance within cells means that all features of a layer do the same on a prompt: the edit went to the wrong place.
-- decides: whether single-feature effects may be read as effects of features
-- grain: one row per rule, control and split of the variance
-- main: outcome
-- key: rule, part
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   controls | boolean | false | look at the controls' effects instead
-- columns:
--   rule | varchar | - | rule of the interventions
--   part | varchar | - | layer, prompt, prompt_and_layer, feature_within_cell or feature_within_shared_cell
--   share | double | share | of the total sum of squares
--   n_effects | bigint | effects | effects of one feature on one prompt
--   n_groups | bigint | groups | groups of the part; within cells the degrees of freedom
--   sound | boolean | - | whether all interventions are free of known faults
with effects as (
    select i.rule, m.layer, o.prompt, i.sound, o.effect::double as effect
    from outcome o
    join intervention i using (run_id, intervention)
    join intervention_member m using (run_id, intervention)
    where o.run_id = $run
        and i.n_members = 1
        and i.rule not in ('no_op', 'swap')
        and (i.control is not null) = $controls
),
whole as (
    select
        rule,
        count(*) as n,
        bool_and(sound) as sound,
        var_pop(effect) * count(*) as squares,
        avg(effect) as mean
    from effects
    group by rule
),
cells as (
    select rule, layer, prompt, count(*) as n, avg(effect) as mean, var_pop(effect) * count(*) as squares_within
    from effects
    group by rule, layer, prompt
),
layers as (
    select rule, layer, sum(n) as n, sum(n * mean) / sum(n) as mean
    from cells
    group by rule, layer
),
prompts as (
    select rule, prompt, sum(n) as n, sum(n * mean) / sum(n) as mean
    from cells
    group by rule, prompt
),
parts as (
    select l.rule, 'layer' as part, sum(l.n * (l.mean - w.mean) ** 2) as squares, count(*) as n_groups
    from layers l
    join whole w using (rule)
    group by l.rule
    union all
    select p.rule, 'prompt' as part, sum(p.n * (p.mean - w.mean) ** 2) as squares, count(*) as n_groups
    from prompts p
    join whole w using (rule)
    group by p.rule
    union all
    select c.rule, 'prompt_and_layer' as part, sum(c.n * (c.mean - w.mean) ** 2) as squares, count(*) as n_groups
    from cells c
    join whole w using (rule)
    group by c.rule
),
complete as (
    select rule, part, squares, n_groups from parts
    union all
    select rule, 'feature_within_cell' as part, sum(squares_within) as squares, (sum(n) - count(*))::bigint as n_groups
    from cells
    group by rule
    union all
    select
        c.rule,
        'feature_within_shared_cell' as part,
        sum(c.squares_within) / sum(c.n) * any_value(w.n) as squares,
        (sum(c.n) - count(*))::bigint as n_groups
    from cells c
    join whole w using (rule)
    where c.n > 1
    group by c.rule
)
select
    c.rule::varchar as rule,
    c.part,
    c.squares / nullif(w.squares, 0) as share,
    w.n as n_effects,
    c.n_groups,
    w.sound
from complete c
join whole w using (rule)
order by c.rule, c.part;
