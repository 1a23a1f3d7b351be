"""kill -9, for real: of ingest and of publish, at random moments; the same command again ends as if nothing had been."""

import random
import shutil
from pathlib import Path

import pytest

from atlas.catalogue import Catalogue
from atlas.check import check
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.publish import publish
from atlas.reader import Reader
from atlas.runs import tables_equal
from atlas.shards import RunWriter
from tests.atlas.samples import SHARDS, make_atlas, plan, write_run
from tests.faults.conftest import Zygote


def kill_ingest(zygote: Zygote, folder: Path, undisturbed: Path, trial: int) -> bool:
    """One trial: kill at a random step, or at a random moment; then resume and compare. Returns whether the kill came in time."""
    choice = random.Random(trial)
    kill = {"kill_step": choice.randrange(5, 130)} if trial % 2 else {"kill_after": choice.uniform(0.0, 0.12)}
    ended = zygote.do("ingest", folder, **kill)
    if (folder / "versions").is_dir() and Atlas(folder).manifest_numbers():
        assert check(folder) == [], f"trial {trial}"
        survivors = [shard for shard in SHARDS if RunWriter(Atlas(folder), plan(), run_id(plan())).is_done(shard)]
        assert not (folder / "quarantine").exists(), f"trial {trial}: {survivors}"
    assert zygote.do("ingest", folder) == {"killed": False, "code": 0}
    assert tables_equal(folder, undisturbed, run_id(plan())) == [], f"trial {trial}"
    assert check(folder) == []
    return bool(ended["killed"])


def test_ingest_killed_at_random_moments_ends_with_the_same_tables(zygote: Zygote, template: Path, tmp_path: Path) -> None:
    killed = [kill_ingest(zygote, tmp_path / f"{trial}.atlas", template / "finished.atlas", trial) for trial in range(6)]
    assert sum(killed) >= 2, "too few kills came in time: the trial shows nothing"


@pytest.mark.soak
def test_ingest_killed_hundreds_of_times_ends_with_the_same_tables(zygote: Zygote, template: Path, tmp_path: Path) -> None:
    for trial in range(100, 400):
        kill_ingest(zygote, tmp_path / "x.atlas", template / "finished.atlas", trial)
        shutil.rmtree(tmp_path / "x.atlas")


def kill_publish(zygote: Zygote, folder: Path, trial: int) -> bool:
    """One trial: two runs, one published; kill the publish of the other; readers see the old file or the new one, whole."""
    with Reader(folder) as before:
        ended = zygote.do("publish", folder, kill_after=random.Random(trial).uniform(0.0, 0.6))
        assert before.sql("select count(*) from run").rows() == [(1,)], "a reader that holds the old file is undisturbed"
    with Reader(folder) as after:
        assert after.sql("select count(*) from run").rows() in ([(1,)], [(2,)])
    assert check(folder) == []
    assert zygote.do("publish", folder) == {"killed": False, "code": 0}
    with Reader(folder) as final:
        assert final.sql("select run_id, count(*) from activation group by run_id order by run_id").arrow().num_rows == 2
    assert check(folder) == []
    assert sorted(path.name for path in folder.glob("atlas.duckdb*")) == ["atlas.duckdb"]
    return bool(ended["killed"])


def test_publish_killed_at_random_moments_leaves_a_whole_file_and_readers_undisturbed(
    zygote: Zygote, template: Path, tmp_path: Path
) -> None:
    source = Atlas(shutil.copytree(template / "published.atlas", tmp_path / "two.atlas"))
    write_run(source, 2)
    killed = [kill_publish(zygote, shutil.copytree(source.path, tmp_path / f"{trial}.atlas"), trial) for trial in range(3)]
    assert sum(killed) >= 1, "too few kills came in time: the trial shows nothing"


@pytest.mark.soak
def test_publish_killed_a_hundred_times_leaves_a_whole_file(zygote: Zygote, template: Path, tmp_path: Path) -> None:
    source = Atlas(shutil.copytree(template / "published.atlas", tmp_path / "two.atlas"))
    write_run(source, 2)
    for trial in range(100, 200):
        kill_publish(zygote, shutil.copytree(source.path, tmp_path / "x.atlas"), trial)
        shutil.rmtree(tmp_path / "x.atlas")


def test_notes_of_a_killed_writer_are_whole(zygote: Zygote, tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    for trial in range(4):
        zygote.do("notes", atlas.path, seed=trial, kill_after=0.05 + 0.03 * trial)
        assert atlas.catalogue.damage() == []
    written = len(atlas.catalogue.rows("note"))
    Catalogue(atlas.path).add_note("the lock of the dead is free")
    assert len(atlas.catalogue.rows("note")) == written + 1
    publish(atlas.path)
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from note").rows() == [(written + 1,)]
