-- The same, a row per feature and prompt.
create or replace temp table seen as
select feature, prompt, max(activation) as activation
from seen_role
group by feature, prompt;
