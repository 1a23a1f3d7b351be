"""Open an atlas and run statements on it: one cursor a job, in threads, cancelled at once.

In: a folder; statements. Out: rows as plain tuples, vectors of row ids, Arrow tables for exports.

1. `Data.open` opens the published file with `atlas.reader.Reader`: read-only, without access to other files, its configuration locked.
2. A `Job` is some statements on one cursor in one thread; `cancel()` interrupts it within a millisecond.
3. A person's own statement passes `atlas.reader.check_statement`: one SELECT, or an EXPLAIN of one, that reads tables.
"""

import asyncio
import contextlib
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from atlas.errors import AtlasError, DamagedError, LockedError, QueryError, StoreError
from atlas.settings import DATABASE
from tui.data.compose import Read, Statement, compose_read, used

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

    from atlas.reader import Reader

T = TypeVar("T")
Row = tuple[Any, ...]


class Cancelled(Exception):
    """A person stopped a statement."""


class Meter:
    """How far a job of many statements is, and whether it is to stop."""

    def __init__(self) -> None:
        self.done = 0
        self.total = 0
        self.stopped = threading.Event()

    def check(self) -> None:
        """Raise Cancelled where a person stopped the job."""
        if self.stopped.is_set():
            raise Cancelled

    def step(self, n: int = 1) -> None:
        """Say that `n` more statements are done; raise Cancelled where a person stopped the job."""
        self.check()
        self.done += n

    @property
    def share(self) -> float | None:
        """Return how much is done, 0 to 1; None where that is not known."""
        return min(1.0, self.done / self.total) if self.total else None


