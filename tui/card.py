"""What the atlas knows of one feature: reads that follow from each other, in one job.

In: (run, layer, feature). Out: a `Card` of plain rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tui.data import Asker, Measure, Read, Where

Rows = list[dict[str, Any]]
CONTEXTS = 24
EDGES = 24

FEATURE_COLUMNS = (
    "n_tokens",
    "n_active",
    "n_prompts_active",
    "density",
    "max_activation",
    "mean_activation",
    "sd_activation",
    "encoder_norm",
    "decoder_norm",
    "promoted_tokens",
    "promoted_weights",
    "suppressed_tokens",
    "suppressed_weights",
)
EDGE_COLUMNS = (
    "graph",
    "kind",
    "source",
    "target",
    "source_layer",
    "source_feature",
    "target_kind",
    "target_layer",
    "target_feature",
    "weight",
    "sd",
    "n_prompts",
    "q_value",
    "accepted",
)


@dataclass
class Card:
    """Rows about one feature, by table."""

    layer: int
    feature: int
    row: dict[str, Any] | None
    languages: Rows = field(default_factory=list)
    scores: Rows = field(default_factory=list)
    histogram: Rows = field(default_factory=list)
    contexts: Rows = field(default_factory=list)
    tokens: dict[tuple[str, int], dict[int, str]] = field(default_factory=dict)
    incoming: Rows = field(default_factory=list)
    outgoing: Rows = field(default_factory=list)
    nodes: dict[tuple[int, int], str] = field(default_factory=dict)
    interventions: Rows = field(default_factory=list)
    groups: Rows = field(default_factory=list)
    circuits: Rows = field(default_factory=list)
    neighbours: Rows = field(default_factory=list)
    labels: Rows = field(default_factory=list)
    notes: Rows = field(default_factory=list)
    neuronpedia: str | None = None


def here(run_id: str, layer: int, feature: int, *more: Where) -> tuple[Where, ...]:
    """Return the conditions of one feature."""
    return (Where("run_id", "=", run_id), Where("layer", "=", layer), Where("feature", "=", feature), *more)


def read_card(ask: Asker, run_id: str, transcoder_set: str, layer: int, feature: int) -> Card:
    """Read all of a feature."""
    at = here(run_id, layer, feature)
    found = ask(Read("feature", "feature", FEATURE_COLUMNS, at))
    card = Card(layer, feature, found[0] if found else None)
    if card.row is None:
        return card
    read_contexts(ask, card, at)
    card.languages = ask(
        Read(
            "languages",
            "feature_language",
            ("language", "n_tokens", "n_active", "n_prompts", "n_prompts_active", "sum_activation", "max_activation"),
            at,
            ("language",),
        )
    )
    card.scores = ask(
        Read(
            "scores",
            "feature_score",
            (
                "score",
                "parameter_set",
                "languages",
                "value",
                "flag",
                "ci_low",
                "ci_high",
                "null_mean",
                "null_high",
                "p_value",
                "q_value",
                "n",
            ),
            at,
            ("score", "parameter_set", "languages"),
        )
    )
    card.histogram = ask(Read("histogram", "histogram", ("bin", "low", "high", "n"), at, ("bin",)))
    read_edges(ask, card, run_id)
    read_interventions(ask, card, run_id, at)
    read_groups(ask, card, run_id, at)
    neighbour_columns = ("kind", "rank", "neighbour_layer", "neighbour_feature", "similarity")
    card.neighbours = ask(Read("neighbours", "neighbour", neighbour_columns, at, ("kind", "rank")))
    read_words(ask, card, transcoder_set)
    return card


def read_contexts(ask: Asker, card: Card, at: tuple[Where, ...]) -> None:
    """Read contexts and the tokens of their windows."""
    columns = ("kind", "rank", "source", "item", "position", "language", "activation", "quantile")
    windows = ("window_start", "window_end", "window_activations")
    rows = ask(Read("contexts", "context", columns + windows, at, ("kind", "rank")))
    kept: Rows = []
    for kind in ("top", "quantile", "non_activating"):
        kept += [row for row in rows if row["kind"] == kind][:CONTEXTS]
    card.contexts = kept
    for source in ("prompt", "document"):
        items = sorted({row["item"] for row in kept if row["source"] == source})
        if items:
            card.tokens.update(read_tokens(ask, at[0], source, items))


def read_tokens(ask: Asker, run: Where, source: str, items: Sequence[int]) -> dict[tuple[str, int], dict[int, str]]:
    """Return the tokens of prompts or documents: (source, item) -> position -> text."""
    where = (run, Where("source", "=", source), Where("item", "any", list(items)))
    found: dict[tuple[str, int], dict[int, str]] = {}
    for row in ask(Read("tokens", "token", ("item", "position", "token"), where, ("item", "position"))):
        found.setdefault((source, row["item"]), {})[row["position"]] = row["token"]
    return found


def read_edges(ask: Asker, card: Card, run_id: str) -> None:
    """Read the strongest edges out and in, of every kind, and the names of ends that are no features."""
    run = Where("run_id", "=", run_id)
    for title, end, into in (("outgoing edges", "source", card.outgoing), ("incoming edges", "target", card.incoming)):
        at_end = (run, Where(f"{end}_layer", "=", card.layer), Where(f"{end}_feature", "=", card.feature))
        # Most features stand in no graph, and those that do have few kinds of edges: only these are asked for.
        kinds = {row["kind"] for row in ask(Read(f"{title} by kind", "edge", ("kind",), at_end, measures=(Measure("count", "kind", "n"),)))}
        for kind in ("star_total", "star_direct", "virtual_weight", "attribution", "causal"):
            if kind in kinds:
                where: tuple[Where, ...] = (*at_end, Where("kind", "=", kind))
                into += ask(Read(f"{title}: {kind}", "edge", EDGE_COLUMNS, where, ("-|weight", "graph", "source", "target"), EDGES))
    ends = [(row["graph"], row["target"]) for row in card.outgoing if row["target_layer"] is None or row["target_feature"] is None]
    ends += [(row["graph"], row["source"]) for row in card.incoming if row["source_layer"] is None or row["source_feature"] is None]
    for graph in sorted({graph for graph, _ in ends}):
        numbers = sorted({node for found, node in ends if found == graph})
        at = (run, Where("graph", "=", graph), Where("node", "any", numbers))
        for row in ask(Read("nodes", "node", ("node", "label"), at, ("node",))):
            card.nodes[(graph, row["node"])] = row["label"]


def read_interventions(ask: Asker, card: Card, run_id: str, at: tuple[Where, ...]) -> None:
    """Read what was done to the feature alone or with others, with effects and controls."""
    run = Where("run_id", "=", run_id)
    numbers = sorted({row["intervention"] for row in ask(Read("interventions", "intervention_member", ("intervention",), at))})
    if not numbers:
        return
    which = (run, Where("intervention", "any", numbers))
    columns = ("intervention", "name", "rule", "mode", "positions", "strength", "n_members", "sound")
    done = {row["intervention"]: row for row in ask(Read("interventions", "intervention", columns, (*which, Where("control_of", "null"))))}
    effect_columns = ("intervention", "language", "split", "control", "n_prompts", "n_clusters", "mean", "ci_low", "ci_high")
    control_columns = ("control_mean", "control_low", "control_high", "n_controls", "p_value", "q_value")
    order = ("intervention", "language", "split", "control")
    for row in ask(Read("effects", "effect", effect_columns + control_columns, which, order)):
        if row["intervention"] in done:
            card.interventions.append({**done[row["intervention"]], **row})


def read_groups(ask: Asker, card: Card, run_id: str, at: tuple[Where, ...]) -> None:
    """Read communities, supernodes and circuits that hold the feature."""
    run = Where("run_id", "=", run_id)
    nodes = ask(Read("nodes", "node", ("graph", "node"), at, ("graph", "node")))
    for graph in sorted({row["graph"] for row in nodes}):
        numbers = [row["node"] for row in nodes if row["graph"] == graph]
        where: tuple[Where, ...] = (run, Where("graph", "=", graph), Where("node", "any", numbers))
        for row in ask(
            Read("communities", "community", ("graph", "partition", "node", "community", "stability"), where, ("partition", "node"))
        ):
            card.groups.append({**row, "kind": "community", "group": row["community"], "name": None})
        for row in ask(
            Read("supernodes", "supernode", ("graph", "partition", "node", "supernode", "name", "stability"), where, ("partition", "node"))
        ):
            card.groups.append({**row, "kind": "supernode", "group": row["supernode"]})
    members = ask(
        Read("circuit members", "circuit_member", ("circuit", "role", "position"), (*at, Where("kind", "=", "feature")), ("circuit",))
    )
    if members:
        numbers = sorted({row["circuit"] for row in members})
        where = (run, Where("circuit", "any", numbers))
        columns = ("circuit", "name", "behaviour", "method", "control_of", "n_features", "n_edges")
        card.circuits = ask(Read("circuits", "circuit", columns, where, ("circuit",)))


def read_words(ask: Asker, card: Card, transcoder_set: str) -> None:
    """Read published labels with their scores, and notes."""
    at = (Where("transcoder_set", "=", transcoder_set), Where("layer", "=", card.layer), Where("feature", "=", card.feature))
    columns = ("label_id", "text", "method", "model", "author", "source_run", "created_at", "retired")
    card.labels = ask(Read("labels", "label", columns, at, ("-created_at", "label_id")))
    ids = [row["label_id"] for row in card.labels]
    scores = ("label_id", "score", "language", "value", "n_examples")
    found = ask(Read("label scores", "label_score", scores, (Where("label_id", "any", ids),), ("label_id", "score"))) if ids else []
    for row in card.labels:
        row["scores"] = [score for score in found if score["label_id"] == row["label_id"]]
    card.notes = ask(Read("notes", "note", ("note_id", "text", "author", "created_at", "deleted"), at, ("-created_at", "note_id")))
    known = ask(Read("transcoder", "transcoder", ("neuronpedia",), at[:2]))
    card.neuronpedia = known[0]["neuronpedia"] if known else None
