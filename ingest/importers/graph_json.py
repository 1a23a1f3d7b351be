"""Graph JSON of circuit-tracer and Neuronpedia, with and without `schema_version`.

In: a file with metadata, qParams, nodes, links. Out: `ForeignGraph`.

1. Layer, feature and position come from `node_id` (`layer_feature_position`); `feature` is a Cantor pair only where
   `schema_version` says so, and is then checked.
2. An error node of layer l at position p and feature l of layer 0 at p are both printed `0_l_p`. Nodes are keyed by type too. A
   link *to* such an id ends in the feature (errors have no inputs); a link *from* it cannot be told apart: it is left out and reported.
3. `influence` is a cumulated share, small is important: it goes to node.cumulative_influence, and node.influence stays null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas.errors import InputError
from atlas.schema import arrow_schema
from ingest.importers.common import HIGHEST_INT, HIGHEST_SMALL, Record, read_json, to_table
from ingest.importers.graph_rows import ForeignGraph, cantor, node_label

KINDS = {"cross layer transcoder": "feature", "mlp reconstruction error": "error", "embedding": "token", "logit": "logit"}
"""feature_type -> node kind. Per-layer transcoders are printed as cross layer ones, too."""
NODE_ID = re.compile(r"^(E|[0-9]{1,5})_([0-9]{1,10})_([0-9]{1,5})(?:_error)?$")
"""`_error` is how this project's own export tells an error node from a feature of layer 0."""
OUTPUT = re.compile(r'^Output "(.*)" \(p=[\d.]+\)$', re.DOTALL)
"""How a logit is named; a text within may hold quotes."""
EDGE_BATCH = 65536


