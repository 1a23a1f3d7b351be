"""A graph, node by node: enter follows an edge, backspace returns.

In: a graph and a node. Out: links to other nodes and to features.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import events
from textual.binding import BindingType
from textual.widget import Widget

from atlas import filters
from atlas.errors import AtlasError, UsageError
from atlas.ids import feature_name
from atlas.memory_filter import passes
from tui import graph_card
from tui.data import Asker
from tui.graph_card import GraphData, Rows
from tui.screens.base import AtlasScreen, bindings_of
from tui.widgets.line_view import LineView, Section, text_line

WIDE = 124
STEPS = (0.0, 0.05, 0.1, 0.2, 0.5)


class GraphScreen(AtlasScreen):
    """Where the node stands, and its edges."""

    NAME = "graph"
    FIRST = "#edges"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("graph")
    DEFAULT_CSS = """
    GraphScreen #edges { height: 1fr; }
    GraphScreen #where { height: 45%; border-bottom: hkey $panel; }
    GraphScreen.wide #body { layout: horizontal; }
    GraphScreen.wide #where { width: 1fr; height: 100%; border-bottom: none; border-right: vkey $panel; }
    GraphScreen.wide #edges { width: 1fr; height: 100%; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.where = LineView(id="where")
        self.edges = LineView(id="edges")
        self.graphs: Rows = []
        self.data: GraphData | None = None
        self.data_of: tuple[str, int] | None = None
        self.node: int | None = None
        self.kind: str | None = None
        self.threshold = 0.0
        self.partition: int | None = None
        self.into: Rows = []
        self.out: Rows = []

    def body(self) -> Sequence[Widget]:
        """Return the two parts."""
        return (self.where, self.edges)

    def keep(self) -> dict[str, Any]:
        """Keep graph, node, kind and threshold."""
        return {**super().keep(), "at": self.arguments, "kind": self.kind, "threshold": self.threshold}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up graph, node, kind and threshold."""
        super().restore(kept)
        at = kept.get("at")
        self.arguments = {key: value for key, value in at.items() if isinstance(value, int)} if isinstance(at, dict) else {}
        self.kind = kept.get("kind") if kept.get("kind") in graph_card.KINDS else None
        self.threshold = kept.get("threshold") if kept.get("threshold") in STEPS else 0.0  # type: ignore[assignment]

    async def load(self) -> None:
        """Read the graph where it is another one, then the node's edges."""
        run_id = self.session.run_id
        wanted_graph, wanted_node = self.arguments.get("graph"), self.arguments.get("node")
        known, known_of, kind = self.data, self.data_of, self.kind

        def work(ask: Asker) -> tuple[Rows, GraphData, int | None, tuple[Rows, Rows]]:
            graphs = graph_card.read_graphs(ask, run_id)
            if not graphs:
                raise UsageError(
                    "this run has no graph", hint="Press r to choose another run; `atlas ingest` with graphs in its plan makes one."
                )
            row = next((found for found in graphs if found["graph"] == wanted_graph), graphs[0])
            data = known if known is not None and known_of == (run_id, row["graph"]) else graph_card.read_graph(ask, run_id, row)
            node = wanted_node if wanted_node in data.nodes else graph_card.read_start(ask, run_id, row["graph"], data.nodes)
            edges = ([], []) if node is None else graph_card.read_edges(ask, run_id, row["graph"], node, kind)
            return graphs, data, node, edges

        try:
            (self.graphs, data, self.node, (self.into, self.out)), statements = await self.get(self.session.data.gather(work, "graph"))
        except AtlasError as error:
            self.data, self.data_of, self.node, self.graphs, self.statements = None, None, None, [], []
            said = (error.message, error.hint or "")
            self.where.show([Section("No graph", tuple(text_line(text, "dim") for text in said if text))])
            self.edges.show([])
            raise
        self.data, self.data_of = data, (run_id, data.row["graph"])
        self.statements = sorted(statements, key=lambda statement: statement.title not in ("edges in", "edges out"))
        self.draw()

    def draw(self) -> None:
        """Lay out for the present width."""
        if self.data is None or self.node is None:
            return
        wide = self.size.width >= WIDE
        cells = (self.size.width // 2 if wide else self.size.width) - 4
        tree = filters.parse(self.filter_text)
        shown = [node for node, row in self.data.nodes.items() if passes(tree, row)]
        names = set(shown)
        into = [row for row in self.into if row["source"] in names]
        out = [row for row in self.out if row["target"] in names]
        where = [graph_card.head(self.data, self.node, self.partition), graph_card.grid(self.data, self.node, into, out, cells)]
        edges = graph_card.edge_sections(self.data, into, out, self.threshold, self.partition)
        if self.partition is not None:
            edges.append(graph_card.group_section(self.data, self.partition, self.node))
        edges.append(graph_card.node_section(self.data, shown))
        self.where.show(where)
        self.edges.show(edges)
        first = next((place for place, line in enumerate(self.edges.lines) if line.link is not None), 0)
        self.edges.place = first
        kind = self.kind or "all kinds"
        text = f"graph {self.data.row['graph']} of {len(self.graphs)} · {kind} · enter follows, backspace returns · < > other graphs"
        self.status.say(text + (f" · {self.filter_text}" if self.filter_text else ""))

    async def do_open(self) -> None:
        """Follow the edge under the cursor."""
        view = self.focused
        if isinstance(view, LineView) and view.link is not None:
            await self.browser.perform(view.link.action, **dict(view.link.arguments))

    async def _step(self, by: int) -> None:
        numbers = [row["graph"] for row in self.graphs]
        if self.data is not None and numbers:
            at = numbers.index(self.data.row["graph"])
            await self.browser.show("graph", {"graph": numbers[(at + by) % len(numbers)]})

    async def do_next(self) -> None:
        """Show the next graph."""
        await self._step(1)

    async def do_previous(self) -> None:
        """Show the graph before."""
        await self._step(-1)

    async def do_kinds(self, kind: str | None = None) -> None:
        """Show one kind of edges; "all" shows them together."""
        if kind is None:
            order = ("all", *graph_card.KINDS)
            here = order.index(self.kind or "all")
            await self.browser.perform("kinds", kind=order[(here + 1) % len(order)])
            return
        self.kind = None if kind == "all" else kind
        self.reload()

    async def do_threshold(self, share: float | None = None) -> None:
        """Hide edges below a share of the strongest one of their kind."""
        if share is None:
            here = STEPS.index(self.threshold) if self.threshold in STEPS else 0
            await self.browser.perform("threshold", share=STEPS[(here + 1) % len(STEPS)])
            return
        self.threshold = share
        self.draw()
        self.status.say(f"edges below {share:.0%} of the strongest of their kind are hidden" if share else "all edges are shown")

    async def do_groups(self, partition: int | None = None) -> None:
        """Show a partition's groups; -1 shows none."""
        if self.data is None:
            return
        order = [-1, *(row["partition"] for row in self.data.partitions)]
        if partition is None:
            here = order.index(-1 if self.partition is None else self.partition)
            await self.browser.perform("groups", partition=order[(here + 1) % len(order)])
            return
        self.partition = None if partition == -1 else partition
        self.draw()
        if len(order) == 1:
            self.status.say("this graph has no communities and no supernodes")

    def feature_here(self) -> tuple[int, int] | None:
        """Return the selected node's feature."""
        row = self.data.nodes.get(self.node) if self.data is not None and self.node is not None else None
        if row is None or row["kind"] != "feature":
            return None
        return row["layer"], row["feature"]

    def copied(self) -> str | None:
        """Return the selected node's name."""
        here = self.feature_here()
        return feature_name(*here) if here else None

    def on_resize(self, event: events.Resize) -> None:
        """Side by side where there is room."""
        self.set_class(event.size.width >= WIDE, "wide")
        self.draw()


SCREEN = GraphScreen
