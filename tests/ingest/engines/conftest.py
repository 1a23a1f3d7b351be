"""A small plan, its run by one process, and how to start further ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ingest.pipeline import run_plan
from ingest.plan import Plan, read_plan

ROOT = Path(__file__).parents[3]
SMALL = ("--max-concepts", "4", "--until", "communities", "--gate", "0", "--no-publish")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="session")
def small_plan() -> Plan:
    """What the flags SMALL say."""
    return read_plan(max_concepts=4, until="communities", gate=0.0)


@pytest.fixture(scope="session")
def single(small_plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(atlas, run id) of the small plan, done by one process."""
    folder = tmp_path_factory.mktemp("single") / "single.atlas"
    return folder, run_plan(folder, small_plan).run_id


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start `atlas ingest` of the small plan on a folder; its stderr goes to a file."""

    def run(folder: Path, log: Path, flags: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "atlas.cli", "ingest", *SMALL, "--atlas", str(folder), *flags]
        home = {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
        with log.open("w") as stream:
            return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **home, **environment}, stderr=stream, stdout=stream, text=True)

    return run
