import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pytest

import atlas as package
from atlas.errors import AtlasError, DamagedError, QueryError, StoreError, VersionError
from atlas.folder import Atlas
from atlas.publish import publish
from atlas.reader import Reader, Result, execute
from tests.atlas.samples import make_atlas, write_run

ATTACKS = [
    "copy (select 1) to '{victim}'",
    "copy prompt from '{victim}'",
    "with x as (copy (select 1) to '{victim}' (use_tmp_file false)) select 1",
    "with x as (copy (select 1) to '{victim}') select * from x",
    "with a as (with b as (copy (select 1) to '{victim}' (use_tmp_file false)) select 1) select * from a",
    "select * from (with x as (copy (select 1) to '{victim}' (use_tmp_file false)) select 1)",
    "with x as (insert into run select * from run returning run_id) select * from x",
    "with x as (delete from run returning run_id) select * from x",
    "with x as (update run set name = 'x' returning run_id) select * from x",
    "from query('with x as (copy (select 1) to ''{victim}'' (use_tmp_file false)) select 1')",
    "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "explain analyze with x as (copy (select 1) to '{victim}' (use_tmp_file false)) select 1",
    "explain analyze copy (select 1) to '{victim}'",
    "explain /* explain */ analyze insert into run select * from run",
    "explain explain copy (select 1) to '{victim}'",
    "attach '{victim}' as other",
    "attach '{folder}/new.duckdb'",
    "detach atlas",
    "use memory",
    "create table t (i integer)",
    "create temp table t as select 1",
    "create or replace view activation as select 1",
    "create macro f() as 1",
    "drop table run",
    "alter table run add column x integer",
    "insert into run select * from run",
    "update run set name = 'x'",
    "delete from run",
    "truncate run",
    "merge into run using run as r on run.run_id = r.run_id when matched then delete",
    "install httpfs",
    "load httpfs",
    "load '{victim}'",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "set memory_limit = '1GB'",
    "set allowed_paths = ['{victim}']",
    "reset threads",
    "pragma enable_external_access = true",
    "pragma database_list",
    "call pragma_version()",
    "checkpoint",
    "vacuum",
    "export database '{folder}/dump'",
    "import database '{folder}/dump'",
    "prepare p as select 1",
    "execute p",
    "begin",
    "select 1; copy (select 1) to '{victim}'",
    "select 1; select 2",
    "/* select */ copy (select 1) to '{victim}'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('{victim}')",
    "select * from read_blob('{victim}')",
    "select * from read_json('{victim}')",
    "select * from read_parquet('{victim}')",
    "select * from parquet_metadata('{victim}')",
    "select * from parquet_kv_metadata('{victim}')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from glob('/etc/*')",
    "select (select count(*) from glob('/*'))",
    "select * from '/etc/passwd'",
    "select * from '{folder}/x.csv'",
    "from 'https://example.org/x.parquet'",
    "select * from host_frame",
    "select getenv('HOME')",
    "select * from duckdb_secrets()",
    "select * from duckdb_logs()",
    "from arrow_scan(1, 2, 3)",
    "from pandas_scan(1)",
    "",
    "   -- nothing",
    "selec 1",
    "select * from no_such_table",
    "select no_such_column from run",
]


@pytest.fixture
def reader(published: Atlas) -> Iterator[Reader]:
    with Reader(published.path) as opened:
        yield opened


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("inline", [True, False])
def test_no_attack_reads_or_changes_a_file(tmp_path: Path, inline: bool) -> None:
    """Every statement of the list is refused with one clear error; the atlas and its surroundings stay byte for byte."""
    atlas = make_atlas(tmp_path / "a.atlas")
    publish(atlas.path, inline_rows=10**9 if inline else 0)
    victim = next((atlas.path / "data" / "activation").rglob("*.parquet"))
    host_frame = pa.table({"secret": [1]})
    before = snapshot(tmp_path)
    with Reader(atlas.path) as reader:
        for attack in ATTACKS:
            statement = attack.format(victim=victim, folder=tmp_path)
            with pytest.raises(QueryError) as caught:
                reader.sql(statement)
            assert caught.value.exit_code == 5, statement
        assert reader.sql("select count(*) from run").rows() == [(1,)]
    assert snapshot(tmp_path) == before
    assert host_frame.num_rows == 1


@pytest.mark.parametrize(
    "query",
    [
        "select * from run",
        "from run",
        "table run",
        "values (1)",
        "(select 1)",
        "with recursive r(i) as (select 1 union all select i + 1 from r where i < 5) select * from r",
        "select 1 union all select 2 order by 1",
        "describe run",
        "show tables",
        "summarize prompt",
        "explain select * from run",
        "explain analyze select * from run",
        "explain (format json) select 1",
        "-- a comment\nexplain /* here */ select 1",
        "select * from run where name in (select name from run)",
        "select unnest([1, 2]), 'copy insert delete'",
        "from generate_series(1, 3) join range(3) as r(x) on true",
        "select layer, feature, lag(activation) over (partition by layer order by prompt) from activation",
        "select * from duckdb_columns() where table_name = 'run'",
        "from prompt pivot (count(*) for language in ('en', 'fr'))",
        "select j->>'a' from (select '{\"a\": 1}'::json as j)",
    ],
)
def test_reading_is_allowed_in_all_its_forms(reader: Reader, query: str) -> None:
    assert len(reader.sql(query)) >= 1


