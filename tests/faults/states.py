"""What must hold after any fault: used by every test of the harness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.check import check
from atlas.errors import StoreError
from atlas.folder import Atlas
from atlas.ids import run_id, sha256_text
from atlas.shards import RunWriter
from tests.atlas.samples import RUN_ROW, model_rows, plan, prompt_rows

SMALL_SHARDS = ("model", "prompts")
"""A run small enough to be stopped at each of its steps."""


def small_tables(shard: str, seed: int) -> dict[str, pa.Table]:
    """What the small run's stages compute."""
    return {"model": model_rows()} if shard == "model" else {"prompt": prompt_rows(4 + seed)}


def write_small_run(folder: Path, seed: int = 1, acknowledged: list[str] | None = None) -> None:
    """Create, write and finish, noting each promise that was given: `created`, shard names, `finished`."""
    promises = [] if acknowledged is None else acknowledged
    atlas = Atlas.create(folder)
    promises.append("created")
    with RunWriter(atlas, plan(seed), run_id(plan(seed))) as writer:
        for shard in SMALL_SHARDS:
            if not writer.is_done(shard):
                writer.commit(shard, small_tables(shard, seed))
            promises.append(shard)
        writer.finish({**RUN_ROW, "seed": seed}, shards=SMALL_SHARDS)
        promises.append("finished")


def contents(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Visible rows: run to table to a hash over its sorted rows."""
    atlas = Atlas(folder)
    found: dict[str, dict[str, str]] = {}
    for run in atlas.manifest().runs:
        tables: dict[str, list[str]] = {}
        for record in atlas.records(run):
            for item in record.files:
                rows = pq.read_table(atlas.path / str(item.path)).to_pylist() if item.path else []
                tables.setdefault(item.table, []).extend(str(row) for row in rows)
        found[run.run_id] = {table: sha256_text("\n".join(sorted(rows))) for table, rows in tables.items()}
    return found


def violations(folder: Path, acknowledged: list[str], expected: Mapping[str, Mapping[str, str]], seed: int = 1) -> list[str]:
    """Say which promise does not hold in a folder after a fault, then resume the run and compare; empty when all hold.

    1. what was acknowledged is there; 2. nothing that is visible or committed is damaged; 3. the resumed run ends with the same
    rows as an undisturbed one.
    """
    found: list[str] = []
    this = run_id(plan(seed))
    try:
        if "created" in acknowledged:
            atlas = Atlas(folder)
            visible = atlas.manifest().run(this)
            if "finished" in acknowledged and visible is None:
                found.append("a finished run is not visible")
            for shard in SMALL_SHARDS:
                if shard in acknowledged and not atlas.record_path(this, 1, shard).exists():
                    found.append(f"committed shard {shard} is gone")
            found += [f"{finding.path}: {finding.problem}" for finding in check(folder)]
            if visible is not None and dict(contents(folder)[this]) != dict(expected[this]):
                found.append("the visible run has other rows")
        write_small_run(folder, seed)
        if contents(folder)[this] != expected[this]:
            found.append("the resumed run has other rows")
        found += [f"after resuming: {finding.path}: {finding.problem}" for finding in check(folder)]
    except (StoreError, OSError, KeyError, pa.ArrowException) as error:
        found.append(f"{type(error).__name__}: {error}")
    return found
