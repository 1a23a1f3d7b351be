-- How faithful is a circuit as nodes are added, and what area does that make?
--
-- f(k) = (m(C) - m(empty)) / (m(N) - m(empty)); CPR is the area under f(k), CMD the area under |1 - f(k)|, both by trapezoids over the
-- measured shares (METHODS, section 6).
-- decides: how many nodes a circuit needs
-- grain: one row per curve and share kept
-- main: evaluation
-- key: circuit, language, split, reference, error_mode, share_kept
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   circuit | integer | - | circuit
--   name | varchar | - | its name
--   language | varchar | - | language, or all
--   split | varchar | - | split, or all
--   reference | varchar | - | reference values of non-members
--   error_mode | varchar | - | reconstruction error
--   share_kept | double | share | nodes kept
--   faithfulness | double | share | f at this share
--   control_mean | double | share | f of random circuits
--   control_high | double | share | 97.5 % quantile over these
--   cpr | double | - | area under f over the whole curve
--   cmd | double | - | area under |1 - f| over the whole curve
with curve as (
    select
        circuit,
        language,
        split,
        reference,
        error_mode,
        x,
        avg(value) as value,
        avg(control_mean) as control_mean,
        max(control_high) as control_high
    from evaluation
    where run_id = $run and property = 'faithfulness' and x is not null and value is not null
    group by circuit, language, split, reference, error_mode, x
),
stepped as (
    select
        *,
        x - lag(x) over (partition by circuit, language, split, reference, error_mode order by x) as width,
        lag(value) over (partition by circuit, language, split, reference, error_mode order by x) as before
    from curve
)
select
    s.circuit,
    c.name,
    s.language,
    s.split,
    s.reference,
    s.error_mode,
    s.x as share_kept,
    s.value as faithfulness,
    s.control_mean,
    s.control_high,
    sum(s.width * (s.value + s.before) / 2) over (partition by s.circuit, s.language, s.split, s.reference, s.error_mode) as cpr,
    sum(s.width * (abs(1 - s.value) + abs(1 - s.before)) / 2)
        over (partition by s.circuit, s.language, s.split, s.reference, s.error_mode) as cmd
from stepped s
left join circuit c on c.run_id = $run and c.circuit = s.circuit
order by s.circuit, s.language, s.split, s.reference, s.error_mode, share_kept;
