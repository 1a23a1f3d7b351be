"""Exported graphs: what Gephi and circuit-tracer's front end read is what is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx
import pyarrow as pa
import pytest

from atlas.errors import UsageError
from atlas.export.graph import FORMATS, cumulative_influence, write_graph
from atlas.export.provenance import sidecar_path
from atlas.schema import arrow_schema
from ingest.importers import read

GRAPH = {"graph": 0, "kind": "attribution", "name": "a-graph", "node_threshold": 0.8}


def node(number: int, kind: str, position: int, **values: Any) -> dict[str, Any]:
    return {"graph": 0, "node": number, "kind": kind, "position": position, "label": f"n{number}", "kept": True, **values}


@pytest.fixture
def nodes() -> pa.Table:
    rows = [
        node(0, "feature", 1, layer=0, feature=5, mean_activation=2.5, influence=0.5),
        node(1, "feature", 1, layer=20, feature=163839, mean_activation=1.0, influence=0.3),
        node(2, "error", 1, layer=5, influence=0.1),
        node(3, "token", 0, token_id=2, label="<bos>", influence=0.1),
        node(4, "token", 1, token_id=7, label=" a&b\x00"),
        node(5, "logit", 1, token_id=42, label=" large", probability=0.7),
        node(6, "feature", 1, layer=3, feature=9, kept=False, influence=0.0),
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema("node"))


@pytest.fixture
def edges() -> pa.Table:
    ends = [(3, 0), (0, 1), (2, 1), (1, 5), (6, 5)]
    rows = [
        {"graph": 0, "kind": "attribution", "source": a, "target": b, "target_kind": "feature", "weight": -0.5, "accepted": True}
        for a, b in ends
    ]
    rows.append(rows[1] | {"kind": "causal", "weight": 0.25})
    return pa.Table.from_pylist(rows, schema=arrow_schema("edge"))


@pytest.mark.parametrize("ending", ["graphml", "gexf"])
def test_xml_gives_back_every_node_and_every_edge_of_every_kind(nodes: pa.Table, edges: pa.Table, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    assert write_graph(nodes, edges, path, graph=GRAPH) == [path, sidecar_path(path)]
    back = nx.read_graphml(path, force_multigraph=True) if ending == "graphml" else nx.read_gexf(path)
    assert back.number_of_nodes() == 7
    assert sorted((a, b, data["kind"], data["weight"]) for a, b, data in back.edges(data=True)) == sorted(
        (str(row["source"]), str(row["target"]), row["kind"], row["weight"]) for row in edges.to_pylist()
    )
    assert back.nodes["1"]["feature"] == 163839
    assert "layer" not in back.nodes["3"]
    assert back.nodes["4"]["label"] == " a&b\ufffd"


def test_json_is_read_back_as_the_same_graph(nodes: pa.Table, edges: pa.Table, tmp_path: Path) -> None:
    attribution = edges.filter(pa.compute.equal(edges["kind"], "attribution"))
    write_graph(
        nodes, attribution, tmp_path / "a.json", graph=GRAPH, prompt="<bos> a", tokens=["<bos>", " a"], scan="gemma-2-2b", n_layers=26
    )
    content = json.loads((tmp_path / "a.json").read_text())
    ids = [item["node_id"] for item in content["nodes"]]
    assert ids == ["0_5_1", "20_163839_1", "0_5_1_error", "E_2_0", "E_7_1", "27_42_1"]
    assert content["nodes"][1]["feature"] == (20 + 163839) * (20 + 163840) // 2 + 163839
    assert [item["influence"] for item in content["nodes"][:3]] == pytest.approx([0.5, 0.8, 0.9])
    assert [item["node_id"] for item in content["nodes"] if item["is_target_logit"]] == ["27_42_1"]
    (tmp_path / "a.json.provenance.json").rename(tmp_path / "sidecar.txt")
    back = read("graph", tmp_path / "a.json")
    assert back.notes == ()
    assert [(row["kind"], row["layer"], row["feature"]) for row in back.tables["node"].to_pylist()[:3]] == [
        ("feature", 0, 5),
        ("feature", 20, 163839),
        ("error", 5, None),
    ]
    assert back.tables["edge"].num_rows == 4


def test_real_graphs_survive_the_way_in_and_out(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted((shared_data / "graphs").glob("*.json")):
        imported = read("graph", path)
        graph = imported.tables["graph"].to_pylist()[0]
        original = json.loads(path.read_text())
        tokens = original["metadata"]["prompt_tokens"]
        target = tmp_path / path.name
        write_graph(
            imported.tables["node"], imported.tables["edge"], target, graph=graph, prompt=original["metadata"]["prompt"], tokens=tokens,
            scan="gemma-2-2b", n_layers=26,
        )  # fmt: skip
        written = json.loads(target.read_text())
        assert written["links"] == original["links"]
        assert {item["node_id"]: item for item in written["nodes"]} == {item["node_id"]: item for item in original["nodes"]}
        assert set(written["metadata"]) <= set(original["metadata"])


VALIDATOR = {
    "metadata": {"slug": str, "scan": str, "prompt_tokens": list, "prompt": str},
    "node": {"node_id": str, "feature": int, "layer": str, "ctx_idx": int, "feature_type": str, "jsNodeId": str, "clerp": str},
    "link": {"source": str, "target": str, "weight": float},
}
"""What Neuronpedia's graph-schema.json (draft 07) requires, with types; `node_threshold` has to be a number where it is there."""


def test_json_has_what_the_validator_of_neuronpedia_requires(nodes: pa.Table, edges: pa.Table, tmp_path: Path) -> None:
    write_graph(nodes, edges, tmp_path / "a.json", graph=GRAPH | {"node_threshold": None}, scan="qwen3-4b")
    content = json.loads((tmp_path / "a.json").read_text())
    assert set(content) == {"metadata", "qParams", "nodes", "links"}
    assert "node_threshold" not in content["metadata"]
    for kind, items in (("metadata", [content["metadata"]]), ("node", content["nodes"]), ("link", content["links"])):
        for item in items:
            assert {name: type(item[name]) for name in VALIDATOR[kind]} == VALIDATOR[kind]
    assert content["metadata"]["prompt_tokens"] == ["<bos>", " a&b\x00"]


def test_influence_is_cumulated_from_the_strongest() -> None:
    rows = [{"node": i, "influence": value} for i, value in enumerate([0.1, 0.6, None, 0.3])]
    assert cumulative_influence(rows) == {1: pytest.approx(0.6), 3: pytest.approx(0.9), 0: pytest.approx(1.0)}


def test_what_cannot_be_written_is_refused(nodes: pa.Table, edges: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The ending of .*a\.dot names no format"):
        write_graph(nodes, edges, tmp_path / "a.dot", graph=GRAPH)
    with pytest.raises(UsageError, match="no graph format 'dot'"):
        write_graph(nodes, edges, tmp_path / "a.json", "dot", graph=GRAPH)
    with pytest.raises(UsageError, match="is over prompts"):
        write_graph(nodes, edges, tmp_path / "a.json", graph=GRAPH | {"kind": "prompt_set"})
    with pytest.raises(UsageError, match="has an end that is no node"):
        write_graph(nodes.slice(1), edges, tmp_path / "a.gexf", graph=GRAPH)
    assert FORMATS == ("graphml", "gexf", "json")
    assert list(tmp_path.iterdir()) == []
