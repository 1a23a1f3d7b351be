"""Circuits stage: causal edges, exact paths, discovered circuits with their curves, properties and computation types.

In: model, transcoders, prompts, the graphs of an earlier stage (tables graph, node, edge). Out: rows of edge, edge_language, edge_prompt
(kind causal), path, circuit, circuit_member, evaluation (METHODS, section 6).

For each behaviour:
1. Candidate pairs from stored edges are tested as causal edges on train prompts.
2. The strongest chains through virtual weights and through accepted causal edges.
3. The smallest circuits that keep a given faithfulness on train prompts: attribution-pruned and greedy.
4. On held-out prompts: faithfulness, completeness, necessity, sufficiency, curves with CPR and CMD, each beside matched random circuits.
5. The three properties and the four type tests (`ingest.properties`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa

from atlas.errors import InputError
from atlas.schema import arrow_schema
from ingest.batches import Progress
from ingest.causal_edges import CausalConfig, CausalEdges, Target, causal_edges, causal_tables
from ingest.circuit.evaluate import CircuitFigures, Evaluations, evaluate_circuits
from ingest.circuit.paths import Chain, top_chains
from ingest.circuit.replacement import ErrorMode, Reference
from ingest.intervene.activity import activity
from ingest.intervene.battery import InterventionConfig, Scene, make_scene
from ingest.intervene.edits import Integers
from ingest.intervene.engine import Engine
from ingest.intervene.rules import FeatureKey
from ingest.intervene.tables import table
from ingest.interventions import choose_prompts
from ingest.model import LanguageModel
from ingest.prompts import PromptSet
from ingest.properties import property_rows
from ingest.transcoder import TranscoderSet

TABLES = ("edge", "edge_language", "edge_prompt", "path", "circuit", "circuit_member", "evaluation")


@dataclass(frozen=True)
class CircuitConfig:
    """What is searched for and how it is measured."""

    layers: tuple[int, ...] = ()
    """Layers of the universe; empty means all of the transcoder set."""
    causal: CausalConfig = field(default_factory=CausalConfig)
    candidate_kinds: tuple[str, ...] = ("virtual_weight", "attribution")
    """Stored edges that candidates for causal edges come from."""
    top_paths: int = 50
    """Chains kept for each kind of edge."""
    target: float = 0.8
    """Faithfulness that a discovered circuit keeps on train prompts."""
    reference: Reference = "mean"
    error: ErrorMode = "clean"
    """Reference and error mode of discovery and of curves; a found circuit is measured under all nine."""
    shares: tuple[float, ...] = (0.005, 0.01, 0.03, 0.1, 0.2, 0.5)
    """Shares of features kept at which curves are measured, beside 0 and 1."""
    shares_without: tuple[float, ...] = (0.01, 0.03, 0.1, 0.2)
    """Shares taken out at which curves of completeness are measured, beside 0 and 1."""
    random_circuits: int = 100
    """Matched random circuits beside each figure."""
    max_prompts: int = 300
    """Prompts of a behaviour, balanced as in the interventions stage."""
    circuit_prompts: int = 24
    """Of these, prompts a split on which circuits are searched and measured."""
    greedy_rounds: int = 8
    interventions: InterventionConfig = field(default_factory=InterventionConfig)
    """Settings of the interventions that properties and types rest on."""
    seed: int = 0


def circuits(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    graphs: Mapping[str, pa.Table],
    config: CircuitConfig | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Run the stage on every graph over a prompt set.

    Args:
        model: the analysed model.
        transcoders: of its layers.
        prompts: all prompts of the run.
        graphs: tables graph, node and edge.
        config: what is searched for.
        progress: called with (steps done, steps).

    Raises:
        InputError: too few concepts, no graph over prompts.
        ModelError: NaN or infinity.
    """
    config = config or CircuitConfig()
    wanted = [row for row in graphs["graph"].to_pylist() if row["kind"] == "prompt_set"]
    if not wanted:
        raise InputError("There is no graph over a prompt set to find circuits in.", hint="Run the stage `graph` first.")
    parts: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    numbers, evaluations = count(), count()
    for place, row in enumerate(wanted):
        tables = _of_behaviour(model, transcoders, prompts, graphs, row, config, numbers, evaluations)
        for name, rows in tables.items():
            parts[name].append(rows)
        if progress is not None:
            progress(place + 1, len(wanted))
    return {name: pa.concat_tables(tables) if tables else arrow_schema(name).empty_table() for name, tables in parts.items()}


