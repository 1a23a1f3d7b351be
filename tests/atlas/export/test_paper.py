"""A paper's folder: everything that has an answer, what was left out and why, and a document that compiles."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from atlas.errors import QueryError, UsageError
from atlas.export.dictionary import data_dictionary
from atlas.export.latex import PREAMBLE, width_of
from atlas.export.paper import MOST_COLUMNS, WIDEST, citation, narrowed, printable, write_paper
from atlas.export.table import write_table
from atlas.schema import TABLES, schema_text, table_columns

RUN = {"run_id": "00000000000000aa", "name": "a_run & more", "method": "100 % imported", "finished_at": "2026-03-04 05:06:07"}


@dataclass(frozen=True)
class Parameter:
    name: str
    required: bool = False
    default: object = None


@dataclass(frozen=True)
class Question:
    name: str
    parameters: tuple[Parameter, ...] = (Parameter("run"),)
    sql: str = "select 1"

    @property
    def title(self) -> str:
        return f"What of {self.name}?"


QUESTIONS = {
    question.name: question
    for question in (
        Question("interventions/dose_response"),
        Question("interventions/effects", (Parameter("run"), Parameter("split", default="all"))),
        Question("languages/tokens"),
        Question("graphs/strongest_edges"),
        Question("languages/nothing"),
        Question("languages/unknown"),
        Question("features/card", (Parameter("run"), Parameter("feature", required=True))),
        Question("provenance/runs", ()),
    )
}
ANSWERS = {
    "interventions/dose_response": pa.table(
        {
            "members": ["L1_F2"] * 3,
            "strength": [0.0, 1.0, 2.0],
            "mean": [-0.5, 0.0, 0.4],
            "ci_low": [-0.7, 0.0, 0.2],
            "ci_high": [-0.3, 0.0, 0.6],
        }
    ),
    "interventions/effects": pa.table({"effect_of": ["x"], "mean": [1.0]}),
    "languages/tokens": pa.table(
        {
            "place": list(range(40)),
            "rule": ["zero"] * 40,
            "empty": pa.array([None] * 40, pa.float64()),
            "token": [" large", "a_b & 50% {x} $y$ #~^\\", "中文", "é" * 80, "<b>|\n"] * 8,
        }
    ),
}


def ask(name: str, *, run: str, **parameters: object) -> pa.Table:
    assert run == RUN["run_id"]
    if name == "graphs/strongest_edges":
        edges = pa.table({"source": [0], "target": [1], "weight": [0.5], "source_name": [" a"], "target_name": ["L3_F1 @1"]})
        return edges if parameters.get("kind") == "attribution" else edges.slice(0, 0)
    if name == "languages/unknown":
        raise UsageError("no run has rows of layer_score")
    return ANSWERS.get(name, ANSWERS["languages/tokens"].slice(0, 0))


def paper(folder: Path) -> None:
    write_paper(folder, questions=QUESTIONS, ask=ask, run=RUN, schema_sql=schema_text(), authors=["Doe, Jane", "A Group"])


def test_everything_with_an_answer_is_written_and_the_rest_is_said(tmp_path: Path) -> None:
    paper(tmp_path)
    said = json.loads((tmp_path / "contents.json").read_text())
    assert said["tables"] == ["interventions/dose_response", "interventions/effects", "languages/tokens"]
    assert said["figures"] == ["dose_response", "attribution_graph"]
    assert said["left_out"]["graphs/strongest_edges"] == "no rows"
    assert said["left_out"]["languages/nothing"] == "no rows"
    assert said["left_out"]["languages/unknown"] == "no run has rows of layer_score"
    assert said["left_out"]["features/card"] == "needs feature"
    assert said["left_out"]["provenance/runs"] == "speaks of the whole atlas, not of one run"
    assert "needs column 'name'" in said["left_out"]["figure effects"]
    for name in ("tables/languages-tokens.csv", "tables/languages-tokens.tex", "figures/dose_response.pdf", "data-dictionary.csv"):
        sidecar = json.loads((tmp_path / f"{name}.provenance.json").read_text())
        assert sidecar["file"] == Path(name).name
    assert sidecar["code_version"]
    provenance = json.loads((tmp_path / "tables/languages-tokens.csv.provenance.json").read_text())
    assert (provenance["run_ids"], provenance["question"]) == ([RUN["run_id"]], "languages/tokens")


def test_sidecars_name_every_parameter_also_one_at_its_default(tmp_path: Path) -> None:
    paper(tmp_path)

    def parameters(name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((tmp_path / f"{name}.provenance.json").read_text())["parameters"]
        return found

    assert parameters("tables/interventions-effects.csv") == {"run": RUN["run_id"], "split": "all"}
    # The figure was drawn from the same question with other parameters: its table has no rows.
    assert parameters("figures/attribution_graph.pdf")["kind"] == "attribution"
    assert "kind" not in parameters("figures/dose_response.pdf")


def test_printed_tables_are_cut_and_say_so_while_the_csv_is_whole(tmp_path: Path) -> None:
    paper(tmp_path)
    printed = (tmp_path / "tables/languages-tokens.tex").read_text()
    assert "First 25 of 40 rows." in printed
    assert "(rule = zero)" in printed
    with (tmp_path / "tables/languages-tokens.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 40
    assert rows[3]["token"] == "é" * 80


def test_columns_that_never_vary_become_words() -> None:
    kept, constants = printable(ANSWERS["languages/tokens"])
    assert kept.column_names == ["place", "token"]
    assert constants == "rule = zero"
    shares, _ = printable(pa.table({"n": [1, 2], "shares": [[0.8529659833333, 0.1], [0.5, 2.0]]}))
    assert shares["shares"].to_pylist() == ["0.853, 0.1", "0.5, 2"]
    one_row, none = printable(ANSWERS["interventions/effects"])
    assert (one_row.column_names, none) == (["effect_of", "mean"], "")


def test_a_table_too_wide_to_read_loses_its_widest_texts_and_says_so(tmp_path: Path) -> None:
    wide = pa.table({"layer": [1, 2], "note": ["n" * 44] * 2, **{f"tokens_{i}": ["t" * (30 + i), "u"] for i in range(9)}, "n": [3, 4]})
    kept, left_out = narrowed(wide)
    assert width_of(wide) > WIDEST >= width_of(kept)
    assert left_out == ["tokens_1", "tokens_2", "tokens_3", "tokens_4"]  # all are cut to one length: the first of them go
    assert kept.column_names[0] == "layer"
    assert max(len(value) for value in kept["note"].to_pylist()) < 44
    assert narrowed(kept.select(["layer", "n"])) == (kept.select(["layer", "n"]), [])


def test_one_row_of_many_columns_stands_upright() -> None:
    row = {f"column_{number}": [number + 0.123456] for number in range(MOST_COLUMNS)} | {"tokens": [["a", "b"]]}
    upright, _ = printable(pa.table(row))
    assert upright.column_names == ["column", "value"]
    assert upright.num_rows == MOST_COLUMNS + 1
    assert upright.to_pylist()[1] == {"column": "column 1", "value": "1.123"}


def test_a_query_that_fails_is_not_taken_for_an_empty_answer(tmp_path: Path) -> None:
    def broken(name: str, *, run: str) -> pa.Table:
        raise QueryError("no such column")

    with pytest.raises(QueryError, match="no such column"):
        write_paper(tmp_path, questions=QUESTIONS, ask=broken, run=RUN, schema_sql="")


def test_a_run_without_answers_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no question has an answer from run 00000000000000aa"):
        write_paper(tmp_path / "p", questions={"languages/nothing": QUESTIONS["languages/nothing"]}, ask=ask, run=RUN, schema_sql="")
    assert not (tmp_path / "p").exists()


def test_a_file_in_the_folders_place_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "paper").write_text("mine")
    with pytest.raises(UsageError, match="paper is a file"):
        paper(tmp_path / "paper")
    assert (tmp_path / "paper").read_text() == "mine"


def test_the_data_dictionary_is_the_schema() -> None:
    rows = data_dictionary(schema_text()).to_pylist()
    assert [row["table"] for row in rows if row["column"] == ""] == list(TABLES)
    for table in TABLES:
        columns = [row["column"] for row in rows if row["table"] == table and row["column"]]
        assert columns == list(table_columns(table))
    assert all(row["meaning"] for row in rows)
    effect = next(row for row in rows if (row["table"], row["column"]) == ("outcome", "effect"))
    assert (effect["type"], effect["nullable"], effect["meaning"]) == ("float", False, "after - before")
    quoted = next(row for row in rows if (row["table"], row["column"]) == ("transcoder", "gain_folded"))
    assert quoted["meaning"] == "whether the norm's gain is already in the encoder"


def test_the_citation_is_yaml_with_what_cff_requires() -> None:
    said = yaml.safe_load(citation('A "title": x', ["Doe, Jane", "A Group"], RUN))
    assert said["cff-version"] == "1.2.0"
    assert said["title"] == 'A "title": x'
    assert said["authors"] == [{"family-names": "Doe", "given-names": "Jane"}, {"name": "A Group"}]
    assert str(said["date-released"]) == "2026-03-04"
    assert {"message", "type", "version"} <= set(said)
    assert yaml.safe_load(citation("t", [], RUN))["authors"] == [{"name": "The authors of run 00000000000000aa"}]


def compile_tex(folder: Path, name: str) -> str:
    """Compile with pdflatex; returns its log. Skips where there is none."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip(
            "pdflatex is absent (Debian: apt-get install --no-install-recommends texlive-latex-recommended texlive-science lmodern)"
        )
    found = subprocess.run([program, "-interaction=nonstopmode", "-halt-on-error", name], cwd=folder, capture_output=True, check=False)
    log = found.stdout.decode(errors="replace")
    assert found.returncode == 0, log[-2000:]
    return log


def test_results_tex_compiles_by_itself(tmp_path: Path) -> None:
    paper(tmp_path)
    log = compile_tex(tmp_path, "results.tex")
    assert (tmp_path / "results.pdf").read_bytes().startswith(b"%PDF")
    assert "Undefined control sequence" not in log


def test_a_table_of_every_character_compiles(tmp_path: Path) -> None:
    characters = [chr(code) for code in [*range(0x20, 0x180), 0x2013, 0x2026, 0x2264, 0x3B1, 0x4E2D, 0x1F600]]
    table = pa.table({"n": list(range(len(characters))), "character": characters, "value": [1.5e-7] * len(characters)})
    write_table(table.slice(0, 45), tmp_path / "a.tex", label="tab:a")
    parts = [r"\documentclass{article}", PREAMBLE, r"\begin{document}"]
    for start in range(0, len(characters), 45):
        write_table(table.slice(start, 45), tmp_path / f"t{start}.tex", label=f"tab:{start}")
        parts.append(rf"\input{{t{start}.tex}}\clearpage")
    (tmp_path / "all.tex").write_text("\n".join([*parts, r"\end{document}"]))
    compile_tex(tmp_path, "all.tex")