class Job(Generic[T]):
    """Some statements on one cursor in one thread.

    Whoever waits is released the moment it is stopped. The thread ends a little later: the engine looks for an interrupt between two
    pieces of work, and gives back what it had in memory.
    """

    def __init__(
        self,
        data: "Data",
        work: Callable[["duckdb.DuckDBPyConnection"], T],
        what: str,
        meter: Meter | None = None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self.what = what
        self._is_roomy = False
        self.meter = meter or Meter()
        self.stopped = self.meter.stopped
        self._data = data
        self._work = work
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._answer: Future[T] = Future()
        self._thread: Future[None] = (pool or data.pool).submit(self._settle)

    def _settle(self) -> None:
        """Work, and give the answer to whoever still waits for it."""
        with contextlib.suppress(InvalidStateError):  # stopped: nobody waits any more
            try:
                self._answer.set_result(self._run())
            except BaseException as error:  # noqa: BLE001  it is raised again where the answer is waited for
                self._answer.set_exception(error)

    def _run(self) -> T:
        import duckdb

        if self.stopped.is_set():
            raise Cancelled(self.what)
        try:
            return self._on(self._data.cursor())
        except duckdb.InterruptException as error:
            raise Cancelled(self.what) from error
        except duckdb.Error as error:
            if self.stopped.is_set():
                raise Cancelled(self.what) from error
            raise explain(error) from error
        except (AtlasError, Cancelled):
            raise
        except Exception as error:  # becomes a message to a person: a fault in one view must not end a session
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            raise QueryError(
                f"{self.what or 'reading'} failed: {what}", hint="This is a fault of the browser: please report it."
            ) from error

    def _on(self, cursor: "duckdb.DuckDBPyConnection") -> T:
        """Do the work on a cursor; where it lacks memory, on one of another engine that has more."""
        import duckdb

        self._cursor = cursor
        try:
            self.meter.check()
            return self._work(cursor)
        except duckdb.OutOfMemoryException:
            if self._is_roomy:
                raise
        finally:
            self._cursor = None
            cursor.close()
        self.meter.check()
        with self._data.roomy() as reader:
            self._is_roomy = True
            return self._on(reader.cursor())

    def cancel(self) -> None:
        """Stop it; whoever waits gets Cancelled at once."""
        if not self.stopped.is_set():
            self.stopped.set()
            with contextlib.suppress(InvalidStateError):  # it has just ended
                self._answer.set_exception(Cancelled(self.what))
            if not self._thread.cancel():
                threading.Thread(target=self._interrupt, name="stop", daemon=True).start()

    def _interrupt(self) -> None:
        """Interrupt until it has ended: the engine forgets an interrupt that comes between two statements."""
        import duckdb

        while not self._thread.done():
            cursor = self._cursor
            if cursor is not None:
                with contextlib.suppress(duckdb.Error):  # closed since
                    cursor.interrupt()
            time.sleep(0.01)

    def done(self) -> bool:
        """Say whether it has been answered, one way or another."""
        return self._answer.done()

    def has_ended(self) -> bool:
        """Say whether its thread has ended, which is a little later where it was stopped."""
        return self._thread.done()

    def wait(self) -> T:
        """Block until it ends and return what it gave: for tests and other threads, never for the event loop."""
        return self._answer.result()

    async def result(self) -> T:
        """Return what it gave; a cancelled waiter cancels the job."""
        try:
            return await asyncio.wrap_future(self._answer)
        except asyncio.CancelledError:
            self.cancel()
            raise


def explain(error: Exception) -> AtlasError:
    """Return an engine's error as one sentence for a person."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    if "file system operations are disabled" in text or "has been locked" in text or "read-only" in text:
        return QueryError(f"not allowed here: {first}", hint="The browser only reads the published atlas.")
    if missing := re.search(r"Table with name (\w+) does not exist", text):
        return QueryError(f"this atlas has no table {missing[1]}", hint="`atlas publish` builds tables that an older version did not know.")
    if "Out of Memory" in text:
        return QueryError(first, hint="Ask for fewer rows, or filter by layer first.")
    if "Corrupt" in text or "checksum" in text:
        return DamagedError(f"the published file is damaged: {first}", hint="`atlas publish` rebuilds it from the shards.")
    return QueryError(text)


BATCH = 50_000
"""Rows that an export holds at once."""
SMALL: dict[str, str | int] = {"memory_limit": "48MB", "threads": 2, "temp_directory": "", "preserve_insertion_order": "false"}
"""The engine's settings for browsing. What needs more memory is run again by an engine that may take it."""


class Data:
    """One published atlas, open for reading; all methods that return a Job may be called on the event loop."""

    def __init__(self, folder: Path, reader: "Reader") -> None:
        self.folder = folder
        self.pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="data")
        self.paging = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pages")
        """Pages come one after another: several at once would not fit the memory for browsing, and would slow the keys down."""
        self._reader = reader
        self._opening = threading.Lock()
        self._jobs: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
        self.known: dict[str, dict[str, str]] = {}
        """Columns and their types, by table."""
        self.about: dict[str, Any] = {}
        """The row of table atlas."""

    @classmethod
    def open(cls, folder: Path) -> "Data":
        """Open the published file of an atlas; raise StoreError with one sentence and what to do."""
        if not folder.is_dir():
            raise StoreError(f"there is no atlas at {folder}", hint="`atlas demo` builds one; `atlas tui DIR` opens another.")
        if not (folder / DATABASE).exists():
            raise StoreError(f"{folder.name} has not been published yet", hint=f"`atlas publish {folder.name}` builds {DATABASE}.")
        from atlas.reader import Reader

        try:
            data = cls(folder, Reader(folder, settings=SMALL))
        except AtlasError as error:
            raise _refusal(folder, error) from error
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
                "select table_name, column_name, data_type from duckdb_columns()"
                " where database_name = 'atlas' order by table_name, column_index"
            ).fetchall()
            for table, column, kind in rows:
                self.known.setdefault(table, {})[column] = kind
            row = cursor.execute("select * from atlas.atlas").fetchone()
            self.about = dict(zip(self.known["atlas"], row, strict=True)) if row else {}
        except duckdb.Error as error:
            raise explain(error) from error
        finally:
            cursor.close()

    def close(self) -> None:
        """Stop what is running, wait for it, and let go of the file."""
        for job in list(self._jobs):
            job.cancel()
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.paging.shutdown(wait=True, cancel_futures=True)
        self._reader.close()

    def jobs(self) -> "list[Job[Any]]":
        """Return the jobs that somebody may still look at, ended ones among them."""
        return list(self._jobs)

    def cursor(self) -> "duckdb.DuckDBPyConnection":
        """Return a cursor whose names are those of schema.sql."""
        with self._opening:  # the engine refuses two threads at once
            return self._reader.cursor()

    def is_outdated(self) -> bool:
        """Say whether a newer file has been published in the place of the open one."""
        return self._reader.newer_available()

    def roomy(self) -> "Reader":
        """Open the file once more, without the limits of browsing; raise StoreError where another file stands in its place."""
        from atlas.reader import Reader

        if self.is_outdated():
            raise StoreError(
                "this needs more memory than browsing takes, and a newer atlas has been published", hint="Press R, then ask again."
            )
        return Reader(self.folder)

    def job(self, work: Callable[["duckdb.DuckDBPyConnection"], T], what: str = "", meter: Meter | None = None) -> Job[T]:
        """Run `work(cursor)` in a thread; `meter` says how far it is."""
        job = Job(self, work, what, meter)
        self._jobs.add(job)
        return job

    def page(self, work: Callable[["duckdb.DuckDBPyConnection"], T]) -> Job[T]:
        """Run `work(cursor)`, which reads a page, after the pages that were asked for before."""
        job = Job(self, work, "a page of rows", pool=self.paging)
        self._jobs.add(job)
        return job

    def fetch(self, statement: Statement, limit: int | None = None) -> Job[list[Row]]:
        """Run one statement; `limit` rows at most are fetched."""
        return self.job(lambda cursor: fetch(cursor, statement, limit), statement.title)

    def some(self, statement: Statement, limit: int) -> Job[tuple[list[str], list[Row]]]:
        """Run one statement and return the names of its columns and its first rows."""

        def work(cursor: "duckdb.DuckDBPyConnection") -> tuple[list[str], list[Row]]:
            result = cursor.execute(f"{statement.sql}\nlimit {int(limit)}", dict(statement.parameters) or None)
            return [column[0] for column in result.description], result.fetchall()

        return self.job(work, statement.title)

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
            from atlas.reader import check_statement

            check_statement(cursor, text)
            statement = Statement("console", text)
            result = cursor.execute(text)
            names = [column[0] for column in result.description]
            return statement, names, result.fetchmany(display + 1)

        return self.job(work, "console")

    def arrow(self, statement: Statement, write: "Callable[[pa.Schema, Iterator[pa.RecordBatch], Meter], T]") -> Job[T]:
        """Run one statement and give its rows to `write` as they come, for exports."""
        meter = Meter()

        def work(cursor: "duckdb.DuckDBPyConnection") -> T:
            rows = cursor.sql(statement.sql, params=dict(statement.parameters) or None).to_arrow_reader(BATCH)
            return write(rows.schema, _batches(rows), meter)

        return self.job(work, "exporting", meter)


