"""Find the named questions and ask them.

In: the `.sql` files beside this module. Out: the catalogue of `Question`s, and answers as Arrow tables.

1. `catalogue()` parses every `<topic>/<question>.sql` once a process.
2. `prepare()` checks parameters and settles `run`: null becomes the newest complete run, ingest first, that has rows of the
   question's main table (and, where its header says what else it takes, fits); a run can be given by id, by the start of its id, or by
   name.
3. `ask()` runs the text with DuckDB's `$name` parameters; nothing is pasted into it.
"""

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import UsageError
from queries.header import Question, Value, parse_question

if TYPE_CHECKING:
    import duckdb

    from atlas.reader import Reader, Result

_HERE = Path(__file__).parent
_NOT_TOPICS = ("build", "audits", "claims", "resolve")


@cache
def catalogue() -> Mapping[str, Question]:
    """Return all questions by name (`topic/question`), sorted; raise QueryError with file and line for a bad header."""
    questions = {}
    for path in sorted(_HERE.glob("*/*.sql")):
        if path.parent.name not in _NOT_TOPICS:
            name = f"{path.parent.name}/{path.stem}"
            questions[name] = parse_question(path.read_text(encoding="utf-8"), name, path)
    return questions


def question(name: str) -> Question:
    """Return the question called `name`; the topic can be left out where that is clear. Raise UsageError with near names."""
    questions = catalogue()
    if name in questions:
        return questions[name]
    short = [full for full in questions if full.partition("/")[2] == name]
    if len(short) == 1:
        return questions[short[0]]
    near = short or _nearest(name, list(questions))
    hint = f"near: {', '.join(near)}" if near else "`atlas query` lists all questions"
    raise UsageError(f"no question {name!r}", hint=hint)


def _nearest(name: str, names: list[str]) -> list[str]:
    contained = [full for full in names if name.lower() in full]
    return contained[:5] or difflib.get_close_matches(name, names, n=5, cutoff=0.5)


@cache
def read_sql(folder: str, stem: str) -> str:
    """Return the text of `<folder>/<stem>.sql`."""
    return (_HERE / folder / f"{stem}.sql").read_text(encoding="utf-8")


def prepare(con: "duckdb.DuckDBPyConnection | Reader", name: str, given: Mapping[str, object]) -> tuple[Question, dict[str, Value]]:
    """Return the question and its settled parameters, ready for DuckDB; raise UsageError for a wrong one."""
    found = question(name)
    parameters = found.parse(given)
    if found.main is not None:
        run = parameters["run"]
        parameters["run"] = resolve_run(con, found.main, None if run is None else str(run), found.fits)
    return found, parameters


def resolve_run(con: "duckdb.DuckDBPyConnection | Reader", table: str, run: str | None, fits: str | None = None) -> str | None:
    """Return the id of the run meant by `run` (id, start of an id, name; null: newest complete with rows of `table`).

    `fits` names a query in queries/resolve; of the runs with rows of the table, the newest for which it returns a row is taken, else the
    newest.
    """
    if run is None:
        return _newest(con, table, fits)
    rows = _rows(con, read_sql("resolve", "named_run"), {"run": run})
    if len(rows) == 1:
        return str(rows[0][0])
    if rows:
        names = ", ".join(f"{run_id} ({name})" for run_id, name in rows)
        raise UsageError(f"run {run!r} is not clear: {names}", hint="give more of the id")
    raise UsageError(f"no complete run {run!r}", hint="`atlas runs` lists runs; a run is given by id or name")


def _newest(con: "duckdb.DuckDBPyConnection | Reader", table: str, fits: str | None) -> str | None:
    """Return the newest complete run with rows of `table` that fits, else the newest with rows, else the newest."""
    newest = [str(run_id) for (run_id,) in _rows(con, read_sql("resolve", "complete_runs"), {})]
    first = None
    for run_id in newest:
        if _rows(con, read_sql("resolve", "run_has_rows"), {"table": table, "run": run_id}):
            if fits is None or _rows(con, read_sql("resolve", fits), {"run": run_id}):
                return run_id
            first = first or run_id
    return first or next(iter(newest), None)


def _rows(con: "duckdb.DuckDBPyConnection | Reader", text: str, parameters: Mapping[str, Value]) -> list[tuple[Any, ...]]:
    if _is_reader(con):
        return con.run(lambda cursor: _run(cursor, text, parameters)).rows()  # type: ignore[union-attr]
    return _run(con, text, parameters).rows()  # type: ignore[arg-type]


def _is_reader(con: object) -> bool:
    return hasattr(con, "newer_available")


def _run(cursor: "duckdb.DuckDBPyConnection", text: str, parameters: Mapping[str, Value]) -> "Result":
    from atlas.reader import execute

    return execute(cursor, text, parameters)


def ask(con: "duckdb.DuckDBPyConnection | Reader", name: str, **parameters: object) -> "Result":
    """Answer a named question with a DuckDB connection, cursor or Reader.

    Raise UsageError for an unknown question or parameter or a value of the wrong type, QueryError where DuckDB refuses.
    """
    if _is_reader(con):
        return con.run(lambda cursor: ask(cursor, name, **parameters))  # type: ignore[union-attr]
    found, settled = prepare(con, name, parameters)
    return _run(con, found.sql, settled)  # type: ignore[arg-type]
