"""What this machine does in a second: matrix products, one decoder layer, reading, writing, hashing.

In: a device, a dtype, shapes. Out: `Rates`, measured in a few seconds; and what memory there is.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

_SECONDS = 0.3
"""Least time a rate is measured for."""


@dataclass(frozen=True)
class Rates:
    """Slopes of this machine."""

    matmul: float
    """FLOP/s of a matrix product of the transcoders' shape."""
    layer: float | None
    """Seconds a token of one decoder layer of the model's shape; None where the layer is too large to make here."""
    read: float
    """Bytes/s of reading weights (of a file that is in memory already: an upper bound for a disk)."""
    write: float
    """Bytes/s of writing Parquet shards durably."""
    row_bytes: float
    """Bytes of a row of `activation` in Parquet."""
    hashing: float
    """Bytes/s of SHA-256."""


def repeated(work: Callable[[], object], device: torch.device, seconds: float = _SECONDS) -> float:
    """Return the seconds of one call, after one that warms up."""

    def done() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    work()
    done()
    calls, started = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - started < seconds:
        work()
        calls += 1
        done()
    return (time.perf_counter() - started) / calls


def matmul_rate(device: torch.device, dtype: torch.dtype, d_model: int, width: int) -> float:
    """Return FLOP/s of x (N, D) W^T (D, F), at shapes that take a fraction of a second."""
    rows, columns = (4096, min(width, 1 << 15)) if device.type == "cuda" else (256, min(width, 1 << 12))
    x = torch.randn(rows, d_model, device=device).to(dtype)
    weight = torch.randn(columns, d_model, device=device).to(dtype)
    return 2 * rows * columns * d_model / repeated(lambda: torch.nn.functional.linear(x, weight), device)


def layer_seconds(config: Any, device: torch.device, dtype: torch.dtype, batch: int, length: int) -> float:
    """Return seconds a token of one decoder layer with random weights, run as the pipeline runs it."""
    import copy

    from transformers import AutoModelForCausalLM

    from ingest.model import from_module

    small = copy.deepcopy(config)
    small.num_hidden_layers, small.vocab_size = 1, 64
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(small, name, None)
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[:1]
    module = AutoModelForCausalLM.from_config(small, dtype=dtype)
    model = from_module(module.to(device), name="one layer")
    tokens = torch.randint(0, 64, (batch, length))
    return repeated(lambda: model.capture(tokens), device) / (batch * length)


def disk_rates(folder: Path) -> tuple[float, float, float, float]:
    """Return (read, write, bytes a row of activation, hash) rates, from 400,000 rows written as a shard in `folder`."""
    from atlas.shards import write_parquet

    table = _rows_of_activation()
    n = table.num_rows
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "rows.parquet"
        started = time.perf_counter()
        written = write_parquet(path, "activation", table)
        writing = time.perf_counter() - started
        assert written is not None
        block = os.urandom(1 << 20) * 32
        raw = Path(scratch) / "raw"
        raw.write_bytes(block)
        reading = repeated(lambda: np.fromfile(raw, np.uint8), torch.device("cpu"), 0.1)
    hashing = repeated(lambda: hashlib.sha256(block).digest(), torch.device("cpu"), 0.1)
    return len(block) / reading, written.bytes / writing, written.bytes / n, len(block) / hashing


def _rows_of_activation() -> pa.Table:
    """Return rows like those of a prompt set: 400 features of each of 10 layers, each on 100 of 600 prompts."""
    rng = np.random.default_rng(0)
    features = np.concatenate([np.sort(rng.choice(163_840, 400, replace=False)) for _ in range(10)])
    prompts = np.sort(np.argsort(rng.random((4000, 600)), axis=1)[:, :100], axis=1).ravel()
    return pa.table(
        {
            "layer": pa.array(np.repeat(np.arange(10, dtype=np.int16), 40_000)),
            "feature": pa.array(np.repeat(features.astype(np.int32), 100)),
            "prompt": pa.array(prompts.astype(np.int32)),
            "position": pa.array(rng.integers(1, 14, len(prompts)).astype(np.int16)),
            "activation": pa.array(rng.gamma(2.0, 1.0, len(prompts)).astype(np.float32)),
        }
    )


def total_memory(device: torch.device) -> int:
    """Return the bytes of memory that a device has, whoever uses them."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory(device: torch.device) -> int:
    """Return free bytes of a device: what CUDA says, or what the system and its control group leave."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        found.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(found)) if found else 1 << 62
