"""Fixtures of the store's tests: one small atlas is built and published once, and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from atlas.folder import Atlas
from atlas.publish import publish
from tests.atlas.samples import make_atlas


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `finished.atlas` (one finished run) and `published.atlas` (the same, published)."""
    folder = tmp_path_factory.mktemp("template")
    finished = make_atlas(folder / "finished.atlas")
    shutil.copytree(finished.path, folder / "published.atlas")
    publish(folder / "published.atlas")
    return folder


@pytest.fixture
def atlas(template: Path, tmp_path: Path) -> Atlas:
    """An atlas with one finished run, not published."""
    return Atlas(shutil.copytree(template / "finished.atlas", tmp_path / "sample.atlas"))


@pytest.fixture
def published(template: Path, tmp_path: Path) -> Atlas:
    """An atlas with one finished, published run."""
    return Atlas(shutil.copytree(template / "published.atlas", tmp_path / "sample.atlas"))
