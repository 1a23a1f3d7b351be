"""The first screen: what the atlas holds, and its headline answers, each a key away from its question.

In: the open atlas. Out: links to runs, questions, tables.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual import events
from textual.binding import BindingType
from textual.widget import Widget

from atlas.errors import AtlasError
from tui.columns import Part
from tui.data import Asker, Read, Where
from tui.headlines import HEADLINES, section
from tui.screens.base import AtlasScreen, bindings_of
from tui.text import fit, number, safe
from tui.widgets.line_view import Line, LineView, Link, Section, text_line

WIDE = 124


class OverviewScreen(AtlasScreen):
    """Facts at the left, answers at the right, under one another where there is little room."""

    NAME = "overview"
    FIRST = "#facts"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("overview")
    DEFAULT_CSS = """
    OverviewScreen #body { layout: horizontal; }
    OverviewScreen #facts { width: 1fr; }
    OverviewScreen #answers { width: 1fr; display: none; border-left: vkey $panel; }
    OverviewScreen.wide #answers { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.facts = LineView(id="facts")
        self.answers = LineView(id="answers")
        self.fact_sections: list[Section] = []
        self.answer_sections: list[Section] = []

    def body(self) -> Sequence[Widget]:
        """Return the two columns."""
        return (self.facts, self.answers)

    async def load(self) -> None:
        """Read the facts, then ask the headline questions one by one."""
        about, session = self.session.data.about, self.session
        rows, statements = await self.get(session.data.gather(lambda ask: _facts(ask, session.run_id), "overview"))
        self.fact_sections = [_atlas_section(about, rows), *_run_sections(session.runs, session.run_id, rows)]
        self.statements = list(statements)
        no_run = (text_line("this atlas has no run yet", "dim"),)
        self.answer_sections = [
            Section(headline.title, no_run, headline.question) if session.run is None else section(headline, None) for headline in HEADLINES
        ]
        self.draw(keep=False)
        self.status.say("enter opens the question behind an answer · 2 features · 7 questions · ? help")
        of_runs = await self.get(
            session.data.job(lambda _cursor: {headline.question for headline in HEADLINES if _takes_run(headline.question)})
        )
        for number_, headline in enumerate(HEADLINES if session.run is not None else ()):
            try:
                parameters = {**headline.parameters, **({"run": session.run_id} if headline.question in of_runs else {})}
                statement, names, found = await self.get(session.data.ask(headline.question, parameters))
                self.statements.append(statement)
                answers: list[Mapping[str, Any]] = [dict(zip(names, row, strict=True)) for row in found]
                self.answer_sections[number_] = section(headline, answers)
            except AtlasError as error:
                self.answer_sections[number_] = Section(
                    headline.title, (text_line(" ".join(error.message.split()), "dim"),), headline.question
                )
            self.draw(keep=True)

    def draw(self, *, keep: bool) -> None:
        """Lay out for the present width."""
        wide = self.size.width >= WIDE
        self.set_class(wide, "wide")
        if wide:
            self.facts.show(self.fact_sections, keep=keep)
            self.answers.show(self.answer_sections, keep=keep)
        else:
            self.facts.show([*self.fact_sections[:1], *self.answer_sections, *self.fact_sections[1:]], keep=keep)

    def on_resize(self, event: events.Resize) -> None:
        """Lay out again."""
        if self.fact_sections:
            self.draw(keep=True)

    def copied(self) -> str | None:
        """Return the chosen run's id."""
        return self.session.run_id or None


def _takes_run(name: str) -> bool:
    from queries.loader import catalogue

    question = catalogue().get(name)
    return question is not None and any(parameter.name == "run" for parameter in question.parameters)


Facts = dict[str, list[dict[str, Any]]]


