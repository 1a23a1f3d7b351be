"""Random sequences of everything that can happen to an atlas, compared with a model in memory (hypothesis)."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from atlas.check import check
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.maintain import compact, gc, repair
from atlas.publish import publish
from atlas.reader import Reader
from atlas.runs import remove_run
from tests.atlas.samples import plan
from tests.faults.disks import FailingDisk, PowerCut, using
from tests.faults.states import contents, write_small_run

SEEDS = st.integers(1, 3)


class AtlasMachine(RuleBasedStateMachine):
    """The model: which seeds are visible, which notes were taken, what is published."""

    notes = Bundle("notes")

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atlas-machine-")) / "a.atlas"
        self.atlas = Atlas.create(self.folder)
        self.visible: set[int] = set()
        self.n_notes = 0
        self.published: frozenset[int] | None = None
        self.readers: list[tuple[Reader, frozenset[int]]] = []
        self.damaged: set[int] = set()

    def teardown(self) -> None:
        for reader, _ in getattr(self, "readers", []):
            reader.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder.parent)

    @rule(seed=SEEDS)
    def ingest(self, seed: int) -> None:
        write_small_run(self.folder, seed)
        self.visible.add(seed)

    @rule(seed=SEEDS, step=st.integers(0, 60))
    def ingest_and_crash(self, seed: int, step: int) -> None:
        promises: list[str] = []
        with using(FailingDisk(step)), contextlib.suppress(PowerCut):
            write_small_run(self.folder, seed, promises)
        if self.atlas.manifest().run(run_id(plan(seed))) is not None:
            self.visible.add(seed)
        assert "finished" not in promises or seed in self.visible

    @rule(target=notes, number=st.integers(0, 10**6))
    def note(self, number: int) -> str:
        self.n_notes += 1
        return self.atlas.catalogue.add_note(str(number))

    @rule(note=consumes(notes))
    def take_note_back(self, note: str) -> None:
        self.atlas.catalogue.delete_note(note)

    @precondition(lambda self: self.visible)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        seed = data.draw(st.sampled_from(sorted(self.visible)))
        remove_run(self.folder, run_id(plan(seed)))
        self.visible.discard(seed)

    @rule()
    def compact(self) -> None:
        compact(self.folder)

    @rule()
    def collect(self) -> None:
        gc(self.folder, dry_run=False, keep_manifests=1, keep_days=0)

    @precondition(lambda self: self.visible)
    @rule(data=st.data())
    def damage_and_repair(self, data: st.DataObject) -> None:
        seed = data.draw(st.sampled_from(sorted(self.visible)))
        run = self.atlas.manifest().run(run_id(plan(seed)))
        assert run is not None
        shards = [item.path for record in self.atlas.records(run) for item in record.files if item.path]
        path = self.folder / str(data.draw(st.sampled_from(sorted(shards))))
        path.write_bytes(path.read_bytes()[:-3])
        assert check(self.folder) != []
        repair(self.folder)
        self.visible.discard(seed)

    @rule()
    def publish(self) -> None:
        publish(self.folder)
        self.published = frozenset(self.visible)
        with Reader(self.folder) as reader:
            assert reader.sql("select count(*) from note").rows() == [(self.n_notes,)]

    @precondition(lambda self: self.published is not None and len(self.readers) < 2)
    @rule()
    def open_reader(self) -> None:
        assert self.published is not None
        self.readers.append((Reader(self.folder), self.published))

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        if not hasattr(self, "atlas"):
            return
        assert {run.row["seed"] for run in self.atlas.manifest().runs} == self.visible
        assert all(len(tables["prompt"]) == 64 for tables in contents(self.folder).values())
        assert len(self.atlas.catalogue.rows("note")) == self.n_notes
        for reader, seeds in self.readers:
            assert reader.sql("select seed, (select count(*) from prompt p where p.run_id = r.run_id) from run r order by seed").rows() == [
                (seed, 4 + seed) for seed in sorted(seeds)
            ]


AtlasMachine.TestCase.settings = settings(
    max_examples=4, stateful_step_count=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


class TestShortSequences(AtlasMachine.TestCase):  # type: ignore[misc]
    """A fixed budget, the same sequences every time."""


@pytest.mark.soak
class TestLongSequences(AtlasMachine.TestCase):  # type: ignore[misc]
    """Many, longer and random."""

    settings = settings(max_examples=300, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
