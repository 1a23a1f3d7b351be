import os
import shutil
import stat
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from atlas import files
from atlas.check import check
from atlas.errors import DamagedError, LockedError, QueryError, StoreError, UsageError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.maintain import compact
from atlas.publish import Audit, BuildStep, publish
from atlas.reader import Reader
from atlas.runs import remove_run
from atlas.schema import CATALOGUE_TABLES, TABLES, arrow_schema
from atlas.shards import RunWriter
from tests.atlas.samples import (
    RUN_ROW,
    activations,
    make_atlas,
    model_rows,
    plan,
    sample_catalogue,
    sample_row,
    sample_tables,
    write_run,
)

ORDER = [(name, "ascending") for name in ("layer", "feature", "prompt", "position")]


def all_activations(seed: int = 1) -> pa.Table:
    return pa.concat_tables([activations(seed, first_prompt=first) for first in (0, 6)]).sort_by(ORDER)


def test_one_row_of_every_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "all.atlas")
    with RunWriter(atlas, plan(), run_id(plan())) as writer:
        writer.commit("model", {"model": model_rows()} | {"transcoder": sample_tables()["transcoder"]})
        writer.commit("rest", {table: rows for table, rows in sample_tables().items() if table not in ("model", "transcoder")})
        writer.finish(RUN_ROW)
    for table, row in sample_catalogue().items():
        atlas.catalogue.put(table, [row])
    publish(atlas.path)
    with Reader(atlas.path) as reader:
        for table in TABLES:
            found = reader.sql(f'select * from "{table}"').arrow().to_pylist()
            assert len(found) == 1 or table == "run_table", table
            if table not in ("atlas", "run", "run_table", "model"):
                source = "activation" if table == "activation_by_prompt" else table
                expected = sample_row(source)
                assert {name: value for name, value in found[0].items() if name in expected} == expected, table
            if "run_id" in found[0] and table != "claim":
                assert {row["run_id"] for row in found} == {run_id(plan())}
        assert reader.sql("select sum(n_rows) from run_table").rows()[0][0] == len(TABLES) - 3 - 1 - len(CATALOGUE_TABLES)


def test_types_in_the_published_file_are_those_of_arrow_schema(published: Atlas) -> None:
    with Reader(published.path) as reader:
        for table in TABLES:
            found = reader.sql(f'select * from "{table}" limit 0').arrow().schema
            for item in arrow_schema(table, with_run=True):
                kind = found.field(item.name).type
                assert (kind.value_type if pa.types.is_dictionary(kind) else kind) == item.type, f"{table}.{item.name}"


@pytest.mark.parametrize("inline_rows", [10**9, 0])
def test_activations_are_sorted_both_ways_inside_and_as_a_view(tmp_path: Path, inline_rows: int) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    result = publish(atlas.path, inline_rows=inline_rows)
    assert result.activations_inline == (inline_rows > 0)
    with Reader(atlas.path) as reader:
        assert reader.activations_inline == (inline_rows > 0)
        names = ", ".join(arrow_schema("activation").names)
        found = reader.sql(f"select {names} from activation").arrow()
        assert found.cast(all_activations().schema).equals(all_activations())
        by_prompt = reader.sql(f"select {names} from activation_by_prompt").arrow().cast(all_activations().schema)
        keys = list(zip(*(by_prompt[name].to_pylist() for name in ("prompt", "position", "layer", "feature")), strict=True))
        assert keys == sorted(keys)
        assert by_prompt.sort_by(ORDER).equals(all_activations())


def test_a_moved_atlas_whose_activations_are_a_view_still_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    publish(atlas.path, inline_rows=0)
    moved = tmp_path / "elsewhere" / "it's here.atlas"
    shutil.copytree(atlas.path, moved)
    shutil.rmtree(atlas.path)
    monkeypatch.chdir("/")
    with Reader(moved) as reader:
        monkeypatch.chdir(tmp_path)
        assert reader.sql("select count(*) from activation").rows() == [(all_activations().num_rows,)]


def test_an_atlas_moved_while_it_is_open_goes_on_answering(published: Atlas) -> None:
    with Reader(published.path) as reader:
        published.path.rename(published.path.with_name("moved.atlas"))
        assert reader.sql("select count(*) from prompt").rows() == [(12,)]
        assert not reader.newer_available()


