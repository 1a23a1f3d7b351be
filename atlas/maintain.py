"""Keep an atlas well: repair what is damaged, merge small parts, remove what nothing refers to.

In: an atlas folder. Out: a list of what was done, each with the file and the next step. Every change is a rename, a new file or a
new manifest, so that a crash in between leaves an atlas that the same command goes on with.

repair: 1. damaged manifests are set aside, and what the newest said is rebuilt from the rows of finished runs or, where these are
lost too, from the published file; runs of which neither is left are named; 2. damaged shards and
commit records are set aside and their runs hidden until they are ingested again, which computes only what is missing; 3. a plan is
written again from the manifest; 4. a damaged atlas.duckdb is set aside; 5. the catalogue is rebuilt from the rows that are whole
and from the published file.

compact: all parts of a run become one a table, compressed harder, under a new commit record and the next manifest.

gc: 1. old manifests, 2. commit records and 3. data that no kept manifest refers to, 4. what dead writers left.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas import files
from atlas.catalogue import KEYS, Catalogue, row_checksum, utc_now
from atlas.check import Finding, catalogue_problems, check, database_problem, newest_intact, published_number
from atlas.errors import AtlasError, DamagedError, StoreError
from atlas.folder import SHARDS, Atlas, CommitRecord, Manifest, ManifestRun, ShardFile, has_remains
from atlas.ids import canonical_json, sha256_file, sha256_text
from atlas.loading import DERIVED, merged_groups
from atlas.places import QUARANTINE, ObjectStore, settings_problems
from atlas.publish import publishing, verify_shards
from atlas.reader import Reader
from atlas.seals import sealed, unseal
from atlas.settings import DATABASE, KEEP_DAYS, KEEP_MANIFESTS, LOCK_SECONDS, RESTING_LEVEL
from atlas.shards import COMPACTED, write_shard
from atlas.statements import all_rows

STALE_SECONDS = 24 * 3600
"""Age after which a temporary file's writer is taken for dead."""


@dataclass(frozen=True)
class Action:
    """One thing that was done, or would be."""

    path: Path
    """Relative to the atlas."""
    what: str
    next_step: str = ""
    bytes: int = 0


# Repair ---------------------------------------------------------------------------------------------------


def repair(path: Path | str) -> list[Action]:
    """Set aside or rebuild everything `check` finds damaged; returns what was done, empty where nothing was wrong.

    Nothing is deleted: damaged files go to `quarantine/`.
    """
    if has_remains(Path(path)):
        files.make_folder(Path(path) / "versions")
    atlas = Atlas(path)
    with maintaining(atlas, "repair"), publishing(atlas):
        return _repair(atlas)


@contextlib.contextmanager
def maintaining(atlas: Atlas, what: str) -> Iterator[None]:
    """Hold the lock under which files are merged, set aside and removed."""
    with files.locked(atlas.path / ".maintain.lock", seconds=LOCK_SECONDS, what=what):
        yield


def _repair(atlas: Atlas) -> list[Action]:
    actions = [*_repair_settings(atlas), *_repair_manifests(atlas)]
    findings = check(atlas.path)
    actions += _repair_runs(atlas, findings)
    for finding in findings:
        if finding.kind == "derived":
            actions.append(_set_aside(atlas, atlas.path / finding.path, "Run `atlas publish`: it makes the file again."))
    if catalogue_problems(atlas):
        actions.append(_repair_catalogue(atlas))
    if atlas.database.exists() and (problem := database_problem(atlas)) is not None and problem.kind == "database":
        actions.append(_set_aside(atlas, atlas.database, "Run `atlas publish`: it builds the file again from the shards."))
    return actions


def _set_aside(atlas: Atlas, path: Path, next_step: str) -> Action:
    target = atlas.path / QUARANTINE / f"{utc_now():%Y%m%d%H%M%S}-{secrets.token_hex(3)}-{path.name}"
    files.move(path, target)
    return Action(path.relative_to(atlas.path), f"set aside as {target.relative_to(atlas.path)}", next_step)


def _set_shard_aside(atlas: Atlas, path: Path, next_step: str) -> Action:
    quarantined = f"{utc_now():%Y%m%d%H%M%S}-{secrets.token_hex(3)}-{path.name}"
    atlas.place.set_aside(path.as_posix(), quarantined)
    return Action(path, f"set aside as {QUARANTINE}/{quarantined}", next_step)


def _repair_settings(atlas: Atlas) -> Iterator[Action]:
    """Write the file that says where the shards are again, from its second copy."""
    place = atlas.place
    if isinstance(place, ObjectStore):
        for lost in settings_problems(atlas.path):
            files.write_whole(lost, sealed({"url": place.url, "atlas": place.atlas_id}))
            yield Action(lost.relative_to(atlas.path), "written again from its second copy")


