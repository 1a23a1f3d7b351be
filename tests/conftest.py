"""Fixtures that every room uses: the shared data folder and one real atlas built from the embedded model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
