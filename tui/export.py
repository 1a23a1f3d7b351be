"""Export a view: its rows, the SQL that gave them, and where they come from.

In: batches of Arrow rows and their statement. Out: `NAME.csv` or `NAME.parquet`, `NAME.sql`, `NAME.provenance.json`, all or an error that
names the file. Nothing that exists is overwritten.

1. Batches are written as they come, under another name: an export takes no memory, and one that is stopped leaves nothing behind.
2. After the last one the statement and the provenance are written, and the data gets its name.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas import __version__
from atlas.errors import InputError
from tui.data import Statement
from tui.session import statement_text

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".csv", ".parquet")


def free_path(path: Path) -> Path:
    """Return the path, or with -2, -3, … where it or one of the files beside it stands already."""
    number, found = 1, path
    while any(beside.exists() for beside in (found, found.with_suffix(".sql"), found.with_suffix(".provenance.json"))):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def write_export(
    path: Path, batches: "Batches", statement: Statement, about: Mapping[str, Any], step: Callable[[], None] = lambda: None
) -> tuple[Path, int, bool]:
    """Write the three files; return the path of the data, its rows, and whether rows were left out.

    Raises InputError for an unknown format or an unwritable place. `step` is called between batches; what it raises ends the export.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"cannot export to {path.suffix or path.name!r}", hint=f"End the name in {' or '.join(FORMATS)}.")
    import pyarrow as pa

    target = free_path(path)
    unfinished = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        n_rows, is_cut = _write_rows(unfinished, target.suffix, batches, step)
        target.with_suffix(".sql").write_text(statement_text(statement), encoding="utf-8")
        sidecar = {
            "data": target.name,
            "sha256": _sha256(unfinished),
            "rows": n_rows,
            "is_cut": is_cut,
            "columns": batches.schema.names,
            "sql": statement.sql,
            "parameters": dict(statement.parameters),
            "exported_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
            "exported_by": f"feature-atlas {__version__}",
            **about,
        }
        text = json.dumps(sidecar, ensure_ascii=False, indent=2, default=str)
        target.with_suffix(".provenance.json").write_text(text + "\n", encoding="utf-8")
        unfinished.rename(target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}", hint="Choose another place.") from error
    except pa.ArrowException as error:
        hint = f"Try the other of {' and '.join(FORMATS)}, or leave the column out."
        raise InputError(f"cannot write {target.name}: {' '.join(str(error).split())}", hint=hint) from error
    finally:
        if unfinished.parent.is_dir():
            unfinished.unlink(missing_ok=True)
    return target, n_rows, is_cut


class Batches:
    """Arrow batches of one schema, of which at most `most` rows are taken."""

    def __init__(self, schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]", most: int | None = None) -> None:
        self.schema, self.batches, self.most = schema, batches, most


def _write_rows(path: Path, suffix: str, batches: Batches, step: Callable[[], None]) -> tuple[int, bool]:
    """Write batches one after another; return how many rows were written, and whether there were more."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    schema = batches.schema if suffix == ".parquet" else pa.schema([_flat_field(field) for field in batches.schema])
    n_rows = 0
    with path.open("wb") as stream, (pq.ParquetWriter if suffix == ".parquet" else csv.CSVWriter)(stream, schema) as writer:
        for batch in batches.batches:
            step()
            room = len(batch) if batches.most is None else batches.most - n_rows
            if room <= 0 and len(batch):
                return n_rows, True
            kept = batch.slice(0, room)
            writer.write_batch(kept if suffix == ".parquet" else _flat(kept, schema))
            n_rows += len(kept)
            if len(kept) < len(batch):
                return n_rows, True
    return n_rows, False


def _flat_field(field: "pa.Field") -> "pa.Field":
    """Return the field of a column as CSV can hold it: lists and structs as JSON, categories as text."""
    import pyarrow as pa

    nested = pa.types.is_nested(field.type) or pa.types.is_dictionary(field.type)
    return pa.field(field.name, pa.string() if nested else field.type)


def _flat(batch: "pa.RecordBatch", schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in column.to_pylist()]
            columns.append(pa.array(texts, pa.string()))
        else:
            columns.append(column.cast(pa.string()) if pa.types.is_dictionary(field.type) else column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
