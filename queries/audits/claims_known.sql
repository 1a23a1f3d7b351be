-- A claim about a run speaks of one that is here.
select claim_id, run_id
from claim
where run_id is not null and run_id not in (select run_id from run)
order by claim_id
limit 20;
