"""A graph around one node: where its nodes stand, what goes in and out.

In: rows of graph, node, edge, community, supernode. Out: sections of lines. Nothing is routed: edges are lists with signed bars, and the
grid of layers and positions shows where the other ends are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atlas.ids import feature_name
from tui import marks
from tui.card_lines import edge_parts
from tui.columns import Part
from tui.data import Asker, Read, Where
from tui.text import cut, fit, number, safe, token, width
from tui.widgets.line_view import Line, Link, Section

Rows = list[dict[str, Any]]
KINDS = ("star_total", "star_direct", "virtual_weight", "attribution", "causal")
ROLES = ("sink", "quote", "template", "operator", "content", "decision", "other", None)
GRAPH_COLUMNS = ("graph", "kind", "name", "behaviour", "prompt", "n_prompts", "n_nodes", "n_edges")
QUALITY = ("replacement_score", "completeness_score", "unexplained_share", "node_threshold", "edge_threshold")
NODE_COLUMNS = (
    "node",
    "kind",
    "layer",
    "feature",
    "position",
    "role",
    "label",
    "n_prompts",
    "frequency",
    "mean_activation",
    "influence",
    "kept",
)
EDGE_COLUMNS = ("kind", "source", "target", "weight", "sd", "n_prompts", "q_value", "accepted")
MOST = 300


@dataclass
class GraphData:
    """One graph with its nodes and divisions."""

    row: dict[str, Any]
    nodes: dict[int, dict[str, Any]]
    tokens: dict[int, str]
    partitions: Rows
    groups: dict[int, dict[int, tuple[int, str | None]]]
    """partition -> node -> (group, its name)."""
    degree: Counter[int] = field(default_factory=Counter)


def read_graphs(ask: Asker, run_id: str) -> Rows:
    """Return all graphs of a run."""
    return ask(Read("graphs", "graph", GRAPH_COLUMNS + QUALITY, (Where("run_id", "=", run_id),), ("graph",)))


def read_graph(ask: Asker, run_id: str, row: dict[str, Any]) -> GraphData:
    """Read nodes, tokens and divisions of a graph."""
    run = Where("run_id", "=", run_id)
    at = (run, Where("graph", "=", row["graph"]))
    nodes = {node["node"]: node for node in ask(Read("nodes", "node", NODE_COLUMNS, at, ("node",)))}
    tokens: dict[int, str] = {}
    if row["prompt"] is not None:
        where = (run, Where("source", "=", "prompt"), Where("item", "=", row["prompt"]))
        tokens = {found["position"]: found["token"] for found in ask(Read("tokens", "token", ("position", "token"), where, ("position",)))}
    partitions = ask(
        Read("partitions", "partition", ("partition", "kind", "algorithm", "n_groups", "quality", "stability"), at, ("partition",))
    )
    groups: dict[int, dict[int, tuple[int, str | None]]] = {}
    for found in ask(Read("communities", "community", ("partition", "node", "community"), at, ("partition", "node"))):
        groups.setdefault(found["partition"], {})[found["node"]] = (found["community"], None)
    for found in ask(Read("supernodes", "supernode", ("partition", "node", "supernode", "name"), at, ("partition", "node"))):
        groups.setdefault(found["partition"], {})[found["node"]] = (found["supernode"], found["name"])
    return GraphData(row, nodes, tokens, partitions, groups)


def read_edges(ask: Asker, run_id: str, graph: int, node: int, kind: str | None) -> tuple[Rows, Rows]:
    """Return the strongest edges into and out of a node."""
    at = (Where("run_id", "=", run_id), Where("graph", "=", graph))
    of_kind = () if kind is None else (Where("kind", "=", kind),)
    found = []
    for title, end in (("edges in", "target"), ("edges out", "source")):
        found.append(
            ask(Read(title, "edge", EDGE_COLUMNS, (*at, Where(end, "=", node), *of_kind), ("-|weight", "kind", "source", "target"), MOST))
        )
    return found[0], found[1]


def read_start(ask: Asker, run_id: str, graph: int, nodes: Mapping[int, dict[str, Any]]) -> int | None:
    """Return the node to begin with: the output or most probable logit, else one end of the strongest edge."""
    ends = [node for node, row in nodes.items() if row["kind"] in ("output", "logit")]
    if ends:
        return ends[0]
    at = (Where("run_id", "=", run_id), Where("graph", "=", graph))
    rows = ask(Read("strongest edge", "edge", ("target",), at, ("-|weight", "source", "target"), 1))
    return rows[0]["target"] if rows else next(iter(nodes), None)


def node_name(nodes: Mapping[int, dict[str, Any]], node: int) -> str:
    """Return a node's name: L20_F1454 with its position, else its label."""
    row = nodes.get(node)
    if row is None:
        return f"node {node}"
    if row["kind"] == "feature" and row["layer"] is not None and row["feature"] is not None:
        place = "" if row["position"] is None else f"@{row['position']}"
        return feature_name(row["layer"], row["feature"]) + place
    return safe(str(row["label"]))


