"""Import and export from the command line: every format, every figure, graphs that come back, a paper that compiles."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import duckdb
import networkx as nx
import pyarrow.feather
import pyarrow.parquet
import pytest

import atlas
from atlas.export.figure import FIGURES
from atlas.export.table import write_table
from atlas.ids import sha256_file
from tests.atlas.commands.conftest import Atlas

QUESTION = "languages/iou_by_layer"
BEGINNINGS = {"pdf": b"%PDF", "png": b"\x89PNG", "svg": b"<?xml"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet", "arrow", "latex", "markdown", "html", "xlsx"])
def test_a_table_in_every_format_names_where_it_comes_from(run: Atlas, demo_atlas: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"iou.{ending}"
    said = run("export", "table", QUESTION, "--out", out, "--format", ending, "--param", "run=bilingual", "--atlas", demo_atlas)
    assert said.out == ""
    assert f"written: {out}" in said.err
    assert out.stat().st_size > 100
    sidecar = json.loads((tmp_path / f"iou.{ending}.provenance.json").read_text())
    with atlas.open(demo_atlas) as reader:
        (run_id,) = [row[0] for row in reader.sql("select run_id from run where name = 'bilingual'")]
        assert sidecar["manifest_hash"] == reader.manifest_hash
    assert (sidecar["question"], sidecar["run_ids"], sidecar["parameters"]["run"]) == (QUESTION, [run_id], run_id)
    assert "select" in sidecar["sql"]


def test_files_of_a_table_hold_the_answer(run: Atlas, demo_atlas: Path, tmp_path: Path) -> None:
    for ending in ("csv", "parquet", "arrow"):
        run("export", "table", QUESTION, "-o", tmp_path / f"a.{ending}", "-a", demo_atlas)
    with atlas.open(demo_atlas) as reader:
        answer = reader.ask(QUESTION).arrow().to_pylist()
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == answer
    assert pyarrow.feather.read_table(tmp_path / "a.arrow").to_pylist() == answer
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["same_concept"]) for row in rows] == [row["same_concept"] for row in answer]


def test_an_import_with_scores_of_its_own_is_in_order(run: Atlas, thesis_atlas: Path) -> None:
    """Publish computes scores and effects beside those that the files publish; `atlas check` took them for damage."""
    assert "all hashes, counts and references are right" in run("check", "--atlas", thesis_atlas).err


def test_the_query_of_a_sidecar_gives_the_file_again(run: Atlas, demo_atlas: Path, tmp_path: Path) -> None:
    run("export", "table", "languages/bilingual_features", "-p", "rate=0.3", "-o", tmp_path / "a.csv", "-a", demo_atlas)
    said = json.loads((tmp_path / "a.csv.provenance.json").read_text())
    assert said["parameters"]["rate"] == 0.3
    with duckdb.connect(str(demo_atlas / "atlas.duckdb"), read_only=True) as con:
        rows = con.sql(said["sql"], params=said["parameters"]).to_arrow_table()
    write_table(rows, tmp_path / "again.csv")
    assert sha256_file(tmp_path / "again.csv") == said["sha256"]
    assert rows.num_rows == said["n_rows"] > 0


def test_a_table_goes_to_a_pipe(run: Atlas, demo_atlas: Path) -> None:
    said = run("export", "table", "--sql", "select name from run order by name", "-a", demo_atlas)
    assert {"bilingual", "control"} <= {row["name"] for row in said.rows}
    said = run("export", "table", QUESTION, "-f", "latex", "--label", "tab:iou", "-a", demo_atlas)
    assert r"\toprule" in said.out
    assert r"\label{tab:iou}" in said.out


def test_a_question_and_sql_together_are_refused(run: Atlas, demo_atlas: Path) -> None:
    said = run("export", "table", QUESTION, "--sql", "select 1", "-a", demo_atlas, code=2)
    assert "not both" in said.err


def test_figures_are_listed_with_their_questions(run: Atlas) -> None:
    assert {row["figure"]: row["question"] for row in run("export", "figure").rows} == {
        kind: found.question for kind, found in FIGURES.items()
    }


@pytest.mark.parametrize("kind", sorted(FIGURES))
def test_every_figure_is_drawn_from_the_demo(run: Atlas, demo_atlas: Path, tmp_path: Path, kind: str) -> None:
    width, ending = ("page", "png") if kind in ("effects", "attribution_graph") else ("column", "svg")
    out = tmp_path / f"a.{ending}"
    run("export", "figure", kind, "-o", out, "--width", width, "--param", "run=bilingual", "-a", demo_atlas)
    assert out.read_bytes().startswith(BEGINNINGS[ending])
    sidecar = json.loads((tmp_path / f"a.{ending}.provenance.json").read_text())
    assert (sidecar["figure"], sidecar["question"]) == (kind, FIGURES[kind].question)
    assert sidecar["n_rows"] > 0
    assert len(sidecar["run_ids"]) == 1


def test_a_figure_is_named_by_its_question_too_and_needs_no_file_name(run: Atlas, demo_atlas: Path, tmp_path: Path) -> None:
    run("export", "figure", "iou_by_layer", "-f", "pdf", "-a", demo_atlas)
    assert (tmp_path / "language_iou.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pie"], "No figure 'pie'"),
        (["effects", "--width", "poster"], "no width 'poster'"),
        (["effects", "-o", "a.gif"], "The ending of a.gif names no format"),
        (["effects", "--param", "rule=nothing"], "rule = 'nothing' is not one of"),
        (["effects", "--param", "run=nobody"], "no complete run 'nobody'"),
    ],
)
def test_a_wrong_figure_is_refused_with_what_there_is(
    run: Atlas, demo_atlas: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert words in run("export", "figure", *arguments, "-a", demo_atlas, code=2).err
    assert list(tmp_path.iterdir()) == []


def read_graph(path: Path) -> nx.MultiDiGraph:
    return (nx.read_gexf if path.suffix == ".gexf" else nx.read_graphml)(path)


@pytest.mark.parametrize("ending", ["graphml", "gexf"])
def test_a_graph_comes_back_with_all_nodes_and_edges(run: Atlas, demo_atlas: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a.{ending}"
    said = run("export", "graph", "0", "-o", out, "--run", "bilingual", "-a", demo_atlas)
    found = read_graph(out)
    with atlas.open(demo_atlas) as reader:
        ((n_nodes, n_edges),) = reader.sql(
            "select n_nodes, n_edges from graph join run using (run_id) where graph = 0 and run.name = 'bilingual'"
        )
    assert (found.number_of_nodes(), found.number_of_edges()) == (n_nodes, n_edges)
    assert f"{n_nodes:,} nodes, {n_edges:,} edges" in said.err
    kinds = {data["kind"] for _, _, data in found.edges(data=True)}
    assert {"star_total", "virtual_weight"} <= kinds


def test_a_graph_is_named_and_cut_to_what_is_kept(run: Atlas, demo_atlas: Path, tmp_path: Path) -> None:
    run("export", "graph", "train", "-o", "whole.graphml", "-a", demo_atlas)
    run("export", "graph", "train", "-o", "kept.graphml", "--kept", "--kind", "causal", "-a", demo_atlas)
    whole, kept = read_graph(tmp_path / "whole.graphml"), read_graph(tmp_path / "kept.graphml")
    causal = [data for _, _, data in whole.edges(data=True) if data["kind"] == "causal" and data["accepted"]]
    assert 0 < kept.number_of_edges() == len(causal) < whole.number_of_edges()
    assert all(data["kept"] for _, data in kept.nodes(data=True))


def test_a_graph_that_is_not_there_is_refused_with_those_that_are(run: Atlas, demo_atlas: Path) -> None:
    said = run("export", "graph", "nothing", "-a", demo_atlas, code=2)
    assert "antonyms, train" in said.err
    said = run("export", "graph", "0", "-f", "json", "--run", "bilingual", "-a", demo_atlas, code=2)
    assert "Export it as graphml or gexf" in said.err


def test_an_imported_attribution_graph_is_exported_as_it_was(run: Atlas, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "graphs" / "the-opposite-of.json"
    run("import", "graph", source, "--atlas", "a.atlas")
    run("export", "graph", "-o", "back.json")
    before, after = (json.loads(path.read_text()) for path in (source, tmp_path / "back.json"))
    assert {node["node_id"] for node in after["nodes"]} == {node["node_id"] for node in before["nodes"]}
    assert {(link["source"], link["target"]) for link in after["links"]} == {(link["source"], link["target"]) for link in before["links"]}
    assert after["metadata"]["prompt"] == before["metadata"]["prompt"]


def test_an_import_again_changes_nothing_and_a_broken_one_leaves_nothing(run: Atlas, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "graphs" / "the-opposite-of.json"
    run("import", "graph", source, "--atlas", "a.atlas")
    assert "was there already" in run("import", "graph", source, "--atlas", "a.atlas", "--no-publish").err
    (tmp_path / "broken.json").write_text(source.read_text()[:-200])
    said = run("import", "graph", "broken.json", "--atlas", "b.atlas", code=3)
    assert "broken.json" in said.err
    assert not (tmp_path / "b.atlas").exists() or run("runs", "list", "--atlas", "b.atlas", "-f", "csv").rows == []


def compile_tex(folder: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("pdflatex is absent; docs/export.md says how to install a LaTeX")
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "results.tex"]
    found = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = found.stdout.decode(errors="replace")
    assert found.returncode == 0, log[-2000:]
    assert "Overfull" not in log
    assert (folder / "results.pdf").read_bytes().startswith(b"%PDF")


def test_a_paper_of_the_demo_compiles(run: Atlas, demo_atlas: Path, tmp_path: Path) -> None:
    said = run("export", "paper", "results", "--run", "bilingual", "--author", "Doe, Jane", "-a", demo_atlas)
    contents = json.loads((tmp_path / "results" / "contents.json").read_text())
    assert f"{len(contents['tables'])} tables, {len(contents['figures'])} figures" in said.err
    assert set(contents["figures"]) == set(FIGURES)
    assert {"interventions/effects", "languages/bilingual_features", "behaviours/baseline"} <= set(contents["tables"])
    assert (tmp_path / "results" / "CITATION.cff").read_text().count("Doe") == 1
    compile_tex(tmp_path / "results")


def test_a_paper_of_the_thesis_compiles(run: Atlas, thesis_atlas: Path, tmp_path: Path) -> None:
    run("export", "paper", "results", "--run", "multilingual_circuits_b1", "-a", thesis_atlas)
    contents = json.loads((tmp_path / "results" / "contents.json").read_text())
    assert {"language_iou", "community_language", "attribution_graph"} <= set(contents["figures"])
    compile_tex(tmp_path / "results")
