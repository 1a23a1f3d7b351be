-- Which type of computation does the evidence support for each behaviour, when every test runs on every behaviour?
--
-- A test that supports its type on every behaviour says nothing about any: read the columns of a type downwards first.
-- decides: what to call a behaviour's mechanism
-- grain: one row per behaviour and computation type
-- main: evaluation
-- key: behaviour, computation_type
-- parameters:
--   run | varchar | null | run, by id or name; null is the newest complete one with rows of the main table
-- columns:
--   behaviour | varchar | - | behaviour
--   written_for | varchar | - | type that the behaviour was written to exercise
--   computation_type | varchar | - | type that was tested
--   n_tests | bigint | tests | tests of the type on this behaviour
--   n_for | bigint | tests | evidence for
--   n_against | bigint | tests | evidence against
--   n_undecided | bigint | tests | neither: an interval leaves it open, or it could not be measured
--   mean_value | double | - | mean measured value
--   mean_control | double | - | mean over controls
--   smallest_p | double | - | smallest p-value; null where tests rest on intervals, as those of an ingest do
--   for_elsewhere | double | share | share of other behaviours' tests of this type that support it
--   fits_every | boolean | - | whether the test supports its type on every behaviour (of two or more) and so tells none apart
--   evidence | varchar | - | what was done, what came out, and what counts as evidence for
with tests as (
    select behaviour, computation_type, value, control_mean, p_value, supports, note
    from evaluation
    where run_id = $run and computation_type is not null and behaviour is not null
),
grouped as (
    select
        behaviour,
        computation_type,
        count(*) as n_tests,
        count(*) filter (where supports) as n_for,
        count(*) filter (where not supports) as n_against,
        count(*) filter (where supports is null) as n_undecided,
        avg(value) as mean_value,
        avg(control_mean) as mean_control,
        min(p_value) as smallest_p,
        string_agg(note, '; ' order by note) as evidence
    from tests
    group by behaviour, computation_type
)
select
    g.behaviour,
    b.computation_type::varchar as written_for,
    g.computation_type::varchar as computation_type,
    g.n_tests,
    g.n_for,
    g.n_against,
    g.n_undecided,
    g.mean_value,
    g.mean_control,
    g.smallest_p,
    (sum(g.n_for) over (partition by g.computation_type) - g.n_for)
        / nullif(sum(g.n_tests) over (partition by g.computation_type) - g.n_tests, 0) as for_elsewhere,
    case
        when count(*) over (partition by g.computation_type) > 1
            then sum(g.n_for) over (partition by g.computation_type) = sum(g.n_tests) over (partition by g.computation_type)
    end as fits_every,
    g.evidence
from grouped g
left join behaviour b on b.run_id = $run and b.behaviour = g.behaviour
order by g.behaviour, g.computation_type;
