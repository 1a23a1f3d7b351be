"""Fixtures of the store's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.folder import Atlas
from atlas.publish import publish
from tests.atlas.samples import make_atlas


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    """An atlas with one finished run, not published."""
    return make_atlas(tmp_path / "sample.atlas")


@pytest.fixture
def published(atlas: Atlas) -> Atlas:
    """An atlas with one finished, published run."""
    publish(atlas.path)
    return atlas
