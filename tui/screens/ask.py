"""Ask the model: what fires on a text of one's own, two texts side by side, a steered continuation.

In: words that a person types. Out: rows from the process that holds the model (`tui/worker.py`); torch never enters this one. The features
of the answer lead to their cards; the statement shown under `s` is the one that joined their cards.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Input

from atlas.errors import UsageError
from atlas.ids import feature_name, parse_feature
from tui.columns import Column, plain, result_columns
from tui.data import Statement
from tui.screens.base import AtlasScreen, bindings_of
from tui.text import number, safe, token
from tui.widgets.line_input import LineInput
from tui.widgets.line_view import Line, LineView, Link, Section
from tui.widgets.modals import Field
from tui.widgets.paged_table import PagedTable
from tui.worker import AskWorker, publish

QUESTION = "features/cards"
TOP = 25
"""Strongest features a token."""
WIDE = 100
FIELDS = {
    "text": "text: what the model reads · enter asks",
    "against": "against: a second text, side by side (optional)",
    "set": "set: L3_F139=3x · =0 · =4.5 · =+2 · L1_F2<->L1_F7 · enter steers",
    "strengths": "strengths: 0,1,2,4",
    "positions": "positions: all · decision · last · new",
    "answers": "answers:  cold| hot",
}
"""Fields by id: what stands there while they are empty."""
ASKED, STEERED = ("text", "against"), ("set", "strengths", "positions", "answers")
KINDS = {
    "name": ("text", 11),
    "where": ("text", 6),
    "token": ("token", 12),
    "token_here": ("token", 12),
    "token_there": ("token", 12),
    "label": ("label", 26),
    "promotes": ("tokens", 36),
}
"""Columns that are no plain numbers: kind (a token is drawn as text) and width."""


class AskScreen(AtlasScreen):
    """Fields above, features below, and beside them how the model goes on."""

    NAME = "ask"
    FIRST = "#text"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("ask")
    DEFAULT_CSS = """
    AskScreen #fields { height: auto; }
    AskScreen #fields Input { border: none; height: 1; padding: 0 1; background: $boost; }
    AskScreen #fields Horizontal { height: 1; }
    AskScreen #fields #set { width: 2fr; }
    AskScreen #fields .small { width: 1fr; border-left: vkey $panel; }
    AskScreen #result { height: 1fr; border-top: hkey $panel; }
    AskScreen #steered { height: 1fr; border-top: hkey $panel; display: none; }
    AskScreen.steered #steered { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.result = PagedTable(id="result")
        self.steered = LineView(id="steered")
        self.worker = AskWorker()
        self.names: list[str] = []
        self.asked: dict[str, str] = {}
        """The last question, to be asked again with another filter."""
        self.answer: Mapping[str, Any] = {}
        self.kept: Mapping[str, str] = {}

    def body(self) -> Sequence[Widget]:
        """Return fields, features and continuation."""
        fields = {name: LineInput(id=name, placeholder=text, compact=True) for name, text in FIELDS.items()}
        for name in STEERED[1:]:
            fields[name].add_class("small")
        rows = (*(fields[name] for name in ASKED), Horizontal(*(fields[name] for name in STEERED)))
        return (Vertical(Vertical(*rows, id="fields"), self.result, self.steered),)

    def keep(self) -> dict[str, Any]:
        """Keep what was typed."""
        return {**super().keep(), "fields": self._values() if self.is_mounted else dict(self.kept)}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up what was typed."""
        super().restore(kept)
        fields = kept.get("fields")
        self.kept = {name: str(value) for name, value in fields.items() if name in FIELDS} if isinstance(fields, dict) else {}

    def on_mount(self) -> None:
        """Put the kept words into their fields."""
        super().on_mount()
        for name, value in self.kept.items():
            self.query_one(f"#{name}", Input).value = value

    async def on_unmount(self) -> None:
        """Let go of the model."""
        await self.worker.close()

    def _values(self) -> dict[str, str]:
        return {name: self.query_one(f"#{name}", Input).value for name in FIELDS}

    # ---- asking -----------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Ask again with the filter; at the first visit load the model meanwhile, so that the first answer is quick."""
        if self.asked:
            await self._ask(**self.asked)
        elif not self.worker.is_alive:
            self.result.fill([], (), message="Type a text and press enter.")
            self.status.say("enter asks · ctrl+t steers · tab moves between the fields · esc stops")
            await self._waiting(self.worker.ready(self._hello(), self._told))
            self.status.say(self.worker.title, "positive")

    def _hello(self) -> dict[str, Any]:
        """Return what the worker is to load: this atlas, the chosen run."""
        return {"atlas": str(self.session.data.folder), "run": self.session.run_id or None}

    def _told(self, stage: str, done: int, total: int) -> None:
        self.status.work(f"{stage} {done}/{total}" if total else stage)

    async def _waiting(self, work: Any, what: str = "asking the model") -> Any:
        self.status.work(what)
        try:
            return await work
        finally:
            self.status.work("")

    async def _request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = await self._waiting(self.worker.ask(self._hello(), request, self._told))
        return answer

    async def do_ask(self, text: str | None = None, against: str = "") -> None:
        """Ask what fires on a text; without one, on what the fields say."""
        if text is None:
            values = self._values()
            if not values["text"].strip():
                raise UsageError("there is no text", hint="Type one in the first field: The opposite of hot is")
            await self.browser.perform("ask", text=values["text"], against=values["against"])
            return
        self.start(partial(self._ask, text, against), group="work")

    async def _ask(self, text: str, against: str = "") -> None:
        self.asked = {"text": text, "against": against}
        answer = await self._request({"do": "ask", **self.asked, "filter": self.filter_text, "top": TOP, "columns": ["all"]})
        self.answer = answer
        names: list[str] = answer["columns"]
        label = names.index("label")
        unlabelled = all(not row[label] for row in answer["rows"])
        shown = [name for name in names if self._is_shown(name, names) and not (name == "label" and unlabelled)]
        places = [names.index(name) for name in shown]
        rows = [tuple(row[place] for place in places) for row in answer["rows"]]
        self.names = shown
        self.statements = await self._statements(answer)
        self.result.fill(rows, self._columns(shown, rows), message="Nothing that fires here passes the filter.")
        self.result.focus()
        self.status.say(" · ".join(answer["sentences"][-1:]) + (f" · {self.filter_text}" if self.filter_text else ""))

    def _is_shown(self, name: str, names: Sequence[str]) -> bool:
        """Leave out what a narrow screen has no room for, and scores beside lape."""
        if name in ("text", "layer", "feature", "n_here", "n_there", "relative"):
            return False
        after = names.index("label") if "label" in names else len(names)
        is_score = names.index(name) > after and name not in ("lape", "promotes") and not name.startswith("rate.")
        if self.size.width < WIDE:
            return name in ("where", "position", "token", "name", "activation", "here", "there", "promotes")
        return not is_score

    def _columns(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Column, ...]:
        columns = []
        for column in result_columns(names, rows, most=14):
            kind, cells = KINDS.get(column.name, ("", column.cells))
            if column.name.startswith("rate."):
                column = Column(column.name, column.title, "rate", 14)
            elif kind in ("tokens", "label", "text", "token"):
                column = Column(column.name, column.title, "text" if kind == "token" else kind, cells)  # type: ignore[arg-type]
            columns.append(column)
        return tuple(columns)

    async def _statements(self, answer: Mapping[str, Any]) -> list[Statement]:
        """Return the statement that gave the cards of the features in the answer."""
        run = answer.get("run")
        name = answer["columns"].index("name")
        features = ",".join(dict.fromkeys(str(row[name]) for row in answer["rows"]))
        if run is None or not features:
            return []
        from queries.loader import question

        found = question(QUESTION)
        parameters = {**{item.name: item.default for item in found.parameters}, "run": run, "features": features}
        return [Statement(f"{found.name}: cards of these features", found.sql, parameters)]

    # ---- steering ---------------------------------------------------------------------------------------------

    async def do_steer(
        self, prompt: str | None = None, changes: str = "", strengths: str = "", positions: str = "", answers: str = ""
    ) -> None:
        """Steer; without a prompt, as the fields say."""
        if prompt is None:
            values = self._values()
            if not values["text"].strip():
                raise UsageError("there is no text to go on from", hint="Type one in the first field.")
            if not values["set"].strip():
                here = self.feature_here()
                raise UsageError("nothing is set", hint=f"Type for example {feature_name(*here) if here else 'L3_F139'}=3x.")
            given = {name: values[name] for name in STEERED[1:]}
            await self.browser.perform("steer", prompt=values["text"], changes=values["set"], **given)
            return
        request = {
            "do": "steer",
            "prompt": prompt,
            "set": changes.split(),
            "strengths": _numbers(strengths),
            "positions": positions.strip() or "all",
            "answers": [answer for answer in answers.split("|") if answer],
        }
        self.start(partial(self._steer, request), group="work")

    async def _steer(self, request: Mapping[str, Any]) -> None:
        answer = await self._request(request)
        self.answer = answer
        self.add_class("steered")
        self.steered.show([*(_note(answer["notes"])), *(_section(part) for part in answer["parts"])])
        self.steered.focus()
        self.status.say(f"{len(answer['parts'][0]['rows'])} continuations · [ ] moves between the tables · esc closes")

    # ---- what can be done with an answer ------------------------------------------------------------------------

    async def do_keep(self) -> None:
        """Put the last answer into the atlas, and publish; the browser then offers the newer file."""
        if "id" not in self.answer:
            raise UsageError("there is no answer yet to keep", hint="Ask first.")
        self.start(self._keep, group="work")

    async def _keep(self) -> None:
        kept = await self._request({"do": "keep", "of": self.answer["id"]})
        await self._waiting(publish(self.session.data.folder), "publishing")
        self.status.say(f"kept as run {kept['run']} and published: R loads it", "positive")

    def do_filter(self, text: str | None = None) -> None:
        """Open the filter field, or ask again with a filter; one that cannot be read changes nothing."""
        if text is not None:
            from atlas import filters

            filters.parse(text)
        super().do_filter(text)

    async def do_export(self, path: str | None = None) -> None:
        """Export the features of the answer."""
        if not self.names or not self.asked:
            raise UsageError("there is nothing to export here yet")
        if path is None:
            stem = f"{self.session.data.folder.stem}-asked"
            help_text = ".csv or .parquet; the SQL of the cards and the provenance are written beside it"
            self.browser.ask(Field("Export to", f"{stem}.csv", help=help_text), "export", "path")
            return
        self.start(partial(self._export, Path(path).expanduser()), group="work")

    async def _export(self, path: Path) -> None:
        from tui.export import Batches, write_export

        rows = [self.result.row_at(place) for place in range(self.result.source.count)]
        names, asked, data = list(self.names), dict(self.asked), self.session.data
        about = {
            "atlas": data.folder.name,
            "manifest": data.about.get("manifest"),
            "manifest_hash": data.about.get("manifest_hash"),
            "runs": [self.session.run_id],
            "screen": self.NAME,
            "asked": {**asked, "filter": self.filter_text},
        }
        statement = self.statements[0] if self.statements else Statement(QUESTION, "select 'no feature of the answer has a card'")

        def work(_cursor: Any) -> tuple[Path, int, bool]:
            import pyarrow as pa

            table = pa.table({name: pa.array([row[place] for row in rows if row]) for place, name in enumerate(names)})
            return write_export(path, Batches(table.schema, table.to_batches()), statement, about)

        written, n_rows, _ = await self.get(data.job(work, "export"))
        self.status.say(f"exported {n_rows:,} rows to {written}, with .sql and .provenance.json", "positive")

    def feature_here(self) -> tuple[int, int] | None:
        """Return the feature of the row under the cursor."""
        row = self.result.row
        return None if row is None else parse_feature(str(row[self.names.index("name")]))

    def copied(self) -> str | None:
        """Return the feature's name, or the line of the continuation."""
        if self.focused is self.steered:
            return "".join(text for text, _ in self.steered.lines[self.steered.place].parts).strip()
        here = self.feature_here()
        return feature_name(*here) if here else None

    async def do_open(self) -> None:
        """Open the feature under the cursor."""
        here = self.feature_here()
        if here is not None:
            await self.browser.perform("jump", feature=feature_name(*here))

    def do_cancel(self) -> None:
        """Stop, else close the continuation, else leave the field for the features."""
        if self.status.busy or self.query_one("#filter", Input).has_class("open"):
            super().do_cancel()
            self.status.work("")
        elif self.has_class("steered"):
            self.remove_class("steered")
            self.result.focus()
        elif isinstance(self.focused, Input):
            self.result.focus()

    @on(Input.Submitted, "#fields Input")
    async def field_submitted(self, event: Input.Submitted) -> None:
        """Ask or steer, by the field."""
        event.stop()
        await self.browser.perform("ask" if event.input.id in ASKED else "steer")

    def help_lines(self) -> list[tuple[str, str]]:
        """Return the keys, and that letters type while a field has the focus."""
        return [*super().help_lines(), ("esc", "leave the fields; then letters are keys again")]


