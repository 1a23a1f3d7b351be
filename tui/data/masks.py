"""Which features pass a filter: one boolean a feature, without a join, some layers at a time.

In: a cursor, a view, a run whose rows stand in natural order. Out: a mask over the run's features, in their order.

1. A part of the filter that speaks of one table only is asked of that table alone and gives layers and features; rows of `feature`
   stand in natural order, so layer and feature give the place in the mask. (Joins cost five times as much as the scans.)
2. `and`, `or` and `not` join masks. A part that no feature can need any more, because the other side of its `and` has nothing in those
   layers, is not asked.
3. Text is searched for in the vocabulary of promoted tokens (`term`), in labels, and in the windows of top contexts; an atlas that was
   published without a vocabulary is searched token by token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas import filters
from tui.data.compose import Names, used
from tui.data.engine import Meter, arrays
from tui.data.features import BASE, SAME, FeatureComposer, FeatureView, Source, is_of_labels, items, spans, windows
from tui.data.runs import RunInfo

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    Array = np.ndarray[Any, Any]

CHUNK = 300_000
"""Features that are looked at together."""
LABELS = 1_000_000
"""Labels that are looked at together."""
AT_ONCE = 2
"""Chunks that are asked for at once."""
FEW = 1000
"""Terms, or items of contexts, of which the features are so few that they are asked for at once."""
MANY = 12
"""Chunks that are asked for at once where few features are expected: one statement uses all threads, many short ones do not."""
SPANS = 20_000
"""Windows that are put together at once."""


@dataclass(frozen=True)
class Chunk:
    """Some layers, and where their features stand in a mask."""

    low: int
    high: int
    """Last layer."""
    start: int
    stop: int


def chunks(info: RunInfo) -> list[Chunk]:
    """Return layers in groups of about CHUNK features."""
    found: list[Chunk] = []
    for layer, (row, _, n) in info.layers.items():
        start = row - info.first
        if found and start + n - found[-1].start <= CHUNK:
            found[-1] = Chunk(found[-1].low, layer, found[-1].start, start + n)
        else:
            found.append(Chunk(layer, layer, start, start + n))
    return found


def together(chunks: list[Chunk], at_once: int) -> Iterator[Chunk]:
    """Yield chunks joined to larger ones: a statement about one layer keeps one thread busy, one about several all of them."""
    for place in range(0, len(chunks), at_once):
        group = chunks[place : place + at_once]
        yield Chunk(group[0].low, group[-1].high, group[0].start, group[-1].stop)


class Places:
    """Where a feature of a run stands: layer and feature to a place from 0."""

    def __init__(self, info: RunInfo) -> None:
        import numpy as np

        width = max(info.layers, default=0) + 1
        self.base, self.low, self.high = (np.zeros(width, np.int64) for _ in range(3))
        for layer, (row, first, n) in info.layers.items():
            self.base[layer] = row - info.first - first
            self.low[layer], self.high[layer] = first, first + n
        self.width = width

    def __call__(self, layer: "Array", feature: "Array") -> "tuple[Array, Array | slice]":
        """Return the places of the features that the run has, and which of the given ones those are."""
        inside = (layer >= 0) & (layer < self.width)
        if not inside.all():
            kept = inside.nonzero()[0]
            places, which = self(layer[kept], feature[kept])
            return places, kept[which]
        known = (feature >= self.low[layer]) & (feature < self.high[layer])
        places = self.base[layer] + feature
        return (places, slice(None)) if known.all() else (places[known], known.nonzero()[0])


class Masks:
    """Evaluate filters of one view."""

    def __init__(self, cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, meter: Meter) -> None:
        self.cursor, self.view, self.info, self.meter = cursor, view, info, meter
        self.chunks = chunks(info)
        self.places = Places(info)

    def steps(self, tree: filters.Filter) -> int:
        """Return how many statements a filter takes at most."""
        match tree:
            case filters.Both(left, right) | filters.Either(left, right):
                if not self._is_base(tree):
                    return self.steps(left) + self.steps(right)
            case filters.Not(operand):
                return self.steps(operand)
            case filters.Search() | filters.Compare("text", "~" | "!~"):
                return 3 * len(self.chunks)
        return len(self.chunks)

    def of(self, tree: filters.Filter, within: "Array | None" = None) -> "Array":
        """Return the mask of a filter; outside `within` it may be anything."""
        if self._is_base(tree):
            return self._base(tree, within)
        if is_of_labels(tree):
            return self._labels(tree)
        match tree:
            case filters.Both(left, right):
                found = self.of(left, within)
                if within is not None:
                    found &= within
                found &= self.of(right, found)
                return found
            case filters.Either(left, right):
                found = self.of(left, within)
                found |= self.of(right, within)
                return found
            case filters.Not(operand):
                return ~self.of(operand, within)
            case filters.Search(text) | filters.Compare("text", "~", text):
                return self._search(str(text), within)
            case filters.Flag(name):
                return self._keys(name)
            case filters.Null(column, False):
                return ~self._column(filters.Null(column, True), column, within)
            case filters.Compare(column, "!~", value):
                return ~self.of(filters.Compare(column, "~", value), within)
            case filters.Compare(column, "~", value) if self._is_indexed(column):
                return self._promoted(str(value), within)
            case filters.Compare() | filters.Among() | filters.Null():
                return self._column(tree, tree.column, within)
        raise AssertionError(tree)

    def _is_indexed(self, column: str) -> bool:
        return self.info.has_terms and SAME.get(column, column) == "promotes"

    def _is_base(self, tree: filters.Filter) -> bool:
        """Say whether a filter speaks of table feature alone and of no text that is found faster elsewhere."""
        match tree:
            case filters.Both(left, right) | filters.Either(left, right):
                return self._is_base(left) and self._is_base(right)
            case filters.Not(operand):
                return self._is_base(operand)
            case filters.Flag(name):
                return name in ("dead", "alive")
            case filters.Compare() | filters.Among() | filters.Null():
                return SAME.get(tree.column, tree.column) in BASE and not self._is_indexed(tree.column)
        return False

    def _composer(self) -> FeatureComposer:
        return FeatureComposer(self.view, self.info.languages, self.info.scores)

    def _empty(self) -> "Array":
        import numpy as np

        return np.zeros(self.info.total, bool)

    def _wanted(self, within: "Array | None", at_once: int) -> Iterator[Chunk]:
        """Yield the chunks in which something can still pass, some at once."""
        for chunk in together(self.chunks, at_once):
            if within is None or within[chunk.start : chunk.stop].any():
                yield chunk
            self.meter.step(at_once)

    def _base(self, tree: filters.Filter, within: "Array | None") -> "Array":
        composer = self._composer()
        condition = composer.condition(tree)
        first = composer.names.bind(self.info.first, "first")
        text = f"select f.rowid - {first} as place from feature f where f.run_id = {composer.run} and f.layer between $low and $high"
        mask = self._empty()
        for chunk in self._wanted(within, AT_ONCE):
            found = self._fetch(f"{text} and {condition}", composer.names, chunk)
            mask[found["place"]] = True
        return mask

    def _column(self, tree: filters.Filter, column: str, within: "Array | None") -> "Array":
        """Return the mask of a condition on one column of another table."""
        composer = self._composer()
        composer.expression(column)
        condition = composer.condition(tree)
        (source,) = composer.sources.values()
        return self._scan(lambda: source_text(source, condition), composer.names, within)

    def _scan(self, text: Callable[[], str], names: Names, within: "Array | None", *, at_once: int = AT_ONCE) -> "Array":
        """Return the mask of a statement that gives layers and features; `at_once` chunks are asked for together."""
        mask = self._empty()
        sql = text()
        for chunk in self._wanted(within, at_once):
            self._set(mask, self._fetch(sql, names, chunk))
        return mask

    def _fetch(self, text: str, names: Names, chunk: Chunk) -> "dict[str, Array]":
        return arrays(self.cursor, text, {**names.values, "low": chunk.low, "high": chunk.high})

    def _keys(self, flag: str) -> "Array":
        import numpy as np

        mask = self._empty()
        keys = np.array(self.view.keys.get(flag, ()), np.int64)
        places, _ = self.places(keys >> 32, keys & 0xFFFFFFFF)
        mask[places] = True
        self.meter.step(len(self.chunks))
        return mask

    # Text --------------------------------------------------------------------------------------------

    def _search(self, text: str, within: "Array | None") -> "Array":
        found = self._promoted(text, within)
        found |= self._labels(filters.Compare("label", "~", text))
        found |= self._contexts(text, within)
        return found

    def _labels(self, tree: filters.Filter) -> "Array":
        """Return the mask of a condition on labels; they stand in no order of layers, so their table is read by stretches of rows."""
        composer = self._composer()
        condition, negated = composer.label_test(tree)
        published, own = composer.labels()
        mask = self._empty()
        condition = self._sieved(tree, condition, composer.names)
        ((rows,),) = self.cursor.execute("select count(*) from label").fetchall()
        share = len(self.chunks)
        for low in range(0, rows, LABELS):
            self.meter.check()
            text = f"select layer, feature from ({published} and rowid between $low and $high) where {condition}"
            self._set(mask, arrays(self.cursor, text, {**composer.names.values, "low": low, "high": low + LABELS - 1}))
        if own is not None:
            self._set(mask, arrays(self.cursor, f"select layer, feature from ({own}) where {condition}", composer.names.values))
        self.meter.step(share)
        return ~mask if negated else mask

    def _sieved(self, tree: filters.Filter, condition: str, names: Names) -> str:
        """Return a condition on labels behind a sieve that costs a third of it: making millions of texts lower case takes longest."""
        match tree:
            case filters.Compare(_, "~" | "!~", value) if value:
                # An `and` would not do: the engine asks what it believes to be cheaper first.
                run = uncased(str(value))
                sieve = f"regexp_matches(text, {names.bind(any_case(str(value)), 'pattern')})"
                sieve = f"contains(text, {names.bind(run, 'run_of')})" if len(run) > 1 else sieve
                found = f"contains(text, {names.bind(str(value), 'exact')})"
                return f"case when {found} then true when {sieve} then {condition} else false end"
        return condition

    def _set(self, mask: "Array", found: "dict[str, Array]") -> None:
        """Set the places of layers and features."""
        places, _ = self.places(found["layer"], found["feature"])
        mask[places] = True

    def _promoted(self, text: str, within: "Array | None") -> "Array":
        """Return who promotes a token that holds the text: the vocabulary is looked through once, then its numbers are looked for."""
        if not self.info.has_terms:
            return self._base(filters.Compare("promotes", "~", text), within)
        names = Names()
        run, place = names.bind(self.view.run_id, "run"), names.bind(text, "text")
        terms = f"select term from term where run_id = {run} and contains(lower(token), lower({place}))"
        n_terms = self._keep("tui_term", terms, names)
        if not n_terms:
            self.meter.step(len(self.chunks))
            return self._empty()
        names = Names()
        run = names.bind(self.view.run_id, "run")
        sql = f"select layer, feature from feature_term where run_id = {run} and layer between $low and $high and term in (from tui_term)"
        return self._scan(lambda: sql, names, within, at_once=MANY if n_terms <= FEW else 1)

    def _contexts(self, text: str, within: "Array | None") -> "Array":
        """Return who has a top context whose window holds the text.

        The items that hold it come first: where they are few, the large table is asked for their numbers and little else of it is read.
        Windows are put together some at a time, since all of a common word would not fit the memory for browsing.
        """
        composer = self._composer()
        names, run = composer.names, composer.run
        place = names.bind(text, "text")
        n_items = self._keep("tui_item", items(run, place), names)
        few = f" and item = any({names.bind(self._column_of('tui_item', 'item'), 'items')})" if 0 < n_items <= FEW else ""
        n_spans = self._keep("tui_span", spans(run, "tui_item") + few, names) if n_items else 0
        n_windows = 0
        for low in range(0, n_spans, SPANS):
            slice_of = f"(from tui_span where rowid between {low} and {low + SPANS - 1})"
            n_windows = self._keep("tui_window", windows(run, place, slice_of), names, more=low > 0)
        if not n_windows:
            self.meter.step(len(self.chunks))
            return self._empty()
        sql = (
            "select c.layer, c.feature from context c semi join tui_window w"
            " on w.source = c.source and w.item = c.item and w.window_start = c.window_start and w.window_end = c.window_end"
            f" where c.run_id = {run} and c.kind = 'top' and c.layer between $low and $high{few.replace(' item', ' c.item')}"
        )
        return self._scan(lambda: sql, names, within, at_once=MANY if few else 2)

    def _column_of(self, table: str, column: str) -> list[int]:
        return [row[0] for row in self.cursor.execute(f"select distinct {column} from {table}").fetchall()]

    def _keep(self, name: str, text: str, names: Names, *, more: bool = False) -> int:
        """Keep the rows of a statement in a table of this cursor, so that they are found once for all layers; return how many there are."""
        self.meter.check()
        verb = f"insert into {name}" if more else f"create or replace temp table {name} as"
        self.cursor.execute(f"{verb} {text}", used(text, names.values))
        return int(self.cursor.execute(f"select count(*) from {name}").fetchall()[0][0])


def source_text(source: Source, condition: str, *more: str) -> str:
    """Return the statement of layers and features (and `more`) of one source under a condition, for a chunk."""
    selected = ", ".join((f"{source.alias}.layer", f"{source.alias}.feature", *more))
    conditions = (*source.conditions, f"{source.alias}.layer between $low and $high", condition)
    return f"select {selected} from {source.rows} {source.alias} where " + " and ".join(conditions)


def any_case(text: str) -> str:
    """Return a regular expression for a text in any case; it may find more than comparing lower case does, never less."""
    folded = {"i": "İ", "k": "\u212a", "å": "\u212b", "ω": "\u2126", "ß": "ẞ", "θ": "ϴ"}
    pattern = ""
    for char in text:
        low = char.lower() if len(char.lower()) == 1 else char
        same = {char, low, *(other for other in (char.upper(), char.title(), folded.get(low, low)) if len(other) == 1)}
        same |= {"i"} if char == "İ" else set()
        if "\n" in same or "\0" in same:
            return "(?s)."
        pattern += f"[{''.join(sorted(chr(92) + one if not one.isalnum() and one.isascii() else one for one in same))}]"
    return pattern


def uncased(text: str) -> str:
    """Return the longest stretch of a text that has no letter with a case: it stands the same in every text that holds it."""
    longest = run = ""
    for char in text:
        run = run + char if char.lower() == char.upper() else ""
        longest = max(longest, run, key=len)
    return longest
