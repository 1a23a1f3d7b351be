"""Import Neuronpedia exports: features, activations and explanations as JSON Lines, gzipped or not.

In: a file, or a folder such as `<model>/<source>/{features,activations,explanations}/batch-0.jsonl.gz`. Out: `ImportedRun`: labels
from explanations; contexts, documents and tokens from activations; features and neighbours from features.

1. First pass: every line is read and checked, layers and the strength of every activation are noted. Bad input fails here,
   before anything is written.
2. The tables are streams: each reads the files it needs again, a batch of rows at a time.

What a file does not say stays null: token ids, counts behind a density. Contexts are ranked by strength within their feature.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atlas.errors import InputError
from atlas.ids import sha256_text
from atlas.schema import arrow_schema
from ingest.importers.common import (
    HIGHEST_SMALL,
    ImportedRun,
    Record,
    existing,
    hash_files,
    json_lines,
    make_plan,
    make_run_row,
    to_table,
)
from ingest.importers.graph_rows import UNDETERMINED
from ingest.importers.models import SCANS, TRANSCODERS, model_row, transcoder_rows

VERSION = 1
METHOD = "Imported from a Neuronpedia export: contexts are the examples it shows, not a sample; densities are its own."
ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
BATCH_ROWS = 65536
WINDOW_BEFORE, WINDOW_AFTER = 20, 10
"""Tokens of a context that are shown around its strongest one; all tokens of the text are kept."""
UNDATED = datetime(1970, 1, 1)
Row = dict[str, Any]


@dataclass
class Batches:
    """A stream of record batches that can be read again."""

    table: str
    rows: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        schema = arrow_schema(self.table)
        waiting: list[Row] = []
        for row in self.rows():
            waiting.append(row)
            if len(waiting) == BATCH_ROWS:
                yield pa.RecordBatch.from_pylist(waiting, schema=schema)
                waiting = []
        if waiting:
            yield pa.RecordBatch.from_pylist(waiting, schema=schema)


@dataclass
class Survey:
    """What the first pass found."""

    model: str | None = None
    files: dict[str, list[Path]] = field(default_factory=dict)
    """features, activations, explanations -> files."""
    layers: dict[str, set[int]] = field(default_factory=dict)
    """Source without its layer, e.g. transcoder-hp -> layers."""
    activation_keys: list[tuple[int, int]] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    """(layer, feature) and maximum of every activation record, in file order."""
    n_activations: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Records of each feature: a rank has 15 bits."""
    seen_features: set[tuple[int, int]] = field(default_factory=set)


def read(path: str | Path) -> ImportedRun:
    """Read an export.

    Raises InputError, with file, line, field and what was expected, for anything that does not fit.
    """
    root = existing(Path(path))
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.name.endswith(ENDINGS))
    if not files:
        raise InputError(f"{root}: expected JSON Lines ({', '.join(ENDINGS)}), got none")
    survey = Survey()
    for file in files:
        _survey_file(survey, root, file)
    plan = make_plan("neuronpedia", VERSION, hash_files(root, files))
    model = model_row(SCANS.get(survey.model or "", ""), "bfloat16")
    source = next(iter(survey.layers))
    transcoders = transcoder_rows(_hub_id(survey.model, source) or "", sorted(survey.layers[source]), model["model_id"] if model else None)
    tables: dict[str, Any] = _streams(survey, root, source)
    tables |= {name: to_table(name, rows) for name, rows in (("model", [model] if model else []), ("transcoder", transcoders)) if rows}
    name = f"{survey.model}/{source}"
    row = make_run_row(
        plan, name, METHOD, model_id=model["model_id"] if model else None, transcoder_set=_transcoder_set(survey.model, source)
    )
    notes = [f"{len(paths)} files of {part}" for part, paths in sorted(survey.files.items())]
    return ImportedRun(plan, row, tables, tuple(notes))


def _hub_id(model: str | None, source: str) -> str | None:
    """Return the hub id whose Neuronpedia source this is."""
    wanted = f"{model}/{{layer}}-{source}"
    return next((hub for hub, facts in TRANSCODERS.items() if facts["neuronpedia"] == wanted), None)


def _transcoder_set(model: str | None, source: str) -> str:
    hub = _hub_id(model, source)
    return f"{model}/{source}" if hub is None else str(TRANSCODERS[hub]["transcoder_set"])


