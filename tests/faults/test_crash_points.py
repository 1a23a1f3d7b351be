"""Every step of a run's life is stopped at once; power is cut with everything lost that was not fsynced; and the harness has teeth."""

import contextlib
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from atlas import files
from atlas.check import check
from atlas.errors import StoreError
from atlas.folder import Atlas
from atlas.maintain import repair
from atlas.publish import publish
from atlas.reader import Reader
from atlas.runs import remove_run
from tests.atlas.samples import make_atlas, write_run
from tests.faults.disks import FailingDisk, LossyDisk, PowerCut, using
from tests.faults.states import contents, violations, write_small_run

Expected = Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """Rows of an undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed") / "a.atlas"
    write_small_run(folder)
    return contents(folder)


@pytest.fixture(scope="module")
def n_steps(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Steps from creating the atlas to the visible run."""
    with using(FailingDisk()) as disk:
        write_small_run(tmp_path_factory.mktemp("counted") / "a.atlas")
    return disk.steps


def test_a_run_killed_before_any_of_its_steps_loses_nothing(tmp_path: Path, expected: Expected, n_steps: int) -> None:
    assert n_steps > 50
    for step in range(n_steps):
        folder = tmp_path / f"{step}.atlas"
        promises: list[str] = []
        with using(FailingDisk(step)), pytest.raises(PowerCut):
            write_small_run(folder, acknowledged=promises)
        with using(FailingDisk()):
            assert violations(folder, promises, expected) == [], f"step {step} of {n_steps}"
        shutil.rmtree(folder)


def lose_power(
    tmp_path: Path, step: int, seed: int, expected: Expected, *, data_fsync: bool = True, folder_fsync: bool = True
) -> list[str]:
    """Cut the power before a step and look at what the platter holds."""
    folder, platter = tmp_path / f"{step}-{seed}" / "a.atlas", tmp_path / f"{step}-{seed}-platter"
    folder.parent.mkdir()
    promises: list[str] = []
    disk = LossyDisk(folder.parent, step, data_fsync=data_fsync, folder_fsync=folder_fsync)
    with using(disk), pytest.raises(PowerCut):
        write_small_run(folder, acknowledged=promises)
    disk.after_power_loss(platter, seed)
    with using(FailingDisk()):
        found = violations(platter / "a.atlas", promises, expected)
    shutil.rmtree(folder.parent)
    shutil.rmtree(platter)
    return found


def test_power_lost_before_any_step_loses_no_promise(tmp_path: Path, expected: Expected, n_steps: int) -> None:
    for step in range(n_steps):
        assert lose_power(tmp_path, step, step, expected) == [], f"step {step} of {n_steps}"


