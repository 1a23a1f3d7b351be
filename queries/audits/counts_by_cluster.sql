-- feature_cluster is what the raw activations say: for all features of a small atlas, for every n-th of a large one.
with every as (
    select greatest(1, count(*) // 500000) as n from activation
),
asked as (
    select run_id, prompt, language, coalesce(cluster, concept) as cluster
    from prompt
    where run_id in (select run_id from feature_cluster)
),
active as (
    select a.run_id, a.layer, a.feature, a.prompt, max(a.activation) as activation
    from activation a
    anti join (select run_id, item as prompt, position from token where source = 'prompt' and role = 'sink') s
        using (run_id, prompt, position)
    where a.feature % (select n from every) = 0
    group by a.run_id, a.layer, a.feature, a.prompt
),
counted as (
    select
        run_id,
        layer,
        feature,
        language,
        cluster,
        count(*) as n,
        count(*) / sum(count(*)) over (partition by run_id, layer, feature, language) as purity,
        max(activation) as max_activation
    from active
    join asked using (run_id, prompt)
    group by run_id, layer, feature, language, cluster
),
strongest as (
    select *
    from counted
    qualify row_number() over (partition by run_id, layer, feature, language order by n desc, cluster) = 1
)
select
    run_id,
    layer,
    feature,
    language,
    r.cluster,
    f.cluster as stored_cluster,
    r.n,
    f.n_prompts_active as stored_n,
    r.max_activation,
    f.max_activation as stored_max_activation
from strongest r
full join (select * from feature_cluster where feature % (select n from every) = 0) f using (run_id, layer, feature, language)
where r.cluster is distinct from f.cluster
    or r.n is distinct from f.n_prompts_active
    or r.max_activation is distinct from f.max_activation
    or abs(r.purity - f.purity) > 1e-12
order by run_id, layer, feature, language
limit 20;
