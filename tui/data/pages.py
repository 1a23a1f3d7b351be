"""Rows by place: what a paged table asks for.

In: a view. Out: a `Source` that knows its length and gives any stretch of rows. `MemorySource` holds its rows. `FeatureSource` holds one
vector of row ids (4 bytes a row below 2^31 rows) or, in natural order, only a range, and looks rows up by id:

1. `open_features` counts the run; without filter and order the ids are a range, and nothing is sorted.
2. Otherwise one statement gives the ids in order; a view ordered by one column of another table is ordered there, without a join.
3. A page is one lookup in `feature` and one in each other table that a shown column needs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tui.data.compose import Names, Statement
from tui.data.engine import Data, Job, Row, fetch, vector
from tui.data.features import BASE, PER_LANGUAGE, SAME, FeatureComposer, FeatureView, feature_key
from tui.data.runs import RunInfo

if TYPE_CHECKING:
    import duckdb
    import numpy as np


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
    ids: "np.ndarray[Any, Any] | range"
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
        wanted = [int(row) for row in self.ids[first:last]]
        return self.data.job(lambda cursor: feature_rows(cursor, self.view, self.info, wanted), "a page of features")

    def place(self, row: int) -> int | None:
        """Return where a row id stands in this view."""
        if isinstance(self.ids, range):
            return row - self.ids.start if row in self.ids else None
        found = (self.ids == row).nonzero()[0]
        return int(found[0]) if len(found) else None


def open_features(data: Data, info: RunInfo, view: FeatureView) -> Job[FeatureSource]:
    """Filter and order a view; the job gives its source."""
    composer = FeatureComposer(view, info.languages, info.scores)
    full = composer.full()
    natural = not view.order or view.order in ((("layer", False),), (("layer", False), ("feature", False)))
    if natural and view.filter is None and info.is_range:
        ids = range(info.first, info.first + info.total)
        return data.job(lambda _cursor: FeatureSource(data, view, info, ids, full), "features")
    if view.filter is None and info.is_range and len(view.order) == 1 and _is_of_other_table(info, view.order[0][0]):
        return data.job(lambda cursor: FeatureSource(data, view, info, _ordered_elsewhere(cursor, view, info), full), "features")
    id_type = "integer" if info.first + info.total < 2**31 else "bigint"
    statement = FeatureComposer(view, info.languages, info.scores).ids(id_type, is_range=info.is_range)

    def work(cursor: "duckdb.DuckDBPyConnection") -> FeatureSource:
        ids = vector(cursor, statement)
        if info.is_range and not view.order:
            ids.sort()
        return FeatureSource(data, view, info, ids, full)

    return data.job(work, "features")


def _is_of_other_table(info: RunInfo, column: str) -> bool:
    """Say whether a column is one of feature_language or feature_score."""
    name, _, rest = column.partition(".")
    if SAME.get(column, column) in BASE or column in ("label", "effect", "star"):
        return False
    return (name in PER_LANGUAGE and rest in info.languages) or any(score.score == name for score in info.scores)


def _ordered_elsewhere(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo) -> "np.ndarray[Any, Any]":
    """Order by a column of another table there, without a join, and count row ids from layer and feature.

    Rows stand in natural order, so a row id is its layer's first one plus the feature's distance from the layer's first feature. Features
    that the other table does not have come last.
    """
    import numpy as np

    column, down = view.order[0]
    name, _, rest = column.partition(".")
    if name in PER_LANGUAGE and rest in info.languages:
        statement = _language(view, None, name, rest)
    else:
        statement = _score(view, info, None, column)
    text = f"select layer, feature from ({statement.sql}) t(layer, feature, value)"
    text += f" order by value {'desc' if down else 'asc'} nulls last, layer, feature"
    found = cursor.execute(text, dict(statement.parameters)).fetchnumpy()
    width = max(info.layers) + 1
    base = np.zeros(width, np.int64)
    for layer, (low, first) in info.layers.items():
        base[layer] = low - first
    ids = (base[found["layer"]] + found["feature"]).astype(np.int32 if info.first + info.total < 2**31 else np.int64)
    missing = np.ones(info.total, bool)
    missing[ids - info.first] = False
    return np.concatenate([ids, (missing.nonzero()[0] + info.first).astype(ids.dtype)])


Lookup = dict[int, Any]


def feature_rows(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, wanted: Sequence[int]) -> list[Row]:
    """Look up rows by id, in the order of `wanted`; each begins with the id, layer and feature."""
    if not wanted:
        return []
    base = [column for column in view.columns if SAME.get(column, column) in BASE]
    selected = ["f.rowid", "f.layer", "f.feature", *(BASE[SAME.get(column, column)] for column in base)]
    names = Names()
    run = names.bind(view.run_id, "run")
    low, high = min(wanted), max(wanted)
    if high - low + 1 == len(wanted):
        which = f"f.rowid between {names.bind(low, 'low')} and {names.bind(high, 'high')}"
    else:
        which = f"f.rowid = any({names.bind(list(wanted), 'rows')})"
    text = f"select {', '.join(selected)} from feature f where f.run_id = {run} and {which}"
    found = {row[0]: row for row in fetch(cursor, Statement("page", text, names.values))}
    keys = {(row[1], row[2]) for row in found.values()}
    other = {column: _lookup(cursor, view, info, column, keys) for column in view.columns if column not in base}
    rows = []
    for row_id in wanted:
        row = found[row_id]
        values = dict(zip(base, row[3:], strict=True))
        key = feature_key(row[1], row[2])
        rows.append((row_id, row[1], row[2], *(values[column] if column in values else other[column].get(key) for column in view.columns)))
    return rows


def _lookup(
    cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, column: str, keys: set[tuple[int, int]]
) -> Mapping[int, Any]:
    """Return one column of another table for some features."""
    if column == "star":
        return dict.fromkeys(view.keys.get("starred", ()), True)
    name, _, rest = column.partition(".")
    if column == "label":
        return {**_pairs(cursor, _labels(view, keys)), **view.labels}
    if column == "effect":
        return _pairs(cursor, _effects(view, keys))
    if name in PER_LANGUAGE and rest in info.languages:
        return _pairs(cursor, _language(view, keys, name, rest))
    return _pairs(cursor, _score(view, info, keys, column))


def _pairs(cursor: "duckdb.DuckDBPyConnection", statement: Statement) -> Lookup:
    return {feature_key(layer, feature): value for layer, feature, value in fetch(cursor, statement)}


def _these(names: Names, keys: set[tuple[int, int]] | None, alias: str) -> str:
    """Return the condition for some features: a stretch of layers and a list of features, which the zone maps can use; None is all."""
    if keys is None:
        return "true"
    layers = [layer for layer, _ in keys]
    low, high = names.bind(min(layers, default=0), "low"), names.bind(max(layers, default=0), "high")
    features = names.bind(sorted({feature for _, feature in keys}), "features")
    return f"{alias}.layer between {low} and {high} and {alias}.feature = any({features}::integer[])"


def _language(view: FeatureView, keys: set[tuple[int, int]] | None, measure: str, language: str) -> Statement:
    names = Names()
    run, place = names.bind(view.run_id, "run"), names.bind(language, "language")
    text = (
        f"select l.layer, l.feature, {PER_LANGUAGE[measure].format(a='l')} from feature_language l"
        f" where l.run_id = {run} and l.language = {place} and {_these(names, keys, 'l')}"
    )
    return Statement("rates", text, names.values)


def _score(view: FeatureView, info: RunInfo, keys: set[tuple[int, int]] | None, column: str) -> Statement:
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
    used = {name: value for name, value in names.values.items() if _is_used(text, name)}
    return Statement("scores", text, used)


def _is_used(text: str, name: str) -> bool:
    import re

    return re.search(rf"\${re.escape(name)}\b", text) is not None


def _labels(view: FeatureView, keys: set[tuple[int, int]]) -> Statement:
    names = Names()
    place = names.bind(view.transcoder_set, "transcoder_set")
    text = (
        "select l.layer, l.feature, arg_max(l.text, (l.method <> 'mechanical', l.created_at)) from label l"
        f" where not l.retired and l.transcoder_set = {place} and {_these(names, keys, 'l')} group by l.layer, l.feature"
    )
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
