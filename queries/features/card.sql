-- What is known about one feature?
--
-- Without layer and feature: the one that is active on most prompts. Lists run over languages in the same order.
-- decides: whether a feature is worth a closer look, and what to call it
-- grain: one row, the feature
-- main: feature
-- key: layer, feature
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
--   layer | smallint | null | layer; null is any
--   feature | integer | null | feature; null is any
-- columns:
--   layer | smallint | - | layer
--   feature | integer | - | feature
--   name | varchar | - | feature in text, e.g. L20_F1454
--   label | varchar | - | newest label that was not retired, people's and imported ones before mechanical ones
--   starred | boolean | - | whether somebody starred it
--   n_notes | bigint | notes | notes about it
--   n_tokens | bigint | tokens | tokens looked at
--   n_active | bigint | tokens | of these, active
--   density | double | share | n_active / n_tokens
--   n_prompts_active | integer | prompts | prompts with an active token
--   max_activation | float | activation | largest value
--   mean_activation | float | activation | mean over active tokens
--   sd_activation | float | activation | standard deviation over active tokens
--   encoder_norm | float | - | norm of the encoder row
--   decoder_norm | float | - | norm of the decoder row
--   languages | varchar[] | - | languages
--   rates | double[] | share | share of each language's prompts with the feature active
--   means | double[] | activation | mean activation over each language's tokens
--   roles | varchar[] | - | token roles, most active first
--   role_shares | double[] | share | share of active tokens at each of these roles
--   promoted_tokens | varchar[] | - | tokens its decoder raises most
--   suppressed_tokens | varchar[] | - | tokens it lowers most
--   n_interventions | bigint | interventions | interventions that edit it alone, controls left out
--   n_edges | bigint | edges | accepted edges that begin or end in it
--   neuronpedia | varchar | - | id on Neuronpedia, where its set is published there
with chosen as (
    select *
    from feature
    where run_id = $run and ($layer is null or layer = $layer) and ($feature is null or feature = $feature)
    order by n_prompts_active desc, max_activation desc nulls last, layer, feature
    limit 1
),
spoken as (
    select
        list(l.language order by l.language) as languages,
        list(l.n_prompts_active / nullif(l.n_prompts, 0) order by l.language) as rates,
        list(l.sum_activation / nullif(l.n_tokens, 0) order by l.language) as means
    from feature_language l
    join chosen c using (layer, feature)
    where l.run_id = $run
),
placed as (
    select r.role, sum(r.n_active)::double as n_active
    from feature_role r
    join chosen c using (layer, feature)
    where r.run_id = $run
    group by r.role
),
roles as (
    select
        list(role::varchar order by p.n_active desc, role) as roles,
        list(p.n_active / t.n_active order by p.n_active desc, role) as role_shares
    from placed p
    cross join (select sum(n_active) as n_active from placed) t
),
used as (
    select transcoder_set
    from run
    where run_id = $run
)
select
    c.layer,
    c.feature,
    'L' || c.layer || '_F' || c.feature as name,
    (
        select arg_max(l.text, (l.method <> 'mechanical', l.source_run is not distinct from $run, l.created_at, l.label_id))
        from label l
        where l.layer = c.layer and l.feature = c.feature and not l.retired
            and l.transcoder_set = (select transcoder_set from used)
    ) as label,
    exists (
        select 1
        from star s
        where s.layer = c.layer and s.feature = c.feature and s.transcoder_set = (select transcoder_set from used)
    ) as starred,
    (
        select count(*)
        from note n
        where n.layer = c.layer and n.feature = c.feature and not n.deleted
            and n.transcoder_set = (select transcoder_set from used)
    ) as n_notes,
    c.n_tokens,
    c.n_active,
    c.density,
    c.n_prompts_active,
    c.max_activation,
    c.mean_activation,
    c.sd_activation,
    c.encoder_norm,
    c.decoder_norm,
    s.languages,
    s.rates,
    s.means,
    r.roles,
    r.role_shares,
    c.promoted_tokens,
    c.suppressed_tokens,
    (
        select count(*)
        from intervention_member m
        join intervention i using (run_id, intervention)
        where m.run_id = $run and m.layer = c.layer and m.feature = c.feature and i.n_members = 1 and i.control is null
    ) as n_interventions,
    (
        select count(*)
        from edge e
        where e.run_id = $run
            and e.accepted
            and (
                (e.source_layer = c.layer and e.source_feature = c.feature)
                or (e.target_layer = c.layer and e.target_feature = c.feature)
            )
    ) as n_edges,
    (
        select t.neuronpedia || '/' || c.feature
        from transcoder t
        where t.transcoder_set = (select transcoder_set from used) and t.layer = c.layer
    ) as neuronpedia
from chosen c
cross join spoken s
cross join roles r
order by c.layer, c.feature;
