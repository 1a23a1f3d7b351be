"""An atlas folder: where things lie, and the numbered manifests that say what is visible.

In: a path. Out: paths, manifests, commit records. A manifest is written once, under the next number, by exclusive link; whoever
finds the number taken reads again and takes the next. Order is by number, never by clock. Every JSON file carries its own hash.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from atlas import __version__, files
from atlas.catalogue import Catalogue, utc_now
from atlas.errors import DamagedError, StoreError, UsageError, VersionError
from atlas.ids import canonical_json, sha256_file, sha256_text
from atlas.places import Place, open_place, settle_place
from atlas.seals import sealed, unseal
from atlas.settings import CATALOGUE, DATABASE, FORMAT_VERSION

SHARDS = "shards"
"""Key of a finished run's stored row under which the names of its shards stand."""
MANIFEST_PATTERN = re.compile(r"^(\d{8})\.json$")


@dataclass(frozen=True)
class ShardFile:
    """One Parquet file of a commit record; `path` is relative to the atlas and None where the table has no row."""

    table: str
    path: str | None
    rows: int
    bytes: int
    sha256: str | None


@dataclass(frozen=True)
class CommitRecord:
    """What one shard of a run wrote: all or nothing."""

    run_id: str
    shard: str
    attempt: int
    files: tuple[ShardFile, ...]

    @classmethod
    def read(cls, path: Path) -> CommitRecord:
        """Read a record; raises DamagedError for a damaged one."""
        content = unseal(path)
        try:
            content["files"] = tuple(ShardFile(**entry) for entry in content["files"])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise DamagedError(f"no commit record: {path}: {error}", hint="Restore it from a copy, or run `atlas repair`.") from error

    def seal(self) -> bytes:
        """Give the record's file content."""
        return sealed({"run_id": self.run_id, "shard": self.shard, "attempt": self.attempt, "files": [vars(item) for item in self.files]})


@dataclass(frozen=True)
class ManifestRun:
    """A visible run: its row of table `run`, and its commit records with the hash of each."""

    run_id: str
    attempt: int
    row: Mapping[str, Any]
    shards: Mapping[str, str]
    """Shard name to the SHA-256 of its commit record's bytes."""