def head(data: GraphData, node: int, partition: int | None) -> Section:
    """Return what the graph and the selected node are."""
    row, mine = data.row, data.nodes.get(node, {})
    quality = [f"{name.replace('_', ' ')} {number(row[name])}" for name in QUALITY if row[name] is not None]
    lines = [
        Line(
            (
                (f"{row['n_nodes']:,} nodes, {row['n_edges']:,} edges over {row['n_prompts']:,} prompts", ""),
                ("  " + " · ".join(quality), "dim"),
            )
        )
    ]
    figures = [
        f"{name.replace('_', ' ')} {number(mine[name])}"
        for name in ("frequency", "mean_activation", "influence")
        if mine.get(name) is not None
    ]
    role = f" · {mine['role']}" if mine.get("role") else ""
    parts: list[Part] = [
        ("◉ ", "accent"),
        (node_name(data.nodes, node), "strong"),
        (f" {mine.get('kind', '')}{role} · " + " · ".join(figures), "dim"),
    ]
    if partition is not None and node in data.groups.get(partition, {}):
        group, name = data.groups[partition][node]
        parts.append((f" · group {group}{' ' + safe(name) if name else ''}", "accent"))
    link = Link("jump", {"feature": feature_name(mine["layer"], mine["feature"])}) if mine.get("kind") == "feature" else None
    return Section(safe(f"Graph {row['graph']}: {row['name']}"), (*lines, Line(tuple(parts), link)), str(row["kind"]).replace("_", " "))


def _column(data: GraphData, row: Mapping[str, Any]) -> Any:
    return row["position"] if data.row["kind"] == "attribution" else row["role"]


