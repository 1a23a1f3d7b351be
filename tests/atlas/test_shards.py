import os
from pathlib import Path

import pyarrow as pa
import pytest

from atlas import files
from atlas.errors import InputError, StoreError, UsageError, VersionError
from atlas.folder import Atlas, CommitRecord, Manifest
from atlas.ids import run_id, sha256_file
from atlas.runs import tables_equal
from atlas.seals import sealed
from atlas.shards import RunWriter, shard_of
from tests.atlas.samples import RUN_ROW, SHARDS, activations, make_atlas, model_rows, plan, shard_tables, write_run


def test_a_run_is_invisible_until_it_is_finished(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    write_run(atlas, finish=False)
    assert atlas.manifest().number == 0
    assert atlas.manifest().runs == ()
    write_run(atlas)
    (run,) = atlas.manifest().runs
    assert run.run_id == run_id(plan())
    assert set(run.shards) == set(SHARDS)
    assert run.row["state"] == "complete"
    assert run.row["plan"] == '{"model":{"hash":"abc","layers":[0,1,2]},"name":"sample","seed":1}'


def test_a_commit_record_names_files_with_rows_bytes_and_hash(atlas: Atlas) -> None:
    (run,) = atlas.manifest().runs
    records = {record.shard: record for record in atlas.records(run)}
    (item,) = records["activations-0"].files
    path = atlas.path / str(item.path)
    assert (item.table, item.rows, item.bytes, item.sha256) == (
        "activation",
        activations(1).num_rows,
        path.stat().st_size,
        sha256_file(path),
    )
    empty = next(item for item in records["prompts"].files if item.table == "token")
    assert (empty.path, empty.rows) == (None, 0), "a table without rows has no file"


def test_a_resumed_run_computes_only_what_is_missing(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    write_run(atlas, shards=SHARDS[:2], finish=False)
    with RunWriter(atlas, plan(), run_id(plan())) as writer:
        assert [writer.is_done(shard) for shard in SHARDS] == [True, True, False, False]
    write_run(atlas)
    undisturbed = make_atlas(tmp_path / "b.atlas")
    assert tables_equal(atlas.path, undisturbed.path, run_id(plan())) == []


def test_a_complete_run_is_left_as_it_is(atlas: Atlas) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in atlas.path.rglob("*"))
    with RunWriter(atlas, plan(), run_id(plan())) as writer:
        assert writer.is_complete
        assert writer.is_done("anything")
        assert writer.commit("model", {"model": model_rows()}) is None
        writer.finish(RUN_ROW)
    assert sorted((path, path.stat().st_mtime_ns) for path in atlas.path.rglob("*")) == before


def test_again_appends_an_attempt_and_keeps_the_old_one_visible_meanwhile(atlas: Atlas) -> None:
    write_run(atlas, again=True, shards=SHARDS[:1], finish=False)
    assert atlas.manifest().runs[0].attempt == 1
    write_run(atlas, again=True)
    (run,) = atlas.manifest().runs
    assert run.attempt == 2
    assert len(list(atlas.records(run))) == len(SHARDS)


def test_another_seed_is_another_run(atlas: Atlas) -> None:
    write_run(atlas, 2)
    assert [run.run_id for run in atlas.manifest().runs] == [run_id(plan(1)), run_id(plan(2))]


def test_another_plan_under_the_same_id_is_refused(atlas: Atlas) -> None:
    with pytest.raises(StoreError, match="another plan"):
        RunWriter(atlas, plan(2), run_id(plan(1)))


def test_two_writers_of_one_shard_leave_one_of_them(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    first, second = (RunWriter(atlas, plan(), run_id(plan())) for _ in range(2))
    real_link = files.disk.link

    class Slow(files.Disk):
        def link(self, source: Path, target: Path) -> None:
            files.disk = files.Disk()
            second.commit("activations-0", shard_tables("activations-0"))
            real_link(source, target)

    files.disk = Slow()
    try:
        record = first.commit("activations-0", shard_tables("activations-0"))
    finally:
        files.disk = files.Disk()
    assert record == second.record("activations-0"), "the first keeps the record of the one who was first"
    assert len(list((atlas.path / "data").rglob("*.parquet"))) == 1


def test_publishers_of_manifests_that_meet_take_the_next_number(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    seen: list[int] = []

    def racing(runs: tuple[object, ...]) -> tuple[object, ...]:
        if not seen:
            files.write_once(atlas.manifest_path(1), sealed(Manifest(1, created_at="2026-01-01").content()))
        seen.append(len(runs))
        return runs

    assert atlas.change("race", racing).number == 2  # type: ignore[arg-type]
    assert atlas.manifest_numbers() == [0, 1, 2]


def test_finishing_without_a_shard_of_the_plan_is_refused(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    write_run(atlas, shards=SHARDS[:3], finish=False)
    with pytest.raises(StoreError, match=r"1 of 4 shards .* activations-1"):
        RunWriter(atlas, plan(), run_id(plan())).finish(RUN_ROW, shards=SHARDS)
    assert atlas.manifest().runs == ()


def test_a_shard_whose_record_is_damaged_or_whose_file_is_gone_is_computed_again(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    write_run(atlas, finish=False)
    record = atlas.record_path(run_id(plan()), 1, "model")
    record.write_text(record.read_text().replace('"rows": 1', '"rows": 2'))
    lost = CommitRecord.read(atlas.record_path(run_id(plan()), 1, "activations-0")).files[0]
    (atlas.path / str(lost.path)).unlink()
    writer = RunWriter(atlas, plan(), run_id(plan()))
    assert [writer.is_done(shard) for shard in SHARDS] == [False, True, False, True]
    assert len(list((atlas.path / "quarantine").iterdir())) == 2
    write_run(atlas)
    assert tables_equal(atlas.path, make_atlas(tmp_path / "b.atlas").path, run_id(plan())) == []


def test_a_shard_that_does_not_fit_commits_nothing(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    writer = RunWriter(atlas, plan(), run_id(plan()))
    with pytest.raises(InputError, match="no column 'colour'"):
        writer.commit("x", {"model": model_rows(), "prompt": pa.table({"colour": [1]})})
    with pytest.raises(UsageError, match="no table 'prompts'"):
        writer.commit("x", {"prompts": pa.table({"a": [1]})})
    with pytest.raises(UsageError, match="filled by publish"):
        writer.commit("x", {"run": pa.table({"a": [1]})})
    with pytest.raises(UsageError, match="not a shard name"):
        writer.commit("../x", {"model": model_rows()})
    with pytest.raises(UsageError, match="compaction"):
        writer.commit("compacted-x", {"model": model_rows()})
    with pytest.raises(InputError, match=r"run\.kind holds 'baking'"):
        writer.finish({**RUN_ROW, "kind": "baking"}, shards=[])
    assert not writer.is_done("x")
    assert not list((atlas.path / "data").rglob("*.*"))
    assert atlas.manifest().number == 0


def test_workers_share_all_shards_out_once() -> None:
    shards = [f"layer-{layer}" for layer in range(10)]
    shares = [shard_of(shards, index, 3) for index in range(3)]
    assert sorted(shard for share in shares for shard in share) == sorted(shards)
    assert [len(share) for share in shares] == [4, 3, 3]
    with pytest.raises(UsageError, match="worker 3 of 3"):
        shard_of(shards, 3, 3)


def test_workers_of_one_plan_make_the_same_tables_as_one_process(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    for index in range(3):
        write_run(atlas, shards=tuple(shard_of(SHARDS, index, 3)), finish=False)
    RunWriter(atlas, plan(), run_id(plan())).finish(RUN_ROW, shards=SHARDS)
    assert tables_equal(atlas.path, make_atlas(tmp_path / "b.atlas").path, run_id(plan())) == []


def test_creating_where_something_else_stands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(StoreError, match="not empty and not an atlas"):
        Atlas.create(tmp_path)
    with pytest.raises(StoreError, match="is a file"):
        Atlas.create(tmp_path / "thesis.docx")
    with pytest.raises(StoreError, match="there is no atlas"):
        Atlas(tmp_path / "nothing.atlas")
    assert Atlas.create(tmp_path / "new.atlas").manifest() == Atlas.create(tmp_path / "new.atlas").manifest()


def test_another_format_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    newer = {**Manifest(1, created_at="2026-01-01").content(), "format_version": 99}
    atlas.manifest_path(1).write_bytes(sealed(newer))
    with pytest.raises(VersionError, match="format version 99; this program reads 1") as caught:
        write_run(atlas)
    assert "Install" in str(caught.value)


def test_the_order_of_manifests_is_their_number_never_the_clock(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    for path in atlas.versions.iterdir():
        os.utime(path, (0, 0) if path.stem.endswith("1") else (2**31, 2**31))
    assert atlas.manifest().number == 1


def test_a_big_endian_machine_is_refused(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.folder.sys.byteorder", "big")
    with pytest.raises(StoreError, match="big-endian"):
        Atlas(atlas.path)
