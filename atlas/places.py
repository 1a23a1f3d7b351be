"""Where an atlas keeps its shards: in its folder, or under a URL on object storage.

In: paths relative to the atlas (`data/<table>/<run>/<name>.parquet`, as commit records give them). Out: files written, verified,
fetched, listed, set aside and removed there. Manifests, commit records, catalogue and atlas.duckdb always lie in the folder.

Object storage (`s3://bucket/prefix` through pyarrow; any other URL, e.g. gs:// or abfs://, through fsspec):

1. A shard is written to a temporary file in the folder, uploaded under a name that nobody uses twice, and read back: only an
   object whose bytes hash as the file's is named by a commit record.
2. What a store must give for that: an upload is visible whole or not at all, and what was written can be read at once. S3 (since
   December 2020), Google Cloud Storage and Azure Blob Storage say so. No conditional write is needed: the commit record decides
   between two writers, by exclusive link in the folder.
3. `atlas.json` under the URL names the one atlas that keeps its shards there; another one is refused.
4. Publish and whatever else needs rows fetch verified copies into `derived/shards/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from atlas import files
from atlas.errors import AtlasError, DamagedError, StoreError, UsageError
from atlas.ids import sha256_file
from atlas.seals import sealed, unseal

SETTINGS = ("shards.json", "versions/shards.json")
"""Where the URL is written down, twice: one can be lost."""
OWNER = "atlas.json"
COPIES = "derived/shards"
"""Folder of verified copies of objects; made again where they are needed."""
QUARANTINE = "quarantine"
CHUNK = 4 << 20


class Entry(Protocol):
    """A file of a commit record."""

    @property
    def path(self) -> str | None:
        """Path relative to the atlas."""

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the file."""


@dataclass(frozen=True)
class Held:
    """A shard that lies in a place."""

    path: str
    """Relative to the atlas."""
    bytes: int
    modified: float
    """Seconds since 1970, by the clock of the place."""


class Folder:
    """Shards in the atlas's own folder."""

    url = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """Give the file to write, whole and durable, for a shard; folders are synced by `sync`."""
        files.make_folder((self.folder / path).parent)
        yield self.folder / path

    def sync(self, paths: list[str]) -> None:
        """Make the names of written shards durable."""
        for folder in {(self.folder / path).parent for path in paths}:
            files.sync_folder(folder)

    def size(self, path: str) -> int | None:
        """Give a shard's bytes, None where it is missing."""
        try:
            with files.reading(self.folder / path):
                return (self.folder / path).stat().st_size
        except FileNotFoundError:
            return None

    def digest(self, path: str) -> str | None:
        """Give a shard's SHA-256, None where it is missing; raises DamagedError where the disk cannot read it."""
        try:
            return sha256_file(self.folder / path)
        except FileNotFoundError:
            return None

    def n_rows(self, path: str) -> int:
        """Read a shard's number of rows from its footer."""
        return int(pq.read_metadata(self.folder / path).num_rows)

    def local(self, item: Entry) -> Path:
        """Give a file on this machine that holds a shard; here it is the shard itself, not verified."""
        return (self.folder / str(item.path)).resolve()

    def local_name(self, item: Entry) -> str:
        """Give the path of that file relative to the atlas, whatever links lie on the way."""
        return str(item.path)

    def problem(self, item: Entry) -> str | None:
        """Say why a shard must not be read, None where its bytes are those of its commit record."""
        try:
            found = self.digest(str(item.path))
        except DamagedError as error:
            return error.message
        return None if found == item.sha256 else "missing" if found is None else "differs from its hash"

    def listing(self) -> Iterator[Held]:
        """List all shards, named by a commit record or not."""
        for path in sorted((self.folder / "data").rglob("*.parquet")):
            if not path.name.startswith(files.TEMPORARY):
                status = path.stat()
                yield Held(path.relative_to(self.folder).as_posix(), status.st_size, status.st_mtime)

    def remove(self, path: str) -> None:
        """Remove a shard; absent is fine."""
        if (self.folder / path).parent.is_dir():
            files.remove(self.folder / path)

    def set_aside(self, path: str, name: str) -> None:
        """Move a shard to quarantine under a new name."""
        files.move(self.folder / path, self.folder / QUARANTINE / name)

    def forget(self, used: set[str]) -> None:
        """Remove copies on this machine but those of `used`; here there are none."""


