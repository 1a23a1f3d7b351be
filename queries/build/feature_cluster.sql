-- The cluster of concepts with most of a feature's prompts, by language, for one layer.
insert into feature_cluster by name
with asked as (
    select prompt, language, coalesce(cluster, concept) as cluster
    from prompt
    where run_id = $run
),
size as (
    select language, cluster, count(*)::integer as n_prompts
    from asked
    group by language, cluster
),
counted as (
    select s.feature, a.language, a.cluster, count(*) as n, max(s.activation) as max_activation
    from seen s
    join asked a using (prompt)
    group by s.feature, a.language, a.cluster
),
strongest as (
    select
        feature,
        language,
        min_by(cluster, (-n, cluster)) as cluster,
        max(n)::integer as n_prompts_active,
        max(n) / sum(n) as purity,
        min_by(max_activation, (-n, cluster)) as max_activation
    from counted
    group by feature, language
)
select $run as run_id, $layer as layer, s.feature, s.language, s.cluster, z.n_prompts, s.n_prompts_active, s.purity, s.max_activation
from strongest s
join size z using (language, cluster)
order by s.feature, s.language;
