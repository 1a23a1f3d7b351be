-- Rows of one score, from the registered arrays `scored`.
insert into feature_score by name
select
    $run as run_id,
    layer,
    feature,
    $score as score,
    $parameter_set as parameter_set,
    $languages as languages,
    value,
    flag,
    null_mean,
    null_high,
    p_value,
    q_value,
    n
from scored;