@contextlib.contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn any failure of an object store into one clear error; each provider has exceptions of its own."""
    try:
        yield
    except AtlasError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        hints = {
            ("NO_SUCH_BUCKET", "NoSuchBucket", "bucket does not exist"): "Create the bucket first, or name another one.",
            ("ACCESS_DENIED", "AccessDenied", "INVALID_ACCESS_KEY", "InvalidAccessKeyId", "SIGNATURE", "403", "UNRECOGNIZED_CLIENT"): (
                "Check the credentials (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws) and what they may do there."
            ),
            ("NETWORK_CONNECTION", "curlCode", "connect", "timed out", "timeout"): (
                "The server does not answer: nothing half was committed; run the same command again."
            ),
        }
        found = (hint for words, hint in hints.items() if any(word.lower() in text.lower() for word in words))
        hint = next(found, "Nothing half was committed; run the same command again.")
        raise StoreError(f"object storage {url}: {text[:300]}", hint=hint) from error


class ObjectStore:
    """Shards under a URL; raises StoreError with the next step whenever the store refuses or does not answer."""

    def __init__(self, folder: Path, url: str, atlas_id: str) -> None:
        self.folder = folder
        self.url = url
        self.atlas_id = atlas_id

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system, and the path of the URL on it."""
        with reached(self.url):
            return open_url(self.url)

    def _at(self, path: str) -> str:
        return f"{self._opened[1].rstrip('/')}/{path}"

    @property
    def _store(self) -> Any:
        return self._opened[0]

    def claim(self) -> None:
        """Write down that this atlas keeps its shards under the URL.

        Raises StoreError when another atlas does, or when the bucket or the permission is not there.
        """
        owner = self.owner()
        if owner is None:
            with reached(self.url), self._store.open_output_stream(self._at(OWNER)) as stream:
                stream.write(json.dumps({"atlas": self.atlas_id}).encode())
            owner = self.owner()
        if owner != self.atlas_id:
            raise StoreError(f"{self.url} belongs to another atlas ({owner})", hint="Choose another prefix: one atlas, one prefix.")

    def owner(self) -> str | None:
        """Read which atlas keeps its shards under the URL."""
        with reached(self.url):
            if self._store.get_file_info(self._at(OWNER)).type == pafs.FileType.NotFound:
                return None
            with self._store.open_input_stream(self._at(OWNER)) as stream:
                return str(json.loads(stream.read())["atlas"])

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """Give the file to write for a shard; on leaving it is uploaded, read back, compared and removed."""
        spool = self.folder / f"{files.TEMPORARY}upload-{secrets.token_hex(6)}"
        try:
            yield spool
            if spool.exists():
                self.upload(spool, path)
        finally:
            with contextlib.suppress(OSError):
                spool.unlink(missing_ok=True)

    def upload(self, source: Path, path: str) -> None:
        """Upload a file and compare what arrived; raises StoreError, after which nothing refers to the object."""
        digest = hashlib.sha256()
        with reached(self.url), source.open("rb") as stream, self._store.open_output_stream(self._at(path)) as target:
            for chunk in _chunks(stream):
                digest.update(chunk)
                target.write(chunk)
        if self.digest(path) != digest.hexdigest():
            raise StoreError(f"{self.url}/{path} is not what was uploaded", hint="Run the same command again.")

    def sync(self, paths: list[str]) -> None:
        """Do nothing: an object is durable when its upload has ended."""

    def size(self, path: str) -> int | None:
        """Give an object's bytes, None where it is missing."""
        with reached(self.url):
            found = self._store.get_file_info(self._at(path))
        return None if found.type == pafs.FileType.NotFound else int(found.size)

    def digest(self, path: str) -> str | None:
        """Read an object and give its SHA-256, None where it is missing."""
        if self.size(path) is None:
            return None
        digest = hashlib.sha256()
        with reached(self.url), self._store.open_input_stream(self._at(path)) as stream:
            for chunk in _chunks(stream):
                digest.update(chunk)
        return digest.hexdigest()

    def n_rows(self, path: str) -> int:
        """Read an object's number of rows from its footer."""
        with reached(self.url), self._store.open_input_file(self._at(path)) as stream:
            return int(pq.read_metadata(stream).num_rows)

    def local_name(self, item: Entry) -> str:
        """Give the path of the verified copy of an object, relative to the atlas."""
        return f"{COPIES}/{str(item.path).removeprefix('data/')}"

    def local(self, item: Entry) -> Path:
        """Give a verified copy of an object on this machine, fetched where it is not there yet.

        Raises DamagedError when the object is missing or is not what its commit record says.
        """
        copy = self.folder.resolve() / self.local_name(item)
        with contextlib.suppress(DamagedError, OSError):
            if unseal(copy.with_suffix(".json"))["sha256_of_file"] == item.sha256 == sha256_file(copy):
                return copy
        if self.size(str(item.path)) is None:
            raise DamagedError(f"{item.path} is missing under {self.url}", hint="`atlas check` names all damage.")
        files.make_folder(copy.parent)
        with files.Stream(copy) as target:
            with reached(self.url), self._store.open_input_stream(self._at(str(item.path))) as stream:
                for chunk in _chunks(stream):
                    target.write(chunk)
            if target.digest() != item.sha256:
                raise DamagedError(f"{item.path} differs from its hash under {self.url}", hint="`atlas check` names all damage.")
            digest, n_bytes = target.finish(), target.bytes_written
        files.write_whole(copy.with_suffix(".json"), sealed({"sha256_of_file": digest, "bytes": n_bytes}))
        return copy

    def problem(self, item: Entry) -> str | None:
        """Say why a shard must not be read, None where a verified copy is on this machine now."""
        try:
            self.local(item)
        except DamagedError as error:
            return "missing" if "is missing" in error.message else "differs from its hash"
        return None

    def listing(self) -> Iterator[Held]:
        """List all shards, named by a commit record or not. Raises StoreError where the URL belongs to another atlas."""
        if self.owner() != self.atlas_id:
            raise StoreError(f"{self.url} belongs to another atlas", hint="Nothing there is touched.")
        root = self._at("")
        with reached(self.url):
            selector = pafs.FileSelector(f"{root}data", recursive=True, allow_not_found=True)
            found = sorted(self._store.get_file_info(selector), key=lambda info: str(info.path))
        for info in found:
            if info.type == pafs.FileType.File and info.path.endswith(".parquet"):
                relative = "data/" + str(info.path).rpartition(f"{root.strip('/')}/data/")[2]
                yield Held(relative, int(info.size), self._modified(info))

    def _modified(self, info: Any) -> float:
        """Give an object's time; where its store tells none it is young, so that it is kept."""
        found = info.mtime
        if found is None and isinstance(self._store, pafs.PyFileSystem):
            with contextlib.suppress(NotImplementedError, KeyError):
                found = self._store.handler.fs.modified(info.path)
        return time.time() if found is None else float(found.timestamp())

    def remove(self, path: str) -> None:
        """Remove an object; absent is fine."""
        if self.size(path) is not None:
            with reached(self.url):
                self._store.delete_file(self._at(path))

    def set_aside(self, path: str, name: str) -> None:
        """Move an object to quarantine under a new name."""
        with reached(self.url):
            self._store.move(self._at(path), self._at(f"{QUARANTINE}/{name}"))

    def forget(self, used: set[str]) -> None:
        """Remove the copies on this machine but those of `used` (paths relative to the folder)."""
        for copy in sorted((self.folder / COPIES).rglob("*.parquet")):
            if copy.relative_to(self.folder).as_posix() not in used:
                files.remove(copy)
                files.remove(copy.with_suffix(".json"))


