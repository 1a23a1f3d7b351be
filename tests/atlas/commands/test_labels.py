"""atlas labels and atlas compare from the command line, on a small atlas of planted features."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atlas.cli import app
from atlas.errors import AtlasError, UsageError
from tests.ingest.labels import planted, stub

RUN = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.make_atlas(tmp_path_factory.mktemp("labels") / "planted.atlas").atlas.path


def run(*arguments: str) -> str:
    """Run a command and return stdout and stderr; raises what it raised."""
    result = RUN.invoke(app, list(arguments))
    if result.exception is not None:
        raise result.exception
    return result.stdout + result.stderr


def test_labels_are_made_written_and_scored(folder: Path) -> None:
    atlas = ("--atlas", str(folder))
    assert "7 feature_profile, 8 label" in run("labels", "make", *atlas, "--no-publish")
    with stub.running() as server:
        server.answer = lambda question: json.dumps({"label": "the word hot"}) if "hot" in question else "no"
        told = run(
            "labels",
            "write",
            *atlas,
            "--endpoint",
            server.url,
            "--model",
            "m",
            "--features",
            "L0_F0,L0_F1",
            "--retries",
            "0",
            "--no-publish",
        )
    assert "1 label, 1 label_failure" in told
    assert "atlas query labels/failures" in told
    told = run("labels", "score", *atlas, "--method", "detection", "--top", "4", "--per-decile", "1")
    assert "label_score" in told
    assert "published" in told
    table = run("query", "labels/scores", *atlas, "--param", "method=mechanical", "--param", "language=fr", "--format", "csv")
    assert "detection-1/rule@" in table
    assert "no answer" not in run("query", "labels/failures", *atlas, "--format", "csv")
    assert "is there already" in run("labels", "score", *atlas, "--method", "detection", "--top", "4", "--per-decile", "1", "--no-publish")


def test_two_runs_are_compared(folder: Path, tmp_path: Path) -> None:
    other = planted.make_atlas(tmp_path / "other.atlas").atlas.path
    table = run("compare", str(folder), str(other), "--by", "coactivation", "--format", "csv")
    rows = [line.split(",")[:4] for line in table.splitlines() if line.startswith("coactivation")]
    assert rows == [["coactivation", "0", "identical", "7"]]
    listed = run("compare", str(folder), str(other), "--by", "coactivation", "--relation", "identical", "--format", "csv")
    assert sum(line.startswith("coactivation") for line in listed.splitlines()) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels", "make", "--kind", "magic"], "cannot be made"),
        (["labels", "write", "--endpoint", "http://192.0.2.1/v1", "--model", "m", "--top", "1"], "is not this machine"),
        (["labels", "write", "--endpoint", "http://127.0.0.1:1/v1", "--model", "m"], "which features"),
        (["labels", "write", "--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--top", "1", "--timeout", "0"], "--timeout 0"),
        (["labels", "write", "--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--top", "1"], "nobody listens"),
        (["labels", "score", "--scorer", "endpoint"], "needs --endpoint and --model"),
        (["labels", "score", "--scorer", "oracle"], "--scorer 'oracle'"),
        (["labels", "score", "--method", "vibes"], "--method 'vibes'"),
        (["labels", "score", "--features", "L9_F9"], "no feature L9_F9"),
        (["labels", "score", "--features", "L0_F0", "--top", "3"], "not both"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(AtlasError, match=message):
        run(*arguments, "--atlas", str(folder), "--no-publish")


def test_comparisons_that_mean_nothing_are_refused(folder: Path) -> None:
    for arguments, message in (
        ([], "what is to be compared"),
        ([str(folder), "--by", "taste"], "--by 'taste'"),
        ([str(folder), "--part", "0.9"], "--part 0.9"),
        ([str(folder), "--by", "coactivation", "--relation", "friends"], "--relation 'friends'"),
    ):
        with pytest.raises(UsageError, match=message):
            run("compare", str(folder), *arguments)