def _batches(rows: "pa.RecordBatchReader") -> "Iterator[pa.RecordBatch]":
    """Yield batches; the engine's errors come through Arrow as others, and are told apart by their text."""
    import duckdb
    import pyarrow as pa

    try:
        yield from rows
    except (pa.ArrowException, OSError) as error:
        text = str(error)
        kind = (
            duckdb.OutOfMemoryException if "Out of Memory" in text else duckdb.InterruptException if "INTERRUPT" in text else duckdb.Error
        )
        raise kind(text) from error


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


def arrays(cursor: "duckdb.DuckDBPyConnection", text: str, bound: Mapping[str, Any]) -> "dict[str, np.ndarray[Any, Any]]":
    """Run a statement of numbers and return its columns as arrays."""
    return cursor.execute(text, used(text, bound)).fetchnumpy()  # type: ignore[return-value]


def vector(cursor: "duckdb.DuckDBPyConnection", statement: Statement) -> "np.ndarray[Any, Any]":
    """Run a statement of one column and return it as an array."""
    return next(iter(arrays(cursor, statement.sql, statement.parameters).values()))


def _refusal(folder: Path, error: AtlasError) -> AtlasError:
    """Return why an atlas cannot be opened, in one sentence."""
    name = f"{folder.name}/{DATABASE}"
    first = error.message.splitlines()[0]
    if "lock on file" in error.message or "being used by another process" in error.message:
        return LockedError(f"{name} is open for writing in another program", hint="Close it there; readers and writers exclude each other.")
    if "Permission denied" in error.message:
        return StoreError(f"{name} may not be read", hint="Ask its owner for read permission.")
    if isinstance(error, DamagedError):
        return DamagedError(f"{name} is damaged: {first}", hint=error.hint or "`atlas publish` rebuilds it from the shards.")
    return type(error)(first, hint=error.hint or "`atlas publish` rebuilds it from the shards.")
