"""A run stopped by SIGKILL within the interventions or the circuits stage goes on, when the same plan is given again, to equal tables."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
from dataclasses import asdict
from pathlib import Path

import pytest

from atlas.check import check
from atlas.runs import list_runs, tables_equal
from ingest.pipeline import run_plan
from ingest.plan import Plan, read_plan
from tests.ingest.random_directory import write_model, write_transcoders


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan over all stages, small in every respect."""
    folder = tmp_path_factory.mktemp("random")
    return Plan(
        model=str(write_model(folder / "model")),
        transcoders=str(write_transcoders(folder / "transcoders")),
        layers=(1, 2),
        max_concepts=24,
        gate=0.0,
        graph_features=12,
        attributed_prompts=0,
        ablated_features=4,
        edited_prompts=64,
        top_features=3,
        control_draws=4,
        circuit_prompts=8,
        random_circuits=4,
        transfer_concepts=2,
        steering=(2.0,),
    )


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An atlas with the whole run, and the run."""
    folder = tmp_path_factory.mktemp("whole") / "a.atlas"
    return folder, run_plan(folder, plan).run_id


def _run_and_die(folder: str, plan: str, where: str) -> None:
    """Run a plan in this process and kill it, as the system does, in the middle of a stage."""
    module, name = {"interventions": ("ingest.interventions", "run_jobs"), "circuits": ("ingest.circuits", "evaluate_circuits")}[where]
    place = importlib.import_module(module)
    work = getattr(place, name)

    def deadly(*arguments: object, **named: object) -> object:
        result = work(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, name, deadly)
    run_plan(Path(folder), read_plan(**json.loads(plan)))


def test_a_run_killed_within_interventions_and_again_within_circuits_goes_on_to_equal_tables(
    plan: Plan, whole: tuple[Path, str], tmp_path: Path
) -> None:
    finished, run_id = whole
    folder = tmp_path / "killed.atlas"
    committed: dict[Path, int] = {}
    for stage, had in (("interventions", "graph"), ("circuits", "interventions")):
        process = multiprocessing.get_context("spawn").Process(target=_run_and_die, args=(str(folder), json.dumps(asdict(plan)), stage))
        process.start()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
        assert list_runs(folder).num_rows == 0
        done = {path.stem.split("-")[0] for path in folder.glob("runs/*/done/*.json")}
        assert had in done
        assert stage not in done
        assert {path: path.stat().st_mtime_ns for path in committed} == committed  # what was committed is not done again
        committed = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/done/*.json")}
    resumed = run_plan(folder, plan)
    assert (resumed.run_id, resumed.was_complete) == (run_id, False)
    assert {path: path.stat().st_mtime_ns for path in committed} == committed
    assert tables_equal(folder, finished, run_id) == []
    assert check(folder) == []
