"""Golden answers of all questions on the synthetic atlas: `python -m tests.queries.golden` writes them anew.

A golden holds the number of rows, the first rows and a hash over all of them, numbers to 6 significant digits.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

FOLDER = Path(__file__).parent / "golden"
SHOWN = 5


def path(name: str) -> Path:
    """Return where the golden of a question stands."""
    return FOLDER / f"{name.replace('/', '.')}.json"


def plain(value: Any) -> Any:
    """Return a value as JSON holds it, numbers to 6 significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def summarise(rows: list[tuple[Any, ...]], columns: list[str]) -> dict[str, Any]:
    """Return what a golden holds of an answer."""
    everything = [plain(row) for row in rows]
    text = json.dumps(everything, ensure_ascii=False)
    return {
        "columns": columns,
        "n_rows": len(rows),
        "first_rows": everything[:SHOWN],
        "sha256": hashlib.sha256(text.encode()).hexdigest()[:16],
    }


def answer(con: duckdb.DuckDBPyConnection, name: str) -> dict[str, Any]:
    """Ask a question's example and summarise the answer."""
    import queries

    result = queries.ask(con, name, **queries.question(name).example)
    return summarise(result.rows(), result.columns)


def main() -> None:
    """Write all goldens."""
    import queries
    from tests.queries import synthetic

    FOLDER.mkdir(exist_ok=True)
    con = duckdb.connect(config={"threads": 1})
    synthetic.build(con)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name in queries.catalogue():
        lines = json.dumps(answer(con, name), ensure_ascii=False, indent=1)
        path(name).write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
