"""All features of a run: a table of any length, sorted, filtered and searched.

In: the chosen run. Out: the feature that is opened.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from atlas import filters
from atlas.errors import AtlasError, UsageError
from atlas.ids import feature_name, parse_feature
from tui.data.pages import FeatureSource, find_feature, open_features
from tui.data.runs import RunInfo
from tui.feature_columns import all_columns, default_columns
from tui.screens.base import AtlasScreen, bindings_of
from tui.widgets.modals import Field
from tui.widgets.paged_table import PagedTable, turn

NARROW = 110


class FeaturesScreen(AtlasScreen):
    """The features table."""

    NAME = "features"
    FIRST = "#features"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("features")

    def __init__(self) -> None:
        super().__init__()
        self.table = PagedTable(offset=3, id="features")
        self.order: dict[str, bool] = {}
        self.chosen: tuple[str, ...] = ()
        self.cursor_feature: tuple[int, int] | None = None
        self.source: FeatureSource | None = None
        self.follows = True
        self.shown_view: tuple[str, dict[str, bool], tuple[str, ...]] | None = None
        """Filter, order and columns of the rows on the screen."""

    def body(self) -> Sequence[Widget]:
        """Return the table; its rows begin with row id, layer and feature."""
        return (self.table,)

    def keep(self) -> dict[str, Any]:
        """Keep filter, order, columns and place."""
        here = self.feature_here() or self.cursor_feature
        return {**super().keep(), "order": self.order, "columns": list(self.chosen), "feature": list(here) if here else None}

    def restore(self, kept: dict[str, Any]) -> None:
        """Take up filter, order, columns and place."""
        super().restore(kept)
        order = kept.get("order")
        self.order = {str(name): bool(down) for name, down in order.items()} if isinstance(order, dict) else {}
        columns = kept.get("columns")
        self.chosen = tuple(str(name) for name in columns) if isinstance(columns, list) else ()
        place = kept.get("feature")
        self.cursor_feature = (int(place[0]), int(place[1])) if isinstance(place, list) and len(place) == 2 else None

    def _shown(self, info: RunInfo) -> tuple[str, ...]:
        known = all_columns(info)
        chosen = tuple(name for name in self.chosen if name in known)
        return chosen or default_columns(info, self.size.width >= NARROW)

    async def load(self) -> None:
        """Filter and order; a load that fails or is stopped leaves filter, order and columns as they are shown."""
        asked = self._view()
        try:
            await self._load()
        except BaseException:
            if self.shown_view is not None and self._view() == asked:
                self.filter_text, self.order, self.chosen = self.shown_view[0], dict(self.shown_view[1]), self.shown_view[2]
            raise
        self.shown_view = self._view()

    def _view(self) -> tuple[str, dict[str, bool], tuple[str, ...]]:
        return self.filter_text, dict(self.order), self.chosen

    async def _load(self) -> None:
        """Filter and order; pages come as they are drawn."""
        session = self.session
        info = await self.info()
        if info is None or not info.total:
            self.table.fill([], (), message="This atlas has no features yet: `atlas ingest` measures them, `atlas publish` shows them.")
            self.status.say("no features")
            return
        names = self._shown(info)
        known = all_columns(info)
        order = tuple((name, down) for name, down in self.order.items())
        try:
            tree = filters.parse(self.filter_text)
            job = open_features(session.data, info, session.view(names, filter=tree, order=order))
        except AtlasError as error:
            # A filter of another run, kept from an earlier start, must not lock the person out.
            if self.source is not None:
                raise
            self.filter_text, self.order = "", {}
            self.fail(error)
            job = open_features(session.data, info, session.view(names))
        job.what = "sorting" if order else "filtering" if self.filter_text else "opening"
        source = await self.get(job)
        place = 0
        wanted = self.cursor_feature or (self.feature_here() if self.follows else None)
        self.follows = True
        if wanted is not None:
            row = await session.data.job(find_feature(info.run_id, *wanted)).result()
            place = (source.place(row) if row is not None else None) or 0
            self.cursor_feature = None
        self.source = source
        self.statements = [source.statement]
        self.table.order = dict(self.order)
        self.table.show(source, tuple(known[name] for name in names), place=place, message="No feature passes this filter.")
        self._say(info)

    def _say(self, info: RunInfo) -> None:
        count = self.source.count if self.source is not None else 0
        text = f"{count:,} of {info.total:,} features" if self.filter_text else f"{count:,} features"
        if self.filter_text:
            is_search = isinstance(filters.parse(self.filter_text), filters.Search)
            text += f" · {'searched for ' if is_search else ''}{self.filter_text}"
            text += f" · o jumps to {self.filter_text}" if not count and is_feature(self.filter_text) else ""
        if self.order:
            text += " · by " + ", ".join(f"{name} {'▼' if down else '▲'}" for name, down in self.order.items())
        note = getattr(self.source.ids, "note", "") if self.source is not None else ""
        self.status.say(f"{text} {note}".rstrip())

    def feature_here(self) -> tuple[int, int] | None:
        """Return the feature under the cursor."""
        row = self.table.row
        return None if row is None else (row[1], row[2])

    def copied(self) -> str | None:
        """Return the feature's name."""
        here = self.feature_here()
        return feature_name(*here) if here else None

    async def do_open(self) -> None:
        """Open the feature under the cursor."""
        row = await self.table.row_here()
        if row is not None:
            await self.browser.perform("jump", feature=feature_name(row[1], row[2]))

    async def do_sort(self, column: str | None = None, table: str | None = None) -> None:
        """Sort by a column: descending, ascending, natural."""
        if not self.table.columns:
            return
        if column is None:
            await self.browser.perform("sort", column=self.table.columns[self.table.column].name)
            return
        name = column
        if name == "star":
            self.status.say("stars are filtered, not sorted: / starred")
            return
        self.order = turn(self.order, name)
        self.cursor_feature = None
        self.follows = False
        self.reload()

    def do_filter(self, text: str | None = None) -> None:
        """Open the filter field, or filter; a filter that cannot be read changes nothing."""
        if text is None:
            super().do_filter()
            return
        filters.parse(text)
        self.filter_text = text.strip()
        self.reload()

    def do_columns(self, names: str | None = None) -> None:
        """Choose the shown columns by name."""
        info = self.session.info
        if info is None:
            return
        known = all_columns(info)
        if names is None:
            text = " ".join(self._shown(info))
            self.browser.ask(Field("Columns, in order", text, help="All: " + " ".join(known)), "columns", "names")
            return
        wanted = names.replace(",", " ").split()
        unknown = [name for name in wanted if name not in known]
        if unknown:
            self.status.say(f"no column {unknown[0]!r}; c shows all names", "negative")
            return
        self.chosen = tuple(dict.fromkeys(wanted))
        self.reload()

    def words_changed(self) -> None:
        """Draw the new star or label."""
        self.reload()


def is_feature(text: str) -> bool:
    """Say whether a text is the name of a feature."""
    try:
        parse_feature(text)
    except UsageError:
        return False
    return True


SCREEN = FeaturesScreen
