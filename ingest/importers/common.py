"""What every importer shares: the result type, checked access to foreign records, content hashes, Arrow tables by schema.sql.

In: files of other tools. Out: `ImportedRun`. An importer writes nothing: the caller commits the tables as one run or not at all.
No torch here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas import __version__
from atlas.errors import InputError
from atlas.ids import canonical_json, sha256_file, sha256_text
from atlas.schema import arrow_schema

Tables = Mapping[str, pa.Table | Iterable[pa.RecordBatch]]


@dataclass(frozen=True)
class ImportedRun:
    """One foreign result, as rows of schema.sql."""

    plan: Mapping[str, Any]
    """Importer, its version, and the hash of every file read: equal content gives an equal run id, wherever it lies."""
    run_row: Mapping[str, Any]
    """Columns of table run that the importer knows."""
    tables: Tables
    """Table of schema.sql -> rows without run_id. A stream (iterable of batches) can be consumed once."""
    notes: tuple[str, ...] = field(default=())
    """What a person should know: what was left out, what was ambiguous."""


@dataclass(frozen=True)
class Record:
    """A foreign record that knows where it stands, so that a bad field is answered with file, line, field and expectation."""

    where: str
    """`file:line`, or `file: path within a JSON document`."""
    values: Mapping[str, Any]

    def fail(self, name: str, expected: str) -> InputError:
        """Make the error for a field that is missing or wrong."""
        got = repr(self.values[name])[:120] if name in self.values else "nothing"
        return InputError(
            f"{self.where}: field {name!r}: expected {expected}, got {got}", hint="Nothing was imported; correct the file and run it again."
        )

    def has(self, name: str) -> bool:
        """Whether the field is there and not empty."""
        return self.values.get(name) not in (None, "")

    def text(self, name: str) -> str:
        """Return a text field."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise self.fail(name, "a text")
        return value

    def number(self, name: str) -> float:
        """Return a finite number; CSV texts are parsed."""
        value = self.values.get(name)
        try:
            number = math.nan if value is None or isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            raise self.fail(name, "a number") from None
        if not math.isfinite(number):
            raise self.fail(name, "a finite number")
        return number

    def integer(self, name: str) -> int:
        """Return a whole number; `48.0` counts as one."""
        value = self.values.get(name)
        if isinstance(value, str) and value.lstrip("-").isdigit():
            return int(value)  # exact: ids beyond 2^53 exist
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        number = self.number(name)
        if not number.is_integer():
            raise self.fail(name, "a whole number")
        return int(number)

    def boolean(self, name: str) -> bool:
        """Return true or false; CSV texts `True` and `False` are parsed."""
        value = self.values.get(name)
        truth = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}.get(str(value).lower())
        if truth is None:
            raise self.fail(name, "true or false")
        return truth

    def list(self, name: str) -> Sequence[Any]:
        """Return a list field."""
        value = self.values.get(name)
        if not isinstance(value, list):
            raise self.fail(name, "a list")
        return value

    def child(self, name: str) -> Record:
        """Return a nested object."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.fail(name, "an object")
        return Record(f"{self.where} {name}", value)

    def children(self, name: str) -> Iterator[Record]:
        """Yield the objects of a list field."""
        for index, value in enumerate(self.list(name)):
            where = f"{self.where} {name}[{index}]"
            if not isinstance(value, dict):
                raise InputError(f"{where}: expected an object, got {value!r:.80}")
            yield Record(where, value)

    def optional_number(self, name: str) -> float | None:
        """Return a number, or null where the field is absent or empty."""
        return self.number(name) if self.has(name) else None

    def optional_text(self, name: str) -> str | None:
        """Return a text, or null where the field is absent or empty."""
        return self.text(name) if self.has(name) else None


def read_json(path: Path, name: str) -> Record:
    """Read a JSON object; `name` is how messages call the file.

    Raises InputError with line and column for text that is not JSON.
    """
    value = _parse(path, name)
    if not isinstance(value, dict):
        raise InputError(f"{name}:1: expected a JSON object, got {type(value).__name__}")
    return Record(name, value)


def read_json_list(path: Path, name: str) -> list[Record]:
    """Read a JSON list of objects."""
    value = _parse(path, name)
    if not isinstance(value, list):
        raise InputError(f"{name}:1: expected a JSON list, got {type(value).__name__}")
    return list(Record(name, {"list": value}).children("list"))


def _parse(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{name}:{error.lineno}: expected JSON, got {error.msg} at column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: expected UTF-8 text, got byte {error.start} that is not") from error


def existing(path: Path) -> Path:
    """Return the path if it is there; raise InputError if not."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", hint="Give the file or folder that the other tool wrote.")
    return path


def hash_files(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return {path relative to `root`: SHA-256}, sorted: the content that names the run."""
    base = root if root.is_dir() else root.parent
    return {path.relative_to(base).as_posix(): sha256_file(path) for path in sorted(paths)}


def make_plan(importer: str, version: int, files: Mapping[str, str], **settings: Any) -> dict[str, Any]:
    """Return the plan of an import. It holds no path outside the imported folder, so that moving the folder changes nothing."""
    return {"kind": "import", "importer": importer, "importer_version": version, "files": dict(files), **settings}


def make_run_row(plan: Mapping[str, Any], name: str, method: str, **columns: Any) -> dict[str, Any]:
    """Return the columns of table run that an import knows."""
    text = canonical_json(plan)
    return {
        "kind": "import",
        "name": name,
        "plan": text,
        "plan_hash": sha256_text(text),
        "code_version": __version__,
        "method": method,
        **columns,
    }


def to_table(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Make an Arrow table with the columns of schema.sql; missing columns become null.

    Raises ValueError for a row with an unknown column or without a required one: a fault of the importer, not of the file.
    """
    schema = arrow_schema(table)
    unknown = {name for row in rows for name in row} - set(schema.names)
    if unknown:
        raise ValueError(f"table {table} has no column {min(unknown)}")
    result = pa.Table.from_pylist(list(rows), schema=schema)
    for column in schema:
        if not column.nullable and result[column.name].null_count:
            raise ValueError(f"table {table}: column {column.name} may not be null")
    return result


def to_tables(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, pa.Table]:
    """Make Arrow tables of all tables that have rows."""
    return {table: to_table(table, content) for table, content in rows.items() if content}
