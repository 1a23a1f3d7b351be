"""Open a published atlas read-only and ask it: one cursor a query, which can be cancelled.

In: a folder with an atlas.duckdb. Out: results as Arrow, polars, pandas or tuples. A reader keeps the file it opened: a publish
that swaps in a newer one leaves it undisturbed, and `newer_available` says so.

Text from people is locked down in this order:

1. exactly one statement, a SELECT or an EXPLAIN of one;
2. its parse tree holds nothing that writes (a CTE may hold INSERT or COPY) and no table function that reads files or runs text;
3. the file is attached read-only, external access is off but for the shards a view needs, and the configuration is locked.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from atlas.catalogue import Catalogue
from atlas.errors import DamagedError, QueryError, StoreError, VersionError
from atlas.settings import DATABASE, FORMAT_VERSION

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from ingest.ask.session import Session

ALIAS = "atlas"
"""Name of the attached database; each reader has an engine of its own, so it is always free."""
READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "QUERY_NODE"}
"""Kinds of query node that cannot write."""
TABLE_FUNCTIONS = re.compile(
    r"^(unnest|range|generate_series|repeat|repeat_row|json_each|json_tree|query_table|histogram|histogram_values|summary"
    r"|test_all_types|sql_auto_complete|duckdb_(columns|constraints|databases|functions|indexes|keywords|schemas|settings|tables|types|views)"
    r"|pragma_(show|table_info|version|database_size|storage_info))$"
)
"""Table functions that neither read files nor run text."""
SHARD_PATH = re.compile(r"'((?:data|derived)/[^']+\.parquet)'")
"""A path inside an atlas folder, as views name it."""
EXPLAIN = re.compile(
    r"^(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*explain(?:(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)+analyze\b)?(?:\s*\([^()']*\))?", re.I | re.S
)
"""The word EXPLAIN with its options, comments in between."""
WRITES = "An atlas is read-only: write one SELECT. Notes, labels and stars are written with their own commands."


def literal(text: str) -> str:
    """Write a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


class Result:
    """The rows of one query, held as an Arrow table."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._table.column_names)

    def arrow(self) -> pa.Table:
        """Give the rows as an Arrow table, without a copy."""
        return self._table

    def pl(self) -> pl.DataFrame:
        """Give the rows as a polars frame."""
        import polars

        frame = polars.from_arrow(self._table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def df(self) -> pd.DataFrame:
        """Give the rows as a pandas frame."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def rows(self) -> list[tuple[Any, ...]]:
        """Give the rows as tuples."""
        return list(zip(*(column.to_pylist() for column in self._table.columns), strict=True)) if self._table.num_columns else []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows())

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"<Result of {len(self)} rows: {', '.join(self.columns)}>"


def explain_error(error: duckdb.Error) -> QueryError | StoreError:
    """Turn the engine's error into ours."""
    text = str(error).strip()
    if isinstance(error, duckdb.InterruptException):
        return QueryError("the query was cancelled")
    if isinstance(error, duckdb.PermissionException):
        return QueryError(text, hint="A query reads the atlas and nothing else: files, the network and settings are closed.")
    damaged = duckdb.IOException | duckdb.FatalException | duckdb.InternalException | duckdb.SerializationException
    if isinstance(error, damaged) or "checksum" in text.lower():
        return DamagedError(text, hint="`atlas check` says what is damaged; `atlas publish` builds atlas.duckdb again from the shards.")
    if isinstance(error, duckdb.OutOfMemoryException):
        return QueryError(text, hint="Ask for fewer rows, or filter by layer first.")
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return QueryError(text, hint="`atlas schema` lists all tables and columns.")
    return QueryError(text)


