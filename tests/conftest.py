"""Fixtures that every room uses: the shared data folder and one real atlas built from the embedded model."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Two workers share two cores, and matrices are small: more threads only wait for each other (here and in started processes)."""


def shared_data_folder() -> Path | None:
    """Return the folder of real data, None where it is absent."""
    folder = Path(os.environ.get("ATLAS_SHARED_DATA") or "../shared/data")
    folder = folder if folder.is_absolute() else ROOT / folder
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; the test is skipped, with the reason, where it is absent."""
    folder = shared_data_folder()
    if folder is None:
        pytest.skip("the shared data folder is absent (set ATLAS_SHARED_DATA to test on real results)")
    return folder


@pytest.fixture(scope="session")
def demo_atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo atlas, as `atlas demo` builds it, once for all workers of a test session. Read it; do not change it.

    ATLAS_DEMO names one that is there already, so that a developer does not build it again for every run.
    """
    if given := os.environ.get("ATLAS_DEMO"):
        yield Path(given)
        return
    import queries
    from atlas.publish import publish
    from ingest.demo import build_demo

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if os.environ.get("PYTEST_XDIST_WORKER") else shared
    folder, finished = shared / "demo.atlas", shared / "demo.finished"
    with (shared / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            build_demo(folder)
            publish(folder, build=queries.build_steps(), audits=queries.audits())
            finished.touch()
    yield folder
