"""Interventions and circuits: ledgers with controls, dose-response curves, circuits as paths with their evaluations, transfers.

In: the chosen run. Out: links to features, prompts, graphs.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from textual.binding import BindingType

from atlas.ids import feature_name
from tui import marks
from tui.columns import Column
from tui.data import Asker, Read, Statement, Where
from tui.screens.base import bindings_of
from tui.screens.ledger import LedgerScreen, Part
from tui.session import Session
from tui.text import fit, number, safe, signed
from tui.widgets.line_view import Line, Link, Section, text_line
from tui.widgets.paged_table import PagedTable

Dict = Mapping[str, Any]
EFFECT = Column("mean", "effect", "signed_bar", 21, 2.0)


def _languages(session: Session) -> dict[str, object]:
    known = [language for language in (session.info.languages if session.info else ()) if language != "xx"]
    return {"language_a": known[0], "language_b": known[1]} if len(known) >= 2 else {}


def _pooled(_session: Session) -> dict[str, object]:
    return {"sound": False}


class InterventionsScreen(LedgerScreen):
    """Ledgers in turn."""

    NAME = "interventions"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("interventions")
    PARTS = (
        Part(
            "effects",
            "Effects with controls",
            "interventions/effects",
            _pooled,
            (
                Column("name", "intervention", "text", 26),
                Column("rule", "rule", "text", 7),
                Column("language", "lang", "text", 4),
                EFFECT,
                Column("q_value", "q", "number", 7),
                Column("outside", "outside", "flag", 8),
                Column("control", "control", "text", 16),
                Column("control_mean", "of control", "signed", 10),
            ),
            ("intervention",),
        ),
        Part("dose", "Dose-response", "interventions/dose_response", columns=(Column("members", "features", "text", 20), EFFECT)),
        Part(
            "circuits",
            "Circuits",
            "circuits/summary",
            columns=(
                Column("name", "circuit", "text", 34),
                Column("n_features", "features", "number", 9),
                Column("n_edges", "edges", "number", 7),
            ),
        ),
        Part(
            "transfer",
            "Transfer between languages",
            "interventions/transfer",
            columns=(
                Column("source_language", "from", "text", 5),
                Column("target_language", "to", "text", 5),
                Column("control", "control", "text", 16),
                Column("preferred", "preferred", "rate", 18),
                Column("mean_rise", "rise", "signed", 8),
            ),
            hidden=("intervention",),
        ),
        Part(
            "bridges",
            "Causal bridges",
            "interventions/causal_bridges",
            _languages,
            (
                Column("name", "feature", "text", 12),
                Column("worst_effect", "worse effect", "signed_bar", 21, 2.0),
                Column("is_causal_bridge", "bridge", "flag", 7),
                Column("q_causal", "q", "number", 8),
            ),
        ),
    )

    def visit(self, **arguments: Any) -> None:
        """Come here for an intervention or a circuit."""
        if "circuit" in arguments:
            self.part, self.filter_text = self.part_called("circuits"), ""
        elif "intervention" in arguments:
            self.part, self.filter_text = self.part_called("effects"), ""
        super().visit(**arguments)

    async def do_part(self, name: str | None = None) -> None:
        """Show the next ledger, or a named one."""
        if name is None:
            await self.browser.perform("part", name=self.next_part())
            return
        self.turn_to(name)

    async def detail(self, row: Dict) -> tuple[list[Section], list[Statement]]:
        """Return what stands behind a row."""
        run_id = self.session.run_id
        if self.part.name in ("effects", "transfer"):
            work = self.session.data.gather(lambda ask: _intervention(ask, run_id, row), "intervention")
        elif self.part.name == "circuits":
            work = self.session.data.gather(lambda ask: _circuit(ask, run_id, row), "circuit")
        elif self.part.name == "dose":
            return [_curve(row, self.rows)], []
        else:
            return [_bridge(row)], []
        return await work.result()

    async def do_open(self) -> None:
        """Open the row's feature, else look into the detail."""
        if self.focused is self.detail_view:
            if self.detail_view.link is not None:
                await self.browser.perform(self.detail_view.link.action, **dict(self.detail_view.link.arguments))
            return
        here = self.feature_here()
        if here is not None:
            await self.browser.perform("jump", feature=feature_name(*here))
        elif isinstance(self.focused, PagedTable):
            self.detail_view.focus()


def _feature_line(row: Dict, after: str = "") -> Line:
    name = feature_name(row["layer"], row["feature"])
    return Line(((fit(name, 14), "link"), (after, "dim")), Link("jump", {"feature": name}))


