-- Where does a number come from: which tables did a run write, and how much?
--
-- decides: which stage of which run to look at when a number is doubted
-- grain: one row per run and table
-- key: run_id, table_name
-- parameters:
--   table_name | varchar | null | only this table; null is all
-- columns:
--   run_id | varchar | - | run
--   name | varchar | - | name in the plan
--   kind | varchar | - | ingest or import
--   table_name | varchar | - | table of schema.sql
--   n_rows | bigint | rows | rows
--   n_shards | integer | shards | shards
--   n_bytes | bigint | bytes | bytes of Parquet
--   plan_hash | varchar | - | SHA-256 of the plan
--   transcoder_set | varchar | - | dictionaries
--   code_version | varchar | - | package that wrote it
select
    t.run_id,
    r.name,
    r.kind::varchar as kind,
    t.table_name,
    t.n_rows,
    t.n_shards,
    t.n_bytes,
    r.plan_hash,
    r.transcoder_set,
    r.code_version
from run_table t
join run r using (run_id)
where $table_name is null or t.table_name = $table_name
order by r.finished_at desc nulls last, t.run_id, t.table_name;
