"""Exported tables: every format gives back its data, rounds as it should, escapes data, and has a sidecar."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas.errors import UsageError
from atlas.export.numbers import formatted_floats, intervals
from atlas.export.provenance import Provenance, sidecar_path
from atlas.export.table import FORMATS, write_table

NASTY = ['a|b_c & 50% {x} $y$ # ~ ^ \\ "q"', " large", "<b>fâché</b>\nline", "=1+1", "中文", None]


@pytest.fixture
def result() -> pa.Table:
    n = len(NASTY)
    return pa.table(
        {
            "run_id": pa.array(["00000000000000aa"] * n),
            "feature": pa.array([163840, 7, -1, 0, 5, None], pa.int32()),
            "mean": pa.array([0.123456, -12.3456, 1e-9, 0.5, float("nan"), None]),
            "ci_low": pa.array([0.1, -14.0, -1e-9, 0.5, None, None]),
            "ci_high": pa.array([0.15, -10.0, 3e-9, 0.5, None, None]),
            "p_value": pa.array([0.00001, 0.5, 0.0123, 1.0, 0.0, None]),
            "strength": pa.array([0.1, 2.5, 3.0, 0.0, float("inf"), None], pa.float32()),
            "token": pa.array(NASTY),
            "nodes": pa.array([[1, 2], [], None, [3], [4], [5]], pa.list_(pa.int32())),
            "flag": pa.array([True, False, None, True, True, False]),
        }
    )


def write(result: pa.Table, path: Path, **words: str) -> str:
    write_table(
        result, path, provenance=Provenance(question="languages/iou", sql="select 1", parameters={"rate": 0.2}, manifest=3), **words
    )
    return path.read_text(encoding="utf-8") if path.suffix not in (".parquet", ".arrow", ".xlsx") else ""


@pytest.mark.parametrize("name", FORMATS)
def test_every_file_has_a_sidecar_that_leads_back(result: pa.Table, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"out.{name}"
    written = write_table(result, path, name, provenance=Provenance(question="q", sql="select 1", parameters={"rate": 0.2}, manifest=3))
    assert written == [path, sidecar_path(path)]
    said = json.loads(sidecar_path(path).read_text())
    assert said["run_ids"] == ["00000000000000aa"]
    assert (said["question"], said["sql"], said["parameters"], said["manifest"]) == ("q", "select 1", {"rate": 0.2}, 3)
    assert said["file"] == path.name
    assert said["n_rows"] == 6
    if name in ("latex", "markdown", "html"):
        assert f"{path.name}.provenance.json" in path.read_text()


@pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_delimited_files_keep_every_digit_and_every_character(result: pa.Table, tmp_path: Path, name: str, delimiter: str) -> None:
    write(result, tmp_path / f"out.{name}")
    with (tmp_path / f"out.{name}").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter=delimiter))
    assert [row["token"] for row in rows] == [value or "" for value in NASTY]
    assert [float(row["mean"]) for row in rows[:4]] == [0.123456, -12.3456, 1e-9, 0.5]
    assert [row["strength"] for row in rows] == ["0.1", "2.5", "3.0", "0.0", "inf", ""]
    assert (rows[0]["nodes"], rows[0]["flag"], rows[2]["flag"]) == ("[1, 2]", "true", "")


def test_a_carriage_return_does_not_end_a_row_and_null_is_no_empty_text(tmp_path: Path) -> None:
    texts = ["a\rb", "", None, "c\r\nd", '"', ","]
    write_table(pa.table({"token": texts, "n": pa.array([1, 2, 3, 4, 5, 6])}), tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))[1:]
    assert [row[0] for row in rows] == [value or "" for value in texts]
    assert '\n"",2\n,3\n' in (tmp_path / "out.csv").read_bytes().decode()
    write_table(pa.table({"token": [None, "x"]}), tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_text() == 'token\n""\nx\n'


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_answer_gives_the_same_bytes_at_another_time(result: pa.Table, tmp_path: Path, name: str) -> None:
    (tmp_path / "again").mkdir()
    write(result, tmp_path / f"out.{name}")
    write(result, tmp_path / "again" / f"out.{name}")
    assert (tmp_path / f"out.{name}").read_bytes() == (tmp_path / "again" / f"out.{name}").read_bytes()


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_json_holds_the_rows_with_null_for_what_it_cannot_say(result: pa.Table, tmp_path: Path, name: str) -> None:
    text = write(result, tmp_path / f"out.{name}")
    rows = json.loads(text) if name == "json" else [json.loads(line) for line in text.splitlines()]
    assert [row["token"] for row in rows] == NASTY
    assert rows[4]["mean"] is None
    assert rows[0]["nodes"] == [1, 2]


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_arrow_formats_give_the_same_table_back(result: pa.Table, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"out.{name}"
    write(result, path, title="T")
    back = pq.read_table(path) if name == "parquet" else pa.ipc.open_file(path).read_all()
    assert back.schema.metadata[b"title"] == b"T"
    back = back.replace_schema_metadata(None)
    assert back.schema == result.schema
    for column in result.column_names:
        if not pa.types.is_floating(result.schema.field(column).type):
            assert back[column].equals(result[column])
        else:
            np.testing.assert_array_equal(back[column].to_numpy(), result[column].to_numpy())


def test_numbers_are_rounded_by_their_interval(result: pa.Table) -> None:
    assert intervals(result.column_names) == {"mean": ("ci_low", "ci_high")}
    shown = formatted_floats(result)
    assert (shown["mean"][0], shown["ci_low"][0], shown["ci_high"][0]) == ("0.123", "0.100", "0.150")
    assert (shown["mean"][1], shown["ci_low"][1], shown["ci_high"][1]) == ("-12.3", "-14.0", "-10.0")
    assert shown["mean"][2] == "1.0e-09"
    assert shown["mean"][4:] == ["nan", None]
    assert shown["p_value"] == ["1.0e-05", "0.50", "0.012", "1.00", "0.000", None]


def test_a_number_beyond_a_doubles_digits_is_written_with_an_exponent() -> None:
    shown = formatted_floats(pa.table({"x": [1e300, -2.5e15, 12.0, None]}))
    assert shown["x"] == ["1.000e+300", "-2.500e+15", "12", None]


def test_intervals_are_found_by_name() -> None:
    assert intervals(["n", "control_mean", "control_low", "control_high"]) == {"control_mean": ("control_low", "control_high")}
    assert intervals(["layer", "iou", "ci_low", "ci_high"]) == {"iou": ("ci_low", "ci_high")}
    assert intervals(["n_correct", "accuracy", "low", "high"]) == {"accuracy": ("low", "high")}
    assert intervals(["layer_low", "layer_high", "rate", "rate_low", "rate_high"]) == {"rate": ("rate_low", "rate_high")}


def test_latex_escapes_data(result: pa.Table, tmp_path: Path) -> None:
    text = write(result, tmp_path / "out.latex", title="T", caption="100 % of L20_F7", label="tab:x_y")
    assert r"\caption{100 \% of L20\_F7}" in text
    assert r"\label{tab:x-y}" in text
    assert r"a\textbar{}b\_c \& 50\% \{x\} \$y\$ \# \textasciitilde{} \textasciicircum{} \textbackslash{} \textquotedbl{}q" in text
    assert r"\textvisiblespace{}large" in text
    assert r"\texttt{[U+4E2D]}\texttt{[U+6587]}" in text
    assert r"\textless{}b\textgreater{}fâché" in text
    assert "S[table-format=-6, group-digits=none]" in text
    assert r"\toprule" in text


def test_markdown_and_html_escape_data(result: pa.Table, tmp_path: Path) -> None:
    table = [line for line in write(result, tmp_path / "out.markdown").splitlines() if line.startswith("|")]
    assert len(table) == 8
    unescaped = [line.replace("\\|", "").count("|") for line in table]
    assert len(set(unescaped)) == 1
    cells: list[str] = []

    class Cells(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag != "b"
            if tag == "td":
                cells.append("")

        def handle_data(self, data: str) -> None:
            if cells:
                cells[-1] += data

    Cells().feed(write(result, tmp_path / "out.html"))
    tokens = cells[result.column_names.index("token") :: result.num_columns]
    assert [token.strip("\n") for token in tokens][:5] == NASTY[:5]


def test_a_workbook_keeps_numbers_and_holds_no_formula(result: pa.Table, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    write(result, tmp_path / "out.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx")["data"]
    rows = list(sheet.iter_rows(min_row=2))
    token, mean = (result.column_names.index(name) for name in ("token", "mean"))
    assert (rows[3][token].value, rows[3][token].data_type) == ("=1+1", "s")
    assert (rows[0][mean].value, rows[0][mean].number_format) == (0.123456, "0.000")
    assert [row[token].value for row in rows] == NASTY


def test_a_workbook_holds_no_time(result: pa.Table, tmp_path: Path) -> None:
    write(result, tmp_path / "out.xlsx")
    with zipfile.ZipFile(tmp_path / "out.xlsx") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.read("docProps/core.xml").count(b">1980-01-01T00:00:00Z<") == 2


def test_stdout_gets_data_and_no_sidecar(result: pa.Table, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert write_table(result, "-") == []
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode(), newline="")))
    assert len(rows) == 6


def test_rows_that_are_left_out_are_said(result: pa.Table, tmp_path: Path) -> None:
    write_table(result, tmp_path / "out.md", max_rows=2)
    assert "First 2 of 6 rows." in (tmp_path / "out.md").read_text()
    write_table(result, tmp_path / "out.csv", max_rows=2)
    assert len((tmp_path / "out.csv").read_text().splitlines()) >= 7


def test_an_empty_result_is_a_table_without_rows(result: pa.Table, tmp_path: Path) -> None:
    for name in FORMATS:
        assert write_table(result.slice(0, 0), tmp_path / f"empty.{name}", name)
    assert (tmp_path / "empty.csv").read_text().count("\n") == 1


def test_an_unknown_format_is_refused(result: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The ending of .*out\.docx names no format"):
        write_table(result, tmp_path / "out.docx")
    with pytest.raises(UsageError, match="no table format 'docx'"):
        write_table(result, tmp_path / "out.csv", "docx")
    with pytest.raises(UsageError, match="out has no ending that names a format"):
        write_table(result, tmp_path / "out")
    with pytest.raises(UsageError, match=r"There is no folder .*nowhere"):
        write_table(result, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError, match=r"folder\.csv is a folder"):
        write_table(result, tmp_path / "folder.csv")
