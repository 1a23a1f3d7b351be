"""Attribution graphs of other tools: real ones, both formats, the id collision, and bad files."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pytest
import torch

from atlas.errors import InputError
from ingest.importers import ImportedRun, read
from ingest.importers.graph_rows import cantor
from tests.ingest.importers.conftest import load

KINDS = {"feature": "cross layer transcoder", "error": "mlp reconstruction error", "token": "embedding", "logit": "logit"}


def node(identity: str, kind: str, position: int, **values: Any) -> dict[str, Any]:
    return {"node_id": identity, "feature_type": KINDS[kind], "ctx_idx": position, "feature": -1, "layer": "0", **values}


def graph() -> dict[str, Any]:
    """Layer 0 feature 5 and the error of layer 5, both at position 1, are both called 0_5_1."""
    nodes = [
        node("E_2_0", "token", 0, influence=0.5),
        node("0_5_1", "feature", 1, feature=cantor(0, 5), activation=2.5, influence=0.3),
        node("0_5_1", "error", 1),
        node("7_163839_1", "feature", 1, feature=cantor(7, 163839), activation=1.0),
        node("9_42_1", "logit", 1, token_prob=0.7, clerp='Output "x" (p=0.700)'),
    ]
    links = [("E_2_0", "0_5_1"), ("E_2_0", "7_163839_1"), ("0_5_1", "7_163839_1"), ("7_163839_1", "9_42_1")]
    return {
        "metadata": {"slug": "a-graph", "scan": "gemma-2-2b", "prompt_tokens": ["<bos>", " x"], "prompt": "<bos> x", "schema_version": 1},
        "qParams": {"pinnedIds": [], "supernodes": [["names", "7_163839_1", "9_42_1"]]},
        "nodes": nodes,
        "links": [{"source": source, "target": target, "weight": 0.5} for source, target in links],
    }


def write(tmp_path: Path, document: dict[str, Any]) -> Path:
    path = tmp_path / "a-graph.json"
    path.write_text(json.dumps(document))
    return path


def rows(imported: ImportedRun, table: str) -> list[dict[str, Any]]:
    content = imported.tables[table]
    return (content if isinstance(content, pa.Table) else pa.Table.from_batches(list(content))).to_pylist()


def test_colliding_ids_are_two_nodes_and_links_from_them_are_reported(tmp_path: Path) -> None:
    imported = read("graph", write(tmp_path, graph()))
    found = [(row["kind"], row["layer"], row["feature"], row["position"]) for row in rows(imported, "node")]
    assert found[1:3] == [("feature", 0, 5, 1), ("error", 5, None, 1)]
    edges = [(row["source"], row["target"]) for row in rows(imported, "edge")]
    assert edges == [(0, 1), (0, 3), (3, 4)]
    assert len(imported.notes) == 1
    assert "1 ids name both an error node and a feature of layer 0 (e.g. 0_5_1); 1 links from them" in imported.notes[0]


def test_an_influence_is_kept_as_the_cumulated_share_that_it_is(tmp_path: Path) -> None:
    nodes = rows(read("graph", write(tmp_path, graph())), "node")
    assert [row["cumulative_influence"] for row in nodes[:2]] == [0.5, 0.3]
    assert all(row["influence"] is None for row in nodes)
    assert (nodes[1]["mean_activation"], nodes[4]["probability"], nodes[4]["token_id"]) == (2.5, 0.7, 42)


def test_layer_and_feature_come_from_the_node_id_without_a_schema_version(tmp_path: Path) -> None:
    document = graph()
    del document["metadata"]["schema_version"]
    for item in document["nodes"]:
        item["feature"] = 12345
    imported = read("graph", write(tmp_path, document))
    assert rows(imported, "node")[3]["feature"] == 163839
    assert not any("Cantor" in note for note in imported.notes)


def test_a_number_that_is_not_the_cantor_pair_is_reported(tmp_path: Path) -> None:
    document = graph()
    document["nodes"][3]["feature"] = 163839
    assert cantor(7, 163839) > 2**32
    assert any("1 feature numbers are not the Cantor pair" in note for note in read("graph", write(tmp_path, document)).notes)


def test_a_file_under_another_name_is_the_same_run(tmp_path: Path) -> None:
    path = write(tmp_path, graph())
    first = read("graph", path)
    assert read("graph", path.rename(tmp_path / "a copy (1).json")).plan == first.plan


def test_supernodes_of_the_front_end_are_a_partition(tmp_path: Path) -> None:
    supernodes = rows(read("graph", write(tmp_path, graph())), "supernode")
    assert [(row["node"], row["supernode"], row["name"]) for row in supernodes] == [(3, 0, "names"), (4, 0, "names")]


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no nodes": (lambda d: d.pop("nodes"), r"a-graph\.json: field 'nodes': expected a list, got nothing"),
    "an unknown type": (lambda d: d["nodes"][1].update(feature_type="neuron"), r"nodes\[1\]: field 'feature_type': expected one of"),
    "an id of another form": (lambda d: d["nodes"][1].update(node_id="L0_F5"), r"nodes\[1\]: field 'node_id': expected layer_feature"),
    "another position": (lambda d: d["nodes"][1].update(ctx_idx=0), r"nodes\[1\]: field 'ctx_idx': expected 1, as node_id says"),
    "a position beyond the prompt": (
        lambda d: d["nodes"][3].update(ctx_idx=9, node_id="7_163839_9"),
        r"nodes\[3\]: field 'ctx_idx': .* within the 2 prompt_tokens",
    ),
    "the same node twice": (
        lambda d: d["nodes"].append(d["nodes"][0]),
        r"nodes\[5\]: .*expected an id that no earlier token",
    ),
    "a link from nowhere": (lambda d: d["links"][0].update(source="E_9_0"), r"links\[0\]: field 'source': expected the node_id of a node"),
    "a link into a token": (lambda d: d["links"][0].update(target="E_2_0"), r"links\[0\]: field 'target': expected a feature or a logit"),
    "a weight that is no number": (
        lambda d: d["links"][1].update(weight="big"),
        r"links\[1\]: .*expected a number, got 'big'",
    ),
    "the same link twice": (lambda d: d["links"].append(d["links"][1]), r"links\[4\]: field 'target': expected one link from E_2_0"),
    "a feature beyond every dictionary": (
        lambda d: d["nodes"][3].update(node_id="7_9999999999_1"),
        r"nodes\[3\]: field 'node_id': expected a layer up to 32767 and a feature or token up to 2147483647",
    ),
    "a weight without end": (lambda d: d["links"][1].update(weight=10**400), r"links\[1\]: field 'weight': expected a finite number"),
    "settings of another type": (lambda d: d.update(qParams=[1]), r"field 'qParams': expected an object, got \[1\]"),
    "supernodes of another type": (lambda d: d["qParams"].update(supernodes=7), r"qParams: field 'supernodes': expected a list, got 7"),
    "thresholds of another type": (
        lambda d: d["metadata"].update(pruning_settings="none"),
        r"metadata: field 'pruning_settings': expected an object",
    ),
    "a transcoder set without a name": (
        lambda d: d["metadata"].update(info={"transcoder_set": ["a"]}),
        r"metadata info: field 'transcoder_set': expected a text",
    ),
    "a token that is no text": (lambda d: d["metadata"].update(prompt_tokens=["<bos>", 7]), r"'prompt_tokens': expected a text as item 1"),
    "not a number among settings": (
        lambda d: d["metadata"].update(temperature=float("nan")),
        r"a-graph\.json metadata: expected settings that JSON can hold, got NaN",
    ),
    "a supernode of nothing": (lambda d: d["qParams"]["supernodes"].append(["x", "1_1_1"]), r"supernodes\[1\]: expected the node_id"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_graphs_are_answered_with_place_field_and_expectation(tmp_path: Path, case: str) -> None:
    document = graph()
    change, message = BAD[case]
    change(document)
    with pytest.raises(InputError, match=message):
        read("graph", write(tmp_path, document))


def test_a_file_that_is_not_json_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"nodes": [\n 1,, 2]}')
    with pytest.raises(InputError, match=r"a\.json:2: expected JSON"):
        read("graph", tmp_path)
    (tmp_path / "a.json").rename(tmp_path / "a.txt")
    with pytest.raises(InputError, match="expected graph files"):
        read("graph", tmp_path)


def test_real_graphs_load_and_lead_from_tokens_to_logits(shared_data: Path, connection: duckdb.DuckDBPyConnection) -> None:
    imported = read("graph", shared_data / "graphs")
    load(connection, imported)
    counts = connection.execute("select name, n_nodes, n_edges from graph order by name").fetchall()
    assert counts == [
        ("cold-clt-hp", 588, 7660),
        ("le-contraire-de-20251027-140230", 433, 4741),
        ("night-clt-hp", 532, 3392),
        ("the-opposite-of-20251026-175335", 341, 2744),
    ]
    assert connection.execute("select count(*) from edge").fetchall() == [(18537,)]
    assert imported.notes == ()
    wrong = """
        select count(*) from edge e
        join node s on (s.graph, s.node) = (e.graph, e.source) join node t on (t.graph, t.node) = (e.graph, e.target)
        where t.kind in ('token', 'error') or s.kind = 'logit' or (t.kind = 'feature' and s.layer >= t.layer)
    """
    assert connection.execute(wrong).fetchall() == [(0,)]
    top = """
        select g.name, n.label from node n join graph g using (run_id, graph) where n.kind = 'logit'
        qualify n.probability = max(n.probability) over (partition by n.graph)
    """
    assert ("le-contraire-de-20251027-140230", "grand") in connection.execute(top).fetchall()
    big = "select max(feature) from node where kind = 'feature'"
    ((largest,),) = connection.execute(big).fetchall()
    assert largest < 2**31 < cantor(20, largest)


class LogitTarget(NamedTuple):
    token_str: str
    vocab_idx: int


class Config:
    def __init__(self) -> None:
        self.n_layers = 2
        self.model_name = "gemma-2-2b"
        self.dtype = torch.bfloat16


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (subprocess.check_call, (["touch", "exploded"],))


def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Path:
    """Save a graph as circuit-tracer does, with classes of a package that is gone when the file is read."""
    package = types.ModuleType("a_tracer_that_is_not_installed")
    for kind in (LogitTarget, Config):
        setattr(package, kind.__name__, kind)
        monkeypatch.setattr(kind, "__module__", package.__name__)
    monkeypatch.setitem(sys.modules, package.__name__, package)
    n = 2 + 2 * 3 + 3 + 1  # features, errors, tokens, logits
    adjacency = torch.zeros(n, n, dtype=torch.bfloat16)
    adjacency[0, 8], adjacency[1, 0], adjacency[1, 2], adjacency[11, 1] = 0.5, -1.5, 0.25, 2.0
    content = {
        "input_string": "a b",
        "adjacency_matrix": adjacency,
        "cfg": Config(),
        "active_features": torch.tensor([[0, 1, 7], [0, 1, 9], [1, 2, 163839]]),
        "logit_targets": [LogitTarget(" c", 42)],
        "logit_probabilities": torch.tensor([0.75]),
        "vocab_size": 100,
        "input_tokens": torch.tensor([1, 2, 3]),
        "selected_features": torch.tensor([0, 2]),
        "activation_values": torch.tensor([1.0, 2.0, 4.0]),
        "scan": "a/set",
        **changes,
    }
    torch.save(content, tmp_path / "saved.pt")
    monkeypatch.delitem(sys.modules, package.__name__)
    return tmp_path / "saved.pt"


def test_a_saved_graph_is_read_without_circuit_tracer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = read("graph", saved(tmp_path, monkeypatch))
    nodes = rows(imported, "node")
    assert [(row["kind"], row["layer"], row["feature"], row["position"], row["mean_activation"]) for row in nodes[:3]] == [
        ("feature", 0, 7, 1, 1.0),
        ("feature", 1, 163839, 2, 4.0),
        ("error", 0, None, 0, None),
    ]
    assert (nodes[-1]["label"], nodes[-1]["token_id"], nodes[-1]["probability"]) == (" c", 42, 0.75)
    edges = [(row["source"], row["target"], row["weight"], row["source_feature"], row["target_kind"]) for row in rows(imported, "edge")]
    assert edges == [(8, 0, 0.5, None, "feature"), (0, 1, -1.5, 7, "feature"), (2, 1, 0.25, None, "feature"), (1, 11, 2.0, 163839, "logit")]
    assert imported.run_row["transcoder_set"] == "a/set"


def test_an_older_graph_with_a_tensor_of_logits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = read("graph", saved(tmp_path, monkeypatch, logit_targets=torch.tensor([42])))
    assert rows(imported, "node")[-1]["label"] == "[42]"


def test_no_code_of_a_saved_graph_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read("graph", saved(tmp_path, monkeypatch, cfg=Config(), scan=None, input_string="a", extra=Bomb()))
    assert not (tmp_path / "exploded").exists()


def test_a_saved_graph_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"saved\.pt: field 'adjacency_matrix': expected \(12, 12\), got \(3, 3\)"):
        read("graph", saved(tmp_path, monkeypatch, adjacency_matrix=torch.zeros(3, 3)))
    (tmp_path / "saved.pt").write_bytes(b"not a pickle")
    with pytest.raises(InputError, match=r"saved\.pt: expected a graph saved by circuit-tracer"):
        read("graph", tmp_path / "saved.pt")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("adjacency_matrix", None, "a tensor of 2 dimensions of numbers, got NoneType"),
        ("adjacency_matrix", torch.full((12, 12), float("nan")), "finite values"),
        ("cfg", {}, "n_layers from 1 to 32767, got None"),
        ("active_features", torch.tensor([[0, 1], [0, 1]]), r"\(layer below 2, position below 3, feature\) each"),
        ("active_features", torch.tensor([[0, 9, 7]] * 3), "position below 3"),
        ("active_features", torch.tensor([[0, 1, 2**40]] * 3), "whole numbers from 0 to 2147483647"),
        ("selected_features", torch.tensor([0.0, 1.0]), "a tensor of 1 dimension of whole numbers, got torch.float32"),
        ("selected_features", torch.tensor([0, 0]), "indices below 3, each once"),
        ("activation_values", torch.tensor([1.0]), "3 values, or 2 of the selected features"),
        ("logit_targets", [1], "pairs of text and vocabulary id"),
        ("logit_targets", torch.tensor([[1, 2]]), "a tensor of 1 dimension of whole numbers"),
        ("logit_probabilities", [0.5], "a tensor of 1 dimension of numbers, got list"),
        ("input_tokens", "abc", "a tensor of 1 dimension of whole numbers, got str"),
        ("input_string", 7, "a text, got 7"),
    ],
)
def test_a_saved_graph_with_a_wrong_field_is_answered_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, expected: str
) -> None:
    with pytest.raises(InputError, match=rf"saved\.pt: field '{field}': expected .*{expected}"):
        read("graph", saved(tmp_path, monkeypatch, **{field: value}))
