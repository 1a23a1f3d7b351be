"""Graph, node labels, communities and causal edges of a thesis run.

In: the folder's files. Out: rows of graph, node, node_language, edge, partition, community, feature_score and label.

1. The attribution graph is graph 0. `edge_type` null is a star edge (`input_attribution`, `output_attribution` in gradient-era
   graphs); `virtual_weight` and `attribution_approx_v1` are virtual weights, compared by `static_weight`.
2. Causal edges join graph 0 with kind `causal`: weight = target before - after ablating the source, positive is excitatory.
3. Labels and communities may belong to a graph that was never published: they then stand on graph 1, which has nodes only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from atlas.errors import InputError
from atlas.ids import canonical_json, feature_name, sha256_text
from ingest.importers.common import Record, read_json, read_json_list
from ingest.importers.thesis.files import TRANSCODERS, Files, Rows, feature_of, read_csv
from ingest.importers.thesis.prompts import Prompts

Feature = tuple[int, int]
Note = Callable[[str], None]

STAR_TYPES = {None, "", "star", "input_attribution", "output_attribution"}
VIRTUAL_TYPES = {"virtual_weight", "attribution_approx_v1"}
PROFILES: dict[str, float | None] = {"en_leaning": -1.0, "balanced": 0.0, "fr_leaning": 1.0, "insufficient_data": None}
"""Published profile -> value of the score, as publish gives it."""
LABEL_FIELDS = {"node_id", "n_en_active", "n_fr_active", "en_freq", "fr_freq", "lang_asym", "lang_profile"}
UNDATED = datetime(1970, 1, 1)
"""Creation time of labels whose files carry none: equal content must give equal rows."""


@dataclass
class GraphRows:
    """What was read, and the node numbers that circuits need."""

    rows: Rows = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    """Node id of graph 0 -> node."""
    created_at: datetime = UNDATED

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Append a row."""
        self.rows.setdefault(table, []).append(row)


@dataclass(frozen=True)
class Label:
    """A line of node_language_labels.csv."""

    feature: Feature
    n_prompts: dict[str, int]
    frequency: dict[str, float]
    asymmetry: float
    profile: str


def read_graphs(files: Files, prompts: Prompts, note: Note) -> GraphRows:
    """Read graph, labels, communities and causal edges, whichever are there."""
    out = GraphRows()
    parameters: dict[str, Any] = {}
    path = files.one("graph")
    if path is not None:
        document = read_json(path, files.name(path))
        parameters = _parameters(document)
        _add_nodes(out, document)
        _add_edges(out, document)
        out.created_at = _timestamp(document)
    causal = files.one("causal_edges")
    if causal is not None:
        parameters["causal_edges"] = _add_causal_edges(out, read_json(causal, files.name(causal)))
    if path is not None:
        out.rows.setdefault("graph", []).insert(0, _graph_row(out, prompts, Record(f"{files.name(path)} metadata", parameters)))
    _add_labels_and_communities(out, files, prompts, note)
    return out


def _parameters(document: Record) -> dict[str, Any]:
    metadata = document.optional_child("metadata").values
    union = document.optional_child("graph_attrs").optional_child("union_params").values
    return {**metadata, **{f"union_{name}": value for name, value in union.items() if name != "prompt_indices"}}


def _timestamp(document: Record) -> datetime:
    metadata = document.optional_child("metadata")
    text = metadata.optional_text("timestamp")
    try:
        return UNDATED if text is None else datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise metadata.fail("timestamp", "an ISO time") from None


def _graph_row(out: GraphRows, prompts: Prompts, parameters: Record) -> dict[str, Any]:
    edges = out.rows.get("edge", [])
    stated = next((name for name in ("n_prompts_used", "n_prompts") if parameters.has(name)), None)
    return {
        "graph": 0,
        "kind": "prompt_set",
        "name": f"{prompts.behaviour} {parameters.optional_text('graph_node_mode') or 'decision'}",
        "behaviour": prompts.behaviour,
        "n_prompts": len(prompts.records) if stated is None else parameters.integer(stated, 0),
        "n_nodes": len(out.nodes),
        "n_edges": len(edges),
        "parameters": parameters.settings(),
    }


def _add_nodes(out: GraphRows, document: Record) -> None:
    for record in document.children("nodes"):
        identity = record.text("id")
        if identity in out.nodes:
            raise record.fail("id", "an id that no earlier node has")
        node = out.nodes[identity] = len(out.nodes)
        kind = record.text("type")
        if kind not in ("input", "output", "feature"):
            raise record.fail("type", "input, output or feature")
        row: dict[str, Any] = {"graph": 0, "node": node, "kind": kind, "label": identity, "kept": True}
        out.add("node", row | (_feature_columns(record) if kind == "feature" else {}))


