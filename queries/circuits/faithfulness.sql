-- How faithful is a circuit as nodes are added, how little is left without them, and what area does that make?
--
-- f(k) = (m(C) - m(empty)) / (m(N) - m(empty)); CPR is the area under f(k), CMD the area under |1 - f(k)|, both by trapezoids over the
-- measured shares; completeness is f of everything else, N without C (METHODS, section 6): a circuit that has all of the mechanism takes
-- it down to 0 early, one that another mechanism can stand in for does not.
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
--   completeness | double | share | f of everything but these nodes; low is good
--   completeness_control_mean | double | share | the same of random circuits
--   completeness_control_low | double | share | 2.5 % quantile over these
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
        avg(value) filter (where property = 'faithfulness') as value,
        avg(control_mean) filter (where property = 'faithfulness') as control_mean,
        max(control_high) filter (where property = 'faithfulness') as control_high,
        avg(value) filter (where property = 'completeness') as completeness,
        avg(control_mean) filter (where property = 'completeness') as completeness_control_mean,
        min(control_low) filter (where property = 'completeness') as completeness_control_low
    from evaluation
    where run_id = $run and property in ('faithfulness', 'completeness') and x is not null and value is not null
    group by circuit, language, split, reference, error_mode, x
),
stepped as (
    select
        *,
        x - lag(x) over (partition by circuit, language, split, reference, error_mode order by x) as width,
        lag(value) over (partition by circuit, language, split, reference, error_mode order by x) as before
    from curve
    where value is not null
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
    s.completeness,
    s.completeness_control_mean,
    s.completeness_control_low,
    sum(s.width * (s.value + s.before) / 2) over (partition by s.circuit, s.language, s.split, s.reference, s.error_mode) as cpr,
    sum(s.width * (abs(1 - s.value) + abs(1 - s.before)) / 2)
        over (partition by s.circuit, s.language, s.split, s.reference, s.error_mode) as cmd
from stepped s
left join circuit c on c.run_id = $run and c.circuit = s.circuit
order by s.circuit, s.language, s.split, s.reference, s.error_mode, share_kept;
