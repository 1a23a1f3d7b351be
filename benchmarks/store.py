"""How fast the store writes, publishes and answers, beside the obvious way to write the same rows.

    python benchmarks/store.py [--rows 10_000_000] [--layers 16] [--dtype bfloat16|float32] [--view] [--alone] [--folder DIR] [--json FILE]

In: synthetic activations, Zipf over 163,840 features a layer, two languages, 12 positions a prompt. Out: a table on stdout.

1. write: torch tensors of one shard after another to committed shards, as rows/s of processor time; beside it sort_by +
   pyarrow.parquet.write_table with its defaults + SHA-256 + fsync of the same columns (and the bare write_table).
   "emission order" is what torch.nonzero of a (prompt, position, feature) tensor gives, "feature-major" what it gives when the
   device transposes first.
2. publish: rows/s and peak memory, in a process of its own; again with one more run, whole and incrementally.
3. lookups: milliseconds, median of seven, on the published file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.publish import publish
from atlas.reader import Reader
from atlas.shards import RunWriter

if TYPE_CHECKING:
    import torch  # not in the process that publishes: its peak memory is to be the store's own

N_FEATURES = 163_840
N_POSITIONS = 12
SHARD_ROWS = 5_000_000
LANGUAGES = ("en", "fr")
MODEL = {"model_id": "m", "name": "synthetic", "source": "synthetic", "architecture": "none", "dtype": "bfloat16"}


def layer_tensors(layer: int, n_rows: int, dtype: torch.dtype, n_prompts: int) -> dict[str, torch.Tensor]:
    """Rows of one layer in emission order: Zipf features, distinct (prompt, position, feature)."""
    import torch

    random = np.random.default_rng(layer)
    rank = np.minimum((random.pareto(0.6, int(n_rows * 1.35)) * 40).astype(np.int64), N_FEATURES - 1)
    feature = random.permutation(N_FEATURES)[rank]
    place = random.integers(0, n_prompts * N_POSITIONS, len(feature))
    key = np.unique(place * N_FEATURES + feature)
    key = key[np.sort(random.choice(len(key), min(n_rows, len(key)), replace=False))]
    place = key // N_FEATURES
    values = torch.from_numpy((random.gamma(2.0, 1.5, len(key)) + 0.01).astype(np.float32)).to(dtype).to(torch.float32)
    return {
        "feature": torch.from_numpy((key % N_FEATURES).astype(np.int32)),
        "prompt": torch.from_numpy((place // N_POSITIONS).astype(np.int32)),
        "position": torch.from_numpy((place % N_POSITIONS).astype(np.int16)),
        "activation": values,
    }


def feature_major(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same rows as a device that transposes first would give them."""
    import torch

    key = (tensors["feature"].long() << 40) | (tensors["prompt"].long() << 16) | tensors["position"].long()
    order = torch.argsort(key)
    return {name: tensor[order] for name, tensor in tensors.items()}


def as_arrow(layer: int, tensors: dict[str, torch.Tensor]) -> pa.Table:
    """Wrap tensors without a copy."""
    columns = {"layer": pa.array(np.full(len(tensors["feature"]), layer, np.int16))}
    return pa.table({**columns, **{name: pa.array(tensor.numpy()) for name, tensor in tensors.items()}})


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock and processor seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def write_obviously(path: Path, rows: pa.Table, *, bare: bool = False) -> None:
    """Sort, write with pyarrow's defaults, hash, fsync; `bare` only writes."""
    if bare:
        pq.write_table(rows, path)
        return
    pq.write_table(rows.sort_by([(name, "ascending") for name in ("layer", "feature", "prompt", "position")]), path)
    with path.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")
        os.fsync(stream.fileno())