def _of_behaviour(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    graphs: Mapping[str, pa.Table],
    graph: Mapping[str, Any],
    config: CircuitConfig,
    numbers: Iterable[int],
    evaluations: Iterable[int],
) -> dict[str, pa.Table]:
    own = [prompt for prompt in prompts.prompts if graph["behaviour"] in (None, prompt.behaviour)]
    engine = Engine(model, transcoders, choose_prompts(own, config.max_prompts, config.seed))
    clean = activity(engine, config.layers or None)
    everywhere = make_scene(engine, clean, config.interventions, "all", count())
    nodes = GraphNodes.of(graphs, int(graph["graph"]))
    edges = test_candidates(everywhere, nodes, config)
    tables: dict[str, pa.Table] = {}
    if edges is not None:
        tables |= causal_tables(engine, edges, nodes.graph, nodes.node_of, nodes.output)
    tables["path"] = path_table(nodes, edges, config.top_paths)
    found = evaluate_circuits(everywhere, config, evaluations)
    tables |= circuit_tables(found, edges, nodes, str(graph["behaviour"]), numbers)
    rows = evaluation_rows(found, str(graph["behaviour"]), tables["circuit"])
    operations = [prompt for prompt in prompts.operations if graph["behaviour"] in (None, prompt.behaviour)]
    rows += property_rows(everywhere, prompts.pairs, str(graph["behaviour"]), config.interventions, operations)
    tables["evaluation"] = _evaluation_table(rows, evaluations)
    return tables


# ---- the graph --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GraphNodes:
    """Nodes and stored edges of one graph."""

    graph: int
    node_of: dict[FeatureKey, int]
    layer: dict[int, float]
    label: dict[int, str]
    output: int
    edges: tuple[tuple[str, int, int, float], ...]
    """(kind, source, target, weight)."""

    @classmethod
    def of(cls, graphs: Mapping[str, pa.Table], graph: int) -> GraphNodes:
        """Read one graph out of the tables.

        Raises:
            InputError: it has no output node.
        """
        node_of: dict[FeatureKey, int] = {}
        layer: dict[int, float] = {}
        label: dict[int, str] = {}
        output = -1
        for row in graphs["node"].select(["graph", "node", "kind", "layer", "feature", "label"]).to_pylist():
            if row["graph"] != graph:
                continue
            label[row["node"]] = row["label"]
            layer[row["node"]] = {"input": -1.0, "token": -1.0, "output": float("inf"), "logit": float("inf")}.get(
                row["kind"], float(row["layer"]) if row["layer"] is not None else -1.0
            )
            if row["kind"] == "feature":
                node_of.setdefault((row["layer"], row["feature"]), row["node"])
            if row["kind"] == "output":
                output = row["node"]
        if output < 0:
            raise InputError(f"Graph {graph} has no output node.")
        table_ = graphs["edge"].select(["graph", "kind", "source", "target", "weight"])
        edges = tuple((r["kind"], r["source"], r["target"], r["weight"]) for r in table_.to_pylist() if r["graph"] == graph)
        return cls(graph, node_of, layer, label, output, edges)

    def candidates(self, kinds: Sequence[str], limit: int) -> list[tuple[FeatureKey, Target]]:
        """Return pairs of features with the largest stored |weight| of the kinds, and every feature with the output."""
        feature_of = {node: feature for feature, node in self.node_of.items()}
        strength: dict[tuple[FeatureKey, FeatureKey], float] = {}
        for kind in kinds:
            listed = [(abs(w), s, t) for k, s, t, w in self.edges if k == kind and s in feature_of and t in feature_of]
            top = max((weight for weight, _, _ in listed), default=0.0)
            for weight, source, target in listed:
                pair = (feature_of[source], feature_of[target])
                if pair[0][0] < pair[1][0] and top > 0:
                    strength[pair] = max(strength.get(pair, 0.0), weight / top)
        best = sorted(strength, key=lambda pair: (-strength[pair], pair))[: max(0, limit - len(self.node_of))]
        to_output: list[tuple[FeatureKey, Target]] = [(feature, None) for feature in sorted(self.node_of)]
        return [*best, *to_output[:limit]]


def test_candidates(scene: Scene, nodes: GraphNodes, config: CircuitConfig) -> CausalEdges | None:
    """Test the graph's candidates as causal edges on train prompts; None where there is none to test."""
    pairs = nodes.candidates(config.candidate_kinds, config.causal.max_candidates)
    layers = set(np.unique(scene.clean.layer).tolist())
    pairs = [(s, t) for s, t in pairs if s[0] in layers and (t is None or t[0] in layers)]
    if not pairs:
        return None
    return causal_edges(scene.engine, scene.clean, pairs, _spread(scene.engine, scene.train, config.causal.max_prompts), config.causal)


def _spread(engine: Engine, prompts: Integers, n: int) -> Integers:
    """Take n of the prompts, every cluster, template and language in turn."""
    if len(prompts) <= n:
        return prompts
    order = sorted(prompts.tolist(), key=lambda p: (engine.prompts[p].template, engine.prompts[p].language, engine.prompts[p].cluster, p))
    picked = np.linspace(0, len(order) - 1, n).round().astype(np.int64)
    return np.array(sorted({order[i] for i in picked.tolist()}), dtype=np.int64)


