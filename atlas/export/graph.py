"""A stored graph as a file: graphml and gexf for Gephi, json for circuit-tracer's front end and Neuronpedia.

In: rows of tables node and edge of one graph as Arrow tables, its row of table graph, and for json the prompt. Out: the file and its
sidecar. Edges of several kinds between two nodes stay apart (graphml, gexf); json holds attribution edges of one prompt's graph.

In json, ids are circuit-tracer's (`layer_feature_position`, `0_layer_position` for an error, `E_token_position`,
`layers + 1_token_position` for a logit) and a feature's number is the Cantor pair of layer and feature. An error and a feature of
layer 0 that would share an id are told apart: that error's id ends in `_error`.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas import __version__, files
from atlas.errors import InputError, UsageError
from atlas.export.cells import CONTROL
from atlas.export.provenance import STDOUT, Provenance, checked_target, format_of, sidecar_path, write_sidecar

FORMATS = ("graphml", "gexf", "json")
NODE_COLUMNS = (
    "kind", "layer", "feature", "position", "role", "token_id", "label", "n_prompts", "frequency", "mean_activation", "sd_activation",
    "influence", "cumulative_influence", "selection_frequency", "probability", "kept", "universal",
)  # fmt: skip
EDGE_COLUMNS = (
    "kind", "weight", "sd", "n_prompts", "frequency", "static_weight", "attribution", "selection_frequency", "sign_stability",
    "ci_low", "ci_high", "p_value", "q_value", "accepted",
)  # fmt: skip
FEATURE_TYPES = {
    "feature": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "token": "embedding",
    "input": "embedding",
    "logit": "logit",
    "output": "logit",
}


def write_graph(
    nodes: pa.Table,
    edges: pa.Table,
    target: Path | str,
    format: str | None = None,
    *,
    graph: Mapping[str, Any],
    prompt: str = "",
    tokens: Sequence[str] = (),
    scan: str = "",
    n_layers: int | None = None,
    provenance: Provenance | None = None,
) -> list[Path]:
    """Write one graph with its sidecar, or to stdout (`-`, with a format) without; returns the files written.

    `nodes`, `edges`: rows of tables node and edge of this graph. `graph`: its row. For json: `prompt` and its `tokens`, `scan` (the
    model's name on Neuronpedia, or the transcoder set), `n_layers` of the model (else one more than the highest layer).
    Raises UsageError for an unknown format, an edge without its node, or json of a graph over prompts.
    """
    ending = format or format_of(target, FORMATS, {})
    if ending not in FORMATS:
        raise UsageError(f"no graph format {ending!r}", hint=f"Formats: {', '.join(FORMATS)}.")
    path = checked_target(target)
    node_rows, edge_rows = nodes.to_pylist(), edges.to_pylist()
    known = {row["node"] for row in node_rows}
    for row in edge_rows:
        if not {row["source"], row["target"]} <= known:
            raise UsageError(f"edge {row['source']} -> {row['target']} has an end that is no node", hint="Give all nodes of the graph.")
    comment = f"Provenance: {sidecar_path(path).name}"
    if ending == "json":
        content = graph_json(node_rows, edge_rows, graph, prompt=prompt, tokens=tokens, scan=scan, n_layers=n_layers)
        data = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode()
    else:
        data = _xml(node_rows, edge_rows, graph, ending, comment)
    if str(target) == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return []
    files.write_whole(path, data)
    facts = {"graph": graph.get("name"), "format": ending, "n_nodes": len(node_rows), "n_edges": len(edge_rows)}
    return [path, write_sidecar(path, (provenance or Provenance()).of(nodes), **facts)]


def _xml(
    nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]], graph: Mapping[str, Any], ending: str, comment: str
) -> bytes:
    import networkx as nx

    made = nx.MultiDiGraph(name=_clean(graph.get("name", "graph")), comment=comment)
    for row in nodes:
        made.add_node(str(row["node"]), **_attributes(row, NODE_COLUMNS))
    for number, row in enumerate(edges):
        made.add_edge(str(row["source"]), str(row["target"]), key=str(number), **_attributes(row, EDGE_COLUMNS))
    stream = io.BytesIO()
    (nx.write_graphml if ending == "graphml" else nx.write_gexf)(made, stream, encoding="utf-8")
    return stream.getvalue()


def _attributes(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the columns that are there and not null; XML has no null, and no NaN that Gephi reads."""
    found = {}
    for name in names:
        value = row.get(name)
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            continue
        found[name] = _clean(value) if isinstance(value, str) else value
    return found


def _clean(value: Any) -> str:
    """Replace what XML 1.0 cannot hold."""
    return CONTROL.sub("\ufffd", str(value)).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")


def graph_json(
    nodes: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, Any]],
    graph: Mapping[str, Any],
    *,
    prompt: str,
    tokens: Sequence[str],
    scan: str,
    n_layers: int | None,
) -> dict[str, Any]:
    """Return the graph as circuit-tracer's front end takes it; kept nodes with a kept edge, and all tokens and logits."""
    if graph.get("kind") != "attribution":
        raise UsageError(
            f"graph {graph.get('name')!r} is over prompts; the front end shows graphs of one prompt", hint="Export it as graphml or gexf."
        )
    layers = n_layers if n_layers is not None else 1 + max((row["layer"] for row in nodes if row["layer"] is not None), default=0)
    kept = [row for row in nodes if row["kept"]]
    ids = _ids(kept, layers)
    links = [
        {"source": ids[row["source"]], "target": ids[row["target"]], "weight": row["weight"]}
        for row in edges
        if row["accepted"] and row["source"] in ids and row["target"] in ids
    ]
    linked = {link[end] for link in links for end in ("source", "target")}
    cumulative = cumulative_influence(nodes)
    likeliest = max((row for row in kept if row["kind"] == "logit"), key=lambda row: row["probability"] or 0.0, default=None)
    shown = [
        _node(row, ids[row["node"]], layers, cumulative.get(row["node"]), row is likeliest)
        for row in kept
        if ids[row["node"]] in linked or row["kind"] in ("token", "logit")
    ]
    texts = list(tokens) or _texts(nodes)
    metadata: dict[str, Any] = {
        "slug": str(graph["name"]),
        "scan": scan,
        "transcoder_list": [],
        "prompt_tokens": texts,
        "prompt": prompt or "".join(texts),
        "schema_version": 1,
        "info": {"generator": {"name": "feature-atlas", "version": __version__}},
    }
    if graph.get("node_threshold") is not None:  # Neuronpedia's validator takes a number or nothing
        metadata["node_threshold"] = graph["node_threshold"]
    parameters = {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}
    return {"metadata": metadata, "qParams": parameters, "nodes": shown, "links": links}


