"""The runs of an atlas, and what the features table must know of one.

In: a cursor. Out: `Run`s, the most useful first, and a `RunInfo`.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tui.data.features import Score
from tui.data.places import CountPlaces

if TYPE_CHECKING:
    import duckdb

SCORED = ("score_summary", "feature_score")
"""Where the names of a run's scores stand: in a small table, and in the large one that it sums up."""
RUN_COLUMNS = ("run_id", "kind", "name", "state", "model_id", "transcoder_set", "started_at", "finished_at", "seconds", "method")


@dataclass(frozen=True)
class Run:
    """One row of `run`, with what the screens need."""

    run_id: str
    kind: str
    name: str
    state: str
    model_id: str | None
    transcoder_set: str | None
    started_at: Any
    finished_at: Any
    seconds: float | None
    method: str | None
    n_features: int = 0


@dataclass(frozen=True)
class RunInfo:
    """What the features table must know of a run."""

    run_id: str
    transcoder_set: str | None
    languages: tuple[str, ...]
    scores: tuple[Score, ...]
    first: int
    total: int
    is_range: bool
    """Whether the run's rows stand one after another in their natural order."""
    layers: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    """Layer -> (its first row id, its first feature, its number of features), where `is_range`."""
    has_terms: bool = False
    """Whether the run's promoted tokens have a vocabulary, so that they are found without being read."""
    places: CountPlaces = field(default_factory=CountPlaces, compare=False, repr=False)
    """Where counts by language stand."""


def read_runs(cursor: "duckdb.DuckDBPyConnection") -> list[Run]:
    """Read the runs: those with features first, complete before others, ingests before imports, the newest first."""
    rows = cursor.execute(f"select {', '.join(RUN_COLUMNS)} from run where kind <> 'publish'").fetchall()
    counts = dict(cursor.execute("select run_id, count(*) from feature group by run_id").fetchall())
    runs = [Run(**dict(zip(RUN_COLUMNS, row, strict=True)), n_features=counts.get(row[0], 0)) for row in rows]
    runs.sort(key=lambda run: (str(run.finished_at or ""), run.run_id), reverse=True)
    return sorted(runs, key=lambda run: (run.n_features == 0, run.state != "complete", run.kind != "ingest"))


def run_info(cursor: "duckdb.DuckDBPyConnection", run_id: str, transcoder_set: str | None) -> RunInfo:
    """Read what a run has: languages, scores, and where its rows lie."""
    bound = {"run": run_id}
    first, last, total = cursor.execute("select min(rowid), max(rowid), count(*) from feature where run_id = $run", bound).fetchall()[0]
    languages = [
        row[0]
        for row in cursor.execute(
            "select distinct language from behaviour, unnest(languages) u(language) where run_id = $run", bound
        ).fetchall()
    ]
    if not languages:
        languages = [
            row[0] for row in cursor.execute("select distinct language from feature_language where run_id = $run", bound).fetchall()
        ]
    scores = _first(
        cursor, bound, *(f"select distinct score, parameter_set, languages from {t} where run_id = $run order by all" for t in SCORED)
    )
    layers = _layers(cursor, run_id) if total and last - first + 1 == total else {}
    terms = _first(cursor, bound, "select 1 from term where run_id = $run limit 1")
    return RunInfo(
        run_id,
        transcoder_set,
        tuple(sorted(languages)),
        tuple(Score(*row) for row in scores),
        first or 0,
        total,
        bool(layers),
        layers,
        bool(terms),
    )


def _first(cursor: "duckdb.DuckDBPyConnection", bound: Mapping[str, Any], *statements: str) -> list[Any]:
    """Return the rows of the first statement that has any; a table that an older version did not publish has none."""
    import duckdb

    for statement in statements:
        with contextlib.suppress(duckdb.CatalogException):
            if rows := cursor.execute(statement, bound).fetchall():
                return rows
    return []


def _layers(cursor: "duckdb.DuckDBPyConnection", run_id: str) -> dict[int, tuple[int, int, int]]:
    """Return where each layer begins, nothing unless rows stand in the order of layer and feature, judged by each layer's ends."""
    rows = cursor.execute(
        "select layer, min(rowid), max(rowid), count(*), min(feature), max(feature),"
        " arg_min(feature, rowid) = min(feature) and arg_max(feature, rowid) = max(feature)"
        " from feature where run_id = $run group by layer order by layer",
        {"run": run_id},
    ).fetchall()
    ends = [(low, high) for _, low, high, *_ in rows]
    in_order = all(high - low + 1 == n == last - first + 1 and edges for _, low, high, n, first, last, edges in rows)
    return {layer: (low, first, n) for layer, low, _, n, first, *_ in rows} if in_order and ends == sorted(ends) else {}
