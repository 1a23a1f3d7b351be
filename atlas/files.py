"""Every write of the store goes through here: fsync, rename, link, remove.

In: paths and bytes. Out: files that are either whole or absent after a crash. Engines that write their own files (DuckDB the
published database, SQLite the catalogue) hand the finished file to `sync_file` and `rename`.

The primitives are methods of one replaceable object, `disk`, so that the fault harness can count every step, stop at any of
them, and lose what was not fsynced.

1. `write_whole` and `Stream`: temporary name in the same folder, write, fsync, rename, fsync the folder.
2. `write_once`: the same, but by exclusive link: the second writer is told so and changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from atlas.errors import DamagedError, LockedError, StoreError

TEMPORARY = ".tmp-"
"""Prefix of names that no reader looks at and gc may remove."""
BUFFER_BYTES = 1 << 20


class Disk:
    """The operating system's file operations, one method each."""

    def open_new(self, path: Path) -> BinaryIO:
        """Create a file that must not exist, for writing."""
        return path.open("xb", buffering=0)

    def write(self, stream: BinaryIO, data: bytes | bytearray) -> None:
        """Write all of the data."""
        view = memoryview(data)
        while view:
            written = stream.write(view)
            view = view[written:]

    def fsync(self, stream: BinaryIO) -> None:
        """Make a written file durable."""
        os.fsync(stream.fileno())

    def sync_path(self, path: Path) -> None:
        """Make a file or the entries of a folder durable."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its final name, replacing what stood there."""
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; FileExistsError when that name is taken."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a name; absent is fine."""
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        """Create one folder; present is fine."""
        path.mkdir(exist_ok=True)

    def chmod(self, path: Path, mode: int) -> None:
        """Set permissions."""
        path.chmod(mode)


disk = Disk()
"""Where all writes go; the fault harness puts another one here."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal into an error that says what to do."""
    try:
        yield
    except (FileExistsError, BlockingIOError):
        raise
    except OSError as error:
        hint = {
            errno.ENOSPC: "Make space and run the same command again; what was committed stays.",
            errno.EDQUOT: "The quota is used up: make space and run the same command again.",
            errno.EROFS: "The file system is read-only: copy the atlas to a writable place.",
            errno.EACCES: "The folder is not writable for you: copy the atlas, or ask its owner.",
            errno.EPERM: "The folder is not writable for you: copy the atlas, or ask its owner.",
            errno.ENOTSUP: "This file system lacks what a commit needs (hard links, locks): put the atlas on another one.",
            errno.ENOSYS: "This file system lacks what a commit needs (hard links, locks): put the atlas on another one.",
            errno.ENOLCK: "This file system has no locks: mount it with them, or put the atlas on another one.",
            errno.EIO: "The disk reports an error: check it, then run `atlas check`.",
        }.get(error.errno or 0, "Nothing that was committed is lost; run the same command again.")
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


DAMAGE = (errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.EBADMSG, errno.EUCLEAN)
"""What the operating system says of a file that can never be read; anything else (permission, memory, a server) says nothing of it."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to read into an error that says what to do; that a file is missing stays for the caller.

    Raises DamagedError where the disk cannot give the content, StoreError where only this process may not have it.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        text = f"cannot read {path}: {error.strerror or error}"
        if error.errno in DAMAGE:
            raise DamagedError(text, hint="Check the disk, then run `atlas check`.") from error
        hint = (
            "You may not read it: ask its owner. Nothing says that it is damaged." if error.errno in (errno.EACCES, errno.EPERM) else None
        )
        raise StoreError(text, hint=hint or "Try again; nothing says that it is damaged.") from error


def make_folder(path: Path) -> None:
    """Create a folder and its parents, durably."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with explained(folder):
            disk.mkdir(folder)
            disk.sync_path(folder.parent)


def temporary_name(target: Path) -> Path:
    """Give a fresh name beside the target; without its suffix, so that no pattern that looks for the target's kind finds it."""
    return target.with_name(f"{TEMPORARY}{target.stem[:40]}-{secrets.token_hex(6)}")