def _feature_columns(record: Record) -> dict[str, Any]:
    """Columns of a feature node. Scores are activation x beta, so activations are scores / beta; a node of both roles has no role."""
    layer, feature = record.layer("layer"), record.feature("feature_idx")
    if record.text("id") != feature_name(layer, feature):
        raise record.fail("id", feature_name(layer, feature))
    role = record.text("position_role") if "position_role" in record.values else "decision"
    if role not in ("decision", "content", "both"):
        raise record.fail("position_role", "decision, content or both")
    columns: dict[str, Any] = {"layer": layer, "feature": feature, "role": None if role == "both" else role}
    if role == "content":
        n_prompts = record.integer("content_n_en_prompts") + record.integer("content_n_fr_prompts")
        return columns | {"n_prompts": n_prompts, "mean_activation": record.number("content_mean_abs_act")}
    columns |= {"n_prompts": record.integer("n_prompts"), "frequency": record.number("frequency")}
    beta, score, spread = record.number("beta"), record.number("mean_score_conditional"), record.number("std_score")
    if not beta:
        return columns  # a feature without a slope has no score, whatever its activation was
    activations = Record(record.where, {"mean_score_conditional / beta": score / beta, "std_score / |beta|": spread / abs(beta)})
    mean, sd = (activations.number(name) for name in activations.values)
    return columns | {"mean_activation": mean, "sd_activation": sd}


def _add_edges(out: GraphRows, document: Record) -> None:
    nodes = out.rows.get("node", [])
    seen: set[tuple[str, int, int]] = set()
    for record in document.children("edges"):
        edge_type = record.optional_text("edge_type")
        if edge_type not in STAR_TYPES | VIRTUAL_TYPES:
            raise record.fail("edge_type", "nothing, star, virtual_weight, attribution_approx_v1, input_attribution or output_attribution")
        kind = "star_total" if edge_type in STAR_TYPES else "virtual_weight"
        row = _edge(out, record, kind, record.number("weight"))
        key = (kind, row["source"], row["target"])
        if key in seen:
            raise record.fail("target", f"one {kind} edge between {record.text('source')} and this node")
        seen.add(key)
        if kind == "star_total":
            feature = nodes[row["target"] if nodes[row["target"]]["kind"] == "feature" else row["source"]]
            row |= {"n_prompts": feature.get("n_prompts"), "frequency": feature.get("frequency")}
        else:
            row["static_weight"] = record.number("vw_static") if record.has("vw_static") else row["weight"]
            if edge_type == "attribution_approx_v1":
                row["attribution"] = row["weight"]
                if not record.has("vw_static"):
                    row["static_weight"] = None
        out.add("edge", row)


def _edge(out: GraphRows, record: Record, kind: str, weight: float) -> dict[str, Any]:
    """Return the columns that every kind of edge has; raise InputError for an end that is no node."""
    ends = []
    for name in ("source", "target"):
        if record.text(name) not in out.nodes:
            raise record.fail(name, "the id of a node of the graph")
        ends.append(out.rows["node"][out.nodes[record.text(name)]])
    source, target = ends
    return {
        "graph": 0,
        "kind": kind,
        "source": source["node"],
        "target": target["node"],
        "source_layer": source.get("layer"),
        "source_feature": source.get("feature"),
        "target_kind": target["kind"],
        "target_layer": target.get("layer"),
        "target_feature": target.get("feature"),
        "weight": weight,
        "accepted": True,
    }


def _add_causal_edges(out: GraphRows, document: Record) -> dict[str, Any]:
    """Append the accepted causal edges; return the file's settings. Rejected candidates are not in the file."""
    if not out.nodes:
        raise InputError(f"{document.where}: expected the attribution graph whose nodes these edges join, got no graph file in the folder")
    seen: set[tuple[int, int]] = set()
    for record in document.children("edges"):
        feature_of(record, "source")
        feature_of(record, "target")
        row = _edge(out, record, "causal", record.number("mean_delta"))
        if (row["source"], row["target"]) in seen:
            raise record.fail("target", f"one causal edge between {record.text('source')} and this node")
        seen.add((row["source"], row["target"]))
        row |= {
            "sd": record.number("std_delta"),
            "n_prompts": record.integer("n_prompts"),
            "static_weight": record.optional_number("vw_weight"),
        }
        out.add("edge", row)
    return dict(document.child("metadata").values)


