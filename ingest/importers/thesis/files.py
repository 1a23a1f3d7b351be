"""Which file of a run folder is what, and checked reading of its lines.

In: a folder. Out: `Files`, and records that know their line. CSV columns `metadata` and `feature_indices` are Python literals in
text; `ast.literal_eval` reads them, which runs nothing.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import InputError
from ingest.importers.common import HIGHEST_INT, HIGHEST_SMALL, Record, json_lines

Rows = dict[str, list[dict[str, Any]]]
"""Table of schema.sql -> rows without run_id."""

PATTERNS: dict[str, str] = {
    "prompts": r"(?:.*_)?(?:train|test|validation)\.jsonl$|prompts.*\.jsonl$",
    "graph": r"attribution_graph_.*\.json$",
    "labels": r"node_language_labels\.csv$",
    "communities": r"community_summary\.json$",
    "causal_edges": r"causal_edges.*\.json$",
    "circuits": r"circuits.*\.json$",
    "interventions": r"intervention_.*\.csv$",
    "iou": r"iou_per_layer.*\.csv$",
    "bridges": r"bridge_features\.csv$",
    "baselines": r"baseline_.*\.csv$",
    "baseline_metrics": r"baseline_metrics.*\.json$",
    "gate": r"gate_check\.txt$",
    "array_indices": r"layer_\d+/.*_top_k_indices\.npy$",
    "array_values": r"layer_\d+/.*_top_k_values\.npy$",
    "array_meta": r"layer_\d+/.*_layer_meta\.json$",
    "array_summary": r".*_summary\.json$",
}
"""Tried in this order: the first pattern that fits names the file's part (`community_summary.json` is not an array summary)."""
TRANSCODERS = "mwhanna/qwen3-4b-transcoders"
FEATURE = re.compile(r"^L([0-9]{1,9})_F([0-9]{1,12})$")


@dataclass(frozen=True)
class Files:
    """The files of a run folder by part, each part sorted by name."""

    root: Path
    parts: dict[str, list[Path]]
    unknown: tuple[str, ...]

    @property
    def all(self) -> list[Path]:
        """Every file that is read."""
        return [path for paths in self.parts.values() for path in paths]

    def of(self, part: str) -> list[Path]:
        """Return the files of a part, none if there are none."""
        return self.parts.get(part, [])

    def one(self, part: str) -> Path | None:
        """Return the only file of a part; raise InputError if there are several."""
        paths = self.of(part)
        if len(paths) > 1:
            names = ", ".join(self.name(path) for path in paths)
            raise InputError(f"{self.root.name}: expected one {part} file, got {names}", hint="One folder is one run: move the others out.")
        return paths[0] if paths else None

    def name(self, path: Path) -> str:
        """Name a file as messages do."""
        return path.relative_to(self.root).as_posix()


def find_files(root: Path) -> Files:
    """Sort the files of a folder into parts.

    Raises InputError if there is no prompts file: without it no row can be tied to a prompt.
    """
    parts: dict[str, list[Path]] = {}
    unknown = []
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")):
        name = path.relative_to(root).as_posix()
        part = next((part for part, pattern in PATTERNS.items() if re.fullmatch(pattern, name)), None)
        if part is None:
            unknown.append(name)
        else:
            parts.setdefault(part, []).append(path)
    if "prompts" not in parts:
        expected = f"expected a prompts file (*_train.jsonl), got {len(parts)} other kinds of file"
        raise InputError(f"{root.name}: {expected}", hint="docs/import.md lists the files of a run folder.")
    return Files(root, parts, tuple(unknown))


def read_csv(path: Path, name: str, required: set[str]) -> Iterator[Record]:
    """Yield the lines of a CSV file with a header, with or without a byte-order mark.

    Raises InputError naming a missing column, a short line, or bytes that are not UTF-8.
    """
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or ())
            if missing := required - set(columns):
                raise InputError(f"{name}:1: expected column {min(missing)!r}, got {', '.join(columns) or 'an empty file'}")
            if twice := [column for column in columns if columns.count(column) > 1]:
                raise InputError(f"{name}:1: expected each column once, got {twice[0]!r} {columns.count(twice[0])} times")
            for values in reader:
                line = reader.line_num
                where = f"{name}:{line}"
                if None in values or None in values.values():
                    raise InputError(f"{where}: expected {len(columns)} fields, got another number: the file may be cut off")
                yield Record(where, values)
    except UnicodeDecodeError as error:
        bad = f"got the byte {error.object[error.start]:#04x}"
        raise InputError(f"{name}: after line {line}: expected UTF-8 text, {bad}", hint="Convert it with iconv.") from error
    except csv.Error as error:
        raise InputError(f"{name}:{line + 1}: expected comma-separated values, got {error}") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error


def read_jsonl(path: Path, name: str) -> Iterator[Record]:
    """Yield the objects of a JSON Lines file."""
    try:
        with path.open("rb") as stream:
            yield from json_lines(stream, name)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error


def literal(record: Record, field: str, kind: type[Any]) -> Any:
    """Return a field that holds a Python literal of a given type."""
    try:
        value = ast.literal_eval(record.text(field))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise record.fail(field, f"a Python {kind.__name__}") from None
    if not isinstance(value, kind):
        raise record.fail(field, f"a Python {kind.__name__}")
    return value


def feature_of(record: Record, field: str) -> tuple[int, int]:
    """Return (layer, feature) of a field that holds `L20_F1454`."""
    feature = feature_in(record.text(field))
    if feature is None:
        raise record.fail(field, "a feature such as L20_F1454")
    return feature


def feature_in(text: str) -> tuple[int, int] | None:
    """Return (layer, feature) of `L20_F1454`, None for anything else."""
    match = FEATURE.match(text)
    if match is None or int(match.group(1)) > HIGHEST_SMALL or int(match.group(2)) > HIGHEST_INT:
        return None
    return int(match.group(1)), int(match.group(2))