def test_an_empty_atlas_and_tables_without_rows_are_published(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    assert publish(atlas.path, inline_rows=0).n_rows == 1
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from activation").rows() == [(0,)]
        assert reader.sql("select manifest from atlas").rows() == [(0,)]


def test_the_newest_run_says_what_a_shared_table_holds(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    renamed = model_rows().set_column(1, "name", pa.array(["renamed"]))
    with RunWriter(atlas, plan(2), run_id(plan(2))) as writer:
        writer.commit("model", {"model": renamed})
        writer.finish({**RUN_ROW, "seed": 2})
    publish(atlas.path)
    with Reader(atlas.path) as reader:
        assert reader.sql("select name from model").rows() == [("renamed",)]
        assert reader.sql("select count(*) from run").rows() == [(2,)]


def test_words_are_published_and_a_run_cannot_overwrite_them(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    label = sample_row("label")
    atlas.catalogue.put("label", [{**label, "text": "a person's"}])
    with RunWriter(atlas, plan(), run_id(plan())) as writer:
        rows = [{**label, "text": "a tool's"}, {**label, "label_id": "fedcba9876543210", "text": "another"}]
        writer.commit("labels", {"label": pa.Table.from_pylist(rows, schema=arrow_schema("label"))})
        writer.finish({**RUN_ROW, "model_id": None})
    publish(atlas.path)
    with Reader(atlas.path) as reader:
        assert reader.sql("select text from label order by text").rows() == [("a person's",), ("another",)]


def test_build_steps_leave_room_for_arrays_and_audits_take_all_memory(atlas: Atlas) -> None:
    seen = []

    def look(connection: duckdb.DuckDBPyConnection) -> None:
        seen.extend(connection.execute("select value from duckdb_settings() where name = 'memory_limit'").fetchall())

    whole = "select 1 from duckdb_settings() where name = 'memory_limit' and value <> '286.1 MiB'"
    publish(atlas.path, memory="300MB", build=[BuildStep("look", look)], audits=[Audit("whole", whole)])
    assert seen == [("190.7 MiB",)]


def test_build_steps_fill_tables_and_audits_read_them(atlas: Atlas) -> None:
    def count_features(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("insert into parameter_set select 'default', 'n', 'rows', count(*)::varchar from activation")

    seen: list[tuple[str, int, int]] = []
    publish(
        atlas.path,
        build=[BuildStep("count", count_features)],
        audits=[Audit("nothing wrong", "select 1 from parameter_set where value = '0'")],
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    with Reader(atlas.path) as reader:
        assert reader.sql("select value from parameter_set").rows() == [(str(all_activations().num_rows),)]
    assert {stage for stage, done, total in seen if done == total} == {"verify shards", "load tables", "build steps", "audits"}


def failing_publishes() -> dict[str, tuple[dict[str, Any], type[Exception], str]]:
    def broken(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("insert into prompt select * from nowhere")

    return {
        "build step": ({"build": [BuildStep("broken", broken)]}, QueryError, "build step broken"),
        "audit": ({"audits": [Audit("always", "select run_id from run")]}, StoreError, "audit always found 2 rows"),
        "wrong audit": ({"audits": [Audit("bad", "selec 1")]}, QueryError, "audit bad"),
    }


@pytest.mark.parametrize("case", failing_publishes())
def test_a_publish_that_fails_leaves_the_old_file(published: Atlas, case: str) -> None:
    arguments, kind, message = failing_publishes()[case]
    before = published.database.stat().st_ino
    write_run(published, 2)
    with pytest.raises(kind, match=message):
        publish(published.path, **arguments)
    assert published.database.stat().st_ino == before
    assert sorted(path.name for path in published.path.glob("atlas.duckdb*")) == ["atlas.duckdb"]
    with Reader(published.path) as reader:
        assert reader.sql("select count(*) from run").rows() == [(1,)]


def test_a_reference_to_nothing_is_an_error_that_names_the_table(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    with RunWriter(atlas, plan(), run_id(plan())) as writer:
        writer.finish(RUN_ROW)
    with pytest.raises(DamagedError, match=r"load table run: .*m"):
        publish(atlas.path)


def test_a_damaged_shard_is_never_published(published: Atlas) -> None:
    shard = next((published.path / "data" / "activation").rglob("*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    before = published.database.stat().st_ino
    with pytest.raises(DamagedError, match=f"1 of 4 shards are damaged: .*{shard.name}"):
        publish(published.path)
    assert published.database.stat().st_ino == before


def test_the_published_file_is_read_only_and_opens_in_older_clients(published: Atlas) -> None:
    assert stat.S_IMODE(os.stat(published.database).st_mode) == 0o444
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"attach '{published.database}' as file (read_only)")
        tags = str(connection.execute("select tags from duckdb_databases() where database_name = 'file'").fetchall()[0][0])
    assert "v1.2.0" in tags


def test_a_stale_write_ahead_log_is_removed(published: Atlas) -> None:
    stale = published.path / "atlas.duckdb.wal"
    stale.write_bytes(b"left by somebody")
    with pytest.raises(StoreError, match=r"opened atlas\.duckdb for writing"):
        Reader(published.path)
    publish(published.path)
    assert not stale.exists()
    Reader(published.path).close()


def test_a_held_lock_is_waited_for_and_then_named(atlas: Atlas) -> None:
    with files.locked(atlas.path / ".publish.lock", seconds=1, what="the test"), pytest.raises(LockedError, match="holds the lock"):
        publish(atlas.path, wait=0.05)
    publish(atlas.path, wait=0.05)


def test_what_a_killed_publish_left_is_cleared(atlas: Atlas) -> None:
    (atlas.path / "atlas.duckdb.next").write_bytes(b"half a file")
    (atlas.path / "atlas.duckdb.next.wal").write_bytes(b"half a log")
    publish(atlas.path)
    assert sorted(path.name for path in atlas.path.glob("atlas.duckdb*")) == ["atlas.duckdb"]


def test_a_derived_file_is_made_once_and_again_when_it_is_damaged(atlas: Atlas) -> None:
    publish(atlas.path, inline_rows=0)
    (derived,) = (atlas.path / "derived" / "activation_by_prompt").rglob("*.parquet")
    before = derived.stat().st_ino
    publish(atlas.path, inline_rows=0)
    assert derived.stat().st_ino == before
    derived.chmod(0o644)
    derived.write_bytes(derived.read_bytes()[:-1])
    publish(atlas.path, inline_rows=0)
    assert pq.read_metadata(derived).num_rows == all_activations().num_rows


def test_a_missing_shard_is_named_when_its_view_is_asked_and_other_tables_answer(atlas: Atlas) -> None:
    publish(atlas.path, inline_rows=0)
    missing_shard = next((atlas.path / "derived" / "activation").rglob("*.parquet"))
    missing_shard.unlink()
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from prompt").rows() == [(12,)]
        with pytest.raises(QueryError, match=missing_shard.name):
            reader.sql("select layer, count(*) from activation group by layer")


def published_tables(folder: Path) -> dict[str, list[str]]:
    """All rows of a published file, without the time of publishing."""
    with Reader(folder) as reader:
        found = {table: sorted(str(row) for row in reader.sql(f'select * from "{table}"').rows()) for table in TABLES if table != "atlas"}
        return {**found, "atlas": [str(reader.sql("select * exclude (published_at, manifest_hash) from atlas").rows())]}


def count_by_run(connection: duckdb.DuckDBPyConnection) -> None:
    """A build step that fills what is lacking."""
    connection.execute(
        "insert into histogram select run_id, layer, feature, 0, 0, 1, count(*) from activation "
        "where run_id not in (select run_id from histogram) group by run_id, layer, feature"
    )


@pytest.mark.parametrize("inline_rows", [10**9, 0])
def test_an_incremental_publish_gives_the_same_file_as_a_whole_one(atlas: Atlas, inline_rows: int) -> None:
    steps = [BuildStep("count", count_by_run)]
    publish(atlas.path, build=steps, inline_rows=inline_rows)
    write_run(atlas, 2)
    atlas.catalogue.add_note("between")
    result = publish(atlas.path, build=steps, inline_rows=inline_rows, incremental=True)
    assert (result.n_carried, result.n_runs) == (1, 2)
    incremental = published_tables(atlas.path)
    assert publish(atlas.path, build=steps, inline_rows=inline_rows).n_carried == 0
    assert published_tables(atlas.path) == incremental
    assert len(incremental["note"]) == 1


@pytest.mark.parametrize("reason", ["removed run", "other steps", "changed shared row", "damaged file", "other place of activations"])
def test_an_incremental_publish_builds_all_where_it_must(atlas: Atlas, reason: str) -> None:
    publish(atlas.path)
    steps: list[BuildStep] = []
    inline_rows = 10**9
    with RunWriter(atlas, plan(2), run_id(plan(2))) as writer:
        name = "renamed" if reason == "changed shared row" else "tiny"
        writer.commit("model", {"model": model_rows().set_column(1, "name", pa.array([name]))})
        writer.finish({**RUN_ROW, "seed": 2})
    if reason == "removed run":
        remove_run(atlas.path, run_id(plan(1)))
    elif reason == "other steps":
        steps = [BuildStep("count", count_by_run)]
    elif reason == "damaged file":
        atlas.database.chmod(0o644)
        atlas.database.write_bytes(atlas.database.read_bytes()[:-1])
    elif reason == "other place of activations":
        inline_rows = 0
    assert publish(atlas.path, build=steps, inline_rows=inline_rows, incremental=True).n_carried == 0
    with Reader(atlas.path) as reader:
        assert reader.sql("select name from model").rows() == [(name,)]
        assert reader.sql("select count(*) from run").rows() == [(1 if reason == "removed run" else 2,)]


def test_shards_that_do_not_overlap_are_read_directly(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    rows = activations()
    with RunWriter(atlas, plan(), run_id(plan())) as writer:
        writer.commit("model", {"model": model_rows()})
        for layer in (2, 0, 1):
            writer.commit(f"z{2 - layer}", {"activation": rows.filter(pc.equal(rows["layer"], layer))})
        writer.finish(RUN_ROW)
    publish(atlas.path, inline_rows=0)
    assert not (atlas.path / "derived" / "activation").exists()
    with Reader(atlas.path) as reader:
        found = reader.sql("select layer, feature, prompt, position, activation from activation").arrow()
        assert found.cast(rows.schema).equals(rows.sort_by(ORDER))


@pytest.mark.parametrize("name", ["a b, c", 'it\'s "ü"', "a[1]*{2}", "$(x);#%41"])
def test_any_folder_name_will_do(atlas: Atlas, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "a.atlas"
    folder.parent.mkdir()
    moved = atlas.path.rename(folder)
    for inline_rows in (10**6, 0):
        publish(moved, inline_rows=inline_rows, audits=[Audit("reads the view", "select 1 from activation having count(*) = 0")])
        with Reader(moved) as reader:
            assert reader.sql("select count(*) > 0 from activation_by_prompt").rows() == [(True,)]


@pytest.mark.parametrize("name", ["what?", "back\\slash"])
def test_a_folder_that_the_engine_cannot_open_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="DuckDB cannot open"):
        Atlas.create(tmp_path / name)


@pytest.mark.parametrize("linked", ["data", "runs", "versions", "whole"])
def test_parts_of_an_atlas_may_lie_elsewhere(atlas: Atlas, tmp_path: Path, linked: str) -> None:
    part = atlas.path if linked == "whole" else atlas.path / linked
    elsewhere = part.rename(tmp_path / "elsewhere")
    part.symlink_to(elsewhere)
    compact(atlas.path)  # one part a table: the views read the shards themselves
    for inline_rows in (10**6, 0):
        publish(atlas.path, inline_rows=inline_rows)
        assert check(atlas.path) == []
        with Reader(atlas.path) as reader:
            assert reader.sql("select count(*) > 0 from activation").rows() == [(True,)]


def test_a_damaged_shard_of_a_view_is_named_when_it_is_asked(atlas: Atlas) -> None:
    publish(atlas.path, inline_rows=0)
    shard = next((atlas.path / "derived" / "activation").rglob("*.parquet"))
    shard.chmod(0o644)
    shard.write_bytes(b"no Parquet")
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from prompt").rows() == [(12,)]
        with pytest.raises(QueryError, match="a shard of activation cannot be read"):
            reader.sql("select layer, count(*) from activation group by layer")


def test_the_new_file_takes_the_place_of_the_old_one_by_its_rename(published: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """No copy, which somebody could open half."""
    built: list[int] = []

    class Noting(files.Disk):
        def chmod(self, path: Path, mode: int) -> None:
            built.append(path.stat().st_ino)
            super().chmod(path, mode)

    monkeypatch.setattr(files, "disk", Noting())
    publish(published.path)
    assert built == [published.database.stat().st_ino]
