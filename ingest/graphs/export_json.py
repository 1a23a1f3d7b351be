"""Write a pruned attribution graph as JSON that circuit-tracer's front end and Neuronpedia open.

In: an `AttributionGraph`, what pruning kept, texts of its tokens. Out: a dictionary of the schema that
circuit-tracer 0.4.1 writes: metadata, qParams, nodes, links.

Kept nodes stand in node order (features, errors, tokens, logits); features and errors without a kept edge are left out.
Ids are circuit-tracer's: `layer_feature_position`, `0_layer_position` for an error, `E_token_position`, and
`layers + 1_token_position` for a logit. A feature's number is the Cantor pairing of layer and feature.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.errors import InputError
from ingest.graphs.attribution import AttributionGraph
from ingest.graphs.prune import Pruned


def graph_json(
    graph: AttributionGraph,
    pruned: Pruned,
    *,
    slug: str,
    scan: str,
    prompt: str,
    token_texts: Sequence[str],
    logit_texts: Sequence[str],
    node_threshold: float,
) -> dict[str, Any]:
    """Return the graph as a dictionary; `token_texts` are of the prompt's tokens, `logit_texts` of the logit nodes."""
    nodes = _nodes(graph, pruned, logit_texts)
    links = [
        {"source": nodes[source]["node_id"], "target": nodes[target]["node_id"], "weight": weight}
        for source, target, weight in zip(pruned.source.tolist(), pruned.target.tolist(), pruned.weight.tolist(), strict=True)
    ]
    linked = {link[end] for link in links for end in ("source", "target")}
    shown = [node for _, node in sorted(nodes.items()) if node["node_id"] in linked or node["feature_type"] in ("embedding", "logit")]
    return {
        "metadata": {
            "slug": slug,
            "scan": scan,
            "transcoder_list": [],
            "prompt_tokens": list(token_texts),
            "prompt": prompt,
            "node_threshold": node_threshold,
            "schema_version": 1,
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": shown,
        "links": links,
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a graph file, whole or not at all, and list it in `graph-metadata.json` beside it.

    The front end finds a folder's graphs by that list, and a graph by its slug, which is the file's name.
    """
    _replace(path, content)
    listing = path.with_name("graph-metadata.json")
    try:
        graphs = json.loads(listing.read_text(encoding="utf-8"))["graphs"] if listing.exists() else []
        others = [entry for entry in graphs if entry["slug"] != content["metadata"]["slug"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{listing} is no list of graphs: {error}", hint="move it away, or choose another folder") from error
    _replace(listing, {"graphs": [*others, content["metadata"]]})


def _replace(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def _nodes(graph: AttributionGraph, pruned: Pruned, logit_texts: Sequence[str]) -> dict[int, dict[str, Any]]:
    order = graph.node_order()
    active = graph.active[graph.selected].tolist()
    activation = graph.activation[graph.selected].tolist()
    tokens = graph.tokens.tolist()
    logits = graph.logit_token_ids.tolist()
    probabilities = graph.logit_probabilities.tolist()
    cumulative = pruned.cumulative.tolist()
    nodes: dict[int, dict[str, Any]] = {}
    for node in pruned.node_mask.nonzero()[:, 0].tolist():
        if node < order.errors:
            layer, position, feature = active[node]
            nodes[node] = _node(
                f"{layer}_{feature}_{position}",
                feature=(layer + feature) * (layer + feature + 1) // 2 + feature,
                layer=str(layer),
                position=position,
                kind="cross layer transcoder",
                js_id=f"{layer}_{feature}-0",
                influence=cumulative[node],
                activation=activation[node],
            )
        elif node < order.tokens:
            layer, position = divmod(node - order.errors, order.n_positions)
            nodes[node] = _node(
                f"0_{layer}_{position}",
                feature=-1,
                layer=str(layer),
                position=position,
                kind="mlp reconstruction error",
                js_id=f"{layer}_{position}-0",
                influence=cumulative[node],
            )
        elif node < order.logits:
            position = node - order.tokens
            nodes[node] = _node(
                f"E_{tokens[position]}_{position}",
                feature=position,
                layer="E",
                position=position,
                kind="embedding",
                js_id=f"E_{tokens[position]}-{position}",
                influence=cumulative[node],
            )
        else:
            rank = node - order.logits
            layer, last = str(order.n_layers + 1), order.n_positions - 1
            nodes[node] = _node(
                f"{layer}_{logits[rank]}_{last}",
                feature=logits[rank],
                layer=layer,
                position=last,
                kind="logit",
                js_id=f"L_{logits[rank]}-{last}",
                token_prob=probabilities[rank],
                is_target_logit=rank == 0,
                clerp=f'Output "{logit_texts[rank]}" (p={probabilities[rank]:.3f})',
            )
    return nodes


def _node(
    node_id: str,
    *,
    feature: int,
    layer: str,
    position: int,
    kind: str,
    js_id: str,
    token_prob: float = 0.0,
    is_target_logit: bool = False,
    clerp: str = "",
    influence: float | None = None,
    activation: float | None = None,
) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "feature": feature,
        "layer": layer,
        "ctx_idx": position,
        "feature_type": kind,
        "token_prob": token_prob,
        "is_target_logit": is_target_logit,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": js_id,
        "clerp": clerp,
        "influence": influence,
        "activation": activation,
    }