def _add_labels_and_communities(out: GraphRows, files: Files, prompts: Prompts, note: Note) -> None:
    labels_path, communities_path = files.one("labels"), files.one("communities")
    labels = [] if labels_path is None else list(_labels(labels_path, files))
    communities = [] if communities_path is None else _communities(communities_path, files)
    features = {label.feature for label in labels} | {member for members in communities for member in members}
    if not features:
        return
    known = {(row["layer"], row["feature"]): row["node"] for row in out.rows.get("node", []) if row["kind"] == "feature"}
    graph, nodes = 0, known
    if missing := features - set(known):
        graph, nodes = 1, {feature: node for node, feature in enumerate(sorted(features))}
        _add_unpublished_graph(out, nodes, prompts)
        note(
            f"{len(missing)} of the {len(features)} features of labels and communities are not in the attribution graph "
            f"(e.g. {feature_name(*min(missing))}): they belong to another, unpublished graph, kept as graph 1 without edges"
        )
    for label in labels:
        _add_label(out, label, graph, nodes[label.feature])
    _add_partition(out, communities, graph, nodes)


def _add_unpublished_graph(out: GraphRows, nodes: dict[Feature, int], prompts: Prompts) -> None:
    row = {
        "graph": 1,
        "kind": "prompt_set",
        "name": f"{prompts.behaviour} graph of labels and communities (unpublished: nodes only)",
        "behaviour": prompts.behaviour,
        "n_prompts": len(prompts.records),
        "n_nodes": len(nodes),
        "n_edges": 0,
        "parameters": canonical_json({"published": False}),
    }
    out.add("graph", row)
    for (layer, feature), node in nodes.items():
        name = feature_name(layer, feature)
        out.add("node", {"graph": 1, "node": node, "kind": "feature", "layer": layer, "feature": feature, "label": name, "kept": True})


def _labels(path: Path, files: Files) -> list[Label]:
    labels: list[Label] = []
    seen: set[Feature] = set()
    for record in read_csv(path, files.name(path), LABEL_FIELDS):
        if record.text("lang_profile") not in PROFILES:
            raise record.fail("lang_profile", f"one of {', '.join(PROFILES)}")
        feature = feature_of(record, "node_id")
        if feature in seen:
            raise record.fail("node_id", "one line for each feature")
        seen.add(feature)
        labels.append(
            Label(
                feature,
                {"en": record.integer("n_en_active"), "fr": record.integer("n_fr_active")},
                {"en": record.number("en_freq"), "fr": record.number("fr_freq")},
                record.number("lang_asym"),
                record.text("lang_profile"),
            )
        )
    return labels


def _add_label(out: GraphRows, label: Label, graph: int, node: int) -> None:
    layer, feature = label.feature
    for language, n_prompts in label.n_prompts.items():
        row = {"graph": graph, "node": node, "language": language, "n_prompts": n_prompts, "frequency": label.frequency[language]}
        out.add("node_language", row)
    score = {"layer": layer, "feature": feature, "parameter_set": "thesis", "languages": "en+fr", "n": sum(label.n_prompts.values())}
    profile = {"score": "language_profile", "value": PROFILES[label.profile], "flag": label.profile == "balanced"}
    out.rows.setdefault("feature_score", []).extend([score | profile, score | {"score": "language_asymmetry", "value": label.asymmetry}])
    text = f"language profile: {label.profile}"
    row = {
        "label_id": sha256_text(f"{TRANSCODERS}:{layer}:{feature}:{text}:{out.created_at.isoformat()}")[:16],
        "transcoder_set": TRANSCODERS,
        "layer": layer,
        "feature": feature,
        "text": text,
        "method": "imported",
        "author": "thesis",
        "created_at": out.created_at,
        "retired": False,
    }
    out.add("label", row)


def _communities(path: Path, files: Files) -> list[list[Feature]]:
    """Return the members of each community, in the order of community_id: claims speak of these numbers."""
    name = files.name(path)
    document = read_json_list(path, name)
    members: dict[int, list[Feature]] = {}
    placed: set[Feature] = set()
    for record in document:
        features = [
            feature_of(Record(f"{record.where} members[{i}]", {"id": text}), "id") for i, text in enumerate(record.texts("members"))
        ]
        if len(features) != record.integer("n_features"):
            raise record.fail("n_features", f"the number of members, {len(features)}")
        if twice := placed.intersection(features) or {feature for feature in features if features.count(feature) > 1}:
            raise record.fail("members", f"each feature in one community and once, which {feature_name(*min(twice))} is not")
        placed.update(features)
        members[record.integer("community_id")] = features
    if sorted(members) != list(range(len(document))):
        raise InputError(f"{name}: field 'community_id': expected 0 to {len(document) - 1}, each once, got {sorted(members)}")
    return [members[community] for community in sorted(members)]


def _add_partition(out: GraphRows, communities: list[list[Feature]], graph: int, nodes: dict[Feature, int]) -> None:
    if not communities:
        return
    partition = {"graph": graph, "partition": 0, "kind": "community", "algorithm": "louvain (thesis)", "n_groups": len(communities)}
    out.add("partition", partition)
    for community, members in enumerate(communities):
        for member in members:
            out.add("community", {"graph": graph, "partition": 0, "node": nodes[member], "community": community})
