"""Runs of an atlas: list, show, compare, remove.

In: an atlas folder and run ids (or their first digits). Out: Arrow tables and text. Everything is read from manifests and shards,
so it works on an atlas that was not published yet.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from atlas.errors import StoreError, UsageError
from atlas.folder import Atlas, ManifestRun
from atlas.schema import TABLES, arrow_schema, has_run
from atlas.seals import unseal
from atlas.statements import count_of, only_in_first, shard_rows

VOLATILE: Mapping[str, frozenset[str]] = {
    "run": frozenset({"run_id", "attempt", "code_version", "started_at", "finished_at", "machine", "seconds"}),
    "label": frozenset({"label_id", "created_at"}),
}
"""Columns that "equal tables" leaves out: time, machine and attempt."""


def list_runs(path: Path | str) -> pa.Table:
    """List the runs that the newest manifest shows, in the order in which they became visible."""
    atlas = Atlas(path)
    rows = []
    for run in atlas.manifest().runs:
        files = [item for record in atlas.records(run) for item in record.files]
        columns = ("kind", "name", "state", "seed", "code_version", "started_at", "finished_at", "seconds")
        counts = {
            "tables": len({item.table for item in files if item.rows}),
            "rows": sum(item.rows for item in files),
            "bytes": sum(item.bytes for item in files),
        }
        rows.append({"run_id": run.run_id, **{column: run.row.get(column) for column in columns}, "attempt": run.attempt, **counts})
    text = pa.string()
    schema = {"run_id": text, "kind": text, "name": text, "state": text, "seed": pa.int64(), "code_version": text, "started_at": text}
    schema |= {"finished_at": text, "seconds": pa.float64()} | dict.fromkeys(("attempt", "tables", "rows", "bytes"), pa.int64())
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def unfinished_runs(path: Path | str) -> pa.Table:
    """List runs that were begun and are not shown yet, the newest last: the same command goes on with each.

    Columns: run_id, name, attempt, done (committed shards), shards (of all; null where the run did not say), last_commit (UTC).
    """
    atlas = Atlas(path)
    visible = {run.run_id: run.attempt for run in atlas.manifest().runs}
    rows: list[dict[str, Any]] = []
    for plan in (atlas.path / "runs").glob("*/plan.json"):
        run_id = plan.parent.name
        begun = [int(folder.name.removeprefix("done").lstrip("-") or 1) for folder in plan.parent.glob("done*")]
        attempt = max([*begun, 1])
        if attempt <= visible.get(run_id, 0):
            continue
        records = list(atlas.done_folder(run_id, attempt).glob("*.json"))
        # A row says that the run was finished: it was shown and removed, unless its process ended just before it was shown.
        if atlas.row_path(run_id, attempt).exists() and (not records or (run_id, attempt) in _ever_visible(atlas)):
            continue
        last = max((record.stat().st_mtime for record in records), default=plan.stat().st_mtime)
        moment = f"{datetime.datetime.fromtimestamp(last, datetime.UTC):%Y-%m-%d %H:%M:%S}"
        row: dict[str, Any] = {
            "run_id": run_id,
            "name": None,
            "attempt": attempt,
            "done": len(records),
            "shards": None,
            "last_commit": moment,
        }
        with contextlib.suppress(StoreError):
            row["shards"] = len(unseal(plan.parent / "scratch" / "shards.json")["shards"])
        with contextlib.suppress(ValueError, AttributeError):
            row["name"] = json.loads(plan.read_text(encoding="utf-8")).get("name")
        rows.append(row)
    rows.sort(key=lambda row: (row["last_commit"], row["run_id"]))
    text, number = pa.string(), pa.int64()
    schema = {"run_id": text, "name": text, "attempt": number, "done": number, "shards": number, "last_commit": text}
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def _ever_visible(atlas: Atlas) -> set[tuple[str, int]]:
    """Read the runs and attempts that the manifests which are left have shown."""
    found: set[tuple[str, int]] = set()
    for number in atlas.manifest_numbers():
        with contextlib.suppress(StoreError):
            found |= {(run.run_id, run.attempt) for run in atlas.manifest(number).runs}
    return found


def show_run(path: Path | str, run: str) -> str:
    """Give a run's row, plan and shards as readable JSON; raises UsageError for an unknown run."""
    atlas = Atlas(path)
    found = atlas.find_run(run)
    row = dict(found.row)
    plan = json.loads(row.pop("plan"))
    tables: dict[str, dict[str, int]] = {}
    for record in atlas.records(found):
        for item in record.files:
            counts = tables.setdefault(item.table, {"shards": 0, "rows": 0, "bytes": 0})
            counts["shards"] += 1 if item.path else 0
            counts["rows"] += item.rows
            counts["bytes"] += item.bytes
    return json.dumps({**row, "plan": plan, "tables": tables}, indent=2, ensure_ascii=False)


