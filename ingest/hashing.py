"""SHA-256 of files, each read once by a process: the run's id and the rows of model and transcoders need the same hashes.

In: paths. Out: hex digests. A digest is remembered for a file's place, size and time of change; another process can be given what is
known (`known`, `remember`), which counts there only for files that are the same in all three.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

Stamp = tuple[str, int, int]
"""(resolved path, bytes, time of change in ns)."""

_BLOB = re.compile(r"[0-9a-f]{64}")
_DIGESTS: dict[tuple[Stamp, ...], str] = {}


def file_hash(path: Path) -> str:
    """Return a file's SHA-256 (64 hex digits).

    In a Hugging Face cache a file is a link to a blob named by its SHA-256, which is taken as it stands: hashing the 60 GB of a large
    transcoder set again would take minutes.
    """
    if path.is_symlink() and _BLOB.fullmatch(path.resolve().name):
        return path.resolve().name
    return _joined_hash((path,))


def hash_files(paths: Sequence[Path]) -> str | None:
    """Return the SHA-256 over the contents of files in the given order; None for no file."""
    if not paths:
        return None
    return file_hash(paths[0]) if len(paths) == 1 else _joined_hash(paths)


def known() -> dict[tuple[Stamp, ...], str]:
    """Return what this process has hashed."""
    return dict(_DIGESTS)


def remember(digests: Mapping[tuple[Stamp, ...], str]) -> None:
    """Take over what another process has hashed."""
    _DIGESTS.update(digests)


def _joined_hash(paths: Sequence[Path]) -> str:
    """Hash files one after the other; each one's own hash is remembered too."""
    key = tuple(_stamp(path) for path in paths)
    if key not in _DIGESTS:
        joined = hashlib.sha256()
        for path, stamp in zip(paths, key, strict=True):
            own = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    joined.update(block)
                    if len(paths) > 1:
                        own.update(block)
            if len(paths) > 1:
                _DIGESTS[(stamp,)] = own.hexdigest()
        _DIGESTS[key] = joined.hexdigest()
    return _DIGESTS[key]


def _stamp(path: Path) -> Stamp:
    real = path.resolve()
    state = real.stat()
    return str(real), state.st_size, state.st_mtime_ns
