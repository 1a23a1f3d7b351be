-- Rows of one layer, behaviour and language, from the registered arrays `separated`.
insert into feature_correctness by name
select $run as run_id, $behaviour as behaviour, $language as language, $layer as layer, *
from separated;
