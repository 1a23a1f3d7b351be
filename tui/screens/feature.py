"""One feature: what it fires on, what it does, what people say of it.

In: a layer and a feature. Out: links to other features, prompts, graphs, interventions.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import events
from textual.binding import BindingType
from textual.widget import Widget

from atlas.errors import AtlasError, UsageError
from atlas.ids import feature_name
from tui import card_lines
from tui.card import Card, Rows, read_card
from tui.data import Asker, feature_key
from tui.screens.base import AtlasScreen, bindings_of
from tui.widgets.line_view import LineView, Section, text_line

WIDE = 124


class FeatureScreen(AtlasScreen):
    """A feature's card, in two columns where there is room."""

    NAME = "feature"
    FIRST = "#card"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("feature")
    DEFAULT_CSS = """
    FeatureScreen #body { layout: horizontal; }
    FeatureScreen #card { width: 1fr; }
    FeatureScreen #more { width: 1fr; display: none; border-left: vkey $panel; }
    FeatureScreen.wide #more { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.card: Card | None = None
        self.own_labels: Rows = []
        self.own_notes: Rows = []

    def body(self) -> Sequence[Widget]:
        """Return the two columns."""
        return (LineView(id="card"), LineView(id="more"))

    def keep(self) -> dict[str, Any]:
        """Keep which feature."""
        return {key: value for key, value in self.arguments.items() if key in ("layer", "feature")}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up the feature."""
        if isinstance(kept.get("layer"), int) and isinstance(kept.get("feature"), int):
            self.arguments = {"layer": kept["layer"], "feature": kept["feature"]}

    async def load(self) -> None:
        """Read the card and the newest words."""
        asked = dict(self.arguments)
        try:
            if not self.arguments:
                await self._choose_first()
                asked = dict(self.arguments)
            await self._read()
        except BaseException as error:
            # What is shown and what `.`, `l` and `n` speak of stay one feature, unless another is being read by now.
            if self.arguments == asked:
                self._stay(error)
            raise

    async def _read(self) -> None:
        layer, feature = self.arguments["layer"], self.arguments["feature"]
        session = self.session
        run_id, transcoder_set = session.run_id, session.transcoder_set

        def work(ask: Asker) -> tuple[Card, Rows, Rows]:
            found = read_card(ask, run_id, transcoder_set, layer, feature)
            mine = {"transcoder_set": transcoder_set, "layer": layer, "feature": feature}
            labels, notes = ([row for row in session.catalogue.rows(table) if mine.items() <= row.items()] for table in ("label", "note"))
            return found, labels, notes

        (card, self.own_labels, self.own_notes), statements = await self.get(session.data.gather(work, f"L{layer}_F{feature}"))
        if card.row is None:
            raise UsageError(
                f"this run has no feature {feature_name(layer, feature)}", hint="Press o to jump to another, r to choose another run."
            )
        self.card, self.card_of = card, run_id
        self.statements = sorted(statements, key=lambda statement: statement.title != "contexts")
        self.draw()
        self.status.say(f"{feature_name(layer, feature)} · [ ] sections · enter follows · < > neighbours in the layer")

    def _stay(self, error: BaseException) -> None:
        """Stay with the card that is shown; where it is of another run, or there is none, say why."""
        if self.card is not None and self.card_of == self.session.run_id:
            self.arguments = {"layer": self.card.layer, "feature": self.card.feature}
            return
        self.card, self.shown, self.arguments, self.statements = None, None, {}, []
        said = (error.message, error.hint or "") if isinstance(error, AtlasError) else ("stopped",)
        self.query_one("#card", LineView).show([Section("No feature", tuple(text_line(text, "dim") for text in said if text))])
        self.query_one("#more", LineView).show([])

    async def _choose_first(self) -> None:
        """Begin with the first feature of the run that is active."""
        from tui.data import Read, Where

        where = (Where("run_id", "=", self.session.run_id), Where("n_active", ">", 0))
        rows = (await self.session.data.rows(Read("feature", "feature", ("layer", "feature"), where, ("layer", "feature"), 1)).result())[0]
        if not rows:
            raise UsageError("this atlas has no features yet", hint="`atlas ingest` measures them, `atlas publish` shows them.")
        self.arguments = {"layer": rows[0][0], "feature": rows[0][1]}

    def draw(self) -> None:
        """Lay out the card for the present width."""
        if self.card is None:
            return
        card = self.card
        wide = self.size.width >= WIDE
        self.set_class(wide, "wide")
        cells = (self.size.width // 2 if wide else self.size.width) - 4
        labels = _newest(self.own_labels, card.labels, "label_id")
        notes = [row for row in _newest(self.own_notes, card.notes, "note_id") if not row["deleted"]]
        # What people and models wrote comes first, then what this run's rows say, then what those of other runs say.
        labels.sort(key=lambda row: (row["method"] == "mechanical", row.get("source_run") != self.session.run_id))
        current = next((row["text"] for row in labels if not row["retired"]), None)
        starred = feature_key(card.layer, card.feature) in self.session.words.starred
        left = card_lines.head(card, {"starred": starred, "label": current})
        left += card_lines.contexts(card, cells)
        right = [card_lines.languages(card), card_lines.histogram(card), card_lines.scores(card), card_lines.interventions(card)]
        right += [*card_lines.edges(card), *card_lines.groups(card)]
        said = card_lines.words(labels, notes)
        keep = self.query_one("#card", LineView).lines != []
        if wide:
            self.query_one("#card", LineView).show([*left, *said], keep=keep and self.shown == (card.layer, card.feature))
            self.query_one("#more", LineView).show(right, keep=keep and self.shown == (card.layer, card.feature))
        else:
            self.query_one("#card", LineView).show([*left, *right, *said], keep=keep and self.shown == (card.layer, card.feature))
        self.shown = (card.layer, card.feature)

    shown: tuple[int, int] | None = None
    card_of: str = ""
    """The run that the card is of."""

    def on_resize(self, event: events.Resize) -> None:
        """Lay out again."""
        self.draw()

    def feature_here(self) -> tuple[int, int] | None:
        """Return the feature that is shown."""
        if "layer" not in self.arguments:
            return None
        return self.arguments["layer"], self.arguments["feature"]

    def copied(self) -> str | None:
        """Return the feature's name, or its Neuronpedia link where it has one."""
        here = self.feature_here()
        if here is None:
            return None
        if self.card is not None and self.card.neuronpedia:
            return f"https://www.neuronpedia.org/{self.card.neuronpedia}/{here[1]}"
        return feature_name(*here)

    async def do_open(self) -> None:
        """Follow the link under the cursor."""
        view = self.focused
        if isinstance(view, LineView) and view.link is not None:
            await self.browser.perform(view.link.action, **dict(view.link.arguments))

    async def _step(self, by: int) -> None:
        here = self.feature_here()
        if here is not None and here[1] + by >= 0:
            self.visit(layer=here[0], feature=here[1] + by)
            self.reload()

    async def do_next(self) -> None:
        """Show the next feature of the layer."""
        await self._step(1)

    async def do_previous(self) -> None:
        """Show the feature before."""
        await self._step(-1)

    def words_changed(self) -> None:
        """Draw the new star, label or note."""
        self.reload()


def _newest(own: Rows, published: Rows, key: str) -> Rows:
    """Return the catalogue's rows and those published ones that it does not have, the newest first."""
    known = {row[key] for row in own}
    rows = [*own, *(row for row in published if row[key] not in known)]
    return sorted(rows, key=lambda row: str(row["created_at"]), reverse=True)


SCREEN = FeatureScreen