def lines(root: Path, file: Path) -> Iterator[Record]:
    """Yield the objects of a JSON Lines file, gzipped or not by its first bytes."""
    name = file.relative_to(root).as_posix() if root.is_dir() else file.name
    if not file.is_file():
        raise InputError(f"{name}: expected a file, got a folder")
    with file.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with gzip.open(file, "rb") if zipped else file.open("rb") as stream:
            for record in json_lines(stream, name):
                number = int(record.where.rpartition(":")[2])
                yield record
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}:{number + 1}: expected more gzipped lines, got a file that is cut off or damaged: {error}") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from error


def _part(record: Record) -> str:
    """Say what a record is, by its fields."""
    if "description" in record.values:
        return "explanations"
    if "tokens" in record.values and "values" in record.values:
        return "activations"
    if {"maxActApprox", "pos_str", "frac_nonzero"} & set(record.values):
        return "features"
    raise record.fail("description", "a feature (maxActApprox), an activation (tokens, values) or an explanation (description)")


def _place(record: Record) -> tuple[str, int, int]:
    """Return (source without layer, layer, feature) from `layer` = `20-transcoder-hp` and `index`."""
    layer, _, source = record.text("layer").partition("-")
    if not re.fullmatch(r"[0-9]{1,5}", layer) or int(layer) > HIGHEST_SMALL or not source:
        raise record.fail("layer", "a source such as 20-transcoder-hp")
    return source, int(layer), record.feature("index")


def _survey_file(survey: Survey, root: Path, file: Path) -> None:
    part = None
    for record in lines(root, file):
        found = _part(record)
        if part is not None and found != part:
            raise InputError(f"{record.where}: expected {part}, as in the lines before, got {found}")
        if part is None:
            part = found
            survey.files.setdefault(part, []).append(file)
        if survey.model not in (None, record.text("modelId")):
            raise record.fail("modelId", f"{survey.model}, as in the lines before")
        survey.model = record.text("modelId")
        source, layer, feature = _place(record)
        if survey.layers and source not in survey.layers:
            raise record.fail("layer", f"a layer of {next(iter(survey.layers))}, as in the lines before")
        survey.layers.setdefault(source, set()).add(layer)
        CHECKS[part](survey, record, layer, feature)
    if part is None:
        raise InputError(f"{file.name}:1: expected JSON Lines, got an empty file")


def _check_feature(survey: Survey, record: Record, layer: int, feature: int) -> None:
    if (layer, feature) in survey.seen_features:
        raise record.fail("index", f"one line for feature L{layer}_F{feature}")
    survey.seen_features.add((layer, feature))
    _feature_row(record)
    _neighbour_rows(record)


def _check_activation(survey: Survey, record: Record, layer: int, feature: int) -> None:
    survey.n_activations[layer, feature] += 1
    if survey.n_activations[layer, feature] > HIGHEST_SMALL:
        raise record.fail("index", f"at most {HIGHEST_SMALL} activation records of feature L{layer}_F{feature}")
    survey.activation_keys.append((layer, feature))
    survey.strengths.append(max(_values(record)))


def _check_explanation(survey: Survey, record: Record, layer: int, feature: int) -> None:
    record.text("description")
    _created_at(record)


CHECKS: Mapping[str, Callable[[Survey, Record, int, int], None]] = {
    "features": _check_feature,
    "activations": _check_activation,
    "explanations": _check_explanation,
}


def _values(record: Record) -> Sequence[float]:
    """Return the activations of a text, one a token."""
    tokens, values = record.texts("tokens"), record.numbers("values")
    if not tokens or len(tokens) != len(values) or len(tokens) > HIGHEST_SMALL:
        raise record.fail("values", f"one number for each of the {len(tokens)} tokens, {HIGHEST_SMALL} at most")
    return values


def _created_at(record: Record) -> datetime:
    text = record.optional_text("createdAt")
    if text is None:
        return UNDATED
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise record.fail("createdAt", "an ISO time") from None
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _streams(survey: Survey, root: Path, source: str) -> dict[str, Batches]:
    """Return the tables of the parts that are there."""

    def records(part: str) -> Iterator[Record]:
        for file in survey.files.get(part, []):
            yield from lines(root, file)

    makers: dict[str, dict[str, Callable[[], Iterator[Row]]]] = {
        "features": {
            "feature": lambda: map(_feature_row, records("features")),
            "neighbour": lambda: (row for record in records("features") for row in _neighbour_rows(record)),
        },
        "activations": {
            "document": lambda: _document_rows(records("activations")),
            "token": lambda: _token_rows(records("activations")),
            "context": lambda: _context_rows(records("activations"), ranks_within_features(survey)),
        },
        "explanations": {
            "label": lambda: (_label_row(record, _transcoder_set(survey.model, source)) for record in records("explanations")),
        },
    }
    return {table: Batches(table, rows) for part in survey.files for table, rows in makers[part].items()}