Place = Folder | ObjectStore


def _chunks(stream: Any) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def open_url(url: str) -> tuple[Any, str]:
    """Open the file system of a URL; returns it and the URL's path on it.

    `s3://bucket/prefix[?region=…&endpoint_override=…&scheme=http]` is pyarrow's; anything else is fsspec's.
    Raises UsageError for a URL that nobody knows.
    """
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        raise UsageError(f"--shards {url!r} is no URL", hint="Write s3://bucket/prefix, gs://bucket/prefix or abfs://container/prefix.")
    if parts.username or parts.password or "secret" in parts.query.lower():
        raise UsageError("--shards holds credentials, which would be stored", hint="Leave them to the environment, e.g. AWS_ACCESS_KEY_ID.")
    if parts.scheme == "s3":
        try:
            found: tuple[Any, str] = pafs.FileSystem.from_uri(url)
        except pa.ArrowInvalid as error:
            raise UsageError(f"--shards {url!r}: {error}") from error
        return found
    try:
        import fsspec

        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = {"gs": "gcs", "gcs": "gcs"}.get(parts.scheme, "azure")
        raise UsageError(f"--shards {url!r}: {error}", hint=f"pip install 'feature-atlas[{extra}]'") from error
    except ValueError as error:
        raise UsageError(f"--shards {url!r}: {error}", hint="Known are s3://, gs://, abfs:// and what fsspec has a package for.") from error
    return pafs.PyFileSystem(pafs.FSSpecHandler(store)), path


def open_place(folder: Path) -> Place:
    """Give the place where the shards of an atlas lie: its folder, or the URL that was written down when it was made.

    Raises DamagedError when the URL cannot be read from either file.
    """
    there = [folder / name for name in SETTINGS if (folder / name).exists()]
    if not there:
        return Folder(folder)
    for path in there:
        with contextlib.suppress(DamagedError):
            said = unseal(path)
            return ObjectStore(folder, str(said["url"]), str(said["atlas"]))
    raise DamagedError(f"{there[0]} does not say where the shards are", hint="Restore it from a copy: without it no shard is found.")


def settings_problems(folder: Path) -> list[Path]:
    """List the files that should say where the shards are and do not; none where shards lie in the folder."""
    paths = [folder / name for name in SETTINGS]
    lost = []
    for path in paths if any(path.exists() for path in paths) else []:
        try:
            unseal(path)
        except DamagedError:
            lost.append(path)
    return lost


def settle_place(folder: Path, url: str | None) -> None:
    """Write down where the shards of an atlas that is being made go, and claim the URL for it; None is the folder itself.

    A creation that was stopped or refused goes on with the URL and the identity it wrote down, unless another URL is given now.
    Raises StoreError when the URL cannot be claimed.
    """
    if not url:
        there = open_place(folder)
        url = there.url
    if not url:
        return
    place = ObjectStore(folder, url, secrets.token_hex(8))
    with contextlib.suppress(DamagedError):
        found = open_place(folder)
        place = found if isinstance(found, ObjectStore) and found.url == url else place
    content = sealed({"url": place.url, "atlas": place.atlas_id})
    with reached(url):
        open_url(url)
    for name in SETTINGS:
        files.write_whole(folder / name, content)
    place.claim()