def grid(data: GraphData, node: int, into: Rows, out: Rows, cells: int) -> Section:
    """Return layers (highest first) by positions or roles; counts of nodes, and where the other ends of the edges are."""
    columns: list[Any] = sorted({_column(data, row) for row in data.nodes.values()}, key=lambda value: _order(data, value))
    sources, targets = {edge["source"] for edge in into}, {edge["target"] for edge in out}
    counts: Counter[tuple[Any, Any]] = Counter()
    signs: dict[tuple[Any, Any], set[str]] = {}
    for number_, row in data.nodes.items():
        place = (_level(row), _column(data, row))
        counts[place] += 1
        for sign, numbers in (("◉", {node}), ("▲", sources), ("▼", targets)):
            if number_ in numbers:
                signs.setdefault(place, set()).add(sign)
    size = max(4, min(9, (cells - 8) // max(1, len(columns))))
    titles = "".join(fit(cut(_title(data, value), size - 1), size, "right") for value in columns)
    lines = [Line(((fit("", 7), ""), (titles, "dim")))]
    for level in sorted({place[0] for place in counts}, key=_height, reverse=True):
        parts: list[Part] = [(fit(_level_name(level), 7), "dim")]
        for value in columns:
            count, found = counts.get((level, value), 0), signs.get((level, value), set())
            mark = "◉" if "◉" in found else "◆" if len(found) == 2 else next(iter(found), "")
            text = f"{mark}{count}" if count else "·"
            parts.append((fit(text, size, "right"), "cursor" if mark == "◉" else "accent" if mark else "dim" if not count else ""))
        lines.append(Line(tuple(parts)))
    return Section("Where", tuple(lines), "nodes a cell; ◉ here, ▲ goes in, ▼ comes out, ◆ both")


def _order(data: GraphData, value: Any) -> tuple[int, int]:
    if data.row["kind"] == "attribution":
        return (1, 0) if value is None else (0, int(value))
    return (ROLES.index(value) if value in ROLES else len(ROLES), 0)


def _title(data: GraphData, value: Any) -> str:
    if data.row["kind"] != "attribution":
        return "any" if value is None else str(value)
    return "–" if value is None else token(data.tokens[value]).strip("␣") if value in data.tokens else str(value)


def _level(row: Mapping[str, Any]) -> Any:
    return row["layer"] if row["kind"] in ("feature", "error") else row["kind"]


def _height(level: Any) -> int:
    return (
        {"token": -2, "input": -2, "logit": 10_000, "output": 10_000}.get(level, -1)
        if isinstance(level, str)
        else -1
        if level is None
        else int(level)
    )


def _level_name(level: Any) -> str:
    return level if isinstance(level, str) else "layer –" if level is None else f"L{level}"


def edge_sections(data: GraphData, into: Rows, out: Rows, threshold: float, partition: int | None) -> list[Section]:
    """Return edges in and out, the strongest first; a link follows each to its other end."""
    found = []
    for title, rows, end in (("Edges in", into, "source"), ("Edges out", out, "target")):
        lines = []
        hidden = 0
        largest: dict[str, float] = {}
        for row in rows:
            largest[row["kind"]] = max(largest.get(row["kind"], 0.0), abs(row["weight"]))
        for row in rows:
            if abs(row["weight"]) < threshold * largest[row["kind"]]:
                hidden += 1
                continue
            link = Link("go_graph", {"graph": data.row["graph"], "node": row[end]})
            parts = edge_parts(row["kind"], node_name(data.nodes, row[end]), row, largest[row["kind"]])
            if partition is not None and row[end] in data.groups.get(partition, {}):
                parts = (*parts, (f"  group {data.groups[partition][row[end]][0]}", "accent"))
            lines.append(Line(parts, link))
        note = f"{len(lines):,} shown" + (f", {hidden:,} below {threshold:.0%} of the strongest" if hidden else "")
        found.append(Section(title, tuple(lines) or (Line((("none", "dim"),)),), note))
    return found


def group_section(data: GraphData, partition: int, node: int) -> Section:
    """Return the groups of a partition, the selected node's with its members."""
    about = next((row for row in data.partitions if row["partition"] == partition), {})
    groups = data.groups.get(partition, {})
    members: dict[int, list[int]] = {}
    for member, (group, _) in groups.items():
        members.setdefault(group, []).append(member)
    mine = groups.get(node, (None, None))[0]
    largest = max((len(found) for found in members.values()), default=1)
    lines = []
    for group, found in sorted(members.items()):
        name = next((name for _, name in (groups[member] for member in found) if name), "")
        shown = " ".join(node_name(data.nodes, member) for member in found[:8]) + (" …" if len(found) > 8 else "")
        parts: tuple[Part, ...] = (
            ("● " if group == mine else "  ", "accent"),
            (fit(f"{group}", 4, "right") + " ", "strong"),
            (marks.bar(len(found), largest, 8) + f" {len(found):,} ", "accent"),
            (fit(safe(name), min(20, width(safe(name)) + 1)) if name else "", "strong"),
            (shown, "dim"),
        )
        lines.append(Line(parts, Link("go_graph", {"graph": data.row["graph"], "node": found[0]})))
    stability = f", stability {number(about['stability'])}" if about.get("stability") is not None else ""
    return Section(
        f"{str(about.get('kind', 'group')).capitalize()} by {safe(str(about.get('algorithm', '')))}",
        tuple(lines),
        f"{len(members)} groups{stability}",
    )


def node_section(data: GraphData, shown: Sequence[int]) -> Section:
    """Return the nodes that pass the filter, the most influential first."""
    rows = [data.nodes[node] for node in shown]
    rows.sort(key=lambda row: (-(row["influence"] or 0.0), -(row["frequency"] or 0.0), row["node"]))
    lines = [
        Line(
            (
                (fit(node_name(data.nodes, row["node"]), 18), "link"),
                (fit(str(row["kind"]), 9), "dim"),
                (fit(number(row["influence"] if row["influence"] is not None else row["frequency"]), 8, "right") + " ", ""),
                (marks.bar(row["influence"] if row["influence"] is not None else row["frequency"], 1.0, 10), "accent"),
                (f" {safe(str(row['label']))}", "dim"),
            ),
            Link("go_graph", {"graph": data.row["graph"], "node": row["node"]}),
        )
        for row in rows[:200]
    ]
    return Section("Nodes", tuple(lines) or (Line((("none", "dim"),)),), f"{len(rows):,}, by influence, else by frequency")
