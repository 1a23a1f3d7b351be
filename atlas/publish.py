"""Manifest + shards + catalogue + schema.sql -> atlas.duckdb, built beside the old one and swapped in by rename.

In: an atlas folder, build steps that fill derived tables, audits that must return no row. Out: a file that opens in any DuckDB
client from 1.5 on. Until the last rename nothing changes for anybody; whatever fails before it leaves the old file.

1. Take the lock, read the newest manifest, verify every shard's hash (fetching it, where shards lie on object storage).
2. Create the schema in `atlas.duckdb.next` and load the tables in its order; activations stand inside up to `inline_rows`, and as
   a view over the shards, with relative paths, above it.
3. Run the build steps, then the audits.
4. Write down the file's hash, fsync, make it read-only, remove a stale write-ahead log, rename, fsync the folder.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from atlas import __version__, files
from atlas.catalogue import utc_now
from atlas.errors import AtlasError, DamagedError, QueryError, StoreError
from atlas.folder import Atlas, CommitRecord, Manifest, check_name
from atlas.ids import canonical_json, sha256_file, sha256_text
from atlas.loading import Loader, NotIncremental, lost_words, relative_paths
from atlas.schema import schema_text
from atlas.seals import sealed, unseal
from atlas.settings import DATABASE, INLINE_ROWS, LOCK_SECONDS, PUBLISH_MEMORY, STEP_SHARE, STORAGE_VERSION
from atlas.statements import quoted

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True)
class BuildStep:
    """Fills derived tables; `run` gets a connection whose current database is the file being built."""

    name: str
    run: Callable[[duckdb.DuckDBPyConnection], None]


@dataclass(frozen=True)
class Audit:
    """A query that returns a row for everything that is wrong."""

    name: str
    sql: str


@dataclass(frozen=True)
class PublishResult:
    """What was published."""

    path: Path
    manifest: int
    n_runs: int
    n_rows: int
    """Rows of all tables; activations once."""
    n_bytes: int
    activations_inline: bool
    seconds: float
    n_carried: int = 0
    """Runs whose rows were copied with the old file."""


def publish(
    path: Path | str,
    *,
    build: Sequence[BuildStep] = (),
    audits: Sequence[Audit] = (),
    progress: Progress | None = None,
    inline_rows: int = INLINE_ROWS,
    memory: str = PUBLISH_MEMORY,
    wait: float = LOCK_SECONDS,
    incremental: bool = False,
) -> PublishResult:
    """Build atlas.duckdb from the newest manifest and swap it in.

    `incremental`: copy the published file and add the new runs, where it was built by the same version, schema and build steps and
    shows no run that is gone or changed; otherwise, and where a new run changes a shared row, all is built as usual. Build steps
    must then fill only what is lacking.
    `wait`: seconds to wait for another publish. `memory`: limit of the database engine, e.g. 4GB; larger sorts spill into the folder.
    Raises DamagedError for a shard that is not what its commit record says, StoreError when the disk refuses or an audit returns a
    row, QueryError for a build step that fails, LockedError after `wait`. The old file stays in all these cases.
    """
    atlas = Atlas(path)
    report = progress or (lambda stage, done, total: None)
    started = time.monotonic()
    with publishing(atlas, wait):
        if (lost := lost_words(atlas)) is not None:
            raise DamagedError(f"{atlas.catalogue_path} {lost}", hint="Run `atlas repair`: it rebuilds the catalogue from there.")
        manifest = atlas.manifest()
        records = {run.run_id: list(atlas.records(run)) for run in manifest.runs}
        carried = _carried_runs(atlas, manifest, build) if incremental else frozenset()
        verify_shards(atlas, [record for run_id, found in records.items() if run_id not in carried for record in found], report)
        job = _Job(atlas, manifest, records, build, audits, report, inline_rows, memory)
        built = atlas.path / f"{DATABASE}.next"
        _clear(built)
        try:
            try:
                n_rows, inline = job.fill(built, carried)
            except NotIncremental:
                carried = frozenset()
                _clear(built)
                verify_shards(atlas, [record for found in records.values() for record in found], report)
                n_rows, inline = job.fill(built, carried)
            n_bytes = _swap_in(atlas, built, manifest, _signature(build))
            atlas.place.forget(job.viewed)
        finally:
            _clear(built)
    seconds = time.monotonic() - started
    return PublishResult(atlas.database, manifest.number, len(manifest.runs), n_rows, n_bytes, inline, seconds, len(carried))


@contextlib.contextmanager
def publishing(atlas: Atlas, wait: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the lock under which atlas.duckdb and the files that it reads are changed; raises LockedError after `wait` seconds."""
    check_name(atlas.path)
    with files.locked(atlas.path / ".publish.lock", seconds=wait, what="publishing"):
        yield