def _repair_manifests(atlas: Atlas) -> Iterator[Action]:
    numbers = atlas.manifest_numbers()
    damaged = []
    for number in numbers:
        try:
            atlas.manifest(number)
        except DamagedError:
            damaged.append(number)
    for number in damaged:
        yield _set_aside(atlas, atlas.manifest_path(number), "Nothing: its content was rebuilt where it mattered.")
    published = published_number(atlas)
    highest = max([*numbers, -1 if published is None else published], default=-1)
    if highest in numbers and highest not in damaged:
        return
    intact = newest_intact(atlas)
    known = {run.run_id for number in atlas.manifest_numbers() for run in atlas.manifest(number).runs}
    finished = {run.run_id: run for run in _finished_runs(atlas)}
    # A run that an older manifest shows and the newest that is left does not was removed; a later attempt of one that it shows counts.
    runs = tuple(_later(run, finished.get(run.run_id)) for run in (intact.runs if intact else ()))
    runs += tuple(run for run_id, run in finished.items() if run_id not in known)
    runs += tuple(_published_runs(atlas, known | {run.run_id for run in runs}))
    # The damaged number is not used again: a published file may name it.
    following = Manifest(highest + 1, runs, created_at=str(utc_now()), reason="repair")
    files.write_once(atlas.manifest_path(following.number), sealed(following.content()))
    yield Action(atlas.manifest_path(following.number).relative_to(atlas.path), f"written again with {len(runs)} runs", "Run `atlas runs`.")
    yield from _orphans(atlas, known | {run.run_id for run in runs})


def _later(run: ManifestRun, finished: ManifestRun | None) -> ManifestRun:
    return run if finished is None or finished.attempt <= run.attempt else finished


def _finished_runs(atlas: Atlas) -> Iterator[ManifestRun]:
    """Find the last finished attempt of each run, where its commit records are those of the whole run."""
    for folder in sorted((atlas.path / "runs").glob("*")):
        rows = sorted(folder.glob("run-*.json"), key=lambda path: int(path.stem.split("-")[1]))
        with contextlib.suppress(DamagedError, IndexError):
            row = unseal(rows[-1])
            names = row.pop(SHARDS, None)
            run = _run_of_records(atlas, folder.name, int(row["attempt"]), row)
            if run.shards and (names is None or _is_merged(run) or set(names) == set(run.shards)):
                yield run


def _run_of_records(atlas: Atlas, run_id: str, attempt: int, row: Mapping[str, Any]) -> ManifestRun:
    """Put a run together from its commit records: of its shards, or of what they were merged into once these are gone."""
    records = sorted(atlas.done_folder(run_id, attempt).glob("*.json"))
    merged = [path for path in records if path.stem.startswith(COMPACTED)]
    chosen = [path for path in records if path not in merged]
    for path in merged:  # each holds all rows of the run
        with contextlib.suppress(DamagedError):
            if all(atlas.place.size(item.path) == item.bytes for item in CommitRecord.read(path).files if item.path):
                chosen = [path]
    return ManifestRun(run_id, attempt, row, {path.stem: sha256_file(path) for path in chosen})


def _is_merged(run: ManifestRun) -> bool:
    return all(name.startswith(COMPACTED) for name in run.shards)


def _published_runs(atlas: Atlas, known: set[str]) -> Iterator[ManifestRun]:
    """Find runs whose row is lost but stands in the published file, where their commit records still give all rows it counts."""
    try:
        with Reader(atlas.path) as reader:
            rows = reader.sql("select * from run").arrow().to_pylist()
            counts = reader.sql("select run_id, table_name, n_rows from run_table").rows()
    except StoreError:
        return
    for row in rows:
        run_id, attempt = str(row["run_id"]), int(row["attempt"])
        if run_id in known:
            continue
        stored = {key: str(value) if isinstance(value, datetime.datetime) else value for key, value in row.items()}
        found: dict[str, int] = {}
        with contextlib.suppress(DamagedError):
            run = _run_of_records(atlas, run_id, attempt, stored)
            for item in (item for record in atlas.records(run) for item in record.files):
                found[item.table] = found.get(item.table, 0) + item.rows
            if found == {table: rows for owner, table, rows in counts if owner == run_id}:
                files.write_whole(
                    atlas.row_path(run_id, attempt), sealed({**stored, **({} if _is_merged(run) else {SHARDS: sorted(run.shards)})})
                )
                yield run


