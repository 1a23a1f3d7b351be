"""Graphs, interventions, circuits and labels of a synthetic atlas, in the amounts of a run on 36 layers (benchmarks/synthetic.py).

In: size and prompts. Out: tables without run_id. Every edge, member and outcome names features that fire and prompts that are there.
"""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.synthetic import LANGUAGES, MODEL, SET, WORDS, Array, Prompts, Size, choice, text

SINGLES, SINGLE_CONTROLS = 400, 3
"""Features that are ablated alone, and matched controls of each."""
JOINTS, JOINT_CONTROLS, JOINT_MEMBERS = 6, 100, 40
SWAPS, SWAP_CONTROLS = 4, 100
STRENGTHS = (-2.0, -1.0, 0.0, 0.5, 2.0, 4.0)
TRIED = 64
"""Prompts that an intervention runs on."""
VIRTUAL, CAUSAL = 60_000, 2_000
TRACED, TRACED_FEATURES, TRACED_EDGES = 10, 600, 20_000
CIRCUITS, CIRCUIT_CONTROLS = 3, 100
KINDS = ["star_total", "star_direct", "virtual_weight", "attribution", "causal"]
NODES = ["feature", "error", "token", "logit", "input", "output"]


def frequent(size: Size, index: int, n: int) -> Array:
    """Return features of a layer that fire often, but not always: ranks 10 to n + 10 (as benchmarks.synthetic draws them)."""
    return np.random.default_rng(1000 + index).permutation(size.features)[10 : n + 10]