def shards(n_rows: int, n_layers: int, dtype: torch.dtype, n_prompts: int, order: str) -> Iterator[tuple[str, Callable[[], pa.Table]]]:
    """Shards of about SHARD_ROWS rows: whole layers."""
    per_layer = n_rows // n_layers
    layers_a_shard = max(1, SHARD_ROWS // per_layer)
    for first in range(0, n_layers, layers_a_shard):
        layers = range(first, min(first + layers_a_shard, n_layers))
        tensors = {layer: layer_tensors(layer, per_layer, dtype, n_prompts) for layer in layers}
        if order == "feature-major":
            tensors = {layer: feature_major(found) for layer, found in tensors.items()}
        yield f"layers-{first:02d}", lambda tensors=tensors: pa.concat_tables([as_arrow(layer, found) for layer, found in tensors.items()])


def write(folder: Path, arguments: argparse.Namespace, order: str) -> dict[str, Any]:
    """Write one run our way and, unless told not to, each shard the obvious way too."""
    import torch

    atlas = Atlas.create(folder)
    plan = {"rows": arguments.rows, "layers": arguments.layers, "dtype": arguments.dtype, "order": order}
    dtype = getattr(torch, arguments.dtype)
    ours, obvious, bare = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    n_rows = obvious_bytes = 0
    other = folder.with_name("obvious.parquet")
    with RunWriter(atlas, plan, run_id(plan)) as writer:
        for shard, make in shards(arguments.rows, arguments.layers, dtype, arguments.prompts, order):
            beside = (
                (bare, lambda make=make: write_obviously(other, make(), bare=True)),
                (obvious, lambda make=make: write_obviously(other, make())),
            )
            for total, work in (
                (ours, lambda shard=shard, make=make: writer.commit(shard, {"activation": make()})),
                *(() if arguments.alone else beside),
            ):
                wall, cpu = timed(work)
                total[0] += wall
                total[1] += cpu
            n_rows += make().num_rows
            obvious_bytes += 0 if arguments.alone else other.stat().st_size
        texts = {
            "behaviour": "b",
            "prompt_hash": "h",
            "concept": "c",
            "template": "t",
            "split": "train",
            "text": "x",
            "n_tokens": N_POSITIONS,
        }
        prompts = [{"prompt": index, "language": LANGUAGES[index % 2], **texts} for index in range(arguments.prompts)]
        model = pa.Table.from_pylist([{**MODEL, "n_layers": arguments.layers, "d_model": 1, "vocab_size": 1}])
        writer.commit("prompts", {"model": model, "prompt": pa.Table.from_pylist(prompts)})
        manifest = writer.finish({"kind": "ingest", "name": f"synthetic {order}", "model_id": "m"})
    run = manifest.run(run_id(plan))
    assert run is not None
    n_bytes = sum(item.bytes for record in atlas.records(run) for item in record.files if item.table == "activation")
    alone = {"order": order, "rows": n_rows, "ours_rows_per_cpu_s": n_rows / ours[1], "bytes_per_row": n_bytes / n_rows}
    if arguments.alone:
        return alone
    other.unlink()
    return {
        **alone,
        "obvious_rows_per_cpu_s": n_rows / obvious[1],
        "bare_rows_per_cpu_s": n_rows / bare[1],
        "times_faster_than_obvious_cpu": obvious[1] / ours[1],
        "times_faster_than_obvious_wall": obvious[0] / ours[0],
        "share_of_obvious_bytes": n_bytes / obvious_bytes,
    }


def publish_in_a_process(folder: Path, *, incremental: bool = False, inline: bool) -> dict[str, Any]:
    """Publish in a fresh process, so that its peak memory is its own."""
    command = [
        sys.executable,
        __file__,
        "--publish",
        str(folder),
        *(["--incremental"] if incremental else []),
        *(["--inline"] if inline else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def publish_here(folder: Path, incremental: bool, inline: bool) -> None:
    """Publish and print what it took."""
    before = time.process_time()
    result = publish(folder, incremental=incremental, inline_rows=10**12 if inline else 0)
    print(
        json.dumps(
            {
                "seconds": result.seconds,
                "cpu_seconds": time.process_time() - before,
                "rows_per_s": result.n_rows / result.seconds,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "mb": result.n_bytes / 1e6,
                "carried": result.n_carried,
            }
        )
    )


LOOKUPS = {
    "top 20 of a feature": "select prompt, position, activation from activation where layer = $layer and feature = $feature "
    "order by activation desc limit 20",
    "one prompt": "select layer, feature, activation from activation_by_prompt where run_id = $run and prompt = $prompt and position = 3",
    "feature by language": "select language, count(*) from activation join prompt using (run_id, prompt) "
    "where layer = $layer and feature = $feature group by language",
}


def lookups(folder: Path) -> dict[str, float]:
    """Median milliseconds of each lookup over seven features or prompts."""
    found = {}
    with Reader(folder) as reader:
        run = reader.sql("select run_id from run order by run_id limit 1").rows()[0][0]
        features = reader.sql("select layer, feature from activation using sample 7 rows (reservoir, 1)").rows()
        for what, sql in LOOKUPS.items():
            times = []
            for number, (layer, feature) in enumerate(features):
                values = {"layer": layer, "feature": feature, "run": run, "prompt": number * 31}
                parameters = {name: value for name, value in values.items() if f"${name}" in sql}
                reader.sql(sql, parameters)
                times.append(timed(lambda sql=sql, parameters=parameters: reader.sql(sql, parameters))[0] * 1000)
            found[what] = statistics.median(times)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=10_000_000)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--view", action="store_true", help="leave activations in the shards")
    parser.add_argument("--alone", action="store_true", help="only this store: leave out the obvious way to write, two thirds of the time")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--incremental", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--inline", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish is not None:
        publish_here(arguments.publish, arguments.incremental, arguments.inline)
        return
    import torch

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    inline = not arguments.view
    try:
        path = folder / "bench.atlas"
        written = [write(path, arguments, "emission order")]
        published = {"whole": publish_in_a_process(path, inline=inline)}
        found = lookups(path)
        written.append(write(path, arguments, "feature-major"))
        published["one run more, incremental"] = publish_in_a_process(path, incremental=True, inline=inline)
        published["both runs, whole"] = publish_in_a_process(path, inline=inline)
        report(arguments, written, published, found)
    finally:
        shutil.rmtree(folder)


def report(arguments: argparse.Namespace, written: list[dict[str, Any]], published: dict[str, Any], found: dict[str, float]) -> None:
    """Print all figures, and keep them as JSON where asked."""
    versions = {"python": platform.python_version(), "pyarrow": pa.__version__, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(f"{arguments.rows:,} rows, {arguments.layers} layers, {arguments.dtype}; {versions}")
    for row in written:
        print(f"\nwrite, {row['order']}")
        for name, value in row.items():
            if name not in ("order", "rows"):
                print(f"  {name:<34}{value:>14,.2f}")
    for what, row in published.items():
        print(f"\npublish, {what}")
        for name, value in row.items():
            print(f"  {name:<34}{value:>14,.1f}")
    print("\nlookups, ms")
    for what, milliseconds in found.items():
        print(f"  {what:<34}{milliseconds:>14,.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "write": written, "publish": published, "lookups": found}, indent=1))


if __name__ == "__main__":
    main()