def _orphans(atlas: Atlas, visible: set[str]) -> Iterator[Action]:
    """Name the runs that have commit records but whose end nothing proves any more."""
    for folder in sorted((atlas.path / "runs").glob("*")):
        if folder.name in visible:
            continue
        records = []
        for path in sorted(folder.glob("done*/*.json")):
            with contextlib.suppress(DamagedError):
                records.append(CommitRecord.read(path))
        if records:
            n_rows = sum(item.rows for record in records for item in record.files)
            n_bytes = sum(item.bytes for record in records for item in record.files)
            names = ", ".join(sorted({record.shard for record in records})[:5])
            what = (
                f"hidden: {len(records)} committed shards ({names}, …; {n_rows:,} rows) of which nothing says that they are the whole run"
            )
            step = "Run the same `atlas ingest` or `atlas import` again (plan.json says which): it computes only what is missing."
            yield Action(folder.relative_to(atlas.path), what, step, n_bytes)


def _repair_runs(atlas: Atlas, findings: Iterable[Finding]) -> list[Action]:
    """Set aside what is damaged of runs, and hide those runs until they are whole again."""
    actions: list[Action] = []
    hidden: set[str] = set()
    visible = {run.run_id: run for run in atlas.manifest().runs}
    needed = {run_id: _files_of(atlas, run) for run_id, run in visible.items()}
    for finding in findings:
        if finding.kind in ("plan", "row"):
            actions.append(_repair_about_run(atlas, finding, visible.get(str(finding.run_id))))
        if finding.kind not in ("shard", "record") or finding.run_id is None or finding.shard is None:
            continue
        step = f"Ingest run {finding.run_id} again with the same plan: only this shard is computed."
        if finding.run_id in visible and finding.path not in needed[finding.run_id]:
            step = "Nothing: what the run shows does not need it any more."
        record_paths = {
            path for path in atlas.run_folder(finding.run_id).glob(f"done*/{finding.shard}.json") if _names_damage(path, finding)
        }
        if finding.kind == "shard" and atlas.place.size(finding.path.as_posix()) is not None:
            actions.append(_set_shard_aside(atlas, finding.path, step))
        for path in {atlas.path / finding.path, *record_paths}:
            if path.exists():
                actions.append(_set_aside(atlas, path, step))
        if finding.path in needed.get(finding.run_id, ()):
            hidden.add(finding.run_id)
    if hidden:
        manifest = atlas.change("repair", lambda runs: tuple(run for run in runs if run.run_id not in hidden))
        for run_id in sorted(hidden):
            what = f"hidden from manifest {manifest.number} on: it is not whole"
            actions.append(Action(Path("runs") / run_id, what, f"Ingest run {run_id} again, then `atlas publish`."))
    return actions


def _files_of(atlas: Atlas, run: ManifestRun) -> set[Path]:
    """List the commit records that a visible run needs and the shards that these name: not what was merged, nor earlier attempts."""
    found: set[Path] = set()
    for shard in run.shards:
        record = atlas.record_path(run.run_id, run.attempt, shard)
        found.add(record.relative_to(atlas.path))
        with contextlib.suppress(DamagedError, TypeError):
            found.update(Path(item.path) for item in CommitRecord.read(record).files if item.path)
    return found


def _repair_about_run(atlas: Atlas, finding: Finding, run: ManifestRun | None) -> Action:
    """Write a visible run's plan or row again from the manifest; set the plan of another one aside."""
    path = atlas.path / finding.path
    if run is None:
        return _set_aside(atlas, path, "Run the same `atlas ingest` or `atlas import` again: it writes the plan and goes on.")
    names = {} if _is_merged(run) else {SHARDS: sorted(run.shards)}
    content = str(run.row["plan"]).encode() if finding.kind == "plan" else sealed({**run.row, **names})
    files.write_whole(path, content)
    return Action(finding.path, "written again from the manifest")


def _names_damage(record: Path, finding: Finding) -> bool:
    """Say whether a commit record is damaged itself or names the damaged file."""
    if finding.kind == "record":
        return record.name == finding.path.name and record.parent.name == finding.path.parent.name
    try:
        return any(item.path == finding.path.as_posix() for item in CommitRecord.read(record).files)
    except DamagedError:
        return True


