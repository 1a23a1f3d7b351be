"""Verify an atlas: every hash, every count, every reference.

In: an atlas folder. Out: findings, each with the file, what is wrong and what to do; none where all is well. Nothing is changed.

1. manifests against their own hashes, and the plan and commit records they name;
2. every shard against the hash, size and row count of its commit record, unfinished runs included;
3. atlas.duckdb against the hash written down before it was swapped in, its manifest, and its rows against run_table;
4. keys and references of the published tables, and the audits that are passed in;
5. the catalogue, row by row; files that publish derived.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from atlas.errors import DamagedError, StoreError, VersionError
from atlas.folder import SHARDS, Atlas, CommitRecord, Manifest, ManifestRun, ShardFile
from atlas.ids import sha256_file
from atlas.loading import DERIVED, is_intact, lost_words
from atlas.places import settings_problems
from atlas.publish import Audit, Progress, first_line, published_record
from atlas.reader import Reader
from atlas.schema import STORE_TABLES, TABLES, has_run, key_columns, table_columns
from atlas.seals import unseal
from atlas.statements import count_rows, counts_unlike_run_table, shared_keys, unknown_runs, unknown_targets

PUBLISH = "Run `atlas publish`: it builds the file again from the shards."
REPAIR = "Run `atlas repair`: it sets the file aside; then ingest the run again, which does only what is missing."
KEY_CHECK_ROWS = 20_000_000
"""Keys that no index enforces are counted in tables up to this size; the writer refuses duplicates within a shard."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    path: Path
    """File or folder, relative to the atlas."""
    problem: str
    next_step: str
    kind: str = "damaged"
    """manifest, settings, plan, row, record, shard, database, count, reference, catalogue, derived or version."""
    run_id: str | None = None
    shard: str | None = None


def check(path: Path | str, *, progress: Progress | None = None, audits: Sequence[Audit] = ()) -> list[Finding]:
    """Verify an atlas; returns what is wrong. Raises StoreError where there is no atlas at all."""
    try:
        atlas = Atlas(path)
    except DamagedError as error:
        return [Finding(Path("versions"), "is missing, with every manifest", str(error.hint), "manifest")]
    report = progress or (lambda stage, done, total: None)
    findings = list(_manifests(atlas))
    for lost in settings_problems(atlas.path):
        step = "Run `atlas repair`: it writes the file again from its second copy."
        findings.append(_finding(atlas, lost, "does not say where the shards are", step, "settings"))
    visible = newest_intact(atlas)
    runs = visible.runs if visible else ()
    for run in runs:
        findings += _run_files(atlas, run)
    findings += _unfinished(atlas, {run.run_id for run in runs})
    records, damaged_records = read_records(atlas)
    findings += damaged_records
    findings += _shards(atlas, records, report)
    if atlas.database.exists():
        findings += _database(atlas, report, audits)
    for problem in catalogue_problems(atlas):
        findings.append(_finding(atlas, atlas.catalogue_path, problem, "Run `atlas repair`: it rebuilds what can be.", "catalogue"))
    for derived in sorted((atlas.path / DERIVED).rglob("*.parquet")):
        if not is_intact(derived):
            findings.append(_finding(atlas, derived, "differs from its hash", f"Run `atlas repair`, then: {PUBLISH}", "derived"))
    return findings


def catalogue_problems(atlas: Atlas) -> list[str]:
    """Say what is wrong with the catalogue, or that it is gone; raises StoreError where it cannot be read now."""
    damaged = atlas.catalogue.damage()
    lost = None if damaged else lost_words(atlas)
    return damaged if lost is None else [lost]


def _finding(
    atlas: Atlas, path: Path, problem: str, next_step: str, kind: str, run_id: str | None = None, shard: str | None = None
) -> Finding:
    return Finding(
        path.relative_to(atlas.path) if path.is_absolute() or atlas.path in path.parents else path, problem, next_step, kind, run_id, shard
    )


def newest_intact(atlas: Atlas) -> Manifest | None:
    """Read the newest manifest that is not damaged, None where there is none of this format."""
    for number in reversed(atlas.manifest_numbers()):
        with contextlib.suppress(StoreError):
            return atlas.manifest(number)
    return None


def published_number(atlas: Atlas) -> int | None:
    """Read which manifest atlas.duckdb was built from, None where nothing readable is published."""
    try:
        with Reader(atlas.path) as reader:
            return reader.manifest
    except StoreError:
        return None


