"""The command line in this process: what it prints, and its exit code as `main` gives it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atlas.cli import app
from atlas.errors import AtlasError


@dataclass(frozen=True)
class Said:
    """What a command gave."""

    code: int
    out: str
    err: str
    data: bytes

    @property
    def rows(self) -> list[dict[str, str]]:
        """Stdout as csv."""
        return list(csv.DictReader(io.StringIO(self.out)))


Atlas = Callable[..., Said]


def run_atlas(*arguments: str | Path) -> Said:
    """Run a command; an AtlasError becomes message and exit code, as in `atlas.cli.main`."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    code, err = result.exit_code, result.stderr
    if isinstance(result.exception, AtlasError):
        code, err = result.exception.exit_code, f"{err}atlas: {result.exception}"
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(code, result.stdout, err, result.stdout_bytes)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Atlas:
    """`run("query", …, code=0)` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATLAS", raising=False)

    def checked(*arguments: str | Path, code: int = 0) -> Said:
        said = run_atlas(*arguments)
        assert said.code == code, said.err
        return said

    return checked


@pytest.fixture(scope="session")
def thesis_atlas(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of the three run folders of the thesis, imported and published from the command line."""
    folder = tmp_path_factory.mktemp("thesis") / "thesis.atlas"
    names = ("mc", "grammar_agreement", "b1_v1")
    for name in names:
        more = [] if name == names[-1] else ["--no-publish"]
        said = run_atlas("import", "thesis", shared_data / "thesis" / name, "--atlas", folder, *more)
        assert said.code == 0, said.err
        assert "is imported" in said.err
    return folder
