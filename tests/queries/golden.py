"""Golden answers of all questions: on the synthetic atlas, and on the demo.

    python -m tests.queries.golden                    writes those of the synthetic atlas anew
    python -m tests.queries.golden --demo demo.atlas  writes those of a demo atlas anew

A golden holds the number of rows, the first rows and a hash over all of them, numbers to 6 significant digits. The demo's numbers come from
float32 arithmetic, whose last digits hang on the processor's instructions and on torch: its goldens name both, and hold where both are the
same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

if TYPE_CHECKING:
    from atlas.reader import Reader

FOLDER = Path(__file__).parent / "golden"
DEMO = Path(__file__).parent / "golden_demo.json"
VARYING = {"code_version", "started_at", "finished_at", "seconds", "machine", "rows", "bytes", "n_bytes"}
"""Columns of runs and files that hang on time, machine, version and compression."""
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


def arithmetic() -> str:
    """Return what the last digits of a model's numbers hang on."""
    import torch

    return f"torch {torch.__version__.partition('+')[0]}, {torch.backends.cpu.get_cpu_capability()}"


def demo_answer(reader: Reader, name: str) -> dict[str, Any]:
    """Ask a question's example of the demo and summarise the answer."""
    import queries

    result = reader.ask(name, **queries.question(name).example)
    kept = [k for k, column in enumerate(result.columns) if column not in VARYING]
    return summarise([tuple(row[k] for k in kept) for row in result.rows()], [result.columns[k] for k in kept])


def write_demo(folder: Path) -> None:
    """Write the goldens of a demo atlas."""
    import atlas
    import queries

    with atlas.open(folder) as reader:
        answers = {name: demo_answer(reader, name) for name in queries.catalogue()}
    lines = json.dumps({"arithmetic": arithmetic(), "answers": answers}, ensure_ascii=False, indent=1)
    DEMO.write_text(lines + "\n", encoding="utf-8")


def write_synthetic() -> None:
    """Write the goldens of the synthetic atlas."""
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


def main() -> None:
    """Write the goldens that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, metavar="DIR", help="a demo atlas, just built")
    demo = parser.parse_args().demo
    write_synthetic() if demo is None else write_demo(demo)


if __name__ == "__main__":
    main()
