"""Attribution edges over a prompt set, against single graphs added up by hand."""

from pathlib import Path

import numpy as np
import pytest

from atlas.errors import InputError
from atlas.schema import arrow_schema
from ingest.graphs.aggregate import AggregateConfig, attribution_edges
from ingest.graphs.attribution import AttributionGraph, attribute
from ingest.prompts import Prompt
from tests.ingest.random_world import random_model, random_prompts, random_transcoders

CONFIG = AggregateConfig(min_frequency=0.3, max_edges=300, bootstrap=20, batch_size=5)


def weight_by_hand(graph: AttributionGraph, prompt: Prompt, source: dict[str, object], target: dict[str, object]) -> float | None:
    """Add up one edge over positions from the dense adjacency; None where an end is silent."""
    adjacency, order = graph.edges.dense().numpy(), graph.order
    active = graph.active.numpy()

    def places(node: dict[str, object]) -> np.ndarray:
        if node["kind"] == "feature":
            return np.flatnonzero((active[:, 0] == node["layer"]) & (active[:, 2] == node["feature"]))
        if node["kind"] == "error":
            return order.errors + int(str(node["layer"])) * order.n_positions + np.arange(order.n_positions)
        return order.tokens + np.flatnonzero(np.array(prompt.roles) == node["role"])

    columns = places(source)
    if target["kind"] == "output":
        contrasts = [int(np.argmax([float(graph.last_logits[answer.token_id]) for answer in prompt.answers[1:]])) + 1]
        rows = adjacency[order.logits] - adjacency[order.logits + contrasts[0]]
        return float(rows[columns].sum()) if len(columns) else None
    at = places(target)
    return float(adjacency[np.ix_(at, columns)].sum()) if len(at) and len(columns) else None


def test_edges_over_prompts_are_single_graphs_added_up(tmp_path: Path) -> None:
    model, transcoders = random_model(), random_transcoders(tmp_path)
    prompts = random_prompts(n_concepts=4)
    tables = attribution_edges(model, transcoders, prompts, CONFIG, first_graph=2)
    for name, table in tables.items():
        schema = arrow_schema(name)
        assert set(table.column_names) <= set(schema.names)
        for field in schema:
            assert field.nullable or field.name in table.column_names, (name, field.name)
        for column in table.column_names:
            table[column].cast(schema.field(column).type)
    nodes, edges = tables["node"].to_pylist(), tables["edge"].to_pylist()
    assert {node["kind"] for node in nodes} == {"feature", "error", "input", "output"}
    assert 20 < len(edges) <= 300
    assert tables["graph"]["n_edges"].to_pylist() == [len(edges)]

    rows = prompts.prompts
    answers = [[answer.token_id for answer in prompt.answers] for prompt in rows]
    graphs = list(attribute(model, transcoders, [prompt.token_ids for prompt in rows], targets=answers))
    shares = []
    for graph in graphs:
        absolute, order = np.abs(graph.edges.dense().numpy())[graph.order.logits :], graph.order
        from_errors = absolute[:, order.errors : order.tokens].sum(1) / graph.row_l1.numpy()[order.logits :]
        chances = graph.logit_probabilities.numpy()
        shares.append(float((from_errors * chances).sum() / chances.sum()))
    assert tables["graph"]["unexplained_share"].to_pylist() == pytest.approx([np.mean(shares)], rel=1e-5)
    for edge in edges[:: len(edges) // 25]:
        source, target = nodes[edge["source"]], nodes[edge["target"]]
        values = [weight_by_hand(graph, prompt, source, target) for graph, prompt in zip(graphs, rows, strict=True)]
        measured = np.array([value for value in values if value is not None])
        assert edge["n_prompts"] == len(measured)
        assert edge["weight"] == pytest.approx(measured.mean(), abs=1e-5)
        assert edge["sd"] == pytest.approx(measured.std(ddof=1), abs=1e-5)
        assert edge["sign_stability"] == pytest.approx((np.sign(measured) == np.sign(measured.mean())).mean())
        for index, language in enumerate(("en", "fr")):
            own = [value for value, prompt in zip(values, rows, strict=True) if value is not None and prompt.language == language]
            found = [
                row
                for row in tables["edge_language"].to_pylist()
                if (row["source"], row["target"], row["language"]) == (edge["source"], edge["target"], language)
            ]
            assert len(found) == bool(own), index
            if own:
                assert found[0]["n_prompts"] == len(own)
                assert found[0]["weight"] == pytest.approx(np.mean(own), abs=1e-5)


def test_support_is_what_pruning_keeps(tmp_path: Path) -> None:
    model, transcoders = random_model(), random_transcoders(tmp_path)
    prompts = random_prompts(n_concepts=3)
    tables = attribution_edges(model, transcoders, prompts, CONFIG)
    nodes = {node["node"]: node for node in tables["node"].to_pylist()}
    support = dict.fromkeys([(edge["source"], edge["target"]) for edge in tables["edge"].to_pylist()], 0)
    ids = {(node["layer"], node["feature"]): number for number, node in nodes.items() if node["kind"] == "feature"}
    answers = [[answer.token_id for answer in prompt.answers] for prompt in prompts.prompts]
    for graph in attribute(model, transcoders, [prompt.token_ids for prompt in prompts.prompts], targets=answers):
        pruned = graph.prune()
        active = [(int(layer), int(feature)) for layer, _, feature in graph.active]
        kept = {
            (ids.get(active[s]), ids.get(active[t]))
            for s, t in zip(pruned.source.tolist(), pruned.target.tolist(), strict=True)
            if s < len(active) and t < len(active)
        }
        for pair in kept & set(support):
            support[pair] += 1
    checked = 0
    for edge in tables["edge"].to_pylist():
        if nodes[edge["source"]]["kind"] == nodes[edge["target"]]["kind"] == "feature":
            assert edge["frequency"] == pytest.approx(support[(edge["source"], edge["target"])] / len(prompts.prompts))
            assert 0 <= edge["selection_frequency"] <= 1
            checked += 1
    assert checked > 5


def test_graphs_do_not_depend_on_the_batch_and_progress_is_counted(tmp_path: Path) -> None:
    model, transcoders = random_model(), random_transcoders(tmp_path)
    prompts = random_prompts(n_concepts=3)
    counted: list[tuple[int, int]] = []
    one = attribution_edges(model, transcoders, prompts, CONFIG, progress=lambda done, total: counted.append((done, total)))
    other = attribution_edges(model, transcoders, prompts, AggregateConfig(min_frequency=0.3, max_edges=300, bootstrap=20, batch_size=1))
    assert counted == [(step, 2 * len(prompts.prompts)) for step in range(1, 2 * len(prompts.prompts) + 1)]
    assert one["edge"]["source"].equals(other["edge"]["source"])
    np.testing.assert_allclose(one["edge"]["weight"].to_numpy(), other["edge"]["weight"].to_numpy(), atol=1e-5)


def test_nothing_to_add_up_is_named(tmp_path: Path) -> None:
    model, transcoders = random_model(), random_transcoders(tmp_path)
    prompts = random_prompts(n_concepts=2)
    with pytest.raises(InputError, match="no prompt is in test"):
        attribution_edges(model, transcoders, prompts, AggregateConfig(splits=("test",)))
    with pytest.raises(InputError, match="no edge of behaviour random"):
        attribution_edges(model, transcoders, prompts, AggregateConfig(min_frequency=1.1, bootstrap=1))