@pytest.mark.parametrize("missing", ["data_fsync", "folder_fsync"])
def test_the_harness_notices_a_missing_fsync(tmp_path: Path, expected: Expected, n_steps: int, missing: str) -> None:
    """Teeth: without the fsync of contents, or of names, promises break."""
    steps = random.Random(7).sample(range(n_steps // 2, n_steps), 12)
    broken = [step for step in steps if lose_power(tmp_path, step, step, expected, **{missing: False})]
    assert len(broken) >= 4, f"{len(broken)} of {len(steps)} power cuts without {missing} broke a promise"


@pytest.mark.soak
def test_hundreds_of_power_cuts_lose_no_promise(tmp_path: Path, expected: Expected, n_steps: int) -> None:
    for step in range(n_steps):
        for seed in range(10):
            assert lose_power(tmp_path, step, 1000 * seed + step, expected) == [], f"step {step}, seed {seed}"


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_a_publish_stopped_before_any_of_its_steps_leaves_the_old_file_or_the_new_one(tmp_path: Path, stride: int) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    publish(atlas.path)
    write_run(atlas, 2)
    with using(FailingDisk()) as counted:
        shutil.copytree(atlas.path, tmp_path / "counted.atlas")
        publish(tmp_path / "counted.atlas")
    for step in reversed(range(counted.steps - 1, -1, -stride)):
        folder, platter = tmp_path / f"{step}" / "a.atlas", tmp_path / f"{step}-platter"
        shutil.copytree(atlas.path, folder)
        disk = LossyDisk(folder.parent, step)
        with using(disk), pytest.raises(PowerCut):
            publish(folder)
        disk.after_power_loss(platter, step)
        for state in (folder, platter / "a.atlas"):
            with Reader(state) as reader:
                assert reader.sql("select count(*) from run").rows() in ([(1,)], [(2,)])
            assert check(state) == [], f"step {step} of {counted.steps}"
    publish(folder)
    with Reader(folder) as reader:
        assert reader.sql("select count(*) from run").rows() == [(2,)]


@pytest.mark.parametrize("change", ["remove", "repair"])
def test_a_change_of_the_manifest_stopped_before_any_step_is_done_or_not(template: Path, tmp_path: Path, change: str) -> None:
    def act(folder: Path) -> None:
        if change == "remove":
            remove_run(folder, Atlas(folder).manifest().runs[0].run_id)
        else:
            repair(folder)

    source = shutil.copytree(template / "finished.atlas", tmp_path / "source.atlas")
    if change == "repair":
        shard = next((source / "data" / "prompt").rglob("*.parquet"))
        shard.write_bytes(shard.read_bytes()[:-1])
    with using(FailingDisk()) as counted:
        act(shutil.copytree(source, tmp_path / "counted.atlas"))
    for step in range(counted.steps):
        folder = shutil.copytree(source, tmp_path / f"{step}.atlas")
        with using(FailingDisk(step)), pytest.raises(PowerCut):
            act(folder)
        with using(FailingDisk()):
            if len(Atlas(folder).manifest().runs) == 1:
                act(folder)
            assert Atlas(folder).manifest().runs == ()
            write_run(Atlas(folder))
        assert contents(folder) == contents(template / "finished.atlas")


def test_another_process_finds_the_lock_of_a_dead_publish_free(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    with using(FailingDisk(1)), pytest.raises((PowerCut, StoreError)):
        publish(atlas.path)
    publish(atlas.path, wait=0)


def test_what_publish_has_said_outlives_a_power_cut(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "root" / "a.atlas")
    publish(atlas.path)
    write_run(atlas, 2)
    with using(LossyDisk(atlas.path.parent)) as disk:
        publish(atlas.path)
    assert isinstance(disk, LossyDisk)
    for seed in range(8):
        platter = tmp_path / f"platter-{seed}"
        disk.after_power_loss(platter, seed)
        with Reader(platter / "a.atlas") as reader:
            assert reader.sql("select count(*) from run").rows() == [(2,)]


def test_what_is_set_aside_is_nowhere_lost_by_a_power_cut(template: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(template / "finished.atlas", tmp_path / "root" / "a.atlas"))
    shard = next((folder / "data" / "prompt").rglob("*.parquet"))
    shard.write_bytes(damaged := shard.read_bytes()[:-1])
    with using(FailingDisk()) as counted:
        repair(shutil.copytree(folder, tmp_path / "counted.atlas"))
    for step in range(counted.steps + 1):
        root = tmp_path / f"{step}"
        shutil.copytree(folder, root / "a.atlas")
        disk = LossyDisk(root, step)
        with using(disk), contextlib.suppress(PowerCut):
            repair(root / "a.atlas")
        disk.after_power_loss(root / "platter", step)
        contents_left = [path.read_bytes() for path in (root / "platter").rglob("*.parquet")]
        assert damaged in contents_left, f"step {step} of {counted.steps}"


def test_what_a_second_writer_relies_on_is_durable(tmp_path: Path) -> None:
    """The first one is stopped before its fsync of the folder; the second is told that the name is taken, and goes on from there."""
    with using(FailingDisk()) as counted:
        files.write_once(tmp_path / "counted.json", b"{}")
    root = tmp_path / "root"
    root.mkdir()
    disk = LossyDisk(root, counted.steps - 1)
    with using(disk):
        with pytest.raises(PowerCut):
            files.write_once(root / "a.json", b"{}")
        disk.fail_at = None
        assert not files.write_once(root / "a.json", b"other")
    for seed in range(8):
        disk.after_power_loss(tmp_path / f"platter-{seed}", seed)
        assert (tmp_path / f"platter-{seed}" / "a.json").read_bytes() == b"{}"