def _intervention(ask: Asker, run_id: str, row: Dict) -> list[Section]:
    """Return an intervention: what was done, interval and controls, its members, prompts from worst to best."""
    at = (Where("run_id", "=", run_id), Where("intervention", "=", row["intervention"]))
    columns = (
        "name",
        "rule",
        "mode",
        "positions",
        "strength",
        "hook",
        "keeps_error",
        "sound",
        "n_members",
        "noise_floor",
        "n_pool",
        "distinct_sets",
    )
    found = ask(Read("intervention", "intervention", columns, at))
    about = found[0] if found else {}
    facts = " · ".join(
        f"{name.replace('_', ' ')} {number(value) if isinstance(value, float) else value}"
        for name, value in about.items()
        if value is not None
    )
    lines = [text_line(facts, "dim")]
    if about.get("sound") is False:
        lines.append(text_line("unsound: known to be done at the wrong place, see the run's method", "negative"))
    sections = (
        [Section(safe(str(row.get("name", "intervention"))), tuple(lines)), _forest(row)]
        if "mean" in row
        else [Section("Intervention", tuple(lines))]
    )
    members = ask(
        Read("members", "intervention_member", ("layer", "feature", "position", "value"), at, ("layer", "feature", "position"), 50)
    )
    sections.append(
        Section(
            "Features",
            tuple(_feature_line(member, _place(member)) for member in members),
            f"{about.get('n_members', len(members))} edited together",
        )
    )
    outcomes = ask(Read("outcomes", "outcome", ("prompt", "margin_before", "margin_after", "effect", "kl"), at, ("effect", "prompt"), 400))
    largest = max((abs(outcome["effect"]) for outcome in outcomes), default=0.0)
    lines = [
        Line(
            (
                (fit(f"prompt {outcome['prompt']}", 12), "link"),
                (fit(f"{signed(outcome['margin_before'])} → {signed(outcome['margin_after'])}", 18), ""),
                (fit(signed(outcome["effect"]), 8, "right") + " ", "negative" if outcome["effect"] < 0 else "positive"),
                (marks.signed_bar(outcome["effect"], largest, 15), "negative" if outcome["effect"] < 0 else "positive"),
                (f" KL {number(outcome['kl'])}", "dim"),
            ),
            Link("go_prompts", {"prompt": outcome["prompt"]}),
        )
        for outcome in outcomes
    ]
    return [*sections, Section("Prompts", tuple(lines), "margins before and after, the largest fall first")]


def _place(member: Dict) -> str:
    where = "" if member["position"] == -1 else f" at position {member['position']}"
    return where + (f" to {number(member['value'])}" if member["value"] is not None else "")


def _forest(row: Dict) -> Section:
    """Return the effect's interval above its controls'."""
    values = [row[name] for name in ("mean", "ci_low", "ci_high", "control_low", "control_high") if row.get(name) is not None]
    least, largest = min([*values, 0.0]), max([*values, 0.0])
    lines = [
        Line(
            (
                (fit("this", 18), "strong"),
                (fit(signed(row["mean"]), 8, "right") + " ", ""),
                (_interval(row, "ci_", "mean", least, largest), "accent"),
            )
        ),
    ]
    if row.get("control_mean") is not None:
        name = f"{row['n_controls']} x {row['control']}"
        figure = (fit(signed(row["control_mean"]), 8, "right") + " ", "dim")
        lines.append(Line(((fit(name, 18), "dim"), figure, (_interval(row, "control_", "control_mean", least, largest), "dim"))))
    support = f"{number(row.get('n_prompts'))} prompts, {number(row.get('n_concepts'))} concepts"
    tests = f"p {number(row.get('p_value'))} · q {number(row.get('q_value'))} · {support}"
    scale = f"{signed(least)} to {signed(largest)}; │ is zero"
    return Section(f"Effect on the margin, {row.get('language', '')}", (*lines, text_line(tests, "dim")), scale)


def _interval(row: Dict, prefix: str, middle: str, least: float, largest: float) -> str:
    return marks.interval(row[f"{prefix}low"], row[middle], row[f"{prefix}high"], least, largest, 30)


def _curve(row: Dict, rows: list[dict[str, Any]]) -> Section:
    """Return the curve that a dose belongs to."""
    same = ("members", "rule", "mode", "positions", "language")
    points = sorted((found for found in rows if all(found[name] == row[name] for name in same)), key=lambda found: found["strength"])
    values = [found[name] for found in points for name in ("mean", "ci_low", "ci_high") if found[name] is not None]
    least, largest = min([*values, 0.0]), max([*values, 0.0])
    lines = [
        Line(
            (
                ("● " if found["strength"] == row["strength"] else "  ", "accent"),
                (fit(f"x {number(found['strength'])}", 8), "strong"),
                (fit(signed(found["mean"]), 8, "right") + " ", "negative" if found["mean"] < 0 else "positive"),
                (marks.interval(found["ci_low"], found["mean"], found["ci_high"], least, largest, 36), "accent"),
            )
        )
        for found in points
    ]
    note = "" if row["monotone"] is None else "monotone" if row["monotone"] else "not monotone"
    return Section(f"Dose-response of {safe(str(row['members']))}, {row['language']}", tuple(lines), note)


