"""Open an atlas and run statements on it: one cursor a job, in threads, cancelled at once.

In: a folder; statements. Out: rows as plain tuples, vectors of row ids, Arrow tables for exports.

1. `Data.open` attaches `atlas.duckdb` read-only to an engine of its own, without access to other files, its configuration locked.
2. A `Job` is some statements on one cursor in one thread; `cancel()` interrupts it within a millisecond.
3. `guard` admits exactly one SELECT, or an EXPLAIN of one, from a person's hand.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from atlas.errors import AtlasError, DamagedError, LockedError, QueryError, StoreError, VersionError
from atlas.settings import DATABASE, FORMAT_VERSION
from tui.data.compose import Read, Statement, compose_read

if TYPE_CHECKING:
    import duckdb
    import numpy as np

T = TypeVar("T")
Row = tuple[Any, ...]


class Cancelled(Exception):
    """A person stopped a statement."""


class Job(Generic[T]):
    """Some statements on one cursor in one thread."""

    def __init__(self, data: "Data", work: Callable[["duckdb.DuckDBPyConnection"], T], what: str) -> None:
        self.what = what
        self.stopped = threading.Event()
        self._data = data
        self._work = work
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._future: Future[T] = data.pool.submit(self._run)

    def _run(self) -> T:
        import duckdb

        if self.stopped.is_set():
            raise Cancelled(self.what)
        cursor = self._data.cursor()
        self._cursor = cursor
        try:
            return self._work(cursor)
        except duckdb.InterruptException as error:
            raise Cancelled(self.what) from error
        except duckdb.Error as error:
            if self.stopped.is_set():
                raise Cancelled(self.what) from error
            raise explain(error) from error
        finally:
            self._cursor = None
            cursor.close()

    def cancel(self) -> None:
        """Stop it; whoever waits gets Cancelled."""
        self.stopped.set()
        self._future.cancel()
        cursor = self._cursor
        if cursor is not None:
            cursor.interrupt()

    def done(self) -> bool:
        """Say whether it has ended, one way or another."""
        return self._future.done()

    def wait(self) -> T:
        """Block until it ends and return what it gave: for tests and other threads, never for the event loop."""
        return self._future.result()

    async def result(self) -> T:
        """Return what it gave; a cancelled waiter cancels the job."""
        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            if self.stopped.is_set():
                raise Cancelled(self.what) from None
            self.cancel()
            raise


def explain(error: Exception) -> AtlasError:
    """Return an engine's error as one sentence for a person."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    if "file system operations are disabled" in text or "has been locked" in text or "read-only" in text:
        return QueryError(f"not allowed here: {first}", hint="The browser only reads the published atlas.")
    if "Corrupt" in text or "checksum" in text:
        return DamagedError(f"the published file is damaged: {first}", hint="`atlas publish` rebuilds it from the shards.")
    return QueryError(text)


def guard(cursor: "duckdb.DuckDBPyConnection", text: str) -> str:
    """Return the one statement of `text` where it is a SELECT or an EXPLAIN of one; raise QueryError otherwise."""
    import duckdb

    try:
        statements = cursor.extract_statements(text)
    except duckdb.Error as error:
        raise QueryError(str(error).strip()) from error
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements where one is expected", hint="Run them one by one.")
    statement = statements[0]
    if statement.type == duckdb.StatementType.EXPLAIN:
        inner = _explained(statement.query)
        found = cursor.extract_statements(inner)
        if len(found) == 1 and found[0].type == duckdb.StatementType.SELECT:
            return str(statement.query)
        raise QueryError("only a SELECT can be explained here", hint="The browser only reads the published atlas.")
    if statement.type != duckdb.StatementType.SELECT:
        kind = str(statement.type).rpartition(".")[2]
        raise QueryError(f"{kind} is not allowed: only SELECT and EXPLAIN are", hint="The browser only reads the published atlas.")
    return str(statement.query)


def _explained(text: str) -> str:
    """Return what follows `explain`, its options and comments."""
    lead = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
    match = re.match(rf"{lead}explain{lead}(?:analyze\b{lead})?(?:\((?:[^()']|'[^']*')*\){lead})?", text, re.IGNORECASE | re.DOTALL)
    return text[match.end() :] if match else text


