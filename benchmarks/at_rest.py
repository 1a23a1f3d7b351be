"""What a higher compression level costs and gives, on the activations of an atlas: bytes, writing, reading.

    python benchmarks/at_rest.py DIR [--levels 3 9 12 16 19]

In: an atlas. Out: a table on stdout, a line a level and type of value: bytes a row, share of what pyarrow's defaults take for the same
sorted rows, million rows a second of processor time written, milliseconds of processor time for a sum over all columns and for the top
20 of a feature (median of 25, the levels in turn). bfloat16 are the same values rounded.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.encoding import encoded_groups
from atlas.folder import Atlas
from atlas.shards import write_parquet

ORDER = [(name, "ascending") for name in ("layer", "feature", "prompt", "position")]
SCAN = "select sum(activation), sum(feature), sum(prompt), sum(position) from read_parquet('{}')"
LOOKUP = "select prompt, position, activation from read_parquet('{}') where layer = {} and feature = {} order by activation desc limit 20"


def activations(folder: Path) -> list[pa.Table]:
    """Read the activations of each run."""
    atlas = Atlas(folder)
    found = []
    for run in atlas.manifest().runs:
        paths = [
            atlas.place.local(item) for record in atlas.records(run) for item in record.files if item.table == "activation" and item.path
        ]
        if paths:
            found.append(pa.concat_tables(pq.read_table(path) for path in paths))
    return found


def rounded(rows: pa.Table) -> pa.Table:
    """Round the values to bfloat16."""
    bits = rows["activation"].to_numpy().view(np.uint32)
    values = ((bits.astype(np.uint64) + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return rows.set_column(rows.column_names.index("activation"), "activation", pa.array(values))


def processor_ms(connection: duckdb.DuckDBPyConnection, sql: str) -> float:
    """Ask and give the processor time."""
    started = time.process_time()
    connection.execute(sql).fetchall()
    return (time.process_time() - started) * 1000


def measure(runs: list[pa.Table], levels: list[int], folder: Path) -> None:
    """Write all runs at each level, then read the files in turn."""
    n_rows = sum(rows.num_rows for rows in runs)
    default = 0
    for rows in runs:
        pq.write_table(rows.sort_by(ORDER), folder / "default.parquet")
        default += (folder / "default.parquet").stat().st_size
    groups = [list(encoded_groups("activation", rows)) for rows in runs]
    largest = max(range(len(runs)), key=lambda place: runs[place].num_rows)
    layer, feature = (runs[largest].slice(0, 1)[name][0].as_py() for name in ("layer", "feature"))
    written = {}
    for level in levels:
        n_bytes = 0
        started = time.process_time()
        for place, encoded in enumerate(groups):
            result = write_parquet(folder / f"{level}-{place}.parquet", "activation", iter(encoded), grouped=True, level=level)
            n_bytes += result.bytes if result else 0
        written[level] = n_bytes, time.process_time() - started
    times: dict[int, tuple[list[float], list[float]]] = {level: ([], []) for level in levels}
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        for _ in range(25):
            for level in levels:
                path = folder / f"{level}-{largest}.parquet"
                times[level][0].append(processor_ms(connection, SCAN.format(path)))
                times[level][1].append(processor_ms(connection, LOOKUP.format(path, layer, feature)))
    for level, (n_bytes, seconds) in written.items():
        scan, lookup = (statistics.median(values) for values in times[level])
        rate = n_rows / seconds / 1e6
        print(f"| {level} | {n_bytes / n_rows:.2f} | {n_bytes / default:.3f} | {rate:.1f} | {scan:.1f} | {lookup:.1f} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("atlas", type=Path, metavar="DIR")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 9, 12, 16, 19])
    given = parser.parse_args()
    runs = activations(given.atlas)
    for kind, tables in (("float32", runs), ("bfloat16", [rounded(rows) for rows in runs])):
        print(f"\n{kind}, {sum(rows.num_rows for rows in tables):,} rows\n")
        print("| zstd level | bytes a row | share of pyarrow's defaults | written, million rows/s | sum over all, ms | top 20, ms |")
        print("|---|---|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder:
            measure(tables, given.levels, Path(folder))


if __name__ == "__main__":
    main()