def _bridge(row: Dict) -> Section:
    lines = [
        Line(((fit(name.replace("_", " "), 24), "dim"), (number(value) if not isinstance(value, str) else safe(value), "")))
        for name, value in row.items()
    ]
    link = Line((("open the feature", "link"),), Link("jump", {"feature": feature_name(row["layer"], row["feature"])}))
    return Section(feature_name(row["layer"], row["feature"]), (*lines, link))


def _circuit(ask: Asker, run_id: str, row: Dict) -> list[Section]:
    """Return a circuit: its paths, what was measured of it beside random circuits, its members."""
    run, number_ = Where("run_id", "=", run_id), row["circuit"]
    at = (run, Where("circuit", "=", number_))
    columns = (
        "property",
        "language",
        "split",
        "reference",
        "error_mode",
        "x",
        "value",
        "ci_low",
        "ci_high",
        "control_mean",
        "n_controls",
        "p_value",
        "supports",
        "note",
    )
    evaluations = ask(Read("evaluation", "evaluation", columns, at, ("property", "language", "x", "split")))
    paths = ask(Read("paths", "path", ("graph", "kind", "rank", "nodes", "weights", "score", "target"), at, ("kind", "rank"), 40))
    names: dict[tuple[int, int], str] = {}
    for graph in sorted({path["graph"] for path in paths}):
        wanted = sorted({node for path in paths if path["graph"] == graph for node in path["nodes"]})
        where = (run, Where("graph", "=", graph), Where("node", "any", wanted))
        for node in ask(Read("nodes", "node", ("node", "kind", "layer", "feature", "label"), where, ("node",))):
            is_feature = node["kind"] == "feature" and node["feature"] is not None
            names[(graph, node["node"])] = feature_name(node["layer"], node["feature"]) if is_feature else safe(str(node["label"]))
    members = ask(
        Read(
            "members",
            "circuit_member",
            ("member", "kind", "layer", "feature", "role", "target_layer", "target_feature", "edge_kind", "weight"),
            at,
            ("kind", "member"),
        )
    )
    facts = f"{row['method']} · reference {row.get('reference')} · {row['n_features']} features, {row['n_edges']} edges"
    features = [member for member in members if member["kind"] == "feature"]
    edges = [member for member in members if member["kind"] == "edge"]
    return [
        Section(safe(str(row["name"])), (text_line(facts, "dim"),)),
        Section("Measured", tuple(_evaluation(found) for found in evaluations) or _none(), "value, interval, random circuits beside it"),
        Section("Paths", tuple(_path(path, names) for path in paths) or _none(), "the strongest first"),
        Section("Features", tuple(_feature_line(member, str(member["role"] or "")) for member in features) or _none()),
        Section("Edges", tuple(_edge(member) for member in edges) or _none()),
    ]


def _none() -> tuple[Line, ...]:
    return (Line((("none", "dim"),)),)


def _evaluation(row: Dict) -> Line:
    verdict = "" if row["supports"] is None else "for" if row["supports"] else "against"
    at = "" if row["x"] is None else f" at {number(row['x'])}"
    mode = f" ({row['reference']}{', ' + str(row['error_mode']) if row['error_mode'] else ''})" if row["reference"] else ""
    interval = "" if row["ci_low"] is None else f" [{number(row['ci_low'])}, {number(row['ci_high'])}]"
    random = "" if row["control_mean"] is None else f" random {number(row['control_mean'])} x {row['n_controls']}"
    tests = "" if row["p_value"] is None else f" p {number(row['p_value'])}"
    return Line(
        (
            (fit(safe(f"{row['property']}{at}"), 26), "strong"),
            (fit(safe(str(row["language"])), 4), "dim"),
            (fit(number(row["value"]), 8, "right"), ""),
            (fit(f" {verdict}", 9), "positive" if row["supports"] else "negative"),
            (f"{interval}{random}{tests}{mode}{' ' + safe(str(row['note'])) if row['note'] else ''}", "dim"),
        )
    )


def _path(path: Dict, names: Mapping[tuple[int, int], str]) -> Line:
    chain = " → ".join(names.get((path["graph"], node), f"node {node}") for node in path["nodes"])
    return Line(
        ((fit(number(path["score"]), 9, "right") + " ", ""), (fit(str(path["kind"]), 15), "dim"), (chain, "")),
        Link("go_graph", {"graph": path["graph"], "node": path["nodes"][0]}),
    )


def _edge(member: Dict) -> Line:
    source = feature_name(member["layer"], member["feature"]) if member["feature"] is not None else "input"
    target = "output" if member["target_feature"] is None else feature_name(member["target_layer"], member["target_feature"])
    link = Link("jump", {"feature": source}) if member["feature"] is not None else None
    return Line(
        (
            (fit(f"{source} → {target}", 28), "link"),
            (fit(signed(member["weight"]), 9, "right"), ""),
            (f" {member['edge_kind'] or ''}", "dim"),
        ),
        link,
    )


SCREEN = InterventionsScreen