class Data:
    """One published atlas, open for reading; all methods that return a Job may be called on the event loop."""

    def __init__(self, folder: Path, connection: "duckdb.DuckDBPyConnection", identity: tuple[int, int, int]) -> None:
        self.folder = folder
        self.identity = identity
        self.pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="data")
        self._connection = connection
        self.known: dict[str, dict[str, str]] = {}
        self.about: dict[str, Any] = {}

    @classmethod
    def open(cls, folder: Path) -> "Data":
        """Open the published file of an atlas; raise StoreError with one sentence and what to do."""
        path = folder / DATABASE
        if not folder.is_dir():
            raise StoreError(f"there is no atlas at {folder}", hint="`atlas demo` builds one; `atlas tui DIR` opens another.")
        if not path.exists():
            raise StoreError(f"{folder.name} has not been published yet", hint=f"`atlas publish --atlas {folder}` builds {DATABASE}.")
        data = cls(folder, _attach(path), _identity(path))
        try:
            data._read_schema()
        except Exception:
            data.close()
            raise
        return data

    def _read_schema(self) -> None:
        import duckdb

        cursor = self.cursor()
        try:
            rows = cursor.execute(
                "select table_name, column_name, data_type from duckdb_columns() where database_name = 'atlas' order by column_index"
            ).fetchall()
            for table, column, kind in rows:
                self.known.setdefault(table, {})[column] = kind
            if "atlas" not in self.known:
                raise StoreError(f"{self.folder.name}/{DATABASE} is not an atlas", hint="`atlas publish` rebuilds it.")
            names = list(self.known["atlas"])
            row = cursor.execute("select * from atlas.atlas").fetchone()
            self.about = dict(zip(names, row, strict=True)) if row else {}
        except duckdb.Error as error:
            raise explain(error) from error
        finally:
            cursor.close()
        version = self.about.get("format_version")
        if version != FORMAT_VERSION:
            advice = "Update feature-atlas." if isinstance(version, int) and version > FORMAT_VERSION else "`atlas publish` rebuilds it."
            raise VersionError(f"{self.folder.name} has format {version}; this version reads format {FORMAT_VERSION}", hint=advice)

    def close(self) -> None:
        """Interrupt what runs and let go of the file."""
        self._connection.interrupt()
        self.pool.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

    def cursor(self) -> "duckdb.DuckDBPyConnection":
        """Return a cursor whose names are those of schema.sql."""
        cursor = self._connection.cursor()
        cursor.execute("use atlas")
        return cursor

    def is_outdated(self) -> bool:
        """Say whether a newer file has been published in the place of the open one."""
        try:
            return _identity(self.folder / DATABASE) != self.identity
        except OSError:
            return False

    def job(self, work: Callable[["duckdb.DuckDBPyConnection"], T], what: str = "") -> Job[T]:
        """Run `work(cursor)` in a thread."""
        return Job(self, work, what)

    def fetch(self, statement: Statement, limit: int | None = None) -> Job[list[Row]]:
        """Run one statement; `limit` rows at most are fetched."""
        return self.job(lambda cursor: fetch(cursor, statement, limit), statement.title)

    def read(self, read: Read) -> Statement:
        """Return the statement of a Read."""
        return compose_read(read, self.known)

    def rows(self, *reads: Read) -> Job[list[list[Row]]]:
        """Run some Reads on one cursor and return the rows of each."""
        statements = [self.read(read) for read in reads]
        return self.job(lambda cursor: [fetch(cursor, statement) for statement in statements], reads[0].title if reads else "")

    def gather(self, work: "Callable[[Asker], T]", what: str = "") -> "Job[tuple[T, list[Statement]]]":
        """Run `work(ask)`, whose reads may follow from each other; also gives the statements that ran."""

        def run(cursor: "duckdb.DuckDBPyConnection") -> tuple[T, list[Statement]]:
            asker = Asker(self, cursor)
            return work(asker), asker.statements

        return self.job(run, what)

    def ask(self, name: str, parameters: Mapping[str, object]) -> Job[tuple[Statement, list[str], list[Row]]]:
        """Ask a named question; returns the statement as it ran, the column names and all rows."""

        def work(cursor: "duckdb.DuckDBPyConnection") -> tuple[Statement, list[str], list[Row]]:
            from queries.loader import prepare

            question, settled = prepare(cursor, name, parameters)
            statement = Statement(name, question.sql, settled)
            result = cursor.execute(question.sql, settled)
            return statement, [column[0] for column in result.description], result.fetchall()

        return self.job(work, name)

    def console(self, text: str, display: int) -> Job[tuple[Statement, list[str], list[Row]]]:
        """Run a person's statement; one row more than `display` is fetched, so that overflow shows."""

        def work(cursor: "duckdb.DuckDBPyConnection") -> tuple[Statement, list[str], list[Row]]:
            statement = Statement("console", guard(cursor, text))
            result = cursor.execute(statement.sql)
            names = [column[0] for column in result.description]
            return statement, names, result.fetchmany(display + 1)

        return self.job(work, "console")

    def arrow(self, statement: Statement) -> Job[Any]:
        """Run one statement and return an Arrow table, for exports."""
        return self.job(lambda cursor: cursor.execute(statement.sql, dict(statement.parameters)).to_arrow_table(), statement.title)