class Stream(io.RawIOBase):
    """A new file that is hashed while it is written and gets its name when it is durable.

    `finish()` does fsync and rename and leaves the folder's fsync to the caller, who may have several files in it.
    Leaving the `with` block without it removes the temporary file.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = temporary_name(target)
        self.bytes_written = 0
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        with explained(target):
            self._stream = disk.open_new(self.temporary)
        self._finished = False

    def writable(self) -> bool:
        """Say that this is a file for writing."""
        return True

    def write(self, data: Any) -> int:
        """Write and hash all of the data; Parquet's many small pieces are gathered."""
        view = memoryview(data).cast("B")
        self._buffer += view
        self.bytes_written += view.nbytes
        if len(self._buffer) >= BUFFER_BYTES:
            self._write_buffer()
        return view.nbytes

    def _write_buffer(self) -> None:
        with explained(self.target):
            disk.write(self._stream, self._buffer)
        self._hash.update(self._buffer)
        self._buffer = bytearray()

    def tell(self) -> int:
        """Give the number of bytes written."""
        return self.bytes_written

    def digest(self) -> str:
        """Give the SHA-256 of what was written until now."""
        self._write_buffer()
        return self._hash.hexdigest()

    def finish(self) -> str:
        """Make the file durable under its final name and return its SHA-256."""
        self._write_buffer()
        with explained(self.target):
            disk.fsync(self._stream)
            self._stream.close()
            disk.rename(self.temporary, self.target)
        self._finished = True
        return self._hash.hexdigest()

    def abandon(self) -> None:
        """Remove the temporary file, if it was not finished."""
        if not self._finished:
            self._stream.close()
            with contextlib.suppress(OSError):
                disk.unlink(self.temporary)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.abandon()


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with explained(path):
        disk.sync_path(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that after a crash the old or the new one stands there, never a part."""
    with Stream(path) as stream:
        stream.write(data)
        stream.finish()
    sync_folder(path.parent)


def write_once(path: Path, data: bytes) -> bool:
    """Write a file that nobody has written before; False, and no change, when somebody has."""
    temporary = temporary_name(path)
    try:
        with explained(path):
            with disk.open_new(temporary) as stream:
                disk.write(stream, data)
                disk.fsync(stream)
            disk.link(temporary, path)
            disk.unlink(temporary)
            disk.sync_path(path.parent)
    except FileExistsError:
        disk.unlink(temporary)
        # The winner may not have reached its own fsync of the folder: what we now rely on must be durable.
        sync_folder(path.parent)
        return False
    except StoreError:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise
    return True


def swap_in(built: Path, target: Path) -> None:
    """Put a finished file that an engine built in the place of the old one: fsync, read-only, rename, fsync of the folder."""
    with explained(target):
        disk.sync_path(built)
        disk.chmod(built, 0o444)
        disk.rename(built, target)
        disk.sync_path(target.parent)


def move(source: Path, target: Path) -> None:
    """Give a file or folder a name in another folder, durably; a file never lacks both names, whatever of it a power cut keeps."""
    make_folder(target.parent)
    with explained(target):
        if not _second_name(source, target):
            disk.rename(source, target)
        disk.sync_path(target.parent)
        disk.unlink(source)
        disk.sync_path(source.parent)


def _second_name(source: Path, target: Path) -> bool:
    """Link a file to its new name; False for a folder, and for somebody else's file, which the system may not link."""
    if source.is_dir():
        return False
    try:
        disk.link(source, target)
    except PermissionError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove a file, durably; absent is fine."""
    with explained(path):
        disk.unlink(path)
        disk.sync_path(path.parent)


@contextlib.contextmanager
def locked(path: Path, *, seconds: float, what: str) -> Iterator[None]:
    """Hold an advisory lock on a file; the kernel releases it when its holder dies.

    Raises LockedError when another process still holds it after `seconds`.
    """
    with explained(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                with explained(path):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise LockedError(
                        f"another process holds the lock for {what} since more than {seconds:g} s: {path}",
                        hint="Wait for it to end, or end it; the lock goes with its process.",
                    ) from error
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)