@dataclass(frozen=True)
class Manifest:
    """All that is visible under one number."""

    number: int
    runs: tuple[ManifestRun, ...] = ()
    format_version: int = FORMAT_VERSION
    code_version: str = __version__
    created_at: str = ""
    reason: str = ""
    sha256: str = field(default="", compare=False)
    """SHA-256 of the manifest's content; set on reading."""

    def run(self, run_id: str) -> ManifestRun | None:
        """Find a visible run by its whole id."""
        return next((entry for entry in self.runs if entry.run_id == run_id), None)

    def content(self) -> dict[str, Any]:
        """Give what is written, without the hash."""
        return {
            "number": self.number,
            "format_version": self.format_version,
            "code_version": self.code_version,
            "created_at": self.created_at,
            "reason": self.reason,
            "runs": [{"run_id": run.run_id, "attempt": run.attempt, "row": dict(run.row), "shards": dict(run.shards)} for run in self.runs],
        }

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest; raises DamagedError for a damaged one, VersionError for one of another format."""
        content = unseal(path)
        if content.get("format_version") != FORMAT_VERSION:
            raise VersionError(
                f"{path} is of format version {content.get('format_version')}; this program reads {FORMAT_VERSION}",
                hint="Install the feature-atlas that wrote it, or run the ingest again into a new atlas.",
            )
        if int(path.stem) != content.get("number"):
            raise DamagedError(f"{path} says that it is number {content.get('number')}", hint="Somebody renamed it: run `atlas repair`.")
        digest = sha256_text(canonical_json(content))
        try:
            content["runs"] = tuple(ManifestRun(**entry) for entry in content["runs"])
            return cls(**content, sha256=digest)
        except (KeyError, TypeError) as error:
            raise DamagedError(f"no manifest: {path}: {error}", hint="Run `atlas repair`.") from error


def _entries(folder: Path) -> list[Path]:
    """List a folder; nothing where it is none. Path.glob would skip one that may not be read."""
    try:
        with files.reading(folder):
            return list(folder.iterdir()) if folder.is_dir() else []
    except FileNotFoundError:
        return []


def has_remains(folder: Path) -> bool:
    """Say whether a folder holds runs or a published file of an atlas, with or without manifests."""
    return (folder / "runs").is_dir() or (folder / DATABASE).is_file()


def check_name(folder: Path) -> None:
    """Raise UsageError for a folder in which the database engine cannot write its file."""
    for character in "?\\":
        if character in str(folder.resolve()):
            raise UsageError(f"{folder.resolve()} has a {character} in its path, which DuckDB cannot open", hint="Choose another folder.")


class Atlas:
    """A folder that holds an atlas.

    Raises StoreError when there is none at `path`, DamagedError when it has lost its manifests' folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.versions.is_dir() and has_remains(self.path):
            raise DamagedError(f"{self.versions} is missing", hint="Run `atlas repair`: it rebuilds a manifest from the finished runs.")
        if not self.versions.is_dir():
            raise StoreError(f"there is no atlas at {self.path}", hint="`atlas demo` builds one; `atlas ingest --atlas DIR` starts one.")
        if sys.byteorder != "little":
            raise StoreError("this machine is big-endian; an atlas is little-endian", hint="Read it on x86-64 or ARM.")

    @classmethod
    def create(cls, path: Path | str, *, shards: str | None = None) -> Atlas:
        """Make an empty atlas, or open the one that is there.

        `shards`: URL on object storage under which a new atlas keeps its shards; None: in the folder, or as it was made.
        Raises StoreError when the folder holds something else or the URL cannot be used, UsageError when the atlas that is there
        keeps its shards elsewhere.
        """
        folder = Path(path)
        if not (folder / "versions").is_dir():
            if has_remains(folder):
                cls(folder)
            if folder.is_dir() and any(not entry.name.startswith(files.TEMPORARY) for entry in folder.iterdir()):
                raise StoreError(f"{folder} is not empty and not an atlas", hint="Choose another folder.")
            if folder.exists() and not folder.is_dir():
                raise StoreError(f"{folder} is a file", hint="Choose another folder.")
            check_name(folder)
            files.make_folder(folder / "versions")
        atlas = cls(folder)
        if not atlas.manifest_numbers():
            settle_place(folder, shards)
            files.write_once(atlas.manifest_path(0), sealed(Manifest(0, created_at=str(utc_now()), reason="created").content()))
        if shards is not None and atlas.place.url != shards:
            where = atlas.place.url or "its own folder"
            raise UsageError(f"{folder} keeps its shards in {where}", hint="Leave --shards out, or start another atlas.")
        return atlas

    @cached_property
    def place(self) -> Place:
        """Where the shards lie: the folder, or object storage."""
        return open_place(self.path)

    @property
    def versions(self) -> Path:
        """Folder of the manifests."""
        return self.path / "versions"

    @property
    def database(self) -> Path:
        """The published file."""
        return self.path / DATABASE

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue."""
        return Catalogue(self.path)

    @property
    def catalogue_path(self) -> Path:
        """The catalogue's file."""
        return self.path / CATALOGUE

    def run_folder(self, run_id: str) -> Path:
        """Folder of a run's plan and commit records."""
        return self.path / "runs" / run_id

    def done_folder(self, run_id: str, attempt: int) -> Path:
        """Folder of the commit records of one attempt: `done`, later `done-2`, …"""
        return self.run_folder(run_id) / ("done" if attempt == 1 else f"done-{attempt}")

    def record_path(self, run_id: str, attempt: int, shard: str) -> Path:
        """File of a commit record."""
        return self.done_folder(run_id, attempt) / f"{shard}.json"

    def row_path(self, run_id: str, attempt: int) -> Path:
        """File of a finished attempt's row of table `run`: what a lost manifest is rebuilt from."""
        return self.run_folder(run_id) / f"run-{attempt}.json"

    def all_record_paths(self) -> list[Path]:
        """List the files of all commit records, of every run and attempt.

        Raises StoreError for a folder that may not be read: what is not listed would count as not there.
        """
        runs = self.path / "runs"
        done = [folder for run in _entries(runs) for folder in _entries(run) if folder.name.startswith("done")]
        return sorted(path for folder in done for path in _entries(folder) if path.suffix == ".json")

    def data_path(self, table: str, run_id: str, file: str) -> str:
        """Path of a shard of a run, relative to the atlas, wherever its shards lie."""
        return f"data/{table}/{run_id}/{file}.parquet"

    def manifest_path(self, number: int) -> Path:
        """File of a manifest."""
        return self.versions / f"{number:08d}.json"

    def manifest_numbers(self) -> list[int]:
        """List the numbers of all manifests, ascending."""
        with files.reading(self.versions):
            return sorted(int(match.group(1)) for entry in self.versions.iterdir() if (match := MANIFEST_PATTERN.match(entry.name)))

    def manifest(self, number: int | None = None) -> Manifest:
        """Read a manifest, the newest by default.

        Raises StoreError when there is none, DamagedError or VersionError when it cannot be used.
        """
        if number is None:
            numbers = self.manifest_numbers()
            if not numbers:
                raise DamagedError(f"{self.path} has no manifest", hint="Run `atlas repair`.")
            number = numbers[-1]
        return Manifest.read(self.manifest_path(number))

    def change(self, reason: str, runs: Callable[[tuple[ManifestRun, ...]], tuple[ManifestRun, ...] | None]) -> Manifest:
        """Write the next manifest: `runs` maps the newest one's runs to the new ones, None where nothing changes.

        Called again on the newer state when somebody else wrote the number first.
        """
        while True:
            newest = self.manifest()
            changed = runs(newest.runs)
            if changed is None:
                return newest
            following = Manifest(newest.number + 1, changed, created_at=str(utc_now()), reason=reason)
            if files.write_once(self.manifest_path(following.number), sealed(following.content())):
                return self.manifest(following.number)

    def records(self, run: ManifestRun) -> Iterator[CommitRecord]:
        """Read the commit records of a visible run in the order of their names, each compared with the manifest's hash.

        Raises DamagedError for a record that is missing or another one than the manifest names.
        """
        for shard, digest in sorted(run.shards.items()):
            path = self.record_path(run.run_id, run.attempt, shard)
            record = CommitRecord.read(path)
            if sha256_file(path) != digest:
                raise DamagedError(f"not the commit record that the manifest names: {path}", hint="Run `atlas repair`.")
            yield record

    def find_run(self, text: str) -> ManifestRun:
        """Find a visible run by its id or the id's first digits.

        Raises UsageError when none or several begin so.
        """
        runs = self.manifest().runs
        found = [run for run in runs if run.run_id.startswith(text)] if text else []
        if len(found) != 1:
            known = ", ".join(run.run_id for run in (found or runs)) or "none"
            raise UsageError(f"{'no' if not found else len(found)} run begins with {text!r}", hint=f"Runs: {known}.")
        return found[0]