def remove_run(path: Path | str, run: str) -> str:
    """Hide a run from the next manifest on and return its id; its shards stay until gc, so the same plan brings it back.

    Raises UsageError for an unknown run.
    """
    atlas = Atlas(path)
    run_id = atlas.find_run(run).run_id

    def without(runs: tuple[ManifestRun, ...]) -> tuple[ManifestRun, ...] | None:
        kept = tuple(entry for entry in runs if entry.run_id != run_id)
        return None if len(kept) == len(runs) else kept

    atlas.change(f"remove {run_id}", without)
    return run_id


def diff_runs(path: Path | str, first: str, second: str) -> pa.Table:
    """Show what differs between two runs: one row per differing plan entry, run column and table.

    Columns: part (plan, run or table), name, first, second, only_first, only_second (rows that the other has not; null for
    values). Time, machine and attempt are left out. No row means that the tables are equal.
    """
    atlas = Atlas(path)
    a, b = atlas.find_run(first), atlas.find_run(second)
    rows: list[dict[str, Any]] = []
    plans = [dict(_flat(json.loads(run.row["plan"]))) for run in (a, b)]
    for key in sorted(plans[0].keys() | plans[1].keys()):
        values = [plan.get(key) for plan in plans]
        if values[0] != values[1]:
            rows.append({"part": "plan", "name": key, "first": _text(values[0]), "second": _text(values[1])})
    for key in arrow_schema("run", with_run=True).names:
        if key not in VOLATILE["run"] | {"plan", "plan_hash"} and a.row.get(key) != b.row.get(key):
            rows.append({"part": "run", "name": key, "first": _text(a.row.get(key)), "second": _text(b.row.get(key))})
    for table in TABLES:
        paths = [_paths(atlas, run, table) for run in (a, b)]
        if any(paths):
            counts, only = table_difference(table, *paths)
            if any(only):
                words = [f"{count:,} rows" for count in counts]
                row = {"part": "table", "name": table, "first": words[0], "second": words[1]}
                rows.append({**row, "only_first": only[0], "only_second": only[1]})
    text, number = pa.string(), pa.int64()
    schema = {"part": text, "name": text, "first": text, "second": text, "only_first": number, "only_second": number}
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def tables_equal(first: Path | str, second: Path | str, run: str, *, tables: Sequence[str] | None = None) -> list[str]:
    """Name the tables in which a run of one atlas differs from the same run of another; empty when all are equal.

    Order of rows, division into shards, time, machine and attempt do not count.
    """
    atlases = [Atlas(first), Atlas(second)]
    found = [atlas.find_run(run) for atlas in atlases]
    different = []
    for table in tables or list(TABLES):
        paths = [_paths(atlas, entry, table) for atlas, entry in zip(atlases, found, strict=True)]
        if any(paths) and any(table_difference(table, *paths)[1]):
            different.append(table)
    return different


def table_difference(table: str, first: Sequence[str], second: Sequence[str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Compare the rows of two sets of shards as multisets: (rows of each), (rows that only one has)."""
    left_out = VOLATILE.get(table, frozenset())
    columns = [column for column in arrow_schema(table).names if column not in left_out]
    sides = [shard_rows(paths, columns) if paths else None for paths in (first, second)]
    with duckdb.connect(":memory:") as connection:

        def count(source: str | None) -> int:
            return 0 if source is None else int(connection.execute(count_of(source)).fetchall()[0][0])

        one, other = sides
        counts = count(one), count(other)
        if one is None or other is None:
            return counts, counts
        return counts, (count(only_in_first(one, other)), count(only_in_first(other, one)))


def _paths(atlas: Atlas, run: ManifestRun, table: str) -> list[str]:
    if not has_run(table) and table not in ("model", "transcoder", "label", "label_score", "claim", "parameter_set"):
        return []
    return [str(atlas.place.local(item)) for record in atlas.records(run) for item in record.files if item.table == table and item.path]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def resolve_run(path: Path | str, run: str) -> str:
    """Give the whole id of a visible run from its first digits; raises UsageError."""
    if not run:
        raise UsageError("no run is named", hint="`atlas runs` lists them.")
    return Atlas(path).find_run(run).run_id
