-- Which published figures hold when they are recomputed from the data?
--
-- decides: what to cite, and what to correct
-- grain: one row per claim
-- key: claim_id
-- parameters:
--   verdict | varchar | null | only this verdict; null is all | reproduced, contradicted, not_reproducible
-- columns:
--   claim_id | varchar | - | name in the claims file
--   statement | varchar | - | the claim in words
--   published | varchar | - | value as published
--   recomputed | varchar | - | value that the data give
--   tolerance | double | - | largest difference that counts as equal
--   verdict | varchar | - | reproduced, contradicted or not reproducible
--   query | varchar | - | question that recomputes it
--   parameters | varchar | - | its parameters, JSON
--   source | varchar | - | where the claim stands
--   run_name | varchar | - | run it speaks of
--   note | varchar | - | why
select
    c.claim_id,
    c.statement,
    c.published,
    c.recomputed,
    c.tolerance,
    c.verdict::varchar as verdict,
    c.query,
    c.parameters,
    c.source,
    r.name as run_name,
    c.note
from claim c
left join run r using (run_id)
where $verdict is null or c.verdict::varchar = $verdict
order by c.claim_id;
