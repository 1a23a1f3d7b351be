"""Which file of a run folder is what, and checked reading of its lines.

In: a folder. Out: `Files`, and records that know their line. CSV columns `metadata` and `feature_indices` are Python literals in
text; `ast.literal_eval` reads them, which runs nothing.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import InputError
from ingest.importers.common import Record

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
FEATURE = re.compile(r"^L(\d+)_F(\d+)$")


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
    """Yield the lines of a CSV file with a header; raise InputError naming a missing column or a short line."""
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = required - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{name}:1: expected column {min(missing)!r}, got {', '.join(reader.fieldnames or ()) or 'an empty file'}")
        for values in reader:
            where = f"{name}:{reader.line_num}"
            if None in values or None in values.values():
                raise InputError(f"{where}: expected {len(reader.fieldnames or ())} fields, got another number: the file may be cut off")
            yield Record(where, values)


def read_jsonl(path: Path, name: str) -> Iterator[Record]:
    """Yield the objects of a JSON Lines file."""
    with path.open(encoding="utf-8") as stream:
        for line, text in enumerate(stream, start=1):
            try:
                value = json.loads(text)
            except json.JSONDecodeError as error:
                raise InputError(f"{name}:{line}: expected a JSON object, got {error.msg} at column {error.colno}") from error
            if not isinstance(value, dict):
                raise InputError(f"{name}:{line}: expected a JSON object, got {type(value).__name__}")
            yield Record(f"{name}:{line}", value)


def literal(record: Record, field: str, kind: type[Any]) -> Any:
    """Return a field that holds a Python literal of a given type."""
    try:
        value = ast.literal_eval(record.text(field))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise record.fail(field, f"a Python {kind.__name__}") from None
    if not isinstance(value, kind):
        raise record.fail(field, f"a Python {kind.__name__}")
    return value


def feature_of(record: Record, field: str) -> tuple[int, int]:
    """Return (layer, feature) of a field that holds `L20_F1454`."""
    match = FEATURE.match(record.text(field))
    if match is None:
        raise record.fail(field, "a feature such as L20_F1454")
    return int(match.group(1)), int(match.group(2))
