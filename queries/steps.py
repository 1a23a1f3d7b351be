"""What `publish` runs on the fresh database, in order, and the audits that must return no row.

In: nothing. Out: `BuildStep`s and `Audit`s. A step fills derived tables for runs that lack them, so an ingest or an import that
brings its own rows keeps them; every step works on empty tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from queries.loader import read_sql

if TYPE_CHECKING:
    import duckdb

    from atlas.publish import Audit, BuildStep

_HERE = Path(__file__).parent


def _statement(stem: str) -> Callable[[duckdb.DuckDBPyConnection], None]:
    def run(con: duckdb.DuckDBPyConnection) -> None:
        con.execute(read_sql("build", stem))

    return run


def _feature_scores(con: duckdb.DuckDBPyConnection) -> None:
    from queries.scores import write_feature_scores

    write_feature_scores(con)


def _layer_scores(con: duckdb.DuckDBPyConnection) -> None:
    from queries.iou import write_layer_scores

    write_layer_scores(con)


def _effects(con: duckdb.DuckDBPyConnection) -> None:
    from queries.effects import write_effects

    write_effects(con)


def _bridges(con: duckdb.DuckDBPyConnection) -> None:
    from queries.effects import write_bridges

    write_bridges(con)


def _counts(con: duckdb.DuckDBPyConnection) -> None:
    from queries.aggregates import write_counts

    write_counts(con)


def _verdicts(con: duckdb.DuckDBPyConnection) -> None:
    from queries.aggregates import write_verdicts

    write_verdicts(con)


def _claims(con: duckdb.DuckDBPyConnection) -> None:
    from queries.claims import check, write_claims

    write_claims(con, check(con))


def build_steps() -> Sequence[BuildStep]:
    """Return the steps in order; numpy and scipy are imported when a step runs."""
    from atlas.publish import BuildStep

    return (
        BuildStep("parameter_set", _statement("parameter_set")),
        BuildStep("graph_sizes", _statement("graph_sizes")),
        BuildStep("term", _statement("term")),
        BuildStep("feature_term", _statement("feature_term")),
        BuildStep("feature_language", _statement("feature_language")),
        BuildStep("feature_role", _statement("feature_role")),
        BuildStep("raw_counts", _counts),
        BuildStep("feature_score", _feature_scores),
        BuildStep("layer_score", _layer_scores),
        BuildStep("effect", _effects),
        BuildStep("bridge", _bridges),
        BuildStep("verdicts", _verdicts),
        BuildStep("claim", _claims),
    )


def audits() -> Sequence[Audit]:
    """Return the audits, sorted by name: each names a fault and returns a row per faulty thing."""
    from atlas.publish import Audit

    return tuple(Audit(path.stem, path.read_text(encoding="utf-8")) for path in sorted((_HERE / "audits").glob("*.sql")))
