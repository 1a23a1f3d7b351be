import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from atlas import maintain
from atlas.check import check
from atlas.errors import DamagedError, LockedError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.maintain import compact, gc, maintaining, repair, sizes
from atlas.publish import publish, publishing
from atlas.reader import Reader
from atlas.runs import remove_run, tables_equal
from atlas.shards import RunWriter, write_parquet
from tests.atlas.samples import RUN_ROW, SHARDS, activations, make_atlas, plan, write_run

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
    assert gc(atlas.path) == gc(atlas.path, dry_run=False) == [], "all is young"
    before = names(atlas.path)
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


def test_gc_removes_nothing_while_a_record_that_the_newest_manifest_names_is_gone(atlas: Atlas) -> None:
    record = atlas.record_path(RUN, 1, "prompts")
    kept = record.rename(record.with_suffix(".elsewhere"))
    before = names(atlas.path)
    with pytest.raises(DamagedError, match="missing"):
        gc(atlas.path, dry_run=False, keep_manifests=1, keep_days=0)
    kept.rename(record)
    assert names(atlas.path) - before == {record.relative_to(atlas.path).as_posix(), ".maintain.lock", ".publish.lock"}


def test_gc_repair_and_compact_wait_for_each_other(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.maintain.LOCK_SECONDS", 0.0)
    with maintaining(atlas, "holding"):
        for command in (compact, repair, partial(gc, dry_run=False)):
            with pytest.raises(LockedError):
                command(atlas.path)
        publish(atlas.path)


def test_gc_waits_for_a_publish_that_reads_what_it_would_remove(atlas: Atlas) -> None:
    with ThreadPoolExecutor(1) as pool:
        with publishing(atlas):
            collecting = pool.submit(gc, atlas.path, dry_run=False)
            with pytest.raises(TimeoutError):
                collecting.result(timeout=0.2)
        assert collecting.result(timeout=60) == []


@pytest.mark.parametrize("meanwhile", ["another run is shown", "the run is removed"])
def test_compaction_undoes_no_change_that_happens_meanwhile(atlas: Atlas, monkeypatch: pytest.MonkeyPatch, meanwhile: str) -> None:
    def slow(*arguments: Any) -> Any:
        merged = merge(*arguments)
        if meanwhile == "the run is removed":
            remove_run(atlas.path, RUN)
        else:
            write_run(atlas, 2)
        return merged

    merge = maintain._merge
    monkeypatch.setattr(maintain, "_merge", slow)
    compact(atlas.path)
    shown = {run.run_id for run in atlas.manifest().runs}
    assert shown == (set() if meanwhile == "the run is removed" else {RUN, run_id(plan(2))})


def test_gc_leaves_young_shards_that_nothing_names_yet(atlas: Atlas) -> None:
    """Another process has written them and not committed them yet."""
    shard = next((atlas.path / "data" / "prompt").rglob("*.parquet"))
    written = shard.with_name("being-written.parquet")
    written.write_bytes(shard.read_bytes())
    assert gc(atlas.path, dry_run=False) == []
    os.utime(written, (time.time() - 8 * 86400,) * 2)
    assert [action.path.name for action in gc(atlas.path, dry_run=False)] == [written.name]
    assert shard.exists()


def test_what_is_compacted_takes_fewer_bytes(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    with RunWriter(atlas, plan(), RUN) as writer:
        for part in (0, 1):
            writer.commit(f"activations-{part}", {"activation": activations(first_prompt=200 * part, n_prompts=200)})
        writer.finish(RUN_ROW)
    compact(atlas.path)
    (record,) = atlas.records(atlas.manifest().runs[0])
    (merged,) = record.files
    again = write_parquet(tmp_path / "again.parquet", "activation", pq.read_table(atlas.path / str(merged.path)))
    assert again is not None
    assert merged.rows == again.rows
    assert merged.bytes < 0.97 * again.bytes