def write_listed(content: Mapping[str, Any], path: Path) -> None:
    """Write a graph of `graph_json`, whole or not at all, and list it in `graph-metadata.json` beside it.

    The front end finds a folder's graphs by that list, and a graph by its slug, which is the file's name. Raises InputError where a
    file of that name is no such list.
    """
    listing = path.with_name("graph-metadata.json")
    try:
        graphs = json.loads(listing.read_text(encoding="utf-8"))["graphs"] if listing.exists() else []
        others = [entry for entry in graphs if entry["slug"] != content["metadata"]["slug"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{listing} is no list of graphs: {error}", hint="move it away, or choose another folder") from error
    for target, data in ((path, content), (listing, {"graphs": [*others, content["metadata"]]})):
        files.write_whole(target, json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False).encode())


def _texts(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the prompt's tokens as the token nodes name them."""
    found = {row["position"]: row["label"] for row in nodes if row["kind"] == "token"}
    last = max([position for position in (row["position"] for row in nodes) if position is not None], default=-1)
    return [found.get(position, "") for position in range(last + 1)]


def _ids(nodes: Sequence[Mapping[str, Any]], layers: int) -> dict[int, str]:
    ids = {}
    taken: set[str] = set()
    for row in sorted(nodes, key=lambda row: row["kind"] == "error"):
        position = row["position"]
        if row["kind"] == "feature":
            name = f"{row['layer']}_{row['feature']}_{position}"
        elif row["kind"] == "error":
            name = f"0_{row['layer']}_{position}"
            name = f"{name}_error" if name in taken else name
        else:
            number = row["node"] if row["token_id"] is None else row["token_id"]
            name = f"{'E' if row['kind'] == 'token' else layers + 1}_{number}_{position}"
        taken.add(name)
        ids[row["node"]] = name
    return ids


def cumulative_influence(nodes: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return each node's cumulated share of influence: the stored one, else the sum of the shares of all nodes at least as strong."""
    stored = {row["node"]: float(row["cumulative_influence"]) for row in nodes if row.get("cumulative_influence") is not None}
    if stored:
        return stored
    ranked = sorted((row for row in nodes if row.get("influence") is not None), key=lambda row: -row["influence"])
    total = math.fsum(row["influence"] for row in ranked)
    found, so_far = {}, 0.0
    for row in ranked:
        so_far += row["influence"]
        found[row["node"]] = so_far / total if total else 1.0
    return found


def _node(row: Mapping[str, Any], identity: str, layers: int, influence: float | None, target: bool) -> dict[str, Any]:
    kind, layer, position = row["kind"], row["layer"], row["position"]
    token = 0 if row["token_id"] is None else row["token_id"]
    pair = (layer or 0) + (row["feature"] or 0)
    feature = {"feature": pair * (pair + 1) // 2 + (row["feature"] or 0), "error": -1, "token": position}.get(kind, token)
    printed = {"token": "E", "logit": str(layers + 1)}.get(kind, str(layer))
    script = {"feature": f"{layer}_{row['feature']}-0", "error": f"{layer}_{position}-0", "token": f"E_{token}-{position}"}
    probability = float(row["probability"] or 0.0) if kind == "logit" else 0.0
    return {
        "node_id": identity,
        "feature": feature,
        "layer": printed,
        "ctx_idx": position,
        "feature_type": FEATURE_TYPES[kind],
        "token_prob": probability,
        "is_target_logit": target,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": script.get(kind, f"L_{token}-{position}"),
        "clerp": f'Output "{row["label"]}" (p={probability:.3f})' if kind == "logit" else "",
        "influence": None if kind == "logit" else influence,
        "activation": row["mean_activation"] if kind == "feature" else None,
    }
