"""The data package: what it refuses, what it says when an atlas cannot be opened, how it stops."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from atlas.errors import AtlasError, DamagedError, LockedError, QueryError, StoreError, VersionError
from atlas.settings import DATABASE, FORMAT_VERSION
from tui.data import Cancelled, Data, Measure, Read, Statement, Where
from tui.data.pages import find_feature, open_features
from tui.session import Session

ATTACKS = (
    "copy (select 1) to '{out}'",
    "copy feature to '{out}'",
    "copy feature from '{shard}'",
    "explain copy (select 1) to '{out}'",
    "explain analyze copy (select 1) to '{out}'",
    "explain (format json) copy (select 1) to '{out}'",
    "/* x */ explain -- y\n analyze create table t as select 1",
    "attach '{out}' as other",
    "attach '{shard}' as other",
    "select * from read_csv('/etc/hostname')",
    "select * from read_text('/etc/hostname')",
    "select * from read_blob('{database}')",
    "select * from read_parquet('{shard}')",
    "with x as (copy (select 1) to '{out}') select 1",
    "with x as (insert into star values ('x', 1, 1, now()) returning 1) select * from x",
    "select * from query('select 1')",
    "select * from '/etc/hostname'",
    "select * from glob('/*')",
    "select * from sniff_csv('/etc/hostname')",
    "insert into star values ('x', 1, 1, now())",
    "update feature set layer = 0",
    "delete from feature",
    "create table t (a integer)",
    "create temp table t (a integer)",
    "drop table feature",
    "alter table feature rename to other",
    "set memory_limit = '1GB'",
    "set enable_external_access = true",
    "reset lock_configuration",
    "pragma database_list",
    "install httpfs",
    "load httpfs",
    "call pragma_version()",
    "checkpoint",
    "vacuum",
    "export database '{out}'",
    "import database '{out}'",
    "prepare p as select 1",
    "begin transaction",
    "use memory",
    "detach atlas",
    "select 1; select 2",
    "select 1; copy (select 1) to '{out}'",
    "",
    "-- nothing",
)


@pytest.fixture(scope="module")
def data(published: Path) -> Data:
    return Data.open(published)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_console_neither_writes_nor_reads_files(data: Data, attack: str, tmp_path: Path) -> None:
    out, shard, database = tmp_path / "out", tmp_path / "shard.parquet", data.folder / DATABASE
    duckdb.connect().execute(f"copy (select 1 as a) to '{shard}' (format parquet)")
    before = shard.read_bytes()
    with pytest.raises(QueryError):
        data.console(attack.format(out=out, shard=shard, database=database), 10).wait()
    assert not out.exists()
    assert shard.read_bytes() == before
    assert data.console("select count(*) from feature", 10).wait()[2] == [(240,)]


@pytest.mark.parametrize(
    "text",
    [
        "select 1 as a",
        "explain select 1",
        "explain analyze select 1",
        "from model",
        "with x as (select 1) select * from x",
        "describe feature",
    ],
)
def test_the_console_reads(data: Data, text: str) -> None:
    assert data.console(text, 10).wait()[2]


def test_one_row_more_than_shown_is_fetched(data: Data) -> None:
    assert len(data.console("select * from feature", 100).wait()[2]) == 101
    assert len(data.console("select * from feature limit 100", 100).wait()[2]) == 100


def test_a_running_statement_is_stopped(data: Data) -> None:
    job = data.console("select count(*) from range(10000000) a, range(10000000) b where a.range % 7 = b.range % 11", 1)
    while job._cursor is None:
        time.sleep(0.001)
    time.sleep(0.05)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()
    assert data.console("select 1", 1).wait()[2] == [(1,)]


def test_reads_are_composed_of_known_names_and_bound_values(data: Data) -> None:
    read = Read(
        "t",
        "feature",
        ("layer",),
        (Where("run_id", "=", "x' or '1'='1"), Where("feature", "any", [1, 2]), Where("density", "not null")),
        ("layer",),
        5,
        (Measure("count", "*", "n"), Measure("share", "n_active", "active")),
    )
    statement = data.read(read)
    assert "x' or" not in statement.sql
    assert statement.parameters == {"run_id": "x' or '1'='1", "feature": [1, 2]}
    assert data.rows(read).wait() == [[]]
    for bad in (
        Read("t", "no_table", ("layer",)),
        Read("t", "feature", ("layer; drop table feature",)),
        Read("t", "feature", ("layer",), (Where("1=1 or layer"),)),
        Read("t", "feature", ("layer",), (Where("layer", "or", 1),)),
        Read("t", "feature", ("layer",), order=("layer; --",)),
        Read("t", "feature", (), measures=(Measure("system", "layer", "x"),)),
    ):
        with pytest.raises(QueryError):
            data.read(bad)


@pytest.mark.parametrize(
    "order", [(), (("max", True),), (("rate.fr", False),), (("lape", True), ("layer", True)), (("effect", False),), (("label", True),)]
)
def test_pages_of_every_order_hold_what_one_statement_gives(published: Path, order: tuple[tuple[str, bool], ...]) -> None:
    session = Session.open(published)
    assert session.read_info().wait() is session.info
    assert session.info is not None
    columns = ("star", "layer", "feature", "label", "density", "max", "rate.en", "rate.fr", "lape", "lape.flag", "effect", "promotes")
    source = open_features(session.data, session.info, session.view(columns, order=order)).wait()
    pages = [row for first in range(0, source.count, 50) for row in source.load(first, min(source.count, first + 50)).wait()]
    whole = session.data.fetch(source.statement).wait()
    assert len(pages) == len(whole) == session.info.total
    for page, full in zip(pages, whole, strict=True):
        assert tuple(page[4:]) == tuple(full[1:])
        assert bool(page[3]) == full[0]
    row = session.data.job(find_feature(session.run_id, 2, 3)).wait()
    assert row is not None
    place = source.place(row)
    assert place is not None
    assert pages[place][1:3] == (2, 3)


def test_a_statement_file_names_its_values() -> None:
    from tui.session import statement_text

    text = statement_text(Statement("edges", "select 1\nfrom edge", {"run": "a", "n": 3}))
    assert text == "-- edges\n-- $run = 'a'\n-- $n = 3\nselect 1\nfrom edge;\n"


# Atlases that cannot be opened ---------------------------------------------------------------------------


def refused(folder: Path, kind: type[AtlasError]) -> str:
    """Return the sentence with which opening is refused."""
    with pytest.raises(kind) as caught:
        Data.open(folder)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_missing_atlas(tmp_path: Path) -> None:
    assert "there is no atlas" in refused(tmp_path / "none", StoreError)
    (tmp_path / "empty").mkdir()
    assert "has not been published" in refused(tmp_path / "empty", StoreError)


def test_an_atlas_of_another_format(atlas_copy: Path) -> None:
    for version in (FORMAT_VERSION + 1, 0):
        con = duckdb.connect(str(atlas_copy / DATABASE))
        con.execute("update atlas set format_version = ?", [version])
        con.close()
        assert f"is of format version {version}" in refused(atlas_copy, VersionError)


def test_a_file_that_is_no_atlas(tmp_path: Path) -> None:
    (tmp_path / "a.atlas").mkdir()
    duckdb.connect(str(tmp_path / "a.atlas" / DATABASE)).execute("create table t (a integer)")
    assert "no table atlas" in refused(tmp_path / "a.atlas", StoreError)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_damaged_file(atlas_copy: Path, damage: str) -> None:
    path = atlas_copy / DATABASE
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:5000], "garbage": b"garbage" * 1000, "empty": b""}[damage])
    assert "damaged" in refused(atlas_copy, DamagedError)


def test_a_file_that_another_program_writes(atlas_copy: Path) -> None:
    script = f"import duckdb, sys; c = duckdb.connect({str(atlas_copy / DATABASE)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        assert "open for writing" in refused(atlas_copy, LockedError)
        writer.communicate("")


def test_a_replaced_file_is_noticed_and_the_old_one_goes_on(atlas_copy: Path, published: Path) -> None:
    data = Data.open(atlas_copy)
    assert not data.is_outdated()
    shutil.copy(published / DATABASE, atlas_copy / "next")
    (atlas_copy / "next").rename(atlas_copy / DATABASE)
    assert data.is_outdated()
    assert data.console("select count(*) from feature", 1).wait()[2] == [(240,)]
    newer = Data.open(atlas_copy)
    assert not newer.is_outdated()
    data.close()
    assert newer.console("select count(*) from feature", 1).wait()[2] == [(240,)]
    newer.close()
