"""Disks that fail: they stop at any step, lose what was not fsynced, or refuse.

In: a step to fail at. Out: the same file operations as atlas.files.Disk, counted. `FailingDisk` ends the "process" by raising
PowerCut, after which every further operation raises too, so that no clean-up code of the dead process runs. `LossyDisk` also keeps
a model of what the platter holds: contents at their last fsync, names at the last fsync of their folder. `after_power_loss` writes
a folder as it may look then: each name and content that was not fsynced is there, or is not, or is torn, by a seeded choice.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from atlas import files


class PowerCut(BaseException):
    """The process is gone; nothing may catch this as an error."""


@contextmanager
def using(disk: files.Disk) -> Iterator[files.Disk]:
    """Put a disk under the store."""
    before, files.disk = files.disk, disk
    try:
        yield disk
    finally:
        files.disk = before


class FailingDisk(files.Disk):
    """Counts steps and stops before step `fail_at`; never, when that is None. Does not really fsync: it only counts."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.steps = 0

    def step(self, name: str, path: Path) -> None:
        """Count a step; stop where it is time."""
        if self.fail_at is not None and self.steps >= self.fail_at:
            raise PowerCut(f"step {self.steps}: {name} {path.name}")
        self.steps += 1

    def open_new(self, path: Path) -> BinaryIO:
        self.step("open", path)
        return super().open_new(path)

    def write(self, stream: BinaryIO, data: bytes | bytearray) -> None:
        self.step("write", Path(str(stream.name)))
        super().write(stream, data)

    def fsync(self, stream: BinaryIO) -> None:
        self.step("fsync", Path(str(stream.name)))

    def sync_path(self, path: Path) -> None:
        self.step("fsync", path)

    def rename(self, source: Path, target: Path) -> None:
        self.step("rename", target)
        super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        self.step("link", target)
        super().link(source, target)

    def unlink(self, path: Path) -> None:
        self.step("unlink", path)
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self.step("mkdir", path)
        super().mkdir(path)

    def chmod(self, path: Path, mode: int) -> None:
        self.step("chmod", path)
        super().chmod(path, mode)


class LossyDisk(FailingDisk):
    """Keeps what is durable under one root folder.

    `data_fsync` and `folder_fsync` take the fsync of contents or of names out, which the harness must notice.
    """

    def __init__(self, root: Path, fail_at: int | None = None, *, data_fsync: bool = True, folder_fsync: bool = True) -> None:
        super().__init__(fail_at)
        self.root = root
        self.data_fsync = data_fsync
        self.folder_fsync = folder_fsync
        self.durable_content: dict[int, bytes] = {}
        """Inode to the content at its last fsync."""
        self.durable_names: dict[Path, dict[str, int]] = {}
        """Folder, relative to the root, to its names and their inodes at its last fsync."""
        for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            self._keep_names(folder)
        for path in root.rglob("*"):
            if path.is_file():
                self.durable_content[path.stat().st_ino] = path.read_bytes()

    def fsync(self, stream: BinaryIO) -> None:
        super().fsync(stream)
        if self.data_fsync:
            self._keep_content(Path(str(stream.name)))

    def sync_path(self, path: Path) -> None:
        super().sync_path(path)
        if path.is_dir():
            if self.folder_fsync:
                self._keep_names(path)
        elif self.data_fsync:
            self._keep_content(path)

    def _keep_content(self, path: Path) -> None:
        self.durable_content[path.stat().st_ino] = path.read_bytes()

    def _keep_names(self, folder: Path) -> None:
        if folder == self.root or self.root in folder.parents:
            self.durable_names[folder.relative_to(self.root)] = {entry.name: entry.inode() for entry in os.scandir(folder)}

    def after_power_loss(self, target: Path, seed: int) -> None:
        """Write a folder as the platter may hold it."""
        self._write_folder(Path(), target, random.Random(seed))

    def _write_folder(self, relative: Path, target: Path, choice: random.Random) -> None:
        target.mkdir(parents=True, exist_ok=True)
        durable = self.durable_names.get(relative, {})
        folder = self.root / relative
        current = {entry.name: entry.inode() for entry in os.scandir(folder)} if folder.is_dir() else {}
        for name in sorted(durable.keys() | current.keys()):
            before, now = durable.get(name), current.get(name)
            # A change of a name that was not fsynced has happened or has not.
            inode = before if before == now or choice.random() < 0.5 else now
            if inode is None:
                continue
            if (folder / name).is_dir():
                self._write_folder(relative / name, target / name, choice)
            else:
                (target / name).write_bytes(self._content(inode, folder / name, now, choice))

    def _content(self, inode: int, path: Path, now: int | None, choice: random.Random) -> bytes:
        if inode in self.durable_content:
            return self.durable_content[inode]
        written = path.read_bytes() if inode == now else b""
        return choice.choice([b"", written[: choice.randrange(len(written) + 1)], bytes(len(written)), written])


class RefusingDisk(FailingDisk):
    """From a step on, writes are refused with an error of the operating system; removing works."""

    def __init__(self, fail_at: int, number: int = errno.ENOSPC, *, only: Callable[[str], bool] = lambda name: True) -> None:
        super().__init__(fail_at)
        self.number = number
        self.only = only

    def step(self, name: str, path: Path) -> None:
        """Count a step; refuse it from `fail_at` on."""
        self.steps += 1
        if self.fail_at is not None and self.steps > self.fail_at and name not in ("unlink", "chmod") and self.only(name):
            raise OSError(self.number, os.strerror(self.number), str(path))
