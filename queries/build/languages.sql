-- Languages that one run has counts in, pseudo-languages left out.
select distinct language
from feature_language
where run_id = $run and language <> 'xx'
order by language;