def _numbers(text: str) -> list[float] | None:
    """Read strengths; raise UsageError for anything else."""
    if not text.strip():
        return None
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"strengths are {text!r}", hint="Write 0,1,2,4.") from error


def _note(notes: Sequence[str]) -> list[Section]:
    return [Section("Note", tuple(Line(((safe(note), "accent"),)) for note in notes))] if notes else []


def _section(part: Mapping[str, Any]) -> Section:
    """Return a table of the answer as lines; a line about a feature leads to it."""
    names: list[str] = part["columns"]
    if part["name"] == "continuations":
        lines = [_written(dict(zip(names, row, strict=True))) for row in part["rows"]]
    else:
        lines = [_row(names, row) for row in part["rows"]]
    return Section(part["title"], tuple(lines) or (Line((("nothing", "dim"),)),))


def _written(row: Mapping[str, Any]) -> Line:
    style = "dim" if row["strength"] is None and row["kl"] is None else "" if row["same"] else "strong"
    kl = "" if row["kl"] is None else f" KL {number(row['kl'])}"
    return Line(((f"{safe(row['set'])}{kl}  ", "accent"), (safe(row["text"]), style)))


def _row(names: Sequence[str], row: Sequence[Any]) -> Line:
    values = dict(zip(names, row, strict=True))
    parts: list[tuple[str, str]] = [(f"{safe(str(values.pop('set')))}  ", "accent")]
    values.pop("strength", None)
    link = Link("jump", {"feature": values["name"]}) if "name" in values else None
    for name, value in values.items():
        if value is None or name in ("layer", "feature", "token_id", "logprob_before", "logprob_after"):
            continue
        text = token(value) if isinstance(value, str) and name in ("token", "answer", "top_before", "top_after") else plain(value)
        parts += [(f"{name} ", "dim"), (f"{text}  ", "")]
    return Line(tuple(parts), link)


SCREEN = AskScreen