def _signature(build: Sequence[BuildStep]) -> str:
    """Name what decides the derived rows: the package's version, the schema, the build steps."""
    return sha256_text(canonical_json([__version__, sha256_text(schema_text()), [step.name for step in build]]))


def _carried_runs(atlas: Atlas, manifest: Manifest, build: Sequence[BuildStep]) -> frozenset[str]:
    """Name the runs that the published file can keep; none where it has to be built anew."""
    try:
        digest = sha256_file(atlas.database)
        said = unseal(published_record(atlas, digest))
        old = atlas.manifest(int(said["manifest"])).runs
    except (OSError, StoreError):
        return frozenset()
    same = said["database_sha256"] == digest and said.get("signature") == _signature(build)
    return frozenset(run.run_id for run in old) if same and all(run in manifest.runs for run in old) else frozenset()


def verify_shards(atlas: Atlas, records: Sequence[CommitRecord], report: Progress) -> None:
    """Compare every shard with its hash; raises DamagedError that names the first damaged ones."""
    shards = [item for record in records for item in record.files if item.path]
    with ThreadPoolExecutor(4) as pool:
        damaged = []
        for done, (item, problem) in enumerate(zip(shards, pool.map(atlas.place.problem, shards), strict=True), 1):
            if problem is not None:
                damaged.append(f"{item.path} ({problem})")
            report("verify shards", done, len(shards))
    if damaged:
        raise DamagedError(
            f"{len(damaged)} of {len(shards)} shards are damaged: {', '.join(damaged[:5])}",
            hint="`atlas repair` sets them aside and says which runs to ingest again; the published atlas stays as it was.",
        )


def _clear(built: Path) -> None:
    """Remove what an earlier or this publish left beside the atlas."""
    for leftover in (built, built.with_name(f"{built.name}.wal")):
        if leftover.exists():
            files.remove(leftover)
    shutil.rmtree(_spill_folder(built), ignore_errors=True)


def _spill_folder(built: Path) -> Path:
    return built.with_name(f"{files.TEMPORARY}spill")


@contextlib.contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn the database engine's errors into ours: a full disk, rows that break a key, anything else."""
    try:
        yield
    except duckdb.IOException as error:
        raise StoreError(f"{what}: {first_line(error)}", hint="Make space or check the disk, then `atlas publish` again.") from error
    except duckdb.ConstraintException as error:
        hint = "Two rows share a key, or a row refers to one that is not there; the published atlas stays as it was."
        raise DamagedError(f"{what}: {first_line(error)}", hint=hint) from error
    except duckdb.OutOfMemoryException as error:
        raise StoreError(f"{what}: {first_line(error)}", hint="Publish with more memory, or on a disk with more space.") from error
    except duckdb.Error as error:
        if "No space left" in str(error):  # a commit that cannot be written is no IOException
            raise StoreError(f"{what}: {first_line(error)}", hint="Make space, then `atlas publish` again.") from error
        raise QueryError(f"{what}: {first_line(error)}", hint="The published atlas stays as it was.") from error


def first_line(error: Exception) -> str:
    """Give the first line of an error's text."""
    return str(error).strip().split("\n")[0]


