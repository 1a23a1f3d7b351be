"""Two ingests, two publishes, readers and note-takers at once: no lost note, no torn read, no deadlock, nothing half visible."""

import shutil
from pathlib import Path

import pytest

from atlas.check import check
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.publish import publish
from atlas.reader import Reader
from atlas.runs import tables_equal
from tests.atlas.samples import make_atlas, plan
from tests.faults.conftest import Zygote

ENDED_WELL = {"killed": False, "code": 0}


def crowd(zygote: Zygote, folder: Path, first_seed: int, readers: int) -> None:
    """Let everybody at one atlas at once."""
    work = [
        ("ingest", first_seed),
        ("ingest", first_seed + 1),
        ("ingest", first_seed),
        ("publish", 0),
        ("publish", 0),
        ("notes", 1),
        ("notes", 2),
    ]
    ended = zygote.together(folder, *work, *[("read", 0)] * readers)
    assert ended == [ENDED_WELL] * len(ended)


def test_everybody_at_once(zygote: Zygote, template: Path, tmp_path: Path) -> None:
    atlas = Atlas(shutil.copytree(template / "published.atlas", tmp_path / "a.atlas"))
    crowd(zygote, atlas.path, 2, readers=3)
    assert {row["text"] for row in atlas.catalogue.rows("note")} == {f"{writer}-{number}" for writer in (1, 2) for number in range(10)}
    assert {run.run_id for run in atlas.manifest().runs} == {run_id(plan(seed)) for seed in (1, 2, 3)}
    publish(atlas.path, wait=0)
    assert check(atlas.path) == []
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(*) from note").rows() == [(20,)]
        assert reader.sql("select count(*) from run").rows() == [(3,)]
    reference = make_atlas(tmp_path / "b.atlas", 2)
    assert tables_equal(atlas.path, reference.path, run_id(plan(2))) == [], "two ingests of one plan leave one run"


def test_no_note_of_four_writers_is_lost(zygote: Zygote, tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    ended = zygote.together(atlas.path, *[("notes", writer) for writer in range(4)])
    assert ended == [ENDED_WELL] * 4
    assert {row["text"] for row in atlas.catalogue.rows("note")} == {f"{writer}-{number}" for writer in range(4) for number in range(10)}
    assert atlas.catalogue.damage() == []


@pytest.mark.soak
def test_everybody_at_once_for_long(zygote: Zygote, template: Path, tmp_path: Path) -> None:
    atlas = Atlas(shutil.copytree(template / "published.atlas", tmp_path / "a.atlas"))
    for round_number in range(20):
        crowd(zygote, atlas.path, 2 + 2 * round_number, readers=10)
        assert len(atlas.catalogue.rows("note")) == 20 * (round_number + 1)
        assert len(atlas.manifest().runs) == 3 + 2 * round_number
    publish(atlas.path)
    assert check(atlas.path) == []
