"""What every importer shares: the result type, checked access to foreign records, content hashes, Arrow tables by schema.sql.

In: files of other tools. Out: `ImportedRun`. An importer writes nothing: the caller commits the tables as one run or not at all.
No torch here.
"""

from __future__ import annotations

import json
import math
import re
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

LARGEST = 3.4e38
"""A number beyond it has no place in a float32 column: it would become infinite."""
LOWEST_INT, HIGHEST_INT = -(2**31), 2**31 - 1
"""Integer columns of schema.sql."""
HIGHEST_SMALL = 2**15 - 1
"""Layers, positions and ranks."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Escapes that can be half of a character."""


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
        return self._number(name, self.values.get(name), name)

    def _number(self, name: str, value: Any, place: str) -> float:
        try:
            number = math.nan if value is None or isinstance(value, bool) else float(value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError):
            raise self.fail(name, f"a number{'' if place == name else f' as {place}'}") from None
        if not math.isfinite(number) or abs(number) > LARGEST:
            expected = "a finite number" if not math.isfinite(number) else f"a number up to {LARGEST}"
            raise self.fail(name, f"{expected}{'' if place == name else f' as {place}'}")
        return number

    def integer(self, name: str, low: int = LOWEST_INT, high: int = HIGHEST_INT) -> int:
        """Return a whole number from `low` to `high`; `48.0` counts as one."""
        return self._integer(name, self.values.get(name), name, low, high)

    def _integer(self, name: str, value: Any, place: str, low: int, high: int) -> int:
        if isinstance(value, str) and len(value) < 40 and re.fullmatch(r"-?[0-9]+", value):
            whole = int(value)  # exact: ids beyond 2^53 exist
        elif isinstance(value, int) and not isinstance(value, bool):
            whole = value
        else:
            number = self._number(name, value, place)
            if not number.is_integer():
                raise self.fail(name, "a whole number")
            whole = int(number)
        if not low <= whole <= high:
            raise self.fail(name, f"a whole number from {low} to {high}{'' if place == name else f' as {place}'}")
        return whole

    def layer(self, name: str) -> int:
        """Return a layer."""
        return self.integer(name, 0, HIGHEST_SMALL)

    def feature(self, name: str) -> int:
        """Return the index of a feature."""
        return self.integer(name, 0)

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

    def numbers(self, name: str) -> Sequence[float]:
        """Return a list of finite numbers."""
        return [self._number(name, value, f"item {index}") for index, value in enumerate(self.list(name))]

    def integers(self, name: str, low: int = LOWEST_INT, high: int = HIGHEST_INT) -> Sequence[int]:
        """Return a list of whole numbers."""
        return [self._integer(name, value, f"item {index}", low, high) for index, value in enumerate(self.list(name))]

    def texts(self, name: str) -> Sequence[str]:
        """Return a list of texts."""
        values = self.list(name)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise self.fail(name, f"a text as item {index}")
        return values

    def child(self, name: str) -> Record:
        """Return a nested object."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.fail(name, "an object")
        return Record(f"{self.where} {name}", value)

    def optional_child(self, name: str) -> Record:
        """Return a nested object, an empty one where the field is absent or null."""
        return self.child(name) if self.values.get(name) is not None else Record(f"{self.where} {name}", {})

    def optional_list(self, name: str) -> Sequence[Any]:
        """Return a list field, an empty one where the field is absent or null."""
        return self.list(name) if self.values.get(name) is not None else ()

    def settings(self, values: Mapping[str, Any] | None = None) -> str:
        """Return these values, by default the record's own, as the text of a settings column."""
        try:
            return canonical_json(self.values if values is None else values)
        except InputError as error:
            raise InputError(
                f"{self.where}: expected settings that JSON can hold, got NaN or infinity among them ({error.message})"
            ) from error

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
    if not path.is_file():
        raise InputError(f"{name}: expected a JSON file, got {'a folder' if path.is_dir() else 'nothing'}")
    try:
        return parse_json(path.read_bytes(), name)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error


def parse_json(data: bytes, where: str, line: int | None = None) -> Any:
    """Parse JSON; `line` is where the text stands in its file, None for a whole file. A byte-order mark is skipped.

    Raises InputError, with `where` and the line, for anything that is not JSON in UTF-8 or that no text column can hold.
    """
    at, expected = (where, "JSON") if line is None else (f"{where}:{line}", "a JSON object")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = line or 1 + data.count(b"\n", 0, error.start)
        raise InputError(
            f"{where}:{found}: expected UTF-8 text, got the byte {data[error.start]:#04x}", hint="Convert it with iconv."
        ) from error
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        found = line or error.lineno
        raise InputError(f"{where}:{found}: expected {expected}, got {error.msg} at column {error.colno}") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{at}: expected texts of whole characters, got half of a surrogate pair (\\ud800 to \\udfff alone)") from error
    except RecursionError as error:
        raise InputError(f"{at}: expected {expected}, got one nested too deep to read") from error
    except ValueError as error:  # a number of more than 4300 digits
        raise InputError(f"{at}: expected {expected}, got {error}") from error
    return value


def json_lines(stream: Iterable[bytes], name: str) -> Iterator[Record]:
    """Yield the objects of a JSON Lines stream; blank lines are skipped."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        value = parse_json(line, name, number)
        if not isinstance(value, dict):
            raise InputError(f"{name}:{number}: expected a JSON object, got {type(value).__name__}")
        yield Record(f"{name}:{number}", value)


def existing(path: Path) -> Path:
    """Return the path if it is a file or folder that is there; raise InputError if not."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder", hint="Give the file or folder that the other tool wrote.")
    if not path.is_file() and not path.is_dir():
        raise InputError(f"{path}: expected a file or a folder, got a device or a pipe", hint="Write it to a file first: it is read twice.")
    return path


def hash_files(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return {path relative to `root`: SHA-256}, sorted: the content that names the run. A single file's own name is none of it."""
    if root.is_file():
        return {"file": sha256_file(root)}
    return {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(paths)}


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