class Asker:
    """Run Reads on one cursor and give their rows as dicts."""

    def __init__(self, data: Data, cursor: "duckdb.DuckDBPyConnection") -> None:
        self._data = data
        self._cursor = cursor
        self.statements: list[Statement] = []

    def __call__(self, read: Read) -> list[dict[str, Any]]:
        """Return the rows of a Read."""
        statement = compose_read(read, self._data.known)
        self.statements.append(statement)
        names = [*read.columns, *(measure.name for measure in read.measures)]
        return [dict(zip(names, row, strict=True)) for row in fetch(self._cursor, statement)]


def fetch(cursor: "duckdb.DuckDBPyConnection", statement: Statement, limit: int | None = None) -> list[Row]:
    """Run a statement on a cursor and return its rows."""
    result = cursor.execute(statement.sql, dict(statement.parameters) or None)
    return result.fetchall() if limit is None else result.fetchmany(limit)


def function_names(cursor: "duckdb.DuckDBPyConnection") -> list[str]:
    """Return the names of functions that a person may want to complete."""
    text = "select distinct function_name from duckdb_functions() where function_type <> 'pragma' order by function_name"
    return [row[0] for row in cursor.execute(text).fetchall() if row[0].isidentifier()]


def vector(cursor: "duckdb.DuckDBPyConnection", statement: Statement) -> "np.ndarray[Any, Any]":
    """Run a statement of one column and return it as an array."""
    columns = cursor.execute(statement.sql, dict(statement.parameters)).fetchnumpy()
    found: Any = next(iter(columns.values()))
    return found  # type: ignore[no-any-return]


def _identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _attach(path: Path) -> "duckdb.DuckDBPyConnection":
    """Attach a file read-only to a new engine that can do nothing else."""
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        connection.execute("set autoinstall_known_extensions = false")
        connection.execute("set autoload_known_extensions = false")
        connection.execute("set preserve_insertion_order = true")
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"attach {_quoted(path)} as atlas (read_only)")
        connection.execute(f"set file_search_path = {_quoted(path.parent)}")
        if (path.parent / "data").is_dir():
            # Views over shards must be readable; `guard` admits no statement that could write there.
            connection.execute(f"set allowed_directories = [{_quoted(path.parent / 'data')}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    except duckdb.Error as error:
        connection.close()
        raise _refusal(path, str(error)) from error
    return connection


def _quoted(path: Path) -> str:
    return "'" + str(path.resolve()).replace("'", "''") + "'"


def _refusal(path: Path, text: str) -> StoreError:
    name = f"{path.parent.name}/{path.name}"
    first = text.splitlines()[0] if text else "no reason given"
    if "lock" in text.lower():
        return LockedError(f"{name} is open for writing in another program", hint="Close it there; readers and writers exclude each other.")
    if "newer version" in text or "version number" in text:
        return VersionError(f"{name} was written by another version of DuckDB: {first}", hint="Update feature-atlas, or `atlas publish`.")
    if "Permission denied" in text:
        return StoreError(f"{name} may not be read", hint="Ask its owner for read permission.")
    return DamagedError(f"{name} is damaged: {first}", hint="`atlas check` says what is wrong; `atlas publish` rebuilds it.")