def evidence_tables(size: Size, prompts: Prompts) -> dict[str, pa.Table]:
    """Return all tables of this module."""
    rng = np.random.default_rng(7)
    each = max(4, min(60, size.features // 16))
    layer = np.repeat(np.arange(size.layers), each)
    feature = np.concatenate([frequent(size, index, each) for index in range(size.layers)])
    return {
        **_graphs(size, prompts, layer, feature, rng),
        **_interventions(prompts, layer, feature, rng),
        **_circuits(layer, feature, rng),
        **_labels(size, rng),
    }


def _graphs(size: Size, prompts: Prompts, layer: Array, feature: Array, rng: np.random.Generator) -> dict[str, pa.Table]:
    parts = [_prompt_set(number, prompts, layer, feature, rng) for number in (0, 1)]
    parts += [_traced(2 + number, size, layer, feature, rng) for number in range(TRACED)]
    tables = {name: pa.concat_tables([part[name] for part in parts if name in part]) for name in parts[0] | parts[-1]}
    n = len(layer) + 1
    groups = {"graph": np.repeat([0, 1], n), "node": np.tile(np.arange(n), 2)}
    community = {**groups, "partition": np.zeros(2 * n, int), "community": rng.integers(0, 12, 2 * n), "stability": np.full(2 * n, 0.8)}
    supernode = {**groups, "partition": np.ones(2 * n, int), "supernode": rng.integers(0, 60, 2 * n), "stability": np.full(2 * n, 0.6)}
    partition = {
        "graph": [0, 0, 1, 1],
        "partition": [0, 1, 0, 1],
        "kind": ["community", "supernode"] * 2,
        "algorithm": ["louvain consensus", "average linkage"] * 2,
        "seed": [0] * 4,
        "resolution": [1.0, None] * 2,
        "quality": [0.4, 0.1] * 2,
        "n_groups": [12, 60] * 2,
        "stability": [0.8, 0.6] * 2,
    }
    return {**tables, "community": pa.table(community), "supernode": pa.table(supernode), "partition": pa.table(partition)}


def _edges(graph: int, kind: Array, source: Array, target: Array, nodes: dict[str, Array], rng: np.random.Generator) -> pa.Table:
    """Return edges between numbered nodes; `nodes` gives each one's kind, layer and feature (-1 for none)."""
    n = len(source)
    causal = kind == 4
    weight = rng.standard_cauchy(n) * 0.05
    half = 0.5 * np.abs(weight) + 0.01
    p_value = rng.random(n) ** 2

    def where(values: Array, at: Array) -> pa.Array:
        return pa.array(values[at], mask=values[at] < 0)

    columns: dict[str, Any] = {
        "graph": np.full(n, graph),
        "kind": choice(KINDS, kind),
        "source": source,
        "target": target,
        "source_layer": where(nodes["layer"], source),
        "source_feature": where(nodes["feature"], source),
        "target_kind": choice(NODES, nodes["kind"][target]),
        "target_layer": where(nodes["layer"], target),
        "target_feature": where(nodes["feature"], target),
        "weight": weight,
        "sd": np.abs(weight) * 0.7,
        "n_prompts": np.full(n, TRIED),
        "frequency": rng.random(n),
        "static_weight": weight * 0.5 * rng.choice([1, -1], n, p=[0.8, 0.2]),
        "attribution": weight * 0.3,
        "target_weighted": weight * 0.4,
        "selection_frequency": rng.random(n),
        "sign_stability": rng.uniform(0.5, 1, n),
        "ci_low": pa.array(weight - half, mask=~causal),
        "ci_high": pa.array(weight + half, mask=~causal),
        "p_value": pa.array(p_value, mask=~causal),
        "q_value": pa.array(np.sqrt(p_value), mask=~causal),
        "accepted": ~causal | (p_value < 0.1),
    }
    return pa.table(columns)


def _prompt_set(graph: int, prompts: Prompts, layer: Array, feature: Array, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Return a graph over all prompts of a behaviour: every feature's edge to the answer, virtual weights and causal edges between them."""
    n = len(layer)
    output = n
    nodes = {"layer": np.append(layer, -1), "feature": np.append(feature, -1), "kind": np.append(np.zeros(n, int), 5)}
    everyone = np.arange(n)
    source, target = (rng.integers(0, n, 4 * VIRTUAL) for _ in range(2))
    rising = np.unique((source * n + target)[layer[source] < layer[target]])
    virtual = rng.permutation(rising)[: VIRTUAL // (1 + graph)]
    causal = rng.permutation(rising)[: CAUSAL // (1 + graph)]
    kind = np.concatenate([np.zeros(n, int), np.ones(n, int), np.full(len(virtual), 2), np.full(len(causal), 4)])
    sources = np.concatenate([everyone, everyone, virtual // n, causal // n])
    targets = np.concatenate([np.full(2 * n, output), virtual % n, causal % n])
    edge = _edges(graph, kind, sources, targets, nodes, rng)
    n_prompts = int((prompts.behaviour == graph).sum())
    key = {"graph": np.full(2 * len(kind), graph), "kind": choice(KINDS, np.repeat(kind, 2)), "source": np.repeat(sources, 2)}
    spoken = {
        **key,
        "target": np.repeat(targets, 2),
        "language": choice(list(LANGUAGES), np.tile([0, 1], len(kind))),
        "n_prompts": np.full(2 * len(kind), n_prompts // 2),
        "weight": rng.normal(0, 0.05, 2 * len(kind)),
        "sd": np.full(2 * len(kind), 0.1),
        "attribution": rng.normal(0, 0.02, 2 * len(kind)),
    }
    tried = np.flatnonzero(prompts.behaviour == graph)[:TRIED]
    times = len(tried)
    at = np.repeat(np.flatnonzero(kind == 4), times)
    prompted = {
        "graph": np.full(len(at), graph),
        "kind": text("causal", len(at)),
        "source": sources[at],
        "target": targets[at],
        "prompt": np.tile(tried, len(at) // max(times, 1)),
        "weight": rng.normal(0, 0.05, len(at)),
        "conditional": np.ones(len(at), bool),
    }
    node = {
        "graph": np.full(n + 1, graph),
        "node": np.arange(n + 1),
        "kind": choice(NODES, nodes["kind"]),
        "layer": pa.array(nodes["layer"], mask=nodes["layer"] < 0),
        "feature": pa.array(nodes["feature"], mask=nodes["layer"] < 0),
        "label": [f"L{a}_F{b}" for a, b in zip(layer, feature, strict=True)] + ["margin"],
        "n_prompts": np.full(n + 1, n_prompts),
        "frequency": rng.random(n + 1),
        "mean_activation": rng.random(n + 1),
        "sd_activation": rng.random(n + 1),
        "influence": rng.random(n + 1) ** 4,
        "selection_frequency": rng.random(n + 1),
        "kept": np.ones(n + 1, bool),
        "universal": rng.random(n + 1) < 0.1,
    }
    languages = {
        "graph": np.full(2 * n, graph),
        "node": np.repeat(everyone, 2),
        "language": choice(list(LANGUAGES), np.tile([0, 1], n)),
        "n_prompts": np.full(2 * n, n_prompts // 2),
        "frequency": rng.random(2 * n),
        "mean_activation": rng.random(2 * n),
        "sd_activation": rng.random(2 * n),
    }
    head: dict[str, list[Any]] = {
        "graph": [graph],
        "kind": ["prompt_set"],
        "name": [("antonyms", "gate")[graph]],
        "behaviour": [("antonyms", "gate")[graph]],
    }
    path = {
        "graph": [graph] * 20,
        "kind": ["virtual_weight"] * 20,
        "rank": list(range(20)),
        "nodes": pa.array([[int(virtual[k] // n), int(virtual[k] % n), output] for k in range(20)], pa.list_(pa.int32())),
        "weights": [[0.5, 0.2]] * 20,
        "score": [0.1 / (k + 1) for k in range(20)],
        "target": ["margin"] * 20,
    }
    return {
        "graph": _graph_row(head, n_prompts, n + 1, edge.num_rows, None, None),
        "node": pa.table(node),
        "node_language": pa.table(languages),
        "edge": edge,
        "edge_language": pa.table(spoken),
        "edge_prompt": pa.table(prompted),
        "path": pa.table(path),
    }


def _graph_row(head: dict[str, list[Any]], n_prompts: int, nodes: int, edges: int, prompt: int | None, score: float | None) -> pa.Table:
    schema = pa.schema([("prompt", pa.int32()), ("replacement_score", pa.float64()), ("completeness_score", pa.float64())])
    some = pa.table({"prompt": [prompt], "replacement_score": [score], "completeness_score": [score]}, schema=schema)
    rest = {**head, "n_prompts": [n_prompts], "n_nodes": [nodes], "n_edges": [edges], "parameters": ["{}"]}
    return pa.table({**rest, **{name: some[name] for name in some.column_names}})


def _traced(graph: int, size: Size, layer: Array, feature: Array, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Return the attribution graph of one prompt: features at positions, errors, tokens, the strongest answers."""
    n = min(TRACED_FEATURES, len(layer))
    chosen = np.sort(rng.choice(len(layer), n, replace=False))
    position = rng.integers(1, 20, n)
    errors = size.layers * 19
    kind = np.concatenate([np.zeros(n, int), np.ones(errors, int), np.full(20, 2), np.full(10, 3)])
    total = len(kind)
    nodes = {
        "kind": kind,
        "layer": np.concatenate([layer[chosen], np.repeat(np.arange(size.layers), 19), np.full(30, -1)]),
        "feature": np.concatenate([feature[chosen], np.full(errors + 30, -1)]),
    }
    depth = np.where(kind == 3, size.layers + 1, nodes["layer"])
    source, target = rng.integers(0, total, 12 * TRACED_EDGES), rng.integers(0, total, 12 * TRACED_EDGES)
    fits = (depth[source] < depth[target]) & ((kind[target] == 0) | (kind[target] == 3)) & (kind[source] != 3)
    pairs = rng.permutation(np.unique((source * total + target)[fits]))[:TRACED_EDGES]
    edge = _edges(graph, np.full(len(pairs), 3), pairs // total, pairs % total, nodes, rng)
    place = np.concatenate([position, np.tile(np.arange(1, 20), size.layers), np.arange(20), np.full(10, 19)])
    probability = np.where(kind == 3, 0.08, np.nan)
    node = {
        "graph": np.full(total, graph),
        "node": np.arange(total),
        "kind": choice(NODES, kind),
        "layer": pa.array(nodes["layer"], mask=nodes["layer"] < 0),
        "feature": pa.array(nodes["feature"], mask=nodes["feature"] < 0),
        "position": place,
        "label": [f"{NODES[code]} {number}" for number, code in enumerate(kind)],
        "influence": rng.random(total) ** 6,
        "probability": pa.array(probability, from_pandas=True),
        "kept": np.ones(total, bool),
    }
    prompt = graph - 2
    head: dict[str, list[Any]] = {"graph": [graph], "kind": ["attribution"], "name": [f"prompt {prompt}"], "behaviour": ["antonyms"]}
    absent = ("n_prompts", "frequency", "mean_activation", "sd_activation", "selection_frequency", "universal")
    types = {"n_prompts": pa.int64(), "universal": pa.bool_()}
    nothing = {name: pa.nulls(total, types.get(name, pa.float64())) for name in absent}
    order = ["graph", "node", "kind", "layer", "feature", "label", "n_prompts", "frequency", "mean_activation", "sd_activation"]
    order += ["influence", "selection_frequency", "kept", "universal"]
    return {
        "graph": _graph_row(head, 1, total, edge.num_rows, prompt, 0.7),
        "node": pa.table({**node, **nothing}).select(order),
        "edge": edge,
    }


def _interventions(prompts: Prompts, layer: Array, feature: Array, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Return single and joint ablations, dose-response and swaps, each with its controls."""
    tried = np.flatnonzero(prompts.behaviour == 0)[:TRIED]
    given: list[dict[str, Any]] = []
    members: list[tuple[int, int]] = []
    shift: list[float] = []

    def add(name: str, rule: str, chosen: Array, mean: float, **more: Any) -> int:
        number = len(given)
        common = {"mode": "free", "positions": "decision", "hook": "mlp_out", "keeps_error": True, "sound": True, "behaviour": "antonyms"}
        span = {"n_members": len(chosen), "layer_low": int(layer[chosen].min()), "layer_high": int(layer[chosen].max())}
        given.append({"intervention": number, "name": name, "rule": rule, **common, **span, "seed": 0, "noise_floor": 1e-6, **more})
        members.extend((number, int(k)) for k in chosen)
        shift.append(mean)
        return number

    def controls(of: int, count: int, size: int, rule: str) -> None:
        for draw in range(count):
            chosen = rng.choice(len(layer), size, replace=False)
            more = {"control_of": of, "control": "matched_random", "draw": draw, "distinct_sets": 1e6, "n_pool": 500}
            add(f"control {of} {draw}", rule, chosen, 0.0, **more)

    for k in rng.choice(len(layer), min(SINGLES, len(layer)), replace=False):
        of = add(f"ablate L{layer[k]}_F{feature[k]}", "zero", np.array([k]), float(rng.normal(-0.05, 0.1)))
        controls(of, SINGLE_CONTROLS, 1, "zero")
    several = min(JOINT_MEMBERS, len(layer) // 2)
    for number in range(JOINTS):
        of = add(f"joint {number}", "zero", np.sort(rng.choice(len(layer), several, replace=False)), -1.0)
        controls(of, JOINT_CONTROLS, several, "zero")
    steered = np.sort(rng.choice(len(layer), several, replace=False))
    for strength in STRENGTHS:
        add(f"scale {strength}", "scale", steered, strength - 1, strength=strength)
    swaps: list[int] = []
    for number in range(SWAPS):
        of = add(f"swap {number}", "swap", np.sort(rng.choice(len(layer), several, replace=False)), -2.0)
        swaps.append(of)
        controls(of, SWAP_CONTROLS, several, "swap")
    n = len(given)
    names = list(dict.fromkeys(name for row in given for name in row))
    table = pa.table({name: pa.array([row.get(name) for row in given]) for name in names})
    owner, at = (np.array(column) for column in zip(*members, strict=True))
    member = pa.table(
        {"intervention": owner, "layer": layer[at], "feature": feature[at], "position": np.full(len(at), 19), "value": np.zeros(len(at))}
    )
    prompt = np.tile(tried, n)
    owners = np.repeat(np.arange(n), len(tried))
    swapped = np.isin(np.array([row.get("control_of") or row["intervention"] for row in given]), swaps)[owners]
    source = np.where(swapped, prompt ^ 1, -1)
    before = np.tile(rng.normal(1.5, 1, len(tried)), n).astype(np.float32)
    after = (before + np.array(shift)[owners] + rng.normal(0, 0.1, len(owners))).astype(np.float32)
    outcome = {
        "intervention": owners,
        "prompt": prompt,
        "source_prompt": source,
        "margin_before": before,
        "margin_after": after,
        "effect": after - before,
        "kl": np.abs(after - before) * 0.1,
        "top1_before": rng.integers(0, 1000, len(owners)),
        "top1_after": rng.integers(0, 1000, len(owners)),
        "predicted_gradient": (after - before) * 0.8,
        "predicted_integrated": (after - before) * 0.9,
        "n_edited": np.ones(len(owners), int),
        "delta_norm": np.full(len(owners), 2.0, np.float32),
    }
    return {
        "intervention": table,
        "intervention_member": member,
        "outcome": pa.table(outcome),
        **_answers(owners, prompt, source, swapped, given, prompts, rng),
    }


def _answers(
    number: Array, prompt: Array, source: Array, swapped: Array, given: list[dict[str, Any]], prompts: Prompts, rng: np.random.Generator
) -> dict[str, pa.Table]:
    """Return each answer's change for what is no control, and how far swaps carried the source's concept over."""
    plain = np.array([row.get("control_of") is None for row in given])[number]
    at = np.repeat(np.flatnonzero(plain), 3)
    before = rng.normal(10, 2, len(at)).astype(np.float32)
    after = before + rng.normal(0, 0.5, len(at)).astype(np.float32)
    answer = {
        "intervention": number[at],
        "prompt": prompt[at],
        "source_prompt": source[at],
        "answer": np.tile(np.arange(3), len(at) // 3),
        "token_id": rng.integers(0, 1000, len(at)),
        "logit_before": before,
        "logit_after": after,
        "logprob_before": before - 14,
        "logprob_after": after - 14,
    }
    at = np.flatnonzero(swapped)
    rise = rng.normal(0.2, 1, len(at)) + 2 * plain[at]
    other = (prompts.concept[prompt[at]] + 2) % (prompts.concept.max() + 1)
    transfer = {
        "intervention": number[at],
        "prompt": prompt[at],
        "source_prompt": source[at],
        "source_language": choice(list(LANGUAGES), prompts.language[source[at]]),
        "target_language": choice(list(LANGUAGES), prompts.language[prompt[at]]),
        "source_concept": [f"pair {k:03d}" for k in other],
        "target_concept": [f"pair {k:03d}" for k in prompts.concept[prompt[at]]],
        "expected_token_id": rng.integers(0, 1000, len(at)),
        "rise": rise,
        "rise_source_language": rise * 0.5,
        "rise_partner": rise * 0.2,
        "prefers_expected": rise > 1,
        "control": pa.array([None if p else "matched_random" for p in plain[at]], pa.string()),
    }
    return {"outcome_answer": pa.table(answer), "transfer": pa.table(transfer)}


def _circuits(layer: Array, feature: Array, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Return circuits with matched random ones, and what was measured of them."""
    several = min(60, len(layer) // 2)
    rows, members, measured = [], [], []
    for number in range(CIRCUITS * (1 + CIRCUIT_CONTROLS)):
        of, draw = divmod(number, 1 + CIRCUIT_CONTROLS)
        of *= 1 + CIRCUIT_CONTROLS
        name = f"circuit {of}" if draw == 0 else f"control {of} {draw}"
        head = {"graph": 0, "name": name, "behaviour": "antonyms", "method": "virtual_weight", "reference": "mean"}
        rows.append({"circuit": number, **head, "control_of": None if draw == 0 else of, "n_features": several, "n_edges": 0})
        for member, k in enumerate(rng.choice(len(layer), several, replace=False)):
            where = {"layer": int(layer[k]), "feature": int(feature[k]), "position": 19, "role": "decision"}
            members.append({"circuit": number, "member": member, "kind": "feature", **where})
        if draw == 0:
            measured += _measured(number, rng)
    for subject, names in (("behaviour", ("directionality", "persistence", "replaceability")), ("type", ("type_test",))):
        for name in names:
            measured.append(_value(subject, name, "all", rng, computation_type="abstract_mapping" if subject == "type" else None))
    columns = list(dict.fromkeys(name for row in measured for name in row))
    evaluation = {name: pa.array([row.get(name) for row in measured]) for name in columns}
    return {
        "circuit": pa.Table.from_pylist(rows),
        "circuit_member": pa.Table.from_pylist(members),
        "evaluation": pa.table({"evaluation": np.arange(len(measured)), **evaluation}),
    }


def _measured(circuit: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for name in ("faithfulness", "completeness", "necessity", "cpr", "cmd"):
        for language in ("all", *LANGUAGES):
            rows.append(_value("circuit", name, language, rng, circuit=circuit))
    for x in (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0):
        rows.append(_value("circuit", "faithfulness", "all", rng, circuit=circuit, x=x))
    return rows


def _value(subject: str, name: str, language: str, rng: np.random.Generator, **more: Any) -> dict[str, Any]:
    value = float(rng.random())
    return {
        "subject": subject,
        "behaviour": "antonyms",
        "property": name,
        "language": language,
        "split": "held_out",
        "reference": "mean",
        "error_mode": "clean",
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "control_mean": 0.1,
        "control_low": 0.0,
        "control_high": 0.2,
        "n_controls": CIRCUIT_CONTROLS,
        "n_prompts": TRIED,
        "n_clusters": 16,
        "p_value": 0.01,
        "supports": True,
        "model": MODEL,
        "dtype": "bfloat16",
        **more,
    }


def _labels(size: Size, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Return a label for every five-hundredth feature."""
    number = np.arange(0, size.layers * size.features, 500)
    n = len(number)
    label = {
        "label_id": [hashlib.sha256(str(k).encode()).hexdigest()[:16] for k in number],
        "transcoder_set": text(SET, n),
        "layer": number // size.features,
        "feature": number % size.features,
        "text": [f"{WORDS[k % len(WORDS)]} and the like {k % 977}" for k in number],
        "method": text("imported", n),
        "author": text("synthetic", n),
        "created_at": pa.array([datetime.datetime(2026, 1, 1)] * n, pa.timestamp("us")),
        "retired": np.zeros(n, bool),
    }
    return {"label": pa.table(label)}