@dataclass
class Nodes:
    """Nodes of one file and how ids lead to them."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    by_id: dict[str, dict[str, int]] = field(default_factory=dict)
    """node_id -> {kind: node}."""
    token_ids: dict[int, int] = field(default_factory=dict)
    """Position -> vocabulary id, from embedding nodes."""
    not_cantor: int = 0


def read_graph_json(path: Path, ordinal: int) -> ForeignGraph:
    """Read one file as graph `ordinal`."""
    document = read_json(path, path.name)
    metadata = document.child("metadata")
    tokens = metadata.texts("prompt_tokens")
    if len(tokens) > HIGHEST_SMALL:
        raise metadata.fail("prompt_tokens", f"at most {HIGHEST_SMALL} tokens")
    versioned = metadata.values.get("schema_version") is not None
    nodes = Nodes()
    for record in document.children("nodes"):
        _add_node(nodes, record, ordinal, versioned, tokens)
    edges, ambiguous = _edges(document, nodes, ordinal)
    notes = _notes(path.name, nodes, ambiguous)
    tables = {
        "graph": to_table("graph", [_graph_row(document, metadata, ordinal, len(nodes.rows), edges.num_rows, ambiguous)]),
        "node": to_table("node", nodes.rows),
        "edge": edges,
        **_supernodes(document, nodes, ordinal),
    }
    return ForeignGraph(
        name=metadata.text("slug"),
        prompt=metadata.text("prompt"),
        tokens=tokens,
        token_ids=[nodes.token_ids.get(position) for position in range(len(tokens))],
        scan=metadata.optional_text("scan"),
        transcoder_set=metadata.optional_child("info").optional_text("transcoder_set"),
        tables=tables,
        notes=notes,
    )


def _add_node(nodes: Nodes, record: Record, ordinal: int, versioned: bool, tokens: Sequence[str]) -> None:
    identity, kind = record.text("node_id"), KINDS.get(record.text("feature_type"))
    if kind is None:
        raise record.fail("feature_type", f"one of {', '.join(KINDS)}")
    match = NODE_ID.match(identity)
    if match is None or (match.group(1) == "E") != (kind == "token"):
        raise record.fail("node_id", "layer_feature_position, or E_token_position for an embedding")
    first, second = match.group(1), int(match.group(2))
    layer = int(first) if kind == "feature" else second if kind == "error" else None
    if second > HIGHEST_INT or (layer or 0) > HIGHEST_SMALL:
        raise record.fail("node_id", f"a layer up to {HIGHEST_SMALL} and a feature or token up to {HIGHEST_INT}")
    position = record.integer("ctx_idx")
    if int(match.group(3)) != position or not 0 <= position < len(tokens):
        raise record.fail("ctx_idx", f"{match.group(3)}, as node_id says, within the {len(tokens)} prompt_tokens")
    if kind in nodes.by_id.get(identity, {}):
        raise record.fail("node_id", f"an id that no earlier {kind} node has")
    feature = second if kind == "feature" else None
    if layer is not None and feature is not None and versioned and record.has("feature"):
        nodes.not_cantor += record.integer("feature", -1, cantor(HIGHEST_SMALL, HIGHEST_INT)) != cantor(layer, feature)
    if kind == "token":
        nodes.token_ids[position] = second
    said = OUTPUT.match(record.optional_text("clerp") or "")
    text = tokens[position] if kind == "token" else said.group(1) if said else f"[{second}]"
    row = {
        "graph": ordinal,
        "node": len(nodes.rows),
        "kind": kind,
        "layer": layer,
        "feature": feature,
        "position": position,
        "token_id": second if kind in ("token", "logit") else None,
        "label": node_label(kind, layer, feature, position, text),
        "mean_activation": record.optional_number("activation") if kind == "feature" else None,
        "cumulative_influence": record.optional_number("influence"),
        "probability": record.optional_number("token_prob") if kind == "logit" else None,
        "kept": True,
    }
    nodes.by_id.setdefault(identity, {})[kind] = len(nodes.rows)
    nodes.rows.append(row)


def _edges(document: Record, nodes: Nodes, ordinal: int) -> tuple[pa.Table, dict[str, int]]:
    """Return the edges, and for each ambiguous id the number of links from it that were left out."""
    ambiguous: dict[str, int] = {}
    pairs: dict[tuple[int, int], float] = {}
    for record in document.children("links"):
        source, target = _end(record, "source", nodes), _end(record, "target", nodes)
        ends = target.get("feature", target.get("logit"))
        if ends is None:
            raise record.fail("target", "a feature or a logit: errors and embeddings have no inputs")
        weight = record.number("weight")
        if len(source) > 1:
            ambiguous[record.text("source")] = ambiguous.get(record.text("source"), 0) + 1
            continue
        pair = (next(iter(source.values())), ends)
        if pair in pairs:
            raise record.fail("target", f"one link from {record.text('source')} to this node")
        pairs[pair] = weight
    schema = arrow_schema("edge")
    batches = list(_batches(pairs, nodes, ordinal, schema))
    return pa.Table.from_batches(batches, schema=schema), ambiguous


def _end(record: Record, name: str, nodes: Nodes) -> dict[str, int]:
    found = nodes.by_id.get(record.text(name))
    if found is None:
        raise record.fail(name, "the node_id of a node of this file")
    return found


def _batches(pairs: dict[tuple[int, int], float], nodes: Nodes, ordinal: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    items = list(pairs.items())
    for start in range(0, len(items), EDGE_BATCH):
        rows = []
        for (source, target), weight in items[start : start + EDGE_BATCH]:
            first, last = nodes.rows[source], nodes.rows[target]
            rows.append(
                {
                    "graph": ordinal,
                    "kind": "attribution",
                    "source": source,
                    "target": target,
                    "source_layer": first["layer"],
                    "source_feature": first["feature"],
                    "target_kind": last["kind"],
                    "target_layer": last["layer"],
                    "target_feature": last["feature"],
                    "weight": weight,
                    "n_prompts": 1,
                    "accepted": True,
                }
            )
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _graph_row(document: Record, metadata: Record, ordinal: int, n_nodes: int, n_edges: int, ambiguous: dict[str, int]) -> dict[str, Any]:
    pruning = metadata.optional_child("pruning_settings")
    settings = {name: value for name, value in metadata.values.items() if name not in ("prompt_tokens", "prompt", "slug")}
    settings |= {"pinned_ids": document.optional_child("qParams").optional_list("pinnedIds"), "links_left_out": ambiguous}
    return {
        "graph": ordinal,
        "kind": "attribution",
        "name": metadata.text("slug"),
        "prompt": ordinal,
        "n_prompts": 1,
        "n_nodes": n_nodes,
        "n_edges": n_edges,
        "node_threshold": (pruning if pruning.has("node_threshold") else metadata).optional_number("node_threshold"),
        "edge_threshold": pruning.optional_number("edge_threshold"),
        "parameters": metadata.settings(settings),
    }


def _notes(name: str, nodes: Nodes, ambiguous: dict[str, int]) -> tuple[str, ...]:
    collisions = [identity for identity, kinds in nodes.by_id.items() if len(kinds) > 1]
    notes = []
    if collisions:
        notes.append(
            f"{name}: {len(collisions)} ids name both an error node and a feature of layer 0 (e.g. {collisions[0]}); "
            f"{sum(ambiguous.values())} links from them could start at either and were left out"
        )
    if nodes.not_cantor:
        notes.append(f"{name}: {nodes.not_cantor} feature numbers are not the Cantor pair of their node_id; node_id was taken")
    return tuple(notes)


def _supernodes(document: Record, nodes: Nodes, ordinal: int) -> dict[str, pa.Table]:
    """Return the groups that a person made in the front end, `[name, node_id, …]` each; ids that are no node are refused."""
    groups = document.optional_child("qParams").optional_list("supernodes")
    rows: list[dict[str, Any]] = []
    seen: set[int] = set()
    for index, group in enumerate(groups):
        where = f"{document.where} qParams supernodes[{index}]"
        if not isinstance(group, list) or not all(isinstance(item, str) for item in group) or len(group) < 2:
            raise InputError(f"{where}: expected a name and node ids, got {group!r:.80}")
        for identity in group[1:]:
            kinds = nodes.by_id.get(identity)
            if kinds is None:
                raise InputError(f"{where}: expected the node_id of a node of this file, got {identity!r}")
            node = kinds.get("feature", next(iter(kinds.values())))
            if node not in seen:
                seen.add(node)
                rows.append({"graph": ordinal, "partition": 0, "node": node, "supernode": index, "name": group[0]})
    if not rows:
        return {}
    partition = {"graph": ordinal, "partition": 0, "kind": "supernode", "algorithm": "manual (front end)", "n_groups": len(groups)}
    return {"partition": to_table("partition", [partition]), "supernode": to_table("supernode", rows)}