def _repair_catalogue(atlas: Atlas) -> Action:
    """Rebuild the catalogue from the rows that are whole and, for the others, from the published file."""
    whole = _whole_rows(atlas.catalogue)
    published = _published_rows(atlas)
    damaged = atlas.catalogue_path
    action = Action(damaged.relative_to(atlas.path), "rebuilt")
    if damaged.exists():
        action = _set_aside(atlas, damaged, "")
    journal = damaged.with_name(f"{damaged.name}-journal")
    if journal.exists():
        _set_aside(atlas, journal, "")
    rebuilt = Catalogue(atlas.path)
    n_rows = 0
    for table, keys in KEYS.items():
        rows = {tuple(row[key] for key in keys): row for row in (*published.get(table, []), *whole.get(table, []))}
        if rows:
            n_rows += rebuilt.put(table, rows.values())
    step = f"{n_rows} rows were rebuilt; words written after the last publish may be missing."
    return Action(action.path, action.what, step)


def _whole_rows(catalogue: Catalogue) -> dict[str, list[dict[str, Any]]]:
    """Read the rows that are as their checksums say; none where the file cannot be read."""
    found: dict[str, list[dict[str, Any]]] = {}
    with contextlib.suppress(Exception):
        expected = catalogue.checksums()
        for table, keys in KEYS.items():
            with contextlib.suppress(Exception):
                raw, typed = catalogue.raw_rows(table), catalogue.rows(table)
                pairs = zip(raw, typed, strict=True)
                found[table] = [
                    row
                    for stored, row in pairs
                    if expected.get((table, canonical_json([stored[key] for key in keys]))) == row_checksum(stored)
                ]
    return found


def _published_rows(atlas: Atlas) -> dict[str, list[dict[str, Any]]]:
    try:
        with Reader(atlas.path) as reader:
            return {table: reader.sql(all_rows(table)).arrow().to_pylist() for table in KEYS}
    except AtlasError:
        return {}


# Compact --------------------------------------------------------------------------------------------------


def compact(path: Path | str, run: str | None = None) -> list[Action]:
    """Merge the parts of a run (of all runs by default) into one a table; rows stay the same. The old parts go at gc.

    Raises DamagedError when a part is not what its commit record says.
    """
    atlas = Atlas(path)
    with maintaining(atlas, "compacting"):
        return _compact(atlas, atlas.manifest().runs if run is None else (atlas.find_run(run),))


def _compact(atlas: Atlas, runs: Iterable[ManifestRun]) -> list[Action]:
    actions = []
    for entry in runs:
        records = list(atlas.records(entry))
        n_parts = sum(1 for record in records for item in record.files if item.path)
        n_tables = len({item.table for record in records for item in record.files if item.path})
        if n_parts <= n_tables:
            continue
        verify_shards(atlas, records, lambda stage, done, total: None)
        record = _merge(atlas, entry, records)
        digest = sha256_text(record.seal().decode())
        merged = ManifestRun(entry.run_id, entry.attempt, entry.row, {record.shard: digest})

        def replaced(now: tuple[ManifestRun, ...], old: ManifestRun = entry, new: ManifestRun = merged) -> tuple[ManifestRun, ...] | None:
            if old not in now:
                return None
            return tuple(new if item == old else item for item in now)

        atlas.change(f"compact {entry.run_id}", replaced)
        size = sum(item.bytes for item in record.files)
        actions.append(Action(Path("runs") / entry.run_id, f"{n_parts} parts became {n_tables}", "Run `atlas gc` later.", size))
    return actions


def _merge(atlas: Atlas, run: ManifestRun, records: list[CommitRecord]) -> CommitRecord:
    """Write all rows of a run as one file a table, with one commit record."""
    shard = f"{COMPACTED}{secrets.token_hex(4)}"
    written: list[ShardFile] = []
    by_table: dict[str, list[ShardFile]] = {}
    for record in records:
        for item in record.files:
            by_table.setdefault(item.table, []).append(item)
    for table, items in by_table.items():
        paths = [str(atlas.place.local(item)) for item in items if item.path]
        if not paths:
            written.append(ShardFile(table, None, 0, 0, None))
            continue
        path = atlas.data_path(table, run.run_id, shard)
        written.append(write_shard(atlas.place, path, table, merged_groups(table, paths), grouped=True, level=RESTING_LEVEL))
    atlas.place.sync([item.path for item in written if item.path])
    record = CommitRecord(run.run_id, shard, run.attempt, tuple(written))
    files.write_once(atlas.record_path(run.run_id, run.attempt, shard), record.seal())
    return record


# Garbage --------------------------------------------------------------------------------------------------


