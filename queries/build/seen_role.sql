-- One layer of one run, a row per feature, prompt and token role: the largest activation there, sinks left out. Where an import has no
-- token of a position, the role is null.
create or replace temp table seen_role as
select a.feature, a.prompt, t.role, max(a.activation) as activation
from activation a
left join token t
    on t.run_id = a.run_id and t.source = 'prompt' and t.item = a.prompt and t.position = a.position
where a.run_id = $run and a.layer = $layer and coalesce(t.role::varchar, 'other') <> 'sink'
group by a.feature, a.prompt, t.role;
