-- Where the features of one layer fire: prompts by feature, at all positions but the sink, at content and at decision positions.
select
    a.feature,
    a.prompt,
    count(*)::integer as n_active,
    (count(*) filter (where t.role = 'content'))::integer as n_content,
    (count(*) filter (where t.role = 'decision'))::integer as n_decision,
    sum(a.activation::double) as sum_activation
from activation a
left join token t
    on t.run_id = a.run_id and t.source = 'prompt' and t.item = a.prompt and t.position = a.position
where a.run_id = $run and a.layer = $layer and coalesce(t.role::varchar, 'other') <> 'sink'
group by a.feature, a.prompt
order by a.feature, a.prompt;
