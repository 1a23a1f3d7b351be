"""Circuits of a thesis run and what was measured of them.

In: circuits*.json and the graph's nodes. Out: rows of circuit, circuit_member, path, evaluation, and the group ablation behind
`validation` as an intervention with an effect (its per-prompt values were not published). `n_features` of the file counts input
and output nodes; circuit.n_features does not.
"""

from __future__ import annotations

import itertools
from typing import Any

from atlas.errors import InputError
from atlas.ids import canonical_json
from ingest.importers.common import Record, read_json
from ingest.importers.thesis.files import Files, Rows, feature_in
from ingest.importers.thesis.graphs import GraphRows

MEASURES: tuple[tuple[str, str, str, str | None, str], ...] = (
    # section, field, property, error mode, what to know
    ("validation", "disruption_rate", "disruption_rate", "clean", "share of prompts whose margin falls when the circuit is ablated"),
    ("validation", "mean_effect", "necessity", "clean", "mean margin after - before ablation: positive means that the margin rose"),
    ("validation", "std_effect", "necessity_sd", "clean", "standard deviation over prompts (denominator n)"),
    ("sufficiency_s1", "sign_preserved_rate", "s1_sign_preserved_rate", "clean", "complement ablated with the clean run's values"),
    ("sufficiency_s1", "mean_retention_ratio", "s1_mean_retention", "clean", "mean over prompts of margin / margin before"),
    (
        "sufficiency_s1_5",
        "sign_preserved_rate_s15",
        "s15_sign_preserved_rate",
        None,
        "MLP outputs replaced by the decoded circuit, error left out",
    ),
    ("sufficiency_s1_5", "mean_retention_s15", "s15_mean_retention", None, "mean over prompts of margin / margin before, error left out"),
    ("sufficiency_s2", "transfer_rate", "s2_transfer_rate", "clean", "one pair a concept, English into French; no matched control"),
    ("sufficiency_s2", "mean_shift", "s2_mean_shift", "clean", "mean margin after - before, one pair a concept; no matched control"),
)


def read_circuits(files: Files, graphs: GraphRows, *, n_clusters: int, first_intervention: int) -> Rows:
    """Read every circuits file, in name order; `n_clusters` concepts were measured, `first_intervention` is the next free number."""
    rows: Rows = {}
    n_paths: dict[str, int] = {}
    for circuit, path in enumerate(files.of("circuits")):
        document = read_json(path, files.name(path))
        if not graphs.nodes:
            raise InputError(f"{document.where}: expected the attribution graph whose nodes it joins, got no graph file in the folder")
        behaviour = document.child("metadata").optional_text("behaviour") or ""
        features = _features(document, graphs)
        weights = _add_members(rows, document.child("circuit"), circuit, features)
        _add_paths(rows, document, circuit, graphs, weights, n_paths)
        _add_circuit(rows, document, circuit, path.stem, behaviour, features)
        _add_evaluations(rows, document, circuit, path.stem, behaviour)
        _add_group_ablation(rows, document, path.stem, behaviour, features, (first_intervention + circuit, n_clusters))
    return rows


def _features(document: Record, graphs: GraphRows) -> list[tuple[int, int]]:
    features = []
    circuit = document.child("circuit")
    names = circuit.texts("feature_nodes")
    for index, name in enumerate(names):
        if name not in graphs.nodes or names.index(name) != index:
            expected = "a node of the graph" if name not in graphs.nodes else "each node once"
            raise InputError(f"{circuit.where} feature_nodes[{index}]: expected {expected}, got {name!r}")
        if feature := feature_in(name):
            features.append(feature)
    if not features:
        raise circuit.fail("feature_nodes", "a feature of the graph")
    return features


def _end(name: str) -> tuple[int | None, int | None]:
    return feature_in(name) or (None, None)


def _add_members(rows: Rows, record: Record, circuit: int, features: list[tuple[int, int]]) -> dict[tuple[str, str], tuple[str, float]]:
    """Append features, then edges; return {(source, target): (kind, weight)}."""
    members = rows.setdefault("circuit_member", [])
    for member, (layer, feature) in enumerate(features):
        row: dict[str, Any] = {"circuit": circuit, "member": member, "kind": "feature", "layer": layer, "feature": feature}
        members.append(row | {"role": "decision"})
    weights: dict[tuple[str, str], tuple[str, float]] = {}
    for number, edge in enumerate(record.children("edges"), start=len(features)):
        kind = {"star": "star_total", "causal": "causal"}.get(edge.text("edge_type"))
        if kind is None:
            raise edge.fail("edge_type", "star or causal")
        source, target = edge.text("source"), edge.text("target")
        layer_feature, target_feature = _end(source), _end(target)
        weights[source, target] = (kind, edge.number("mean_delta_abs"))
        members.append(
            {
                "circuit": circuit,
                "member": number,
                "kind": "edge",
                "layer": layer_feature[0],
                "feature": layer_feature[1],
                "target_layer": target_feature[0],
                "target_feature": target_feature[1],
                "edge_kind": kind,
                "weight": edge.number("mean_delta_abs"),
            }
        )
    return weights


