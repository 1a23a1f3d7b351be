-- Which texts each feature promotes, as numbers, for runs that have none yet; in no order, but a layer's rows stand together.
insert into feature_term by name
with promoted as (
    select run_id, layer, feature, unnest(range(len(promoted_tokens)))::smallint as rank, unnest(promoted_tokens) as token
    from feature
    where run_id not in (select run_id from feature_term)
)
select p.run_id, p.layer, p.feature, p.rank, t.term
from promoted p
join term t using (run_id, token);
