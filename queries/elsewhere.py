"""The same questions on another engine: Spark, Trino, ClickHouse, PostgreSQL, DataFusion, …

In: a named question with its parameters, or an atlas. Out: the question's SQL in another engine's dialect, and the tables as Parquet
files that such an engine reads. The translation is sqlglot's (`pip install 'feature-atlas[engines]'`); docs/scale.md says which
questions give equal answers on the engine that the tests run.

    atlas query languages/bilingual_features --dialect spark      the SQL, with the parameters' values in it
    python -m queries.elsewhere tables FOLDER --atlas DIR         every table as FOLDER/<table>.parquet
    python -m queries.elsewhere shards --atlas DIR                the shards that the newest manifest shows, as CSV
    python -m queries.elsewhere compare FOLDER --atlas DIR        every question on DataFusion over these tables: equal or not
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import duckdb

from atlas.errors import QueryError, UsageError
from atlas.folder import Atlas
from atlas.reader import Reader, execute, literal
from atlas.schema import TABLES
from queries.header import Question, Value

ALIASES = {"datafusion": "postgres"}
"""Engines that speak another one's dialect."""


def dialects() -> list[str]:
    """Name the dialects that a question can be translated to; raises UsageError where sqlglot is not installed."""
    _needed()
    from sqlglot.dialects.dialect import Dialects

    return sorted({item.value for item in Dialects if item.value} | set(ALIASES))


def _needed() -> None:
    try:
        import sqlglot  # noqa: F401
    except ImportError as error:
        raise UsageError("--dialect needs sqlglot, which is not installed", hint="pip install 'feature-atlas[engines]'") from error


def translate(question: Question, settled: Mapping[str, Value], dialect: str) -> str:
    """Write a question in another engine's SQL, with its parameters as typed literals.

    `settled`: every parameter's value, as `queries.prepare` gives them. What the dialect lacks is logged by sqlglot and written as it is.
    Raises UsageError for an unknown dialect, QueryError for SQL that sqlglot cannot read.
    """
    if dialect not in (known := dialects()):
        raise UsageError(f"no dialect {dialect!r}", hint=f"Dialects: {', '.join(known)}.")
    import sqlglot
    from sqlglot import exp

    from queries.plain_sql import for_datafusion, plain

    types = {parameter.name: parameter.type for parameter in question.parameters}
    try:
        tree = sqlglot.parse_one(question.sql, read="duckdb")
    except sqlglot.ParseError as error:
        raise QueryError(f"sqlglot cannot read {question.name}: {str(error).splitlines()[0]}") from error
    for node in list(tree.find_all(exp.Parameter, exp.Placeholder)):
        name = node.name or node.this.name
        value = settled[name]
        node.replace(exp.cast(exp.Null() if value is None else exp.convert(value), types[name], dialect="duckdb"))
    tree = plain(tree)
    if dialect == "datafusion":
        tree = for_datafusion(tree)
    # Quoted, a name may be a reserved word there.
    return str(tree.sql(dialect=ALIASES.get(dialect, dialect), pretty=True, comments=False, identify=True))


def write_tables(atlas: Path, folder: Path) -> list[Path]:
    """Write every table of a published atlas as `folder/<table>.parquet`; returns the files.

    Lists and enums become what Parquet has for them. Raises StoreError where nothing is published, UsageError for a folder with files.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", hint="Choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    Reader(atlas).close()  # says what is wrong with it
    written = []
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"set file_search_path = {literal(str(atlas.resolve()))}")
        connection.execute(f"attach {literal(str(atlas / 'atlas.duckdb'))} as atlas (read_only)")
        for table in TABLES:
            target = folder / f"{table}.parquet"
            connection.execute(f'copy atlas."{table}" to {literal(str(target.resolve()))} (format parquet, compression zstd)')
            written.append(target)
    return written


def shards(atlas: Path) -> Iterator[tuple[str, str, str, int]]:
    """List the shards that the newest manifest shows: table, run_id (a column the file does not have), path or URL, rows."""
    opened = Atlas(atlas)
    place = opened.place.url.partition("?")[0].rstrip("/") or str(opened.path.resolve())
    for run in opened.manifest().runs:
        for record in opened.records(run):
            for item in record.files:
                if item.path:
                    yield item.table, run.run_id, f"{place}/{item.path}", item.rows


def compared(atlas: Path, folder: Path) -> Iterator[tuple[str, int, str, str]]:
    """Ask every question here and on DataFusion over written tables: question, rows, equal / different / refused, why.

    Floats count as equal to 6 digits, since engines add up in different orders.
    """
    import datafusion

    import queries

    engine = datafusion.SessionContext()
    for file in folder.glob("*.parquet"):
        engine.register_parquet(file.stem, str(file))
    with Reader(atlas) as reader:
        for name, question in queries.catalogue().items():
            if unknown := [item.name for item in question.parameters if item.required and item.name not in question.example]:
                yield name, 0, "refused", f"no example of {unknown[0]}"
                continue
            _, settled = queries.prepare(reader, name, dict(question.example))
            ours = execute_all(reader, question, settled)
            try:
                found = engine.sql(translate(question, settled, "datafusion")).to_arrow_table()
            except Exception as error:  # noqa: BLE001 - the engine's refusal is the finding
                yield name, len(ours), "refused", (str(error).splitlines() or [type(error).__name__])[0]
                continue
            theirs = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
            yield name, len(ours), "equal" if same(ours, theirs) else "different", ""


def execute_all(reader: Reader, question: Question, settled: Mapping[str, Value]) -> list[tuple[Any, ...]]:
    """Ask a question of the atlas itself."""
    return reader.run(lambda cursor: execute(cursor, question.sql, settled)).rows()


def same(first: Any, second: Any) -> bool:
    """Compare two values, rows or answers; floats to 6 digits."""
    if isinstance(first, float) and isinstance(second, float | int):
        return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(first) and math.isnan(second))
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def main(arguments: list[str] | None = None, out: IO[str] = sys.stdout) -> None:
    """Write tables, list shards, or compare answers."""
    parser = argparse.ArgumentParser(prog="python -m queries.elsewhere", description="Tables of an atlas for another engine.")
    commands = parser.add_subparsers(required=True)
    tables = commands.add_parser("tables", help="every table as FOLDER/<table>.parquet")
    tables.add_argument("folder", type=Path)
    listing = commands.add_parser("shards", help="the shards that the newest manifest shows, as CSV")
    comparing = commands.add_parser("compare", help="every question on DataFusion over written tables, and whether the answers are equal")
    comparing.add_argument("tables", type=Path, metavar="FOLDER")
    for command in (tables, listing, comparing):
        command.add_argument("--atlas", "-a", type=Path, required=True)
    given = parser.parse_args(arguments)
    if "folder" in given:
        for path in write_tables(given.atlas, given.folder):
            out.write(f"{path}\n")
        return
    writer = csv.writer(out)
    if "tables" in given:
        writer.writerow(["question", "rows", "verdict", "why"])
        writer.writerows(compared(given.atlas, given.tables))
    else:
        writer.writerow(["table", "run_id", "path", "rows"])
        writer.writerows(shards(given.atlas))


if __name__ == "__main__":
    main()