def _add_paths(
    rows: Rows,
    document: Record,
    circuit: int,
    graphs: GraphRows,
    weights: dict[tuple[str, str], tuple[str, float]],
    n_paths: dict[str, int],
) -> None:
    """Append the paths. A path with a causal step is of kind causal: its first and last steps are star edges all the same."""
    for record in document.children("paths"):
        names = record.texts("path")
        steps = list(itertools.pairwise(names))
        unknown = next((step for step in steps if step not in weights), None)
        if unknown is not None or not steps or len(steps) != record.integer("n_edges"):
            raise record.fail(
                "path", "nodes joined by edges of the circuit" if unknown or not steps else f"{record.integer('n_edges')} steps"
            )
        kind = "causal" if any(weights[step][0] == "causal" for step in steps) else "star_total"
        rank = n_paths[kind] = n_paths.get(kind, -1) + 1
        rows.setdefault("path", []).append(
            {
                "graph": 0,
                "kind": kind,
                "rank": rank,
                "circuit": circuit,
                "nodes": [graphs.nodes[name] for name in names],
                "weights": [weights[step][1] for step in steps],
                "score": record.number("score"),
                "target": names[-1],
            }
        )


def _add_circuit(rows: Rows, document: Record, circuit: int, name: str, behaviour: str, features: list[tuple[int, int]]) -> None:
    record = document.child("circuit")
    edges = [row for row in rows["circuit_member"] if row["circuit"] == circuit and row["kind"] == "edge"]
    if len(edges) != record.integer("n_edges"):
        raise record.fail("n_edges", f"the number of edges, {len(edges)}")
    row = {
        "circuit": circuit,
        "graph": 0,
        "name": name,
        "behaviour": behaviour or None,
        "method": "union of the top-K paths by product of |weights|",
        "reference": "zero",
        "n_features": len(features),
        "n_edges": len(edges),
        "parameters": document.child("metadata").settings(),
    }
    rows.setdefault("circuit", []).append(row)


def _add_evaluations(rows: Rows, document: Record, circuit: int, name: str, behaviour: str) -> None:
    split = document.child("metadata").optional_text("split") or "all"
    for section, field, measured, error_mode, note in MEASURES:
        if section not in document.values:
            continue
        record = document.child(section)
        if record.values.get(field) is None:
            continue
        n_prompts = record.integer("n_pairs" if section == "sufficiency_s2" else "n", 1)
        value = record.number(field)
        if field.endswith("_rate") and not 0 <= value <= 1:
            raise record.fail(field, "a share from 0 to 1")
        row = {
            "evaluation": len(rows.setdefault("evaluation", [])),
            "subject": name,
            "circuit": circuit,
            "behaviour": behaviour or None,
            "property": measured,
            "language": "all",
            "split": split,
            "reference": "zero",
            "error_mode": error_mode,
            "value": value,
            "n_prompts": n_prompts,
            "p_value": _transfer_p(value, n_prompts) if measured == "s2_transfer_rate" else None,
            "note": note,
        }
        rows["evaluation"].append(row)


def _transfer_p(rate: float, n: int) -> float:
    """One-sided binomial test that more than half of the pairs shift: all that can be said without a control."""
    from scipy.stats import binomtest

    return float(binomtest(round(rate * n), n, 0.5, alternative="greater").pvalue)


def _add_group_ablation(
    rows: Rows, document: Record, name: str, behaviour: str, features: list[tuple[int, int]], place: tuple[int, int]
) -> None:
    number, n_clusters = place
    if "validation" not in document.values or document.child("validation").values.get("mean_effect") is None:
        return
    record = document.child("validation")
    layers = [layer for layer, _ in features]
    intervention = {
        "intervention": number,
        "name": f"ablation of circuit {name}",
        "behaviour": behaviour or None,
        "rule": "zero",
        "mode": "free",
        "positions": "decision",
        "hook": "mlp_out",
        "keeps_error": True,
        "sound": True,
        "n_members": len(features),
        "layer_low": min(layers),
        "layer_high": max(layers),
        "parameters": canonical_json({"values": "clean run", "per_prompt_values_published": False}),
    }
    rows.setdefault("intervention", []).append(intervention)
    for layer, feature in features:
        member = {"intervention": number, "layer": layer, "feature": feature, "position": -1, "value": 0.0}
        rows.setdefault("intervention_member", []).append(member)
    rows.setdefault("effect", []).append(
        {
            "intervention": number,
            "language": "all",
            "split": "all",  # of the run's prompts
            "control": "none",
            "n_prompts": record.integer("n"),
            "n_clusters": n_clusters,
            "mean": record.number("mean_effect"),
            "method": "mean over prompts, as published",
            "n_controls": 0,
        }
    )