def _facts(ask: Asker, run_id: str) -> Facts:
    here = (Where("run_id", "=", run_id),)
    return {
        "model": ask(
            Read("models", "model", ("model_id", "name", "architecture", "n_layers", "d_model", "vocab_size", "dtype"), (), ("name",))
        ),
        "transcoder": ask(
            Read(
                "transcoders",
                "transcoder",
                ("transcoder_set", "layer", "d_transcoder", "activation", "source", "neuronpedia"),
                (),
                ("transcoder_set", "layer"),
            )
        ),
        "behaviour": ask(
            Read(
                "behaviours",
                "behaviour",
                ("behaviour", "title", "computation_type", "languages", "n_prompts", "gate"),
                here,
                ("behaviour",),
            )
        ),
        "table": ask(Read("tables", "run_table", ("table_name", "n_rows", "n_bytes"), here, ("-n_rows", "table_name"))),
    }


def _fact(name: str, *values: object, style: str = "") -> Line:
    parts: list[Part] = [(fit(name, 14), "dim"), (" · ".join(safe(str(value)) for value in values if value not in (None, "")), style)]
    return Line(tuple(parts))


def _atlas_section(about: Mapping[str, Any], rows: Facts) -> Section:
    lines = [
        _fact(
            "manifest", about.get("manifest"), f"published {str(about.get('published_at'))[:16]}", f"by version {about.get('code_version')}"
        )
    ]
    for model in rows["model"]:
        lines.append(
            _fact("model", model["name"], model["architecture"], f"{model['n_layers']} layers of {model['d_model']:,}", model["dtype"])
        )
    for name in dict.fromkeys(row["transcoder_set"] for row in rows["transcoder"]):
        layers = [row for row in rows["transcoder"] if row["transcoder_set"] == name]
        width = f"{len(layers)} layers x {layers[0]['d_transcoder']:,} features"
        lines.append(_fact("transcoders", name, width, layers[0]["activation"]))
    inline = "activations are in the file" if about.get("activations_inline") else "activations are in the shards beside the file"
    lines.append(_fact("storage", inline))
    return Section("This atlas", tuple(lines))


def _run_sections(runs: Sequence[Any], run_id: str, rows: Facts) -> list[Section]:
    run_lines = [
        Line(
            (
                ("● " if run.run_id == run_id else "  ", "accent"),
                (fit(safe(run.name), 26), "strong" if run.run_id == run_id else ""),
                (fit(f"{run.kind}, {run.state}", 18), "dim"),
                (fit(f"{run.n_features:,}", 11, "right") + " features  ", ""),
                (f"{str(run.finished_at or '')[:16]}  {run.run_id[:8]}", "dim"),
            ),
            Link("run", {"run": run.run_id}),
        )
        for run in runs
    ]
    behaviours = [
        Line(
            (
                (fit(safe(row["behaviour"]), 20), "strong"),
                (f"{row['n_prompts']:,} prompts in {', '.join(safe(language) for language in row['languages'])}  ", ""),
                (safe(str(row["computation_type"] or "")).replace("_", " "), "dim"),
            ),
            Link("go_prompts", {"behaviour": row["behaviour"]}),
        )
        for row in rows["behaviour"]
    ]
    largest = max((row["n_rows"] for row in rows["table"]), default=1)
    tables = [
        Line(
            (
                (fit(row["table_name"], 22), ""),
                (fit(f"{row['n_rows']:,}", 14, "right") + "  ", ""),
                (_size(row["n_bytes"], row["n_rows"], largest), "dim"),
            )
        )
        for row in rows["table"]
    ]
    nothing = (Line((("none", "dim"),)),)
    return [
        Section("Runs", tuple(run_lines) or nothing, "enter chooses"),
        Section("Behaviours of this run", tuple(behaviours) or nothing, "enter shows prompts"),
        Section("Tables of this run", tuple(tables) or nothing),
    ]


def _size(n_bytes: int, n_rows: int, largest: int) -> str:
    from tui.marks import bar

    return f"{bar(n_rows, largest, 10)} {number(n_bytes / 1e6)} MB"


SCREEN = OverviewScreen