def test_a_result_is_arrow_polars_pandas_and_tuples(reader: Reader) -> None:
    result = reader.sql("select prompt, language from prompt where prompt < $limit order by prompt", {"limit": 2})
    assert isinstance(result, Result)
    assert result.columns == ["prompt", "language"]
    assert list(result) == result.rows() == [(0, "en"), (1, "fr")]
    assert len(result) == 2
    assert result.arrow().num_rows == 2
    assert result.pl().equals(polars.DataFrame({"prompt": [0, 1], "language": ["en", "fr"]}, schema_overrides={"prompt": polars.Int32}))
    assert result.df()["language"].tolist() == ["en", "fr"]
    assert reader.sql("select prompt from prompt where prompt = ?", [3]).rows() == [(3,)]


def test_a_result_outlives_its_reader(published: Atlas) -> None:
    with Reader(published.path) as reader:
        result = reader.sql("select count(*) from prompt")
    assert result.rows() == [(12,)]


def test_a_reader_keeps_its_file_and_is_told_of_a_newer_one(published: Atlas) -> None:
    with Reader(published.path) as old:
        assert not old.newer_available()
        write_run(published, 2)
        publish(published.path)
        assert old.newer_available()
        assert old.sql("select count(*) from run").rows() == [(1,)]
        with Reader(published.path) as new:
            assert new.sql("select count(*) from run").rows() == [(2,)]
            assert (old.manifest, new.manifest) == (1, 2)
        assert old.sql("select count(*) from run").rows() == [(1,)]


def test_a_running_query_can_be_cancelled(reader: Reader) -> None:
    errors: list[AtlasError] = []

    def ask() -> None:
        try:
            reader.sql("select count(*) from range(1000000) a, range(1000000) b where (a.range * b.range) % 7 = 3")
        except AtlasError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        reader.cancel()
        time.sleep(0.01)
    assert [str(error) for error in errors] == ["the query was cancelled"]
    assert reader.sql("select 1").rows() == [(1,)], "the reader goes on"


def test_ctrl_c_stops_a_running_query(reader: Reader) -> None:
    """The engine does not look for signals: the query ran on to its end, and the key was heard after it."""
    said: list[str] = []

    def work(cursor: duckdb.DuckDBPyConnection) -> Result:
        begun.set()
        try:
            return execute(cursor, "select count(*) from range(300000) a, range(100000) b where (a.range * b.range) % 7 = 3")
        except QueryError as error:
            said.append(str(error))
            raise

    begun = threading.Event()
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts the tests may have it ignored
    presser = threading.Thread(target=lambda: (begun.wait(), os.kill(os.getpid(), signal.SIGINT)))
    presser.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            reader.run(work)
    finally:
        signal.signal(signal.SIGINT, heard)
    presser.join()
    assert said == ["the query was cancelled"]
    assert reader.sql("select 1").rows() == [(1,)], "the reader goes on"


def test_threads_ask_at_once(reader: Reader) -> None:
    answers: list[list[tuple[object, ...]]] = []
    threads = [
        threading.Thread(
            target=lambda number=number: answers.append(reader.sql("select $n + count(*) - 12 from prompt", {"n": number}).rows())
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [[(number,)] for number in range(8)]


def test_nothing_published_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="atlas demo"):
        Reader(tmp_path)
    atlas = make_atlas(tmp_path / "a.atlas")
    with pytest.raises(StoreError, match="atlas publish"):
        Reader(atlas.path)


def test_another_schema_version_is_refused(published: Atlas) -> None:
    os.chmod(published.database, 0o644)
    with duckdb.connect(str(published.database)) as connection:
        connection.execute("update atlas set format_version = 99")
    with pytest.raises(VersionError, match="format version 99; this program reads 1"):
        Reader(published.path)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "other database"])
def test_a_file_that_is_no_atlas_is_an_error(published: Atlas, damage: str) -> None:
    os.chmod(published.database, 0o644)
    if damage == "other database":
        published.database.unlink()
        duckdb.connect(str(published.database)).close()
    else:
        content = published.database.read_bytes()
        published.database.write_bytes({"empty": b"", "text": b"hello" * 2000, "truncated": content[: len(content) // 3]}[damage])
    with pytest.raises(DamagedError):
        Reader(published.path).sql("select * from run")


def test_the_package_opens_and_creates_and_imports_nothing_heavy(published: Atlas, tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, atlas; print(sorted({'duckdb', 'pyarrow', 'sqlmodel', 'torch', 'polars'} & set(sys.modules)), atlas.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    with package.open(published.path) as reader:
        assert reader.sql("select count(*) from run").rows() == [(1,)]
    assert package.create(tmp_path / "new.atlas").manifest().number == 0