@dataclass(frozen=True)
class _Job:
    """What one publish is to build."""

    atlas: Atlas
    manifest: Manifest
    records: Mapping[str, Sequence[CommitRecord]]
    build: Sequence[BuildStep]
    audits: Sequence[Audit]
    report: Progress
    inline_rows: int
    memory: str
    viewed: set[str] = field(default_factory=set)
    """Files outside the published one that its views read, relative to the folder."""

    def fill(self, built: Path, carried: Collection[str]) -> tuple[int, bool]:
        """Fill the new file; returns the number of rows and whether activations are in it. Raises NotIncremental."""
        with contextlib.closing(duckdb.connect(":memory:")) as connection, relative_paths(connection, self.atlas.path):
            with engine_errors("create the database"):
                self._create(connection, built, carried)
            loader = Loader(self.atlas, connection, self.manifest, self.records, carried)
            inline = loader.n_activations <= self.inline_rows
            if carried and connection.execute("select activations_inline from atlas").fetchall() != [(inline,)]:
                raise NotIncremental("activation")
            self._load(connection, loader, inline)
            self.viewed.clear()
            self.viewed.update(loader.viewed)
            self._limit(connection, STEP_SHARE)
            for done, step in enumerate(self.build, 1):
                with engine_errors(f"build step {step.name}"):
                    step.run(connection)
                self.report("build steps", done, len(self.build))
            self._limit(connection, 1)
            for done, audit in enumerate(self.audits, 1):
                _audit(connection, audit)
                self.report("audits", done, len(self.audits))
            n_rows = loader.count_rows()
            with engine_errors("write the database"):
                connection.execute("use memory")
                connection.execute("checkpoint next")
                connection.execute("detach next")
        return n_rows, inline

    def _limit(self, connection: duckdb.DuckDBPyConnection, share: float) -> None:
        """Leave the engine a share of the memory."""
        [(n_bytes,)] = connection.execute("select parse_formatted_bytes(?)", [self.memory]).fetchall()
        connection.execute(f"set memory_limit = '{int(n_bytes * share)}B'")

    def _create(self, connection: duckdb.DuckDBPyConnection, built: Path, carried: Collection[str]) -> None:
        self._limit(connection, 1)
        connection.execute(f"set temp_directory = {quoted(str(_spill_folder(built)))}")
        if carried:
            with files.explained(built):
                shutil.copyfile(self.atlas.database, built)
        connection.execute(f"attach {quoted(str(built))} as next (storage_version {quoted(STORAGE_VERSION)})")
        connection.execute("use next")
        if not carried:
            # One transaction: a commit for each of a thousand statements would be an fsync each.
            connection.execute("begin")
            connection.execute(schema_text())
            connection.execute("commit")

    def _load(self, connection: duckdb.DuckDBPyConnection, loader: Loader, inline: bool) -> None:
        for done, (table, load) in enumerate(stages := loader.stages(inline), 1):
            with engine_errors(f"load table {table}"):
                load()
            self.report("load tables", done, len(stages))
        with engine_errors("fill table atlas"):
            connection.execute("delete from atlas")
            connection.execute(
                "insert into atlas values (?, ?, ?, ?, ?, ?)",
                [self.manifest.format_version, self.manifest.number, self.manifest.sha256, __version__, utc_now(), inline],
            )


def _audit(connection: duckdb.DuckDBPyConnection, audit: Audit) -> None:
    with engine_errors(f"audit {audit.name}"):
        found = connection.execute(audit.sql).fetchall()
    if found:
        shown = "; ".join(str(row) for row in found[:3])
        raise StoreError(f"audit {audit.name} found {len(found)} rows that are wrong: {shown}", hint="The published atlas stays as it was.")


def _swap_in(atlas: Atlas, built: Path, manifest: Manifest, signature: str) -> int:
    """Write the new file's hash down, then rename it over the old one; returns its size."""
    with files.explained(built):
        files.disk.sync_path(built)
    digest, n_bytes = sha256_file(built), built.stat().st_size
    record = published_record(atlas, digest)
    content = {"database_sha256": digest, "bytes": n_bytes, "manifest": manifest.number, "manifest_sha256": manifest.sha256}
    content["signature"] = signature
    files.write_whole(record, sealed(content))
    stale = atlas.database.with_name(f"{DATABASE}.wal")
    if stale.exists():
        files.remove(stale)
    files.swap_in(built, atlas.database)
    for old in atlas.versions.glob("published-*.json"):
        if old != record:
            with contextlib.suppress(AtlasError):
                files.remove(old)
    return n_bytes


def published_record(atlas: Atlas, digest: str) -> Path:
    """File that says what the published database's hash is; it is there before the database is."""
    return atlas.versions / f"published-{digest[:16]}.json"
