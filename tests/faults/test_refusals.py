"""Disk full, read-only folder, I/O error: one clear error, the published atlas still opens, the next try succeeds."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlas.check import check
from atlas.errors import DamagedError, StoreError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.publish import publish
from atlas.reader import Reader
from atlas.runs import tables_equal
from tests.atlas.samples import make_atlas, plan, write_run
from tests.faults.disks import FailingDisk, RefusingDisk, using
from tests.faults.states import contents, write_small_run


def attempt(folder: Path) -> StoreError | None:
    """Write a run; give the refusal."""
    try:
        write_small_run(folder)
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "Make space"), (errno.EIO, "check the disk|Check it|atlas check"), (errno.EROFS, "read-only")]
)
def test_a_refusal_at_any_step_is_one_clear_error_and_the_next_try_succeeds(tmp_path: Path, number: int, hint: str) -> None:
    with using(FailingDisk()) as counted:
        write_small_run(tmp_path / "counted.atlas")
    expected = contents(tmp_path / "counted.atlas")
    step = 0
    while step < counted.steps:
        folder = tmp_path / f"{step}.atlas"
        with using(RefusingDisk(step, number)) as disk:
            refusal = attempt(folder)
        # Where nothing was refused, only removing a temporary name was left to do.
        assert refusal is not None or disk.steps - step <= 2  # type: ignore[attr-defined]
        if refusal is not None:
            assert "cannot write" in refusal.message
            assert any(word in str(refusal.hint) for word in hint.split("|"))
        with using(FailingDisk()):
            write_small_run(folder)
            assert contents(folder) == expected
            assert check(folder) == []
        shutil.rmtree(folder)
        step += 3 if number == errno.ENOSPC else 11


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    mount = tmp_path / "small"
    mount.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not allowed here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Use up a disk but for some bytes."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    with ballast.open("wb") as stream:
        stream.write(bytes(max(0, free.f_bavail * free.f_frsize - leave)))
    return ballast


def test_a_full_disk_stops_ingest_and_publish_cleanly(small_disk: Path, template: Path) -> None:
    atlas = Atlas(shutil.copytree(template / "published.atlas", small_disk / "a.atlas"))
    ballast = fill(small_disk, 6 << 10)
    with pytest.raises(StoreError, match=r"cannot write .*No space") as caught:
        write_run(atlas, 2)
    assert "Make space" in str(caught.value)
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from run").rows() == [(1,)]
    ballast.unlink()
    ballast = fill(small_disk, 300 << 10)
    write_run(atlas, 2)
    with pytest.raises(StoreError) as caught:
        publish(atlas.path)
    assert "space" in str(caught.value)
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from run").rows() == [(1,)]
    assert check(atlas.path) == []
    ballast.unlink()
    publish(atlas.path)
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from run").rows() == [(2,)]
    reference = make_atlas(small_disk.parent / "b.atlas", 2)
    assert tables_equal(atlas.path, reference.path, run_id(plan(2))) == []


def test_a_note_on_a_full_disk_is_refused_and_the_others_stay(small_disk: Path) -> None:
    atlas = Atlas.create(small_disk / "a.atlas")
    atlas.catalogue.add_note("before")
    ballast = fill(small_disk, 4 << 10)
    with pytest.raises(StoreError) as caught:
        atlas.catalogue.add_note("x" * 200_000)
    assert "the disk is full" in caught.value.message
    assert "Make space" in str(caught.value.hint)
    assert not isinstance(caught.value, DamagedError)
    assert [row["text"] for row in atlas.catalogue.rows("note")] == ["before"]
    ballast.unlink()
    atlas.catalogue.add_note("after")
    assert atlas.catalogue.damage() == []


@pytest.fixture
def read_only(template: Path, tmp_path: Path) -> Iterator[Path]:
    """A published atlas on a file system that is mounted read-only."""
    source = shutil.copytree(template / "published.atlas", tmp_path / "source.atlas")
    Atlas(source).catalogue.add_note("written before")
    mount = tmp_path / "mounted.atlas"
    mount.mkdir()
    if os.geteuid() != 0:
        for path in sorted(source.rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
        source.chmod(0o555)
        yield source
        for path in (source, *source.rglob("*")):
            path.chmod(0o755)
        return
    for command in (["mount", "--bind", str(source), str(mount)], ["mount", "-o", "remount,bind,ro", str(mount)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
            pytest.skip(f"root writes through permissions, and a read-only mount is not allowed here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_read_only_folder_is_read_and_refuses_writes_clearly(read_only: Path) -> None:
    with Reader(read_only) as reader:
        assert reader.sql("select count(*) from run").rows() == [(1,)]
        assert [row["text"] for row in reader.catalogue.rows("note")] == ["written before"]
    assert check(read_only) == []
    atlas = Atlas(read_only)
    for write in (lambda: write_run(atlas, 2), lambda: publish(read_only), lambda: atlas.catalogue.add_note("x")):
        with pytest.raises(StoreError) as caught:
            write()  # type: ignore[no-untyped-call]
        assert "opy the atlas" in str(caught.value)
