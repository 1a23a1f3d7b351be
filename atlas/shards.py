"""Arrow rows to Parquet shards, commit records and a manifest: how a run writes.

In: a plan, and for each shard a mapping from table of schema.sql to an Arrow table or to record batches. Out: files under
`data/`, one commit record a shard under `runs/<run>/done/`, and at the end a manifest that shows the run.

1. Each table of a shard is checked against schema.sql, sorted where the layout asks for it, encoded, and written to a temporary
   name; fsync; rename to a name that no other attempt uses.
2. When all are durable, the commit record goes to its fixed name by exclusive link. Whoever is second removes its own files.
3. `finish` writes the run's row and the next manifest. Before it no reader sees anything of the run.

A run that stopped goes on with the commit records it has; a complete run is left as it is.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atlas import __version__, files
from atlas.catalogue import utc_now
from atlas.encoding import conform, encoded_groups, writer_options
from atlas.errors import DamagedError, StoreError, UsageError
from atlas.folder import SHARDS, Atlas, CommitRecord, Manifest, ManifestRun, ShardFile
from atlas.ids import canonical_json, check_run_id, check_shard, sha256_file, sha256_text
from atlas.places import Place
from atlas.schema import STORE_TABLES, arrow_schema, table_columns
from atlas.seals import sealed, unseal

__all__ = ["Atlas", "RunWriter", "ShardTables", "shard_of", "write_parquet", "write_shard"]

COMPACTED = "compacted-"
"""Begins the names of the shards that compaction writes; no stage's shard may begin so."""
ShardTables = Mapping[str, "pa.Table | Iterable[pa.RecordBatch]"]


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file that is durable under its final name."""

    rows: int
    bytes: int
    sha256: str


def shard_of(shards: Sequence[str], index: int, count: int) -> list[str]:
    """Give the shards that worker `index` of `count` computes (`--shard-of I/N`, from 0): every count-th, so that layers are shared out.

    Raises UsageError when index is not in 0 … count - 1.
    """
    if not 0 <= index < count:
        raise UsageError(f"worker {index} of {count}", hint="Workers count from 0 to N - 1.")
    return list(shards[index::count])


def write_parquet(
    path: Path,
    table: str,
    rows: pa.Table | Iterable[pa.RecordBatch] | Iterable[pa.Table],
    *,
    grouped: bool = False,
    level: int | None = None,
) -> WrittenFile | None:
    """Write rows as one Parquet shard, durably; the folder's fsync is left to the caller. None where there is no row.

    `grouped`: the rows come as row groups that `encoded_groups` made, and are written as they come. `level`: of zstd, where it is not
    that of what is written first.
    Raises InputError for rows that do not fit schema.sql, StoreError when the disk refuses.
    """
    groups: Iterator[pa.Table] = iter(rows) if grouped else encoded_groups(table, rows)
    first = next(groups, None)
    if first is None:
        return None
    n_rows = 0
    with files.Stream(path) as stream:
        sink = pa.PythonFile(stream, mode="w")
        with contextlib.closing(pq.ParquetWriter(sink, first.schema, **writer_options(table, level))) as writer:
            for group in _chain(first, groups):
                writer.write_table(group, row_group_size=max(1, group.num_rows))
                n_rows += group.num_rows
        digest = stream.finish()
        return WrittenFile(n_rows, stream.bytes_written, digest)


def write_shard(
    place: Place,
    path: str,
    table: str,
    rows: pa.Table | Iterable[pa.RecordBatch] | Iterable[pa.Table],
    *,
    grouped: bool = False,
    level: int | None = None,
) -> ShardFile:
    """Write rows as one shard where an atlas keeps its shards; the names in a folder are synced by `Place.sync`.

    Raises InputError for rows that do not fit schema.sql, StoreError when the disk or the object store refuses.
    """
    with place.writing(path) as target:
        result = write_parquet(target, table, rows, grouped=grouped, level=level)
    if result is None:
        return ShardFile(table, None, 0, 0, None)
    return ShardFile(table, path, result.rows, result.bytes, result.sha256)


def _chain(first: pa.Table, rest: Iterator[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest


class RunWriter:
    """Writes the shards of one run; made again with the same plan it goes on where the last one stopped.

    `again=True` on a complete run begins its next attempt; the manifest shows that one once it is finished.
    """

    def __init__(self, atlas: Atlas, plan: Mapping[str, Any], run_id: str, *, again: bool = False) -> None:
        self.atlas = atlas
        self.run_id = check_run_id(run_id)
        self.plan_text = canonical_json(plan)
        visible = atlas.manifest().run(run_id)
        self.is_complete = visible is not None and not again
        """Whether the run is visible already, so that nothing is left to do."""
        self.attempt = 1 if visible is None else visible.attempt + again
        self.done = atlas.done_folder(run_id, self.attempt)
        self.started_at = utc_now()
        self._write_plan()

    def _write_plan(self) -> None:
        path = self.atlas.run_folder(self.run_id) / "plan.json"
        if path.exists():
            with files.reading(path):
                stored = path.read_bytes()
            if stored == self.plan_text.encode():
                return
            if sha256_text(self.plan_text)[:16] != self.run_id:
                raise StoreError(
                    f"run {self.run_id} has another plan on disk: {path}", hint="Another plan is another run id: pass run_id(plan)."
                )
            # The id is the plan's hash: what stands there is not what was written.
            files.move(path, self.atlas.path / "quarantine" / f"{self.run_id}-{secrets.token_hex(4)}-{path.name}")
        files.make_folder(path.parent)
        if not files.write_once(path, self.plan_text.encode()):
            self._write_plan()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave what is committed: the same plan goes on from there."""

    def record(self, shard: str) -> CommitRecord | None:
        """Give a shard's commit record, None where it is not committed.

        A record that is damaged, or whose files are gone or of another size, is set aside, so that the shard is computed again.
        """
        path = self.atlas.record_path(self.run_id, self.attempt, check_shard(shard))
        if not path.exists():
            return None
        try:
            found = CommitRecord.read(path)
        except DamagedError:
            found = None
        if found is not None and all(self.atlas.place.size(item.path) == item.bytes for item in found.files if item.path):
            return found
        files.move(path, self.atlas.path / "quarantine" / f"{self.run_id}-{secrets.token_hex(4)}-{path.name}")
        return None

    def is_done(self, shard: str) -> bool:
        """Say whether a shard is committed."""
        return self.is_complete or self.record(shard) is not None

    def done_shards(self) -> list[str]:
        """Name all committed shards of this attempt."""
        found = self.done.glob("*.json") if self.done.is_dir() else []
        return sorted(path.stem for path in found if not path.stem.startswith(COMPACTED))

    def commit(self, shard: str, tables: ShardTables) -> CommitRecord | None:
        """Write all tables of a shard and commit them together; a shard that is committed stays as it is.

        `tables`: table of schema.sql to its rows without `run_id`, in any column order; activations need not be sorted.
        Returns the commit record (the other writer's, where one was first), None for a complete run.
        Raises InputError for rows that do not fit schema.sql, StoreError when the disk refuses: then nothing is committed.
        """
        if self.is_complete:
            return None
        if shard.startswith(COMPACTED):
            raise UsageError(f"shard {shard!r} begins with {COMPACTED!r}, which compaction uses")
        if (found := self.record(shard)) is not None:
            return found
        for table in tables:
            table_columns(table)
            if table in STORE_TABLES:
                raise UsageError(f"table {table!r} is filled by publish", hint="Give its values to RunWriter.finish.")
        written: list[ShardFile] = []
        try:
            for table, rows in tables.items():
                written.append(self._write_table(shard, table, rows))
            self.atlas.place.sync([item.path for item in written if item.path])
            record = CommitRecord(self.run_id, shard, self.attempt, tuple(written))
            files.make_folder(self.done)
            won = files.write_once(self.atlas.record_path(self.run_id, self.attempt, shard), record.seal())
        except Exception:
            self._discard(written)
            raise
        if won:
            return record
        self._discard(written)
        return self.record(shard)

    def _write_table(self, shard: str, table: str, rows: pa.Table | Iterable[pa.RecordBatch]) -> ShardFile:
        path = self.atlas.data_path(table, self.run_id, f"{shard}-{self.attempt}{secrets.token_hex(4)}")
        return write_shard(self.atlas.place, path, table, rows)

    def _discard(self, written: Iterable[ShardFile]) -> None:
        for item in written:
            if item.path:
                with contextlib.suppress(StoreError):
                    self.atlas.place.remove(item.path)

    def finish(self, run_row: Mapping[str, Any], *, shards: Sequence[str] | None = None) -> Manifest:
        """Make the run visible: its row, then the next manifest. A complete run is left as it is.

        `run_row`: columns of table `run`; run_id, plan, plan_hash, attempt, state, code_version and the times are filled in
        where they are missing. `shards`: what the plan consists of; without it all committed ones.
        Raises StoreError when one of them is not committed, InputError for a row that does not fit.
        """
        if self.is_complete:
            return self.atlas.manifest()
        names = list(shards) if shards is not None else self.done_shards()
        self.require(names)
        row = self._stored_row(self._complete_row(run_row), names)
        entry = ManifestRun(self.run_id, self.attempt, row, {name: self._record_hash(name) for name in names})

        def with_run(runs: tuple[ManifestRun, ...]) -> tuple[ManifestRun, ...] | None:
            if any(run.run_id == self.run_id and run.attempt >= self.attempt for run in runs):
                return None
            return (*(run for run in runs if run.run_id != self.run_id), entry)

        manifest = self.atlas.change(f"run {self.run_id}", with_run)
        self.is_complete = True
        return manifest

    def require(self, shards: Sequence[str]) -> None:
        """Raise StoreError when one of these shards is not committed."""
        if missing := [name for name in shards if self.record(name) is None]:
            raise StoreError(
                f"{len(missing)} of {len(shards)} shards of run {self.run_id} are not committed: {', '.join(missing[:5])}",
                hint="Run the same command again, without --finish: it does what is missing.",
            )

    def _record_hash(self, shard: str) -> str:
        return sha256_file(self.atlas.record_path(self.run_id, self.attempt, shard))

    def _complete_row(self, run_row: Mapping[str, Any]) -> dict[str, Any]:
        now = utc_now()
        known: dict[str, Any] = {
            "state": "complete",
            "code_version": __version__,
            "started_at": self.started_at,
            "finished_at": now,
            "seconds": (now - self.started_at).total_seconds(),
            **run_row,
            "run_id": self.run_id,
            "attempt": self.attempt,
            "plan": self.plan_text,
            "plan_hash": sha256_text(self.plan_text),
        }
        schema = arrow_schema("run", with_run=True)
        table = conform("run", pa.table({name: pa.array([value]) for name, value in known.items()}), schema)
        row = table.to_pylist()[0]
        return {name: str(value) if isinstance(value, datetime.datetime) else value for name, value in row.items()}

    def _stored_row(self, row: dict[str, Any], shards: Sequence[str]) -> dict[str, Any]:
        """Write the run's row once, with the names of its shards; whoever finished first has said it."""
        path = self.atlas.row_path(self.run_id, self.attempt)
        with contextlib.suppress(DamagedError):
            if not path.exists() and files.write_once(path, sealed({**row, SHARDS: sorted(shards)})):
                return row
            return {key: value for key, value in unseal(path).items() if key != SHARDS}
        files.move(path, self.atlas.path / "quarantine" / f"{self.run_id}-{secrets.token_hex(4)}-{path.name}")
        return self._stored_row(row, shards)