def gc(path: Path | str, *, dry_run: bool = True, keep_manifests: int = KEEP_MANIFESTS, keep_days: float = KEEP_DAYS) -> list[Action]:
    """Remove what no kept manifest refers to; with `dry_run`, only say what would go.

    Kept are the last `keep_manifests` manifests, those younger than `keep_days`, the one that atlas.duckdb was built from, and all
    that these name. Runs that are not finished stay while they are younger than `keep_days`: they can be resumed.
    """
    atlas = Atlas(path)
    if dry_run:
        return _collect(atlas, keep_manifests, keep_days, dry_run=True)
    with maintaining(atlas, "removing"), publishing(atlas):
        return _collect(atlas, keep_manifests, keep_days, dry_run=False)


def _collect(atlas: Atlas, keep_manifests: int, keep_days: float, *, dry_run: bool) -> list[Action]:
    for run in atlas.manifest().runs:
        for _ in atlas.records(run):  # what a missing record names would look like nobody's
            pass
    kept = _kept_manifests(atlas, keep_manifests, keep_days)
    visible = {(run.run_id, run.attempt, shard) for manifest in kept for run in manifest.runs for shard in run.shards}
    doomed: list[tuple[Path, str]] = []
    numbers = {manifest.number for manifest in kept}
    doomed += [(atlas.manifest_path(number), "old manifest") for number in atlas.manifest_numbers() if number not in numbers]
    referred: set[str] = set()
    for record_path in atlas.all_record_paths():
        record = CommitRecord.read(record_path)
        # Young records may belong to a run that is being written now.
        if (record.run_id, record.attempt, record.shard) in visible or _age(record_path) < keep_days * 86400:
            referred.update(item.path for item in record.files if item.path)
        else:
            doomed.append((record_path, "commit record that no kept manifest names"))
    now = time.time()
    unnamed = [held for held in atlas.place.listing() if held.path not in referred and now - held.modified >= keep_days * 86400]
    doomed += _left_behind(atlas)
    doomed += _unused_derived(atlas)
    actions = [Action(item.relative_to(atlas.path), why, bytes=item.stat().st_size) for item, why in doomed]
    actions += [Action(Path(held.path), "shard that no commit record names", bytes=held.bytes) for held in unnamed]
    if not dry_run:
        for item, _why in doomed:
            files.remove(item)
        for held in unnamed:
            atlas.place.remove(held.path)
        _remove_empty_folders(atlas)
    return actions


def _kept_manifests(atlas: Atlas, keep_manifests: int, keep_days: float) -> list[Manifest]:
    numbers = atlas.manifest_numbers()
    published = published_number(atlas)
    kept = []
    for position, number in enumerate(reversed(numbers)):
        manifest = atlas.manifest(number)
        # A clock that was set back gives a negative age: young.
        age = (utc_now() - datetime.datetime.fromisoformat(manifest.created_at)).total_seconds()
        if position < max(1, keep_manifests) or age < keep_days * 86400 or number == published:
            kept.append(manifest)
    return kept


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _left_behind(atlas: Atlas) -> Iterator[tuple[Path, str]]:
    for path in sorted(atlas.path.rglob(f"{files.TEMPORARY}*")):
        if path.is_file() and _age(path) > STALE_SECONDS:
            yield path, "temporary file of a writer that died"


def _unused_derived(atlas: Atlas) -> Iterator[tuple[Path, str]]:
    """Find derived files that the published file does not read; publish makes them again where they are needed."""
    folder = atlas.path / DERIVED
    if not folder.is_dir():
        return
    used: set[str] = set()
    try:
        with Reader(atlas.path) as reader:
            used = {Path(item).relative_to(reader.path).with_suffix("").as_posix() for item in reader.shard_paths}
    except StoreError:
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(atlas.path).with_suffix("").as_posix() not in used and _age(path) > STALE_SECONDS:
            yield path, "derived file that the published file does not read"


def _remove_empty_folders(atlas: Atlas) -> None:
    for root in (atlas.path / "data", atlas.path / "runs"):
        for folder in sorted((item for item in root.rglob("*") if item.is_dir()), key=lambda item: -len(item.parts)):
            with contextlib.suppress(OSError):
                folder.rmdir()


def sizes(path: Path | str) -> Mapping[str, int]:
    """Give the bytes of each part of an atlas: database, data (wherever it lies), derived, runs, versions, quarantine."""
    atlas = Atlas(path)
    parts = {part: sum(item.stat().st_size for item in (atlas.path / part).rglob("*") if item.is_file()) for part in _parts()}
    parts["data"] = sum(held.bytes for held in atlas.place.listing())
    database = atlas.path / DATABASE
    return {"database": database.stat().st_size if database.exists() else 0, **parts, "free": shutil.disk_usage(atlas.path).free}


def _parts() -> tuple[str, ...]:
    return ("data", DERIVED, "runs", "versions", QUARANTINE)
