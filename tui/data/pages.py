"""Rows by place: what a paged table asks for.

In: a view. Out: a `Source` that knows its length and gives any stretch of rows. `MemorySource` holds its rows. `FeatureSource` holds row
ids (`ids.py`) or, in natural order, only a range, and looks rows up by id:

1. `open_features`: without filter and order the ids are a range, and nothing is read.
2. Otherwise a mask (`masks.py`) and, where there is an order, a sorted vector (`order.py`) give the ids. A run whose rows do not stand in
   natural order, and orders by label or by several columns, take one statement with joins.
3. A page is one lookup in `feature` and one in each other table that a shown column needs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from atlas.errors import QueryError
from tui.data.compose import Names, Statement, used
from tui.data.engine import Data, Job, Meter, Row, fetch, vector
from tui.data.features import BASE, PER_LANGUAGE, SAME, FeatureComposer, FeatureView, feature_key
from tui.data.ids import Ids
from tui.data.masks import Masks
from tui.data.order import can_order, ordered_ids, selected_ids
from tui.data.places import STEP
from tui.data.runs import RunInfo

if TYPE_CHECKING:
    import duckdb


class Source(Protocol):
    """Rows by place."""

    count: int

    def ready(self, first: int, last: int) -> list[Row] | None:
        """Return rows first..last-1 where they need no waiting."""

    def load(self, first: int, last: int) -> Job[list[Row]]:
        """Return rows first..last-1 from a thread."""


class MemorySource:
    """Rows that are all here."""

    def __init__(self, rows: Sequence[Row], natural: Sequence[Row] | None = None) -> None:
        """Hold rows in the order to show; `natural` is the order in which they came."""
        self.rows = rows
        self.natural = rows if natural is None else natural
        self.count = len(rows)

    def ready(self, first: int, last: int) -> list[Row] | None:
        """Return the rows."""
        return list(self.rows[first:last])

    def load(self, first: int, last: int) -> Job[list[Row]]:
        """Never needed."""
        raise NotImplementedError


@dataclass
class FeatureSource:
    """A view of features, by place."""

    data: Data
    view: FeatureView
    info: RunInfo
    ids: "Ids | range"
    statement: Statement
    """The whole view as people read it."""
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.ids)

    def ready(self, first: int, last: int) -> list[Row] | None:
        """Nothing is here beforehand."""
        return None

    def load(self, first: int, last: int) -> Job[list[Row]]:
        """Look up rows first..last-1: (row id, then the view's columns)."""

        def work(cursor: "duckdb.DuckDBPyConnection") -> list[Row]:
            wanted = self.ids[first:last] if isinstance(self.ids, range) else self.ids.stretch(first, last).tolist()
            return feature_rows(cursor, self.view, self.info, wanted)

        return self.data.page(work)

    def place(self, row: int) -> int | None:
        """Return where a row id stands in this view."""
        if isinstance(self.ids, range):
            return row - self.ids.start if row in self.ids else None
        return self.ids.find(row)


def open_features(data: Data, info: RunInfo, view: FeatureView) -> Job[FeatureSource]:
    """Filter and order a view; the job gives its source, and its meter says how far it is."""
    full = FeatureComposer(view, info.languages, info.scores).full()
    natural = not view.order or view.order in ((("layer", False),), (("layer", False), ("feature", False)))
    meter = Meter()

    def work(cursor: "duckdb.DuckDBPyConnection") -> FeatureSource:
        if info.is_range and (natural or can_order(info, view)):
            return FeatureSource(data, view, info, _ids(cursor, view, info, meter, natural=natural), full)
        return FeatureSource(data, view, info, _joined(cursor, view, info), full)

    return data.job(work, "features", meter)


def _joined(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo) -> Ids:
    """Return the row ids of a view by the one statement with all its joins."""
    if info.first + info.total >= 2**32:
        raise QueryError("more than four billion features cannot be browsed", hint="Ask questions about them, or export them.")
    ids = Ids()
    ids.append(vector(cursor, FeatureComposer(view, info.languages, info.scores).ids()))
    return ids


def _ids(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, meter: Meter, *, natural: bool) -> Ids | range:
    """Return the row ids of a view whose run stands in natural order."""
    masks = Masks(cursor, view, info, meter)
    meter.total = (masks.steps(view.filter) if view.filter else 0) + (0 if natural else len(masks.chunks))
    mask = masks.of(view.filter) if view.filter else None
    if not natural:
        return ordered_ids(cursor, view, info, mask, meter)
    return range(info.first, info.first + info.total) if mask is None else selected_ids(info, mask)


Lookup = dict[int, Any]
NEAR_LAYERS = 2
"""Features of so few layers are found by the table's own zone maps."""


def feature_rows(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, wanted: Sequence[int]) -> list[Row]:
    """Look up rows by id, in the order of `wanted`; each begins with the id, layer and feature."""
    if not wanted:
        return []
    base = [column for column in view.columns if SAME.get(column, column) in BASE]
    selected = ["f.rowid", "f.layer", "f.feature", *(BASE[SAME.get(column, column)] for column in base)]
    names = Names()
    low, high = min(wanted), max(wanted)
    if high - low + 1 == len(wanted):
        which = f"f.rowid between {names.bind(low, 'low')} and {names.bind(high, 'high')}"
    else:
        which = f"f.rowid in (select unnest({names.bind(list(wanted), 'rows')}::bigint[]))"
    text = f"select {', '.join(selected)} from feature f where {which}"  # row ids are of this run: its column need not be read
    found = {row[0]: row for row in fetch(cursor, Statement("page", text, names.values))}
    keys = {(row[1], row[2]) for row in found.values()}
    spoken = [column for column in view.columns if column not in base and _is_spoken(column, info)]
    other: dict[str, Mapping[int, Any]] = {**_languages(cursor, view, info, spoken, keys)} if spoken else {}
    other |= {column: _lookup(cursor, view, info, column, keys) for column in view.columns if column not in base and column not in other}
    rows = []
    for row_id in wanted:
        row = found[row_id]
        values = dict(zip(base, row[3:], strict=True))
        key = feature_key(row[1], row[2])
        rows.append((row_id, row[1], row[2], *(values[column] if column in values else other[column].get(key) for column in view.columns)))
    return rows


def _is_spoken(column: str, info: RunInfo) -> bool:
    """Say whether a column is one of feature_language."""
    name, _, rest = column.partition(".")
    return name in PER_LANGUAGE and rest in info.languages


def _lookup(
    cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, column: str, keys: set[tuple[int, int]]
) -> Mapping[int, Any]:
    """Return one column of another table for some features."""
    if column == "star":
        return dict.fromkeys(view.keys.get("starred", ()), True)
    if column == "label":
        return {**_pairs(cursor, _labels(view, keys)), **view.labels}
    if column == "effect":
        return _pairs(cursor, _effects(view, keys))
    return _pairs(cursor, _score(view, info, keys, column))


def _pairs(cursor: "duckdb.DuckDBPyConnection", statement: Statement) -> Lookup:
    return {feature_key(layer, feature): value for layer, feature, value in fetch(cursor, statement)}


def _these(names: Names, keys: set[tuple[int, int]], alias: str) -> str:
    """Return the condition for some features: a stretch of layers and a list of features, which the zone maps can use."""
    layers = [layer for layer, _ in keys]
    low, high = names.bind(min(layers, default=0), "low"), names.bind(max(layers, default=0), "high")
    features = names.bind(sorted({feature for _, feature in keys}), "features")
    return f"{alias}.layer between {low} and {high} and {alias}.feature = any({features}::integer[])"


def _languages(
    cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, columns: Sequence[str], keys: set[tuple[int, int]]
) -> dict[str, dict[int, Any]]:
    """Return the columns of feature_language for some features, in one statement; features from all over are found by their places."""
    parts = [column.split(".", 1) for column in columns]
    measures = list(dict.fromkeys(measure for measure, _ in parts))
    near = len({layer for layer, _ in keys}) <= NEAR_LAYERS
    starts = None if near else info.places.starts(cursor, view.run_id, (feature_key(*key) for key in keys))
    names = Names()
    if starts is None:
        these = f"l.run_id = {names.bind(view.run_id, 'run')} and {_these(names, keys, 'l')}"
    else:  # a condition on another column would make that column be read for all rows
        rows = f"select unnest(range(start, start + {STEP})) from (select unnest({names.bind(starts, 'starts')}::bigint[]) as start)"
        features = names.bind(sorted({feature for _, feature in keys}), "features")
        these = f"l.rowid in ({rows}) and l.feature = any({features}::integer[])"
    selected = ", ".join(PER_LANGUAGE[measure].format(a="l") for measure in measures)
    text = f"select l.rowid, l.layer, l.feature, l.language, {selected} from feature_language l where {these}"
    found: dict[str, dict[int, Any]] = {column: {} for column in columns}
    for row, layer, feature, language, *values in fetch(cursor, Statement("rates", text, names.values)):
        if starts is not None and not info.places.first <= row <= info.places.last:
            continue  # of a run that stands beside this one
        for measure, value in zip(measures, values, strict=True):
            if (lookup := found.get(f"{measure}.{language}")) is not None:
                lookup[feature_key(layer, feature)] = value
    return found


def _score(view: FeatureView, info: RunInfo, keys: set[tuple[int, int]], column: str) -> Statement:
    composer = FeatureComposer(view, info.languages, info.scores)
    expression = composer.expression(column)
    names = composer.names
    alias = expression.partition(".")[0]
    score = info.scores[int(alias[1:])]
    a, b, c = (names.bind(value, "only") for value in (score.score, score.parameter_set, score.languages))
    text = (
        f"select {alias}.layer, {alias}.feature, {expression} from feature_score {alias} where {alias}.run_id = {composer.run}"
        f" and {alias}.score = {a} and {alias}.parameter_set = {b} and {alias}.languages = {c} and {_these(names, keys, alias)}"
    )
    return Statement("scores", text, used(text, names.values))


def _labels(view: FeatureView, keys: set[tuple[int, int]]) -> Statement:
    names = Names()
    place, run = names.bind(view.transcoder_set, "transcoder_set"), names.bind(view.run_id, "run")
    newest = f"(l.method <> 'mechanical', l.source_run is not distinct from {run}, l.created_at)"
    exact = names.bind([feature_key(*key) for key in keys], "keys")
    # Labels stand in no order of features: which rows are meant is found without reading their texts.
    rows = (
        f"select l.rowid from label l where not l.retired and l.transcoder_set = {place} and {_these(names, keys, 'l')}"
        f" and l.layer::bigint * 4294967296 + l.feature = any({exact}::bigint[])"
    )
    text = f"select l.layer, l.feature, arg_max(l.text, {newest}) from label l where l.rowid in ({rows}) group by l.layer, l.feature"
    return Statement("labels", text, names.values)


def _effects(view: FeatureView, keys: set[tuple[int, int]]) -> Statement:
    names = Names()
    run = names.bind(view.run_id, "run")
    text = (
        "select m.layer, m.feature, arg_max(e.mean, abs(e.mean)) from intervention i"
        " join intervention_member m on m.run_id = i.run_id and m.intervention = i.intervention"
        " join effect e on e.run_id = i.run_id and e.intervention = i.intervention"
        f" where i.run_id = {run} and i.n_members = 1 and i.control_of is null and {_these(names, keys, 'm')} group by m.layer, m.feature"
    )
    return Statement("effects", text, names.values)


Finder = Callable[["duckdb.DuckDBPyConnection"], int | None]


def find_feature(run_id: str, layer: int, feature: int) -> Finder:
    """Return work that gives the row id of a feature, None where the run does not have it."""

    def work(cursor: "duckdb.DuckDBPyConnection") -> int | None:
        statement = "select rowid from feature where run_id = $run and layer = $layer and feature = $feature"
        rows = cursor.execute(statement, {"run": run_id, "layer": layer, "feature": feature}).fetchall()
        return int(rows[0][0]) if rows else None

    return work