def path_table(nodes: GraphNodes, edges: CausalEdges | None, k: int) -> pa.Table:
    """Return the strongest chains through virtual weights and through accepted causal edges."""
    by_kind: dict[str, list[tuple[int, int, float]]] = {
        "virtual_weight": [(s, t, w) for kind, s, t, w in nodes.edges if kind == "virtual_weight"]
    }
    if edges is not None:
        by_kind["causal"] = [
            (nodes.node_of[source], nodes.output if target is None else nodes.node_of[target], float(edges.mean[i]))
            for i, (source, target) in enumerate(edges.pairs)
            if edges.accepted[i]
        ]
    columns: dict[str, list[Any]] = {column.name: [] for column in arrow_schema("path")}
    for kind, listed in by_kind.items():
        rising = [(s, t, w) for s, t, w in listed if nodes.layer[s] < nodes.layer[t]]
        for rank, chain in enumerate(top_chains(rising, nodes.layer, k)):
            _add_path(columns, nodes, kind, rank, chain)
    return table("path", columns)


def _add_path(columns: dict[str, list[Any]], nodes: GraphNodes, kind: str, rank: int, chain: Chain) -> None:
    values = {
        "graph": nodes.graph,
        "kind": kind,
        "rank": rank,
        "circuit": None,
        "nodes": list(chain.nodes),
        "weights": list(chain.shares),
        "score": chain.score,
        "target": nodes.label[chain.nodes[-1]],
    }
    for name, column in columns.items():
        column.append(values[name])


# ---- rows -------------------------------------------------------------------------------------------------------


def circuit_tables(
    found: CircuitFigures, edges: CausalEdges | None, nodes: GraphNodes, behaviour: str, numbers: Iterable[int]
) -> dict[str, pa.Table]:
    """Return circuit and circuit_member: what was found, and the random circuits beside each."""
    counter = iter(numbers)
    circuit: dict[str, list[Any]] = {column.name: [] for column in arrow_schema("circuit")}
    member: dict[str, list[Any]] = {column.name: [] for column in arrow_schema("circuit_member")}
    for item in found.circuits:
        number = next(counter)
        inner = [] if item.order else _edges_within(item.members, edges)
        _add_circuit(
            circuit,
            member,
            number,
            item.name,
            item.method,
            None,
            item.order or sorted(item.members),
            inner,
            behaviour,
            nodes.graph,
            item.parameters,
        )
        for draw, members in enumerate(item.controls):
            name = f"{item.name}: matched random {draw}"
            _add_circuit(
                circuit, member, next(counter), name, "matched_random", number, sorted(members), [], behaviour, nodes.graph, {"draw": draw}
            )
    circuit["reference"] = [found.reference] * len(circuit["circuit"])
    return {"circuit": table("circuit", circuit), "circuit_member": table("circuit_member", member)}


def _edges_within(members: Iterable[FeatureKey], edges: CausalEdges | None) -> list[tuple[FeatureKey, Target, float]]:
    if edges is None:
        return []
    inside = set(members)
    return [
        (source, target, float(edges.mean[i]))
        for i, (source, target) in enumerate(edges.pairs)
        if edges.accepted[i] and source in inside and (target is None or target in inside)
    ]


def _add_circuit(
    circuit: dict[str, list[Any]],
    member: dict[str, list[Any]],
    number: int,
    name: str,
    method: str,
    control_of: int | None,
    members: Iterable[FeatureKey],
    inner: Sequence[tuple[FeatureKey, Target, float]],
    behaviour: str,
    graph: int,
    parameters: Mapping[str, Any],
) -> None:
    features = list(members)
    values = {
        "circuit": number,
        "graph": graph,
        "name": name,
        "behaviour": behaviour,
        "method": method,
        "control_of": control_of,
        "n_features": len(features),
        "n_edges": len(inner),
        "parameters": json.dumps(dict(parameters), sort_keys=True),
    }
    for column in circuit:
        if column != "reference":
            circuit[column].append(values[column])
    rows: list[dict[str, Any]] = [{"kind": "feature", "layer": layer, "feature": feature} for layer, feature in features]
    for source, target, weight in inner:
        rows.append(
            {
                "kind": "edge",
                "layer": source[0],
                "feature": source[1],
                "target_layer": None if target is None else target[0],
                "target_feature": None if target is None else target[1],
                "edge_kind": "causal",
                "weight": weight,
            }
        )
    for ordinal, row in enumerate(rows):
        for column in member:
            member[column].append({"circuit": number, "member": ordinal, **row}.get(column))


def evaluation_rows(found: CircuitFigures, behaviour: str, circuit: pa.Table) -> Evaluations:
    """Give each figure the number of its circuit."""
    names = circuit.column("name").to_pylist()
    number_of = dict(zip(names, circuit.column("circuit").to_pylist(), strict=True))
    return [{**row, "behaviour": behaviour, "circuit": number_of.get(row.pop("of", None))} for row in found.rows]


def _evaluation_table(rows: Evaluations, evaluations: Iterable[int]) -> pa.Table:
    counter = iter(evaluations)
    columns: dict[str, list[Any]] = {column.name: [] for column in arrow_schema("evaluation")}
    for row in rows:
        full = {"evaluation": next(counter), "subject": "behaviour", **row}
        for name, column in columns.items():
            column.append(full.get(name))
    return table("evaluation", columns)
