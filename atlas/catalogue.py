"""People's own words: labels, notes, stars and saved queries, in a small SQLite file that is written while others read.

In: values from a person or a labelling tool. Out: rows of schema.sql's label, label_score, note, star and saved_query, committed
at once (journal_mode=delete, so the folder can lie on any file system) and copied into the published file at the next publish.
Every row has a checksum, written in its transaction, by which `atlas check` finds a flipped byte.

Reading needs the standard library only; SQLModel is loaded at the first write.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import files
from atlas.errors import DamagedError, LockedError, StoreError, UsageError
from atlas.ids import canonical_json, new_id, sha256_text
from atlas.settings import BUSY_SECONDS, CATALOGUE

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from atlas.schema import Row

CHECKSUM_TABLE = "row_checksum"
KEYS = {
    "label": ("label_id",),
    "label_score": ("label_id", "score", "language", "prompt_version"),
    "note": ("note_id",),
    "star": ("transcoder_set", "layer", "feature"),
    "saved_query": ("name",),
}
"""The catalogue's tables and their keys; a test compares them with schema.sql."""
TIMES = ("created_at",)


def utc_now() -> datetime.datetime:
    """Give the time as schema.sql writes it: naive UTC."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def row_checksum(row: Mapping[str, Any]) -> str:
    """Give the SHA-256 of a row as SQLite stores it."""
    return sha256_text(canonical_json(dict(row)))


class Catalogue:
    """The catalogue of one atlas folder; the file is made at the first write.

    Any number of processes may hold one; each method is one transaction.
    """

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder) / CATALOGUE
        self._engine: Engine | None = None

    # Reading ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # A killed writer leaves a journal that the next connection rolls back, which takes the right to write.
        mode = "rw" if os.access(self.path, os.W_OK) else "ro"
        try:
            connection = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS)
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        try:
            connection.row_factory = sqlite3.Row
            yield connection
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        finally:
            connection.close()

    def _explain(self, error: Exception) -> StoreError:
        text = str(error)
        if "locked" in text or "busy" in text:
            return LockedError(f"the catalogue is held by another writer: {self.path}", hint="Try again in a moment.")
        if "readonly" in text or "unable to open" in text:
            return StoreError(f"the catalogue cannot be written: {self.path}: {text}", hint="Copy the atlas to a writable place.")
        if "full" in text:
            return StoreError(f"the disk is full: {self.path}", hint="Make space and try again; nothing was changed.")
        return DamagedError(f"the catalogue is damaged: {self.path}: {text}", hint="`atlas repair` rebuilds it from the published file.")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Read all rows of a table, in the order of its key; times as naive UTC datetimes.

        Raises DamagedError for an unreadable file, UsageError for another table.
        """
        rows = self.raw_rows(table)
        for row in rows:
            for name in TIMES:
                if isinstance(row.get(name), str):
                    row[name] = datetime.datetime.fromisoformat(row[name])
            for name in ("retired", "deleted"):
                if name in row:
                    row[name] = bool(row[name])
        return rows

    def raw_rows(self, table: str) -> list[dict[str, Any]]:
        """Read all rows of a table as SQLite stores them."""
        if table not in KEYS:
            raise UsageError(f"no catalogue table {table!r}", hint=f"Tables: {', '.join(KEYS)}.")
        if not self.path.exists():
            return []
        with self._reading() as connection:
            known = connection.execute("select 1 from sqlite_master where name = ?", [table]).fetchone()
            if known is None:
                return []
            return [dict(row) for row in connection.execute(f"select * from {table} order by {', '.join(KEYS[table])}")]

    def is_lost(self) -> bool:
        """Say whether there is no catalogue, or a file in which nothing was ever committed."""
        if not self.path.exists():
            return True
        with self._reading() as connection:
            return not connection.execute("select 1 from sqlite_master limit 1").fetchall()

    def checksums(self) -> dict[tuple[str, str], str]:
        """Read the checksum of every row, by table and key."""
        if not self.path.exists():
            return {}
        with self._reading() as connection:
            if not connection.execute("select 1 from sqlite_master limit 1").fetchall():
                return {}  # whoever made the file was stopped before its first commit
            rows = connection.execute(f"select table_name, row_key, sha256 from {CHECKSUM_TABLE}").fetchall()
            return {(row["table_name"], row["row_key"]): row["sha256"] for row in rows}

    def damage(self) -> list[str]:
        """Say what is wrong with the file: SQLite's own check, then every row against its checksum.

        Raises LockedError where another writer holds it, StoreError where it may not be read: neither is damage.
        """
        if not self.path.exists():
            return []
        with files.reading(self.path), contextlib.suppress(DamagedError):
            self.path.open("rb").close()
        try:
            with self._reading() as connection:
                verdicts = [row[0] for row in connection.execute("pragma integrity_check")]
            problems = [verdict for verdict in verdicts if verdict != "ok"]
            return problems or self._wrong_rows()
        except LockedError:
            raise
        except (StoreError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
            return [str(error)]

    def _wrong_rows(self) -> list[str]:
        expected = self.checksums()
        problems = []
        for table, keys in KEYS.items():
            for row in self.raw_rows(table):
                key = canonical_json([row[name] for name in keys])
                if expected.pop((table, key), None) != row_checksum(row):
                    problems.append(f"{table} {key} differs from its checksum")
        return problems + [f"{table} {key} is missing" for table, key in expected]

    # Writing ------------------------------------------------------------------------------------------

    def _open(self) -> Engine:
        if self._engine is not None:
            return self._engine
        from sqlalchemy import event, text
        from sqlalchemy.exc import DatabaseError
        from sqlalchemy.pool import NullPool
        from sqlmodel import create_engine

        from atlas.schema import TABLES, Row

        # NullPool: a connection that is kept would hold its file after a repair has put another one in its place.
        engine = create_engine(f"sqlite:///{self.path}", connect_args={"timeout": BUSY_SECONDS}, poolclass=NullPool)

        @event.listens_for(engine, "connect")
        def configure(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None
            connection.execute("pragma journal_mode=delete")
            # `full` would leave the removal of the journal, which is the commit, to the next fsync of the folder.
            connection.execute("pragma synchronous=extra")

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            # Taking the write lock at once lets writers queue; upgrading a read lock could only fail.
            connection.exec_driver_sql("begin immediate")

        try:
            with engine.begin() as connection:
                Row.metadata.create_all(connection, tables=[TABLES[name].__table__ for name in KEYS])  # type: ignore[attr-defined]
                connection.execute(
                    text(
                        f"create table if not exists {CHECKSUM_TABLE} "
                        "(table_name varchar, row_key varchar, sha256 varchar, primary key (table_name, row_key))"
                    )
                )
                self._add_columns(connection, text)
        except DatabaseError as error:
            raise self._explain(error.orig or error) from error
        self._engine = engine
        return engine

    def _add_columns(self, connection: Any, text: Any) -> None:
        """Give tables of an older version the columns they lack; rows that were whole get the checksum of their new form."""
        from atlas.schema import TABLES

        for table, keys in KEYS.items():
            there = {row["name"] for row in connection.execute(text(f"pragma table_info({table})")).mappings()}
            lacking = [column for column in TABLES[table].__table__.columns if column.name not in there]  # type: ignore[attr-defined]
            if not lacking:
                continue
            stored = f"select sha256 from {CHECKSUM_TABLE} where table_name = :t and row_key = :k"
            whole = []
            for row in connection.execute(text(f"select * from {table}")).mappings().all():
                key = {"t": table, "k": canonical_json([row[name] for name in keys])}
                if connection.execute(text(stored), key).scalar() == row_checksum(row):
                    whole.append((key, row_checksum({**row, **{column.name: None for column in lacking}})))
            for column in lacking:
                kind = column.type.compile(dialect=connection.dialect)
                connection.execute(text(f"alter table {table} add column {column.name} {kind}"))
            update = f"update {CHECKSUM_TABLE} set sha256 = :h where table_name = :t and row_key = :k"
            for key, digest in whole:
                connection.execute(text(update), {**key, "h": digest})

    def _write(self, rows: Iterable[Row], remove: Iterable[Row] = ()) -> None:
        """Insert or replace rows and remove others, with their checksums, in one transaction."""
        from sqlalchemy import text
        from sqlalchemy.exc import DatabaseError
        from sqlmodel import Session

        rows, remove = list(rows), list(remove)
        try:
            with Session(self._open(), expire_on_commit=False) as session:
                for row in rows:
                    session.merge(row)
                for row in remove:
                    found = session.get(type(row), tuple(getattr(row, name) for name in KEYS[str(row.__tablename__)]))
                    if found is not None:
                        session.delete(found)
                session.flush()
                for row in [*rows, *remove]:
                    self._write_checksum(session.connection(), row, text)
                session.commit()
        except DatabaseError as error:
            raise self._explain(error.orig or error) from error

    def _write_checksum(self, connection: Any, row: Row, text: Any) -> None:
        table = str(row.__tablename__)
        values = {name: getattr(row, name) for name in KEYS[table]}
        where = " and ".join(f"{name} = :{name}" for name in values)
        stored = connection.execute(text(f"select * from {table} where {where}"), values).mappings().first()
        key = {"t": table, "k": canonical_json(list(values.values()))}
        if stored is None:
            connection.execute(text(f"delete from {CHECKSUM_TABLE} where table_name = :t and row_key = :k"), key)
        else:
            statement = f"insert or replace into {CHECKSUM_TABLE} (table_name, row_key, sha256) values (:t, :k, :h)"
            connection.execute(text(statement), {**key, "h": row_checksum(stored)})

    def put(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert or replace many rows of one table, given as column values; returns how many.

        Raises UsageError for an unknown table or column, StoreError when the file cannot be written.
        """
        from atlas.schema import TABLES

        if table not in KEYS:
            raise UsageError(f"no catalogue table {table!r}", hint=f"Tables: {', '.join(KEYS)}.")
        model: Any = TABLES[table]
        built = []
        for values in rows:
            if unknown := set(values) - set(model.model_fields):
                raise UsageError(f"{table} has no column {sorted(unknown)[0]!r}", hint=f"Columns: {', '.join(model.model_fields)}.")
            built.append(model(**values))
        self._write(built)
        return len(built)

    def add_label(
        self,
        transcoder_set: str,
        layer: int,
        feature: int,
        text: str,
        *,
        method: str = "manual",
        model: str | None = None,
        author: str | None = None,
    ) -> str:
        """Label a feature and retire its earlier labels of the same method; returns the label's id."""
        from atlas.schema import Label

        label_id = new_id()
        same = {"transcoder_set": transcoder_set, "layer": layer, "feature": feature, "method": method}
        earlier = [row for row in self.rows("label") if not row["retired"] and all(row[name] == value for name, value in same.items())]
        retired = [Label(**{**row, "retired": True}) for row in earlier]
        new: dict[str, Any] = {"label_id": label_id, **same, "text": text, "model": model, "author": author}
        self._write([*retired, Label(**new, created_at=utc_now(), retired=False)])
        return label_id

    def add_note(
        self,
        text: str,
        *,
        subject: str = "feature",
        transcoder_set: str | None = None,
        layer: int | None = None,
        feature: int | None = None,
        reference: str | None = None,
        author: str | None = None,
    ) -> str:
        """Write a note about a feature (its three columns) or another subject (`reference`); returns the note's id."""
        about = {"subject": subject, "transcoder_set": transcoder_set, "layer": layer, "feature": feature, "reference": reference}
        note_id = new_id()
        self.put("note", [{"note_id": note_id, **about, "text": text, "author": author, "created_at": utc_now(), "deleted": False}])
        return note_id

    def delete_note(self, note_id: str) -> None:
        """Take a note back; the row stays, marked.

        Raises UsageError when there is none of that id.
        """
        for row in self.rows("note"):
            if row["note_id"] == note_id:
                self.put("note", [{**row, "deleted": True}])
                return
        raise UsageError(f"no note {note_id!r}")

    def star(self, transcoder_set: str, layer: int, feature: int) -> None:
        """Star a feature; a star it already has stays."""
        if not self.is_starred(transcoder_set, layer, feature):
            self.put("star", [{"transcoder_set": transcoder_set, "layer": layer, "feature": feature, "created_at": utc_now()}])

    def unstar(self, transcoder_set: str, layer: int, feature: int) -> None:
        """Take a star off; without one nothing happens."""
        from atlas.schema import Star

        self._write([], [Star(transcoder_set=transcoder_set, layer=layer, feature=feature, created_at=utc_now())])

    def is_starred(self, transcoder_set: str, layer: int, feature: int) -> bool:
        """Say whether a feature has a star."""
        key = (transcoder_set, layer, feature)
        return any(tuple(row[name] for name in KEYS["star"]) == key for row in self.rows("star"))

    def save_query(self, name: str, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Save a query under a name, replacing an earlier one."""
        text = None if parameters is None else json.dumps(dict(parameters), ensure_ascii=False)
        self.put("saved_query", [{"name": name, "sql": sql, "parameters": text, "created_at": utc_now()}])

    def delete_query(self, name: str) -> None:
        """Remove a saved query; without one of that name nothing happens."""
        from atlas.schema import SavedQuery

        self._write([], [SavedQuery(name=name, sql="", created_at=utc_now())])
