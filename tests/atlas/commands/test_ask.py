"""`atlas ask-text` and `atlas steer` on the demo atlas: tables, formats, files, pipes, refusals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atlas.cli import app
from atlas.errors import AtlasError, InputError, UsageError

RUNNER = CliRunner()


def run(demo: Path, *words: str, text: str | None = None) -> Result:
    result = RUNNER.invoke(app, [words[0], "--atlas", str(demo), *words[1:]], input=text)
    if isinstance(result.exception, AtlasError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_rows_of_a_text_are_data_and_narration_is_not(demo_atlas: Path) -> None:
    filters = ("--token", "hot", "--density", "0.05", "--score", "lape<0.6")
    result = run(demo_atlas, "ask-text", "The opposite of hot is", *filters, "--top", "4")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert 0 < len(rows) <= 4
    assert all(row["token"] == " hot" and float(row["density"]) <= 0.05 and float(row["lape"]) < 0.6 for row in rows)
    assert "activations of" in result.stderr


def test_texts_come_from_files_and_pipes(demo_atlas: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("The opposite of hot is\n\nLe contraire de chaud est\n", encoding="utf-8")
    lines = run(demo_atlas, "ask-text", "--file", str(path), "--lines", "--top", "1", "-f", "jsonl").stdout.splitlines()
    assert {json.loads(line)["text"] for line in lines} == {0, 1}
    piped = run(demo_atlas, "ask-text", "-", "--top", "1", "-f", "jsonl", text="The opposite of hot is\n").stdout.splitlines()
    assert [json.loads(line)["name"] for line in piped] == [json.loads(line)["name"] for line in lines if json.loads(line)["text"] == 0]


def test_a_file_has_its_provenance(demo_atlas: Path, tmp_path: Path) -> None:
    out = tmp_path / "hot.csv"
    run(demo_atlas, "ask-text", "hot", "--against", "chaud", "--out", str(out))
    sidecar = json.loads((tmp_path / "hot.csv.provenance.json").read_text(encoding="utf-8"))
    assert sidecar["question"] == "ask-text"
    assert sidecar["parameters"]["against"] == "chaud"
    assert len(sidecar["run_ids"]) == 1


def test_steering_prints_every_table_or_the_one_asked_for(demo_atlas: Path) -> None:
    common = ("steer", "--set", "L3_F139", "--strengths", "0,4", "--prompt", "Le contraire de chaud est", "--max-new-tokens", "3")
    shown = run(demo_atlas, *common, "--answer", " froid", "--answer", " cold", "-f", "table").stdout
    for title in ("Continuations", "Answers", "Next tokens", "Later features"):
        assert title in shown
    rows = list(csv.DictReader(io.StringIO(run(demo_atlas, *common, "--show", "effects").stdout)))
    assert [row["set"] for row in rows] == ["L3_F139=0x", "L3_F139=4x"]
    with pytest.raises(UsageError, match="no table 'all'"):
        run(demo_atlas, *common, "--show", "all")


def test_what_is_wrong_is_said_before_the_model_is_loaded(demo_atlas: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="either a text or --file"):
        run(demo_atlas, "ask-text")
    with pytest.raises(InputError, match="cannot read"):
        run(demo_atlas, "ask-text", "--file", str(tmp_path / "absent.txt"))
    with pytest.raises(UsageError, match="says no value"):
        run(demo_atlas, "steer", "--prompt", "x", "--set", "L1_F2=much")
    with pytest.raises(UsageError, match="no complete run 'absent'"):
        run(demo_atlas, "ask-text", "hot", "--run", "absent")


def test_an_interactive_session_reads_a_pipe(demo_atlas: Path) -> None:
    result = run(demo_atlas, "ask", text="top 1\nThe opposite of hot is\nset L3_F139=4\nbogus<\nquit\n")
    assert "L3_" in result.stdout or "L2_" in result.stdout
    assert "cards of run bilingual" in result.stderr