def _manifests(atlas: Atlas) -> Iterator[Finding]:
    numbers = atlas.manifest_numbers()
    step = "Run `atlas repair`: it rebuilds one from the finished runs."
    if not numbers:
        yield _finding(atlas, atlas.versions, "holds no manifest", step, "manifest")
    published = published_number(atlas)
    if published is not None and published > max(numbers, default=-1):
        yield _finding(atlas, atlas.manifest_path(published), "is missing; atlas.duckdb was built from it", step, "manifest")
    for number in numbers:
        try:
            atlas.manifest(number)
        except VersionError as error:
            yield _finding(atlas, atlas.manifest_path(number), error.message, str(error.hint), "version")
        except DamagedError as error:
            step = "Run `atlas repair`: it sets the manifest aside and rebuilds what it said."
            yield _finding(atlas, atlas.manifest_path(number), error.message, step, "manifest")


def _run_files(atlas: Atlas, run: ManifestRun) -> Iterator[Finding]:
    """Check that what a manifest names is there and is what it names."""
    plan = atlas.run_folder(run.run_id) / "plan.json"
    if plan_hash(plan) != run.row["plan_hash"]:
        step = "Run `atlas repair`: it writes the plan again from the manifest."
        yield _finding(atlas, plan, "is missing or differs from the plan's hash", step, "plan", run.run_id)
    row = atlas.row_path(run.run_id, run.attempt)
    if stored_row(row) != dict(run.row):
        step = "Run `atlas repair`: it writes the row again from the manifest."
        yield _finding(atlas, row, "is missing or differs from the run's row in the manifest", step, "row", run.run_id)
    for shard, digest in run.shards.items():
        path = atlas.record_path(run.run_id, run.attempt, shard)
        try:
            CommitRecord.read(path)
        except DamagedError as error:
            if not path.exists():
                yield _finding(atlas, path, error.message, REPAIR, "record", run.run_id, shard)
            continue
        if sha256_file(path) != digest:
            yield _finding(atlas, path, "is not the commit record that the manifest names", REPAIR, "record", run.run_id, shard)


def plan_hash(path: Path) -> str | None:
    """Give the hash of a plan on disk, None where it is gone or unreadable."""
    try:
        return sha256_file(path)
    except (FileNotFoundError, DamagedError):
        return None


def stored_row(path: Path) -> dict[str, Any] | None:
    """Read the row of a finished run, without the names of its shards; None where it is gone or damaged."""
    try:
        return {key: value for key, value in unseal(path).items() if key != SHARDS}
    except DamagedError:
        return None


def _unfinished(atlas: Atlas, visible: Collection[str]) -> Iterator[Finding]:
    """Check the plans of runs that no manifest shows: a run's id is its plan's hash."""
    for plan in sorted((atlas.path / "runs").glob("*/plan.json")):
        run_id = plan.parent.name
        if run_id not in visible and (plan_hash(plan) or "")[:16] != run_id:
            step = "Run the same `atlas ingest` or `atlas import` again, which writes it anew; or `atlas repair`, which sets it aside."
            yield _finding(atlas, plan, "differs from the run's id", step, "plan", run_id)


def read_records(atlas: Atlas) -> tuple[list[CommitRecord], list[Finding]]:
    """Read all commit records on disk, those of unfinished runs included; damaged ones become findings."""
    records, findings = [], []
    for path in atlas.all_record_paths():
        try:
            records.append(CommitRecord.read(path))
        except (DamagedError, TypeError) as error:
            findings.append(_finding(atlas, path, str(error).split("\n")[0], REPAIR, "record", path.parent.parent.name, path.stem))
    return records, findings


def _shards(atlas: Atlas, records: Sequence[CommitRecord], report: Progress) -> list[Finding]:
    entries = [(record, item) for record in records for item in record.files if item.path]
    findings = []
    with ThreadPoolExecutor(4) as pool:
        problems = pool.map(lambda entry: shard_problem(atlas, entry[1]), entries)
        for done, ((record, item), problem) in enumerate(zip(entries, problems, strict=True), 1):
            if problem:
                findings.append(_finding(atlas, atlas.path / str(item.path), problem, REPAIR, "shard", record.run_id, record.shard))
            report("check shards", done, len(entries))
    return findings


def shard_problem(atlas: Atlas, item: ShardFile) -> str | None:
    """Say what is wrong with a shard, None where nothing is."""
    place, path = atlas.place, str(item.path)
    try:
        size = place.size(path)
        if size is None:
            return "is missing"
        if size != item.bytes:
            return f"has {size:,} bytes; the commit record says {item.bytes:,}"
        if place.digest(path) != item.sha256:
            return "differs from its hash"
        rows = place.n_rows(path)
    except DamagedError as error:
        return error.message
    except StoreError:
        raise  # a store that does not answer says nothing about the shard
    except Exception as error:  # noqa: BLE001 - any failure to read is the finding
        return f"cannot be read: {first_line(error)}"
    return None if rows == item.rows else f"has {rows:,} rows; the commit record says {item.rows:,}"


