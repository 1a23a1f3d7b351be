import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from atlas.check import check
from atlas.errors import DamagedError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.maintain import compact, gc, sizes
from atlas.publish import publish
from atlas.reader import Reader
from atlas.runs import remove_run, tables_equal
from tests.atlas.samples import SHARDS, make_atlas, plan, write_run

RUN = run_id(plan())


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_compaction_keeps_the_rows_in_fewer_parts(atlas: Atlas, template: Path) -> None:
    (action,) = compact(atlas.path)
    assert "4 parts became 3" in action.what
    (run,) = atlas.manifest().runs
    assert len(run.shards) == 1
    (record,) = atlas.records(run)
    path = next(str(item.path) for item in record.files if item.table == "activation")
    parts = pq.ParquetFile(atlas.path / path)
    assert [set(parts.read_row_group(group)["layer"].to_pylist()) for group in range(parts.num_row_groups)] == [{0}, {1}, {2}]
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []
    assert check(atlas.path) == []
    assert compact(atlas.path) == [], "there is nothing left to merge"
    publish(atlas.path)
    assert check(atlas.path) == []


def test_a_damaged_part_is_not_compacted(atlas: Atlas) -> None:
    shard = next((atlas.path / "data" / "activation").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError):
        compact(atlas.path)
    assert atlas.manifest().number == 1


def test_a_compacted_run_that_is_removed_and_collected_is_computed_again(atlas: Atlas, template: Path) -> None:
    compact(atlas.path, RUN[:5])
    gc(atlas.path, dry_run=False, keep_manifests=1, keep_days=0)
    remove_run(atlas.path, RUN)
    write_run(atlas)
    assert set(atlas.manifest().runs[0].shards) == set(SHARDS)
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []


def test_gc_says_first_and_removes_only_what_no_kept_manifest_names(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas", 1, 2)
    publish(atlas.path)
    remove_run(atlas.path, RUN)
    before = names(atlas.path)
    assert gc(atlas.path) == gc(atlas.path, dry_run=False) == [], "all is young"
    said = gc(atlas.path, keep_manifests=1, keep_days=0)
    assert names(atlas.path) == before, "a dry run removes nothing"
    assert {action.path.name for action in said} == {"00000000.json", "00000001.json"}, "what atlas.duckdb was built from is kept"
    publish(atlas.path)
    gc(atlas.path, dry_run=False, keep_manifests=1, keep_days=0)
    gone = [name for name in names(atlas.path) if RUN in name and ("/done/" in name or name.endswith(".parquet"))]
    assert gone == []
    assert check(atlas.path) == []
    with Reader(atlas.path) as reader:
        assert reader.sql("select run_id from run").rows() == [(run_id(plan(2)),)]


def test_gc_leaves_a_young_unfinished_run_and_young_temporary_files(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas", 1)
    write_run(atlas, 2, shards=SHARDS[:2], finish=False)
    half, dead = atlas.path / "data" / ".tmp-half-0123", atlas.path / "data" / ".tmp-dead-0123"
    for path in (half, dead):
        path.write_bytes(b"x")
    os.utime(dead, (time.time() - 3 * 86400,) * 2)
    removed = gc(atlas.path, dry_run=False, keep_manifests=1)
    assert {action.path.name for action in removed} == {dead.name}
    assert all((atlas.record_path(run_id(plan(2)), 1, shard)).exists() for shard in SHARDS[:2])


def test_gc_after_the_clock_was_set_back_keeps_what_seems_to_come_from_the_future(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas", 1)
    for path in atlas.path.rglob("*"):
        os.utime(path, (time.time() + 10**6,) * 2)
    remove_run(atlas.path, RUN)
    assert gc(atlas.path, keep_manifests=1) == []


def test_sizes_add_up(published: Atlas) -> None:
    found = sizes(published.path)
    assert found["database"] == published.database.stat().st_size
    assert found["data"] == sum(path.stat().st_size for path in (published.path / "data").rglob("*.parquet"))
    assert found["quarantine"] == 0