def execute(cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Result:
    """Run one statement on a cursor and hold its rows; raises QueryError, DamagedError."""
    try:
        relation = cursor.sql(sql, params=parameters if parameters else None)
        return Result(relation.to_arrow_table())
    except duckdb.Error as error:
        raise explain_error(error) from error


def _beside(work: Callable[[], Result], stop: Callable[[], object]) -> Result:
    """Do work in a thread of its own and wait for it; KeyboardInterrupt stops it, and is raised when it has stopped."""
    outcome: Future[Result] = Future()

    def do() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.set_exception(error)

    thread = threading.Thread(target=do, name="query")
    try:
        thread.start()
        return outcome.result()
    except KeyboardInterrupt:
        while thread.ident is not None and not outcome.done():
            stop()  # again and again: an interrupt before the engine has begun is lost
            wait([outcome], 0.05)
        raise


def check_statement(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse everything but one SELECT, or EXPLAIN of one, that reads tables; raises QueryError."""
    try:
        statements = cursor.extract_statements(sql)
    except duckdb.Error as error:
        raise explain_error(error) from error
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements; one is allowed", hint=WRITES)
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        explained = EXPLAIN.match(sql)
        if explained is None:
            raise QueryError("cannot read what is to be explained", hint="Write: explain select …")
        sql = sql[explained.end() :]
        kinds = [statement.type for statement in cursor.extract_statements(sql)]
        kind = kinds[0] if len(kinds) == 1 else duckdb.StatementType.INVALID
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(f"{kind.name} is not allowed", hint=WRITES)
    tree = json.loads(cursor.execute("select json_serialize_sql(?)", [sql]).fetchall()[0][0])
    if tree.get("error"):
        raise QueryError(f"cannot check this statement: {tree.get('error_message', 'no parse tree')}", hint=WRITES)
    _check_tree(tree)


def _check_tree(value: Any) -> None:
    """Walk a parse tree; raises QueryError for a node that is not known to only read tables."""
    if isinstance(value, list):
        for item in value:
            _check_tree(item)
    elif isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in READING_NODES:
            raise QueryError(f"{kind.removesuffix('_NODE').removesuffix('_QUERY')} is not allowed inside a query", hint=WRITES)
        if kind == "TABLE_FUNCTION":
            function = str((value.get("function") or {}).get("function_name", "")).lower()
            if not TABLE_FUNCTIONS.match(function):
                raise QueryError(f"table function {function}() is not allowed", hint="A query reads the atlas's tables, no files.")
        for item in value.values():
            _check_tree(item)


class Reader:
    """A published atlas, open for reading.

    Raises StoreError when nothing is published there, VersionError for another format, DamagedError for an unreadable file.
    Any number of threads may ask; each query has a cursor of its own.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ask: Callable[..., Result] | None = None,
        settings: Mapping[str, str | int] | None = None,
        session: Callable[[Reader], Session] | None = None,
    ) -> None:
        """Open the file; `settings` are the engine's, e.g. `{"memory_limit": "100MB"}`, set before they are locked."""
        self.path = Path(path).resolve()
        self.database = self.path / DATABASE
        self._ask = ask
        self._open_session = session
        self._session: Session | None = None
        self._settings = dict(settings or {})
        self._lock = threading.Lock()
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._identity = self._current_identity()
        self._search_path = f"use {ALIAS}"
        self.shard_paths: list[str] = []
        """Files outside the published one that its views read."""
        self._connection = self._connect()
        try:
            self._read_version()
            self._lock_down()
        except BaseException:
            self._connection.close()
            raise

    def _current_identity(self) -> tuple[int, int, int]:
        try:
            status = self.database.stat()
        except OSError as error:
            there = (self.path / "versions").is_dir()
            hint = f"Run `atlas publish {self.path.name}`." if there else "`atlas demo` builds one."
            raise StoreError(f"{self.path} has no published atlas ({DATABASE})", hint=hint) from error
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _connect(self) -> duckdb.DuckDBPyConnection:
        stale = self.database.with_name(f"{DATABASE}.wal")
        if stale.exists():
            raise StoreError(
                f"somebody opened {DATABASE} for writing and left {stale.name}", hint="`atlas publish` removes it and builds a clean file."
            )
        # An engine of its own: connect(path) would give the old database while an old connection lives in this process.
        connection = duckdb.connect(":memory:", config={"python_enable_replacements": "false"})
        try:
            connection.execute(f"attach {literal(str(self.database))} as {ALIAS} (read_only)")
            connection.execute(f"use {ALIAS}")
        except duckdb.Error as error:
            connection.close()
            raise explain_error(error) from error
        return connection

    def _read_version(self) -> None:
        try:
            rows = self._connection.execute("select format_version, manifest, activations_inline, manifest_hash from atlas").fetchall()
        except duckdb.CatalogException as error:
            raise DamagedError(f"{self.database} is no atlas: it has no table atlas", hint="`atlas publish` builds it again.") from error
        except duckdb.Error as error:
            raise explain_error(error) from error
        if not rows:
            raise DamagedError(f"{self.database} does not say its version", hint="`atlas publish` builds it again.")
        row = rows[0]
        if row[0] != FORMAT_VERSION:
            raise VersionError(
                f"{self.database} is of format version {row[0]}; this program reads {FORMAT_VERSION}",
                hint="`atlas publish` builds it again from the shards, or install the feature-atlas that wrote it.",
            )
        self.manifest = int(row[1])
        self.activations_inline = bool(row[2])
        self.manifest_hash = str(row[3])

    def _lock_down(self) -> None:
        settings = [f"set temp_directory = {literal(os.path.join(tempfile.gettempdir(), f'atlas-{os.getpid()}'))}"]
        if not self.activations_inline:
            settings.append(f"set allowed_paths = [{', '.join(literal(path) for path in self._point_views_here())}]")
        settings += ["set autoinstall_known_extensions = false", "set autoload_known_extensions = false"]
        settings += [f"set {name} = {literal(str(value))}" for name, value in self._settings.items()]
        for setting in [*settings, "set enable_external_access = false", "set lock_configuration = true"]:
            self._connection.execute(setting)

    def _point_views_here(self) -> list[str]:
        """Shadow the views over shards by ones with absolute paths, and name the files they read.

        The file's own views are relative to the folder, so that it can be moved; the engine resolves them against the working
        directory of the process, which is anybody's.
        """
        views = self._connection.execute(
            "select view_name, sql from duckdb_views() where database_name = ? and not internal", [ALIAS]
        ).fetchall()
        for view, text in views:
            paths = [str(self.path / relative) for relative in SHARD_PATH.findall(text)]
            self.shard_paths += paths
            missing = [path for path in paths if not os.path.exists(path)]
            if missing:
                self._connection.execute(self._view_of_nothing(view, f"is missing: {missing[0]}"))
            elif paths:
                absolute = SHARD_PATH.sub(lambda match: literal(str(self.path / match.group(1))), text)
                try:
                    self._connection.execute(re.sub(r"^create view ", "create view memory.main.", absolute, flags=re.I))
                except duckdb.Error as error:
                    self._connection.execute(self._view_of_nothing(view, f"cannot be read: {str(error).splitlines()[0]}"))
        self._search_path = f"set search_path = 'memory.main,{ALIAS}.main'"
        return self.shard_paths

    def _view_of_nothing(self, view: str, problem: str) -> str:
        """Write a view that says what is wrong with a shard when it is asked; the other tables answer."""
        columns = self._connection.execute(
            "select column_name, data_type from duckdb_columns() where database_name = ? and table_name = ?", [ALIAS, view]
        ).fetchall()
        message = literal(f"a shard of {view} {problem}; run `atlas check`, then `atlas publish`")
        nothing = ", ".join(f'null::{kind} as "{column}"' for column, kind in columns)
        return f'create view memory.main."{view}" as select {nothing} where error({message}) is null'

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Give a new cursor on the atlas, for a thread of its own; close it after use."""
        cursor = self._connection.cursor()
        cursor.execute(self._search_path)
        return cursor

    def run(self, work: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
        """Do work on a fresh cursor that `cancel` can interrupt, and Ctrl-C too.

        In the main thread the work is done beside it: the engine does not look for signals while it computes, and the main thread,
        which alone is told of Ctrl-C, has to be free to be told.
        """
        cursor = self.cursor()
        with self._lock:
            self._running.add(cursor)
        try:
            if threading.current_thread() is not threading.main_thread():
                return work(cursor)
            return _beside(lambda: work(cursor), cursor.interrupt)
        except duckdb.Error as error:
            raise explain_error(error) from error
        finally:
            with self._lock:
                self._running.discard(cursor)
            cursor.close()

    def sql(self, text: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> Result:
        """Run one SELECT, or EXPLAIN of one, with bound parameters (`$name` or `?`).

        Raises QueryError for anything else and for SQL that is wrong, DamagedError when the file cannot be read.
        """

        def work(cursor: duckdb.DuckDBPyConnection) -> Result:
            check_statement(cursor, text)
            return execute(cursor, text, parameters)

        return self.run(work)

    def ask(self, name: str, **parameters: Any) -> Result:
        """Ask a named question, e.g. `ask("languages/bilingual_features", rate=0.2)`.

        Raises UsageError for an unknown question or parameter.
        """
        if self._ask is None:
            raise QueryError("this reader knows no questions", hint="Open it with atlas.open(path).")
        ask = self._ask
        return self.run(lambda cursor: ask(cursor, name, **parameters))

    @property
    def model(self) -> Session:
        """The model of the newest run with features, loaded at its first use and kept: `reader.model.answers(…)`.

        Raises InputError where it cannot be found; `ingest.ask.Session.open(path, model=…, transcoders=…)` names another.
        """
        if self._session is None:
            if self._open_session is None:
                raise QueryError("this reader knows no model", hint="Open it with atlas.open(path).")
            self._session = self._open_session(self)
        return self._session

    def ask_text(self, text: str | Sequence[str], **options: Any) -> Result:
        """Show what fires on a text of one's own, with what the atlas knows of it; options as of `ingest.ask.Session.ask`."""
        return self.model.ask(text, **options)

    def steer(self, prompt: str, changes: str | Sequence[str], **options: Any) -> Result:
        """Continue a prompt with changed features, e.g. `steer("Le mot", "L3_F139=3x")`; options as of `ingest.ask.Session.steer`."""
        return self.model.steer(prompt, changes, **options)

    def cancel(self) -> None:
        """Interrupt all running queries; they end with QueryError."""
        with self._lock:
            for cursor in self._running:
                cursor.interrupt()

    def newer_available(self) -> bool:
        """Say whether another file has been published since this one was opened."""
        try:
            return self._current_identity() != self._identity
        except StoreError:
            return False

    @property
    def catalogue(self) -> Catalogue:
        """Labels, notes, stars and saved queries as they are now, newer than the published ones."""
        return Catalogue(self.path)

    def close(self) -> None:
        """Close the file; results that were given out stay."""
        self._connection.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Reader of {self.path}, manifest {self.manifest}>"
