"""Export a view: its rows, the SQL that gave them, and where they come from.

In: an Arrow table and its statement. Out: `NAME.csv` or `NAME.parquet`, `NAME.sql`, `NAME.provenance.json`, all or an error that names the
file. Nothing that exists is overwritten.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atlas import __version__
from atlas.errors import InputError
from tui.data import Statement
from tui.session import statement_text

FORMATS = (".csv", ".parquet")


def free_path(path: Path) -> Path:
    """Return the path, or with -2, -3, … where something stands already."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def write_export(path: Path, table: Any, statement: Statement, about: Mapping[str, Any]) -> Path:
    """Write the three files and return the path of the data; raise InputError for an unknown format or an unwritable place."""
    if path.suffix not in FORMATS:
        raise InputError(f"cannot export to {path.suffix or path.name!r}", hint=f"End the name in {' or '.join(FORMATS)}.")
    target = free_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_table(target, table)
        target.with_suffix(".sql").write_text(statement_text(statement), encoding="utf-8")
        sidecar = {
            "data": target.name,
            "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
            "rows": table.num_rows,
            "columns": table.column_names,
            "sql": statement.sql,
            "parameters": dict(statement.parameters),
            "exported_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
            "exported_by": f"feature-atlas {__version__}",
            **about,
        }
        text = json.dumps(sidecar, ensure_ascii=False, indent=2, default=str)
        target.with_suffix(".provenance.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}", hint="Choose another place.") from error
    return target


def _write_table(path: Path, table: Any) -> None:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(table, path)
        return
    import pyarrow as pa
    import pyarrow.csv as csv

    flat = {}
    for name in table.column_names:
        column = table.column(name)
        nested = pa.types.is_nested(column.type)
        texts = (
            [None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in column.to_pylist()]
            if nested
            else None
        )
        flat[name] = pa.array(texts, pa.string()) if nested else column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    csv.write_csv(pa.table(flat), path)