def ranks_within_features(survey: Survey) -> npt.NDArray[np.int64]:
    """Return each activation record's rank (R) int64 within its feature: 0 is strongest, ties in file order."""
    keys = np.array(survey.activation_keys, dtype=np.int64).reshape(-1, 2)
    order = np.lexsort((np.arange(len(keys)), -np.array(survey.strengths), keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])
    first = np.repeat(starts, np.diff(np.r_[starts, len(keys)]))
    ranks = np.empty(len(keys), dtype=np.int64)
    ranks[order] = np.arange(len(keys)) - first
    return ranks


def _feature_row(record: Record) -> Row:
    _, layer, feature = _place(record)
    row: Row = {
        "layer": layer,
        "feature": feature,
        "density": record.optional_number("frac_nonzero"),
        "max_activation": record.optional_number("maxActApprox"),
    }
    for side, name in (("pos", "promoted"), ("neg", "suppressed")):
        if record.has(f"{side}_str"):
            tokens, weights = record.texts(f"{side}_str"), record.numbers(f"{side}_values")
            if len(tokens) != len(weights):
                raise record.fail(f"{side}_values", f"one weight for each of the {len(tokens)} tokens of {side}_str")
            row |= {f"{name}_tokens": tokens, f"{name}_weights": weights}
    return row


def _neighbour_rows(record: Record) -> list[Row]:
    if not record.has("topkCosSimIndices"):
        return []
    _, layer, feature = _place(record)
    indices, values = record.integers("topkCosSimIndices", 0), record.numbers("topkCosSimValues")
    if len(indices) != len(values):
        raise record.fail("topkCosSimValues", f"one value for each of the {len(indices)} topkCosSimIndices")
    pairs = zip(indices, values, strict=True)
    others = [(index, value) for index, value in pairs if index != feature]
    return [
        {
            "layer": layer,
            "feature": feature,
            "kind": "decoder_cosine",
            "rank": rank,
            "neighbour_layer": layer,
            "neighbour_feature": index,
            "similarity": value,
        }
        for rank, (index, value) in enumerate(others)
    ]


def _label_row(record: Record, transcoder_set: str) -> Row:
    _, layer, feature = _place(record)
    text, author = record.text("description").strip(), record.optional_text("typeName")
    identity = record.optional_text("id") or f"{author}:{text}"
    return {
        "label_id": sha256_text(f"neuronpedia:{transcoder_set}:{layer}:{feature}:{identity}")[:16],
        "transcoder_set": transcoder_set,
        "layer": layer,
        "feature": feature,
        "text": text,
        "method": "imported",
        "model": record.optional_text("explanationModelName"),
        "author": author or "neuronpedia",
        "created_at": _created_at(record),
        "retired": False,
    }


def _documents(records: Iterator[Record]) -> Iterator[tuple[Record, int, bytes, bool]]:
    """Yield (record, document, digest, new): equal texts are one document, whichever features show them."""
    numbers: dict[bytes, int] = {}
    for record in records:
        digest = hashlib.sha256("\x1f".join(record.texts("tokens")).encode()).digest()[:16]
        new = digest not in numbers
        number = numbers.setdefault(digest, len(numbers))
        yield record, number, digest, new


def _document_rows(records: Iterator[Record]) -> Iterator[Row]:
    for record, document, digest, new in _documents(records):
        if new:
            source = record.optional_text("dataSource") or "neuronpedia"
            row = {"document": document, "language": UNDETERMINED, "source": source}
            yield row | {"n_tokens": len(record.list("tokens")), "text_hash": digest[:8].hex()}


def _token_rows(records: Iterator[Record]) -> Iterator[Row]:
    for record, document, _, new in _documents(records):
        if new:
            for position, token in enumerate(record.list("tokens")):
                yield {"source": "document", "item": document, "position": position, "token": token, "role": "other"}


def _context_rows(records: Iterator[Record], ranks: npt.NDArray[np.int64]) -> Iterator[Row]:
    for (record, document, _, _), rank in zip(_documents(records), ranks.tolist(), strict=True):
        _, layer, feature = _place(record)
        values = _values(record)
        position = int(np.argmax(values))
        start, end = max(0, position - WINDOW_BEFORE), min(len(values) - 1, position + WINDOW_AFTER)
        yield {
            "layer": layer,
            "feature": feature,
            "kind": "top" if values[position] > 0 else "non_activating",
            "rank": rank,
            "source": "document",
            "item": document,
            "position": position,
            "language": UNDETERMINED,
            "activation": max(values[position], 0.0),
            "window_start": start,
            "window_end": end,
            "window_activations": values[start : end + 1],
        }