def _database(atlas: Atlas, report: Progress, audits: Sequence[Audit]) -> list[Finding]:
    found = database_problem(atlas)
    if found is not None:
        return [found]
    findings = []
    with Reader(atlas.path) as reader:
        cursor = reader.cursor()
        tests = [
            *_counts(cursor),
            *_keys(cursor),
            *_references(cursor),
            *((f"audit {audit.name}", "reference", audit.sql) for audit in audits),
        ]
        for done, (what, kind, sql) in enumerate(tests, 1):
            try:
                wrong = cursor.execute(sql).fetchall()
            except duckdb.Error as error:
                findings.append(_finding(atlas, atlas.database, f"{what}: {first_line(error)}", PUBLISH, "database"))
                continue
            if wrong:
                shown = "; ".join(str(row) for row in wrong[:3])
                findings.append(
                    _finding(atlas, atlas.database, f"{what}: {shown}", "Ingest the run again into a new atlas, or remove it.", kind)
                )
            report("check the published file", done, len(tests))
    return findings


def database_problem(atlas: Atlas) -> Finding | None:
    """Say what is wrong with atlas.duckdb as a file: its hash, its version, the manifest it was built from.

    A publish may swap in another file meanwhile: only what is said of the file that is still there counts.
    """
    while True:
        before = atlas.database.stat()
        found = _problem_of_file(atlas)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(before, atlas.database.stat()):
                return found


def _problem_of_file(atlas: Atlas) -> Finding | None:
    digest = sha256_file(atlas.database)
    record = published_record(atlas, digest)
    try:
        said = unseal(record)
    except DamagedError:
        return _finding(atlas, atlas.database, "differs from what was published", PUBLISH, "database")
    if said["database_sha256"] != digest:
        return _finding(atlas, atlas.database, "differs from what was published", PUBLISH, "database")
    try:
        with Reader(atlas.path) as reader:
            number = reader.manifest
    except VersionError as error:
        return _finding(atlas, atlas.database, error.message, str(error.hint), "version")
    except StoreError as error:
        return _finding(atlas, atlas.database, error.message, PUBLISH, "database")
    with contextlib.suppress(StoreError):
        if atlas.manifest(number).sha256 != said["manifest_sha256"]:
            return _finding(
                atlas, atlas.database, f"was built from another manifest {number} than the one in the folder", PUBLISH, "database"
            )
    return None


Test = tuple[str, str, str]
"""What is tested, kind of finding, SQL that returns a row for each thing that is wrong."""


ADDED_TO = frozenset({"effect", "feature_score", "layer_score"})
"""Tables that publish adds rows of its own to, beside those that a run brings: an import's published scores next to computed ones."""


def _counts(cursor: duckdb.DuckDBPyConnection) -> list[Test]:
    """Compare the rows of each table of a run with run_table."""
    tests = []
    for table in (row[0] for row in cursor.execute("select distinct table_name from run_table order by 1").fetchall()):
        if has_run(table):
            sql = counts_unlike_run_table(table, more_allowed=table in ADDED_TO)
            tests.append((f"rows of {table} differ from run_table", "count", sql))
    return tests


def _keys(cursor: duckdb.DuckDBPyConnection) -> list[Test]:
    """Look for two rows of one key, in tables whose key stands in a comment."""
    enforced = {
        row[0] for row in cursor.execute("select table_name from duckdb_constraints() where constraint_type = 'PRIMARY KEY'").fetchall()
    }
    tests = []
    for table in TABLES:
        if table not in enforced and table != "atlas":
            rows = cursor.execute(count_rows(table)).fetchall()[0][0]
            if 0 < rows <= KEY_CHECK_ROWS:
                tests.append((f"two rows of {table} share a key", "reference", shared_keys(table, key_columns(table))))
    return tests


REFERENCES: dict[str, tuple[str, str]] = {
    "prompt": ("prompt", "prompt"),
    "prompt_a": ("prompt", "prompt"),
    "prompt_b": ("prompt", "prompt"),
    "graph": ("graph", "graph"),
    "intervention": ("intervention", "intervention"),
    "circuit": ("circuit", "circuit"),
}
"""Columns that name a row of another table within the run, where the run has rows of that table."""


def _references(cursor: duckdb.DuckDBPyConnection) -> list[Test]:
    """Look for rows that name a run, prompt, graph, intervention or circuit that is not there."""
    tests = []
    for table in TABLES:
        if table in STORE_TABLES or not has_run(table):
            continue
        tests.append((f"{table} names a run that is not there", "reference", unknown_runs(table)))
        for column, (target, target_column) in REFERENCES.items():
            if column in table_columns(table) and table != target:
                sql = unknown_targets(table, column, target, target_column)
                tests.append((f"{table}.{column} names a {target} that is not there", "reference", sql))
    return tests
