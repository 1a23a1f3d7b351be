"""The reference graphs of circuit-tracer, and `trace` end to end on them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from atlas.errors import InputError, UsageError
from atlas.schema import arrow_schema
from ingest.graphs import export_npz
from ingest.graphs.attribution import AttributionConfig
from ingest.model import LanguageModel, load_model
from ingest.taps import Mode, freeze_for
from ingest.trace import parse_tokens, trace, trace_loaded
from ingest.transcoder import TranscoderSet

Arrays = Mapping[str, npt.NDArray[Any]]

PROMPTS = {"prompt1": [0, 5, 17, 33, 8, 101, 64, 12], "prompt2": [0, 150, 42, 42, 7, 199, 3]}


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "attribution_reference"


@pytest.fixture(scope="module", params=["float32", "float64"])
def opened(folder: Path, request: pytest.FixtureRequest) -> tuple[LanguageModel, TranscoderSet]:
    return load_model(folder / "model", dtype=request.param), TranscoderSet.open(folder / "transcoders", dtype=request.param)


@pytest.mark.parametrize("name", PROMPTS)
def test_npz_holds_the_reference_arrays(folder: Path, tmp_path: Path, opened: tuple[LanguageModel, TranscoderSet], name: str) -> None:
    out = tmp_path / "graph.npz"
    trace_loaded(*opened, tokens=PROMPTS[name], out=out)
    reference: Arrays = np.load(folder / f"{name}.npz")
    found: Arrays = np.load(out)
    exact = ["active_features", "selected_features", "input_tokens", "logit_token_ids", "logit_token_strs", "node_mask", "edge_mask"]
    for array in exact:
        np.testing.assert_array_equal(found[array], reference[array], err_msg=array)
    close = ["adjacency", "activation_values", "pre_activations", "error_vectors", "token_vectors", "last_logits"]
    close += ["encoder_vecs", "decoder_vecs"]
    for array in close:
        np.testing.assert_allclose(found[array], reference[array], atol=2e-5, rtol=0, err_msg=array)
    for array in ["logit_probabilities", "node_influence", "scores"]:
        np.testing.assert_allclose(found[array], reference[array], atol=2e-6, rtol=0, err_msg=array)
    # Nodes of equal influence may stand in either order, which moves their cumulated share by one node's share.
    np.testing.assert_allclose(found["cumulative_influence"], reference["cumulative_influence"], atol=1e-3, rtol=0)
    assert {"edge_mask", "row_l1", "constants", "scores_all_sources"} <= set(found)
    assert set(reference) - set(found) <= {"iv_logits_direct", "iv_logits_frozen_attn", "iv_logits_free"}


def test_json_is_the_reference_graph(folder: Path, tmp_path: Path, opened: tuple[LanguageModel, TranscoderSet]) -> None:
    out = tmp_path / "reference.json"
    trace_loaded(*opened, prompt="t5 t17 t33 t8 t101 t64 t12", out=out)
    found = json.loads(out.read_text())
    reference = json.loads((folder / "prompt1_graph.json").read_text())
    assert found["metadata"].pop("info")["generator"]["name"] == "feature-atlas"
    assert found["metadata"] == reference["metadata"]
    assert found["qParams"] == reference["qParams"]
    assert [sorted(node) for node in found["nodes"]] == [sorted(node) for node in reference["nodes"]]
    for ours, theirs in zip(found["nodes"], reference["nodes"], strict=True):
        for key, value in theirs.items():
            tolerance = 1e-3 if key == "influence" else 1e-4
            mine = ours[key].removesuffix("_error") if key == "node_id" else ours[key]
            assert mine == (pytest.approx(value, abs=tolerance) if isinstance(value, float) else value), (key, ours)
    ids = [node["node_id"] for node in found["nodes"]]
    assert len(set(ids)) == len(ids) > len({node["node_id"] for node in reference["nodes"]}), "the reference's ids collide, ours do not"

    def links(graph: Any) -> list[tuple[str, str, float]]:
        return sorted((link["source"].removesuffix("_error"), link["target"], link["weight"]) for link in graph["links"])

    assert [link[:2] for link in links(found)] == [link[:2] for link in links(reference)]
    np.testing.assert_allclose([link[2] for link in links(found)], [link[2] for link in links(reference)], atol=2e-5, rtol=0)
    listed = json.loads((tmp_path / "graph-metadata.json").read_text())
    assert [{key: value for key, value in entry.items() if key != "info"} for entry in listed["graphs"]] == [reference["metadata"]]


def test_a_second_graph_in_a_folder_is_listed_beside_the_first(tmp_path: Path, opened: tuple[LanguageModel, TranscoderSet]) -> None:
    for name in ("a.json", "b.json", "a.json"):
        trace_loaded(*opened, tokens=[0, 5, 17], out=tmp_path / name)
    listed = json.loads((tmp_path / "graph-metadata.json").read_text())["graphs"]
    assert [entry["slug"] for entry in listed] == ["b", "a"]
    (tmp_path / "graph-metadata.json").write_text("{}")
    with pytest.raises(InputError, match="no list of graphs"):
        trace_loaded(*opened, tokens=[0, 5, 17], out=tmp_path / "a.json")


@pytest.mark.parametrize(("mode", "array"), [("direct", "direct"), ("frozen_attention", "frozen_attn"), ("free", "free")])
def test_edits_of_the_mlp_output_give_the_reference_logits(
    folder: Path, opened: tuple[LanguageModel, TranscoderSet], mode: Mode, array: str
) -> None:
    model, transcoders = opened
    transcoders.bind(model)
    tokens = torch.tensor([PROMPTS["prompt1"]])
    members = json.loads((folder / "prompt1_interventions.json").read_text())
    clean = model.capture(tokens, patterns=True, denominators=True)

    def edit(layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        seen = clean.mlp_in[layer] if mode == "direct" else mlp_in
        current = transcoders.encode(layer, seen)[0]
        edited = mlp_out.clone()
        for at_layer, position, feature, value in members:
            if at_layer == layer:
                row = transcoders.decoder_rows(layer, torch.tensor([feature]))[0]
                edited[0, position] += (value - current[position, feature]) * row
        return edited

    after = model.capture(tokens, edit=edit, freeze=freeze_for(mode, clean))
    reference = np.load(folder / "prompt1.npz")[f"iv_logits_{array}"]
    np.testing.assert_allclose(model.logits(after.final[0, -1]).numpy(), reference, atol=5e-5, rtol=0)


def test_tables_have_the_columns_of_the_schema(opened: tuple[LanguageModel, TranscoderSet]) -> None:
    traced = trace_loaded(*opened, tokens=PROMPTS["prompt2"])
    tables = traced.tables(ordinal=3, name="second", behaviour="antonyms", prompt=7)
    for name, table in tables.items():
        schema = arrow_schema(name)
        assert set(table.column_names) <= set(schema.names)
        for field in schema:
            if field.name in table.column_names:
                cast = table[field.name].cast(field.type)
                assert field.nullable or cast.null_count == 0, (name, field.name)
            else:
                assert field.nullable, (name, field.name)
    order = traced.graph.node_order()
    nodes, edges = tables["node"].to_pylist(), tables["edge"].to_pylist()
    assert tables["graph"].to_pylist()[0]["n_edges"] == len(edges) == len(traced.pruned.source)
    assert len(nodes) == order.n_nodes
    adjacency = traced.graph.edges.dense()
    for edge in edges[::97]:
        assert edge["weight"] == pytest.approx(float(adjacency[edge["target"], edge["source"]]))
        source, target = nodes[edge["source"]], nodes[edge["target"]]
        assert (edge["source_layer"], edge["source_feature"]) == (source["layer"], source["feature"])
        assert (edge["target_kind"], edge["target_layer"], edge["target_feature"]) == (
            target["kind"],
            target["layer"],
            target["feature"],
        )
        assert source["kept"]
        assert target["kept"]
    totals = tables["target_total"].to_pylist()
    assert len(totals) == order.n_features + order.n_logits
    logits = traced.graph.last_logits - traced.graph.last_logits.mean()
    for total in totals[:: len(totals) // 40]:
        row = adjacency[total["node"]]
        assert total["absolute_total"] == pytest.approx(float(row.abs().sum()), rel=1e-5)
        assert total["absolute_selected"] == pytest.approx(total["absolute_total"])
        rank = total["node"] - order.logits
        value = traced.graph.pre_activation[total["node"]] if rank < 0 else logits[traced.graph.logit_token_ids[rank]]
        assert total["signed_total"] + total["constant"] == pytest.approx(float(value), abs=1e-5)
    labels = {node["kind"]: node["label"] for node in reversed(nodes)}
    assert labels["token"] == "<|endoftext|>"
    assert labels["error"] == "error L0 @0"


def test_trace_loads_and_writes(folder: Path, tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    traced = trace(
        folder / "model",
        folder / "transcoders",
        tokens=[0, 5, 17],
        out=tmp_path / "graph.npz",
        max_feature_nodes=100,
        memory_budget=1,
        progress=lambda done, total: counted.append((done, total)),
    )
    found = np.load(tmp_path / "graph.npz")
    assert len(found["selected_features"]) == 100
    assert found["adjacency"].shape == (100 + 4 * 3 + 3 + len(found["logit_token_ids"]),) * 2
    assert len(found["active_features"]) > 100
    assert counted[-1] == (100, 100)
    assert "nodes and" in traced.summary()


def test_a_graph_too_large_for_dense_arrays_is_refused_with_what_to_do(
    opened: tuple[LanguageModel, TranscoderSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_npz, "MOST_NODES", 100)
    with pytest.raises(InputError, match="takes at most 100") as refused:
        trace_loaded(*opened, tokens=[0, 5, 17], out=tmp_path / "graph.npz")
    assert "--max-feature-nodes" in str(refused.value.hint)
    config = AttributionConfig(max_feature_nodes=30)
    trace_loaded(*opened, tokens=[0, 5, 17], out=tmp_path / "graph.npz", config=config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a prompt or token ids"),
        ({"prompt": "a", "tokens": [1]}, "either a prompt or token ids"),
        ({"tokens": [1], "dtype": "bfloat16"}, "not exact enough"),
        ({"tokens": [1], "node_threshold": 1.5}, "--node-threshold is 1.5"),
        ({"tokens": [1], "out": Path("graph.csv")}, "ends in '.csv'"),
        ({"tokens": [1], "out": Path("nowhere/graph.json")}, "does not exist"),
        ({"tokens": [1], "max_feature_nodes": 0}, "at least 1"),
        ({"tokens": [1], "max_n_logits": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_loads(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trace("no model", "no transcoders", **arguments)


def test_token_ids_are_parsed_or_the_wrong_one_is_named() -> None:
    assert parse_tokens("0,5, 17") == [0, 5, 17]
    with pytest.raises(UsageError, match="'x'"):
        parse_tokens("0,x")
