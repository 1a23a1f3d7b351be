"""Checkpoints of a corpus pass: what was gathered after a chunk, and the tokens read so far.

In: a pass under way, a folder. Out: a folder `chunk-00000012` beside `tokens.bin`; the newest complete one is the state.

1. A checkpoint is written under a temporary name, synced, and renamed; the one before it is removed after that.
2. Tokens are appended to a log of int32; a resumed pass cuts the log to the checkpoint's length.
3. A fingerprint of model, transcoders, files and settings stands in each checkpoint: another pass's state is refused.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from atlas.errors import DamagedError, InputError

if TYPE_CHECKING:
    from ingest.corpus import _Pass

_VARIANCE = ("n", "residual", "squares", "total")
_COUNTS = ("tokens", "documents", "roles")


class TokenLog:
    """Token ids of all documents in order, on disk where a path is given."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._parts: list[np.ndarray] = []
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")

    def append(self, sequences: Sequence[Sequence[int]]) -> None:
        """Add the tokens of documents."""
        ids = np.array([token for sequence in sequences for token in sequence], np.int32)
        if self._file is None:
            self._parts.append(ids)
        else:
            self._file.write(ids.tobytes())

    def read(self, index: np.ndarray) -> np.ndarray:
        """Return the ids at flat indices."""
        if self._file is None or self.path is None:
            everything = np.concatenate(self._parts) if self._parts else np.zeros(0, np.int32)
            return np.asarray(everything[index])
        self._file.flush()
        return np.array(np.memmap(self.path, np.int32, mode="r")[index])

    def sync(self) -> None:
        """Make what was added durable."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def cut(self, n_tokens: int) -> None:
        """Forget what stands after the first `n_tokens`.

        Raises:
            DamagedError: fewer tokens stand in the log than the checkpoint counted.
        """
        if self._file is not None and self.path is not None:
            found = self.path.stat().st_size // 4
            if found < n_tokens:
                raise DamagedError(
                    f"{self.path.name} holds {found} tokens, the checkpoint {n_tokens}",
                    hint="remove the state folder and run the pass again",
                )
            self._file.truncate(4 * n_tokens)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class CorpusState:
    """The checkpoints in a folder."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self.fingerprint = folder, fingerprint
        folder.mkdir(parents=True, exist_ok=True)

    def checkpoints(self) -> list[Path]:
        """Return complete checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("chunk-*") if path.suffix != ".tmp")

    def save(self, work: _Pass, log: TokenLog, raw_documents: int) -> None:
        """Write a checkpoint and remove the older ones."""
        log.sync()
        before = self.checkpoints()
        number = int(before[-1].name.partition("-")[2]) + 1 if before else 0
        final = self.folder / f"chunk-{number:08d}"
        temporary = final.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for layer in work.layers:
            state = {f"statistics.{name}": tensor for name, tensor in work.statistics[layer].state().items()}
            state |= {f"buffers.{name}": tensor for name, tensor in work.buffers[layer].state().items()}
            state |= {f"variance.{name}": getattr(work.variance[layer], name) for name in _VARIANCE}
            _save(state, temporary / f"layer_{layer}.pt")
        shared = {f"counts.{name}": getattr(work.counts, name) for name in _COUNTS}
        _save(shared | {"pool.pointer": work.pool.pointer.cpu()}, temporary / "shared.pt")
        meta = {"fingerprint": self.fingerprint, "raw_documents": raw_documents, "documents": work.documents}
        with (temporary / "meta.json").open("w", encoding="utf-8") as file:
            json.dump(meta, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(final)
        _sync_folder(self.folder)
        for path in before:
            shutil.rmtree(path)

    def resume(self, work: _Pass, log: TokenLog) -> int:
        """Load the newest checkpoint, if there is one; return how many raw documents are done.

        Raises:
            InputError: the folder belongs to another pass.
            DamagedError: the token log is shorter than the checkpoint says.
        """
        found = self.checkpoints()
        if not found:
            log.cut(0)
            return 0
        meta = json.loads((found[-1] / "meta.json").read_text(encoding="utf-8"))
        if meta["fingerprint"] != self.fingerprint:
            raise InputError(
                f"{self.folder.name} holds the state of a pass with other settings, files or weights",
                hint="give another state folder, or remove this one",
            )
        for layer in work.layers:
            state = torch.load(found[-1] / f"layer_{layer}.pt", weights_only=True)
            for part, target in (("statistics", work.statistics[layer]), ("buffers", work.buffers[layer])):
                own = {name.removeprefix(f"{part}."): t for name, t in state.items() if name.startswith(f"{part}.")}
                target.load(own)
            for name in _VARIANCE:
                getattr(work.variance[layer], name).copy_(state[f"variance.{name}"])
        shared = torch.load(found[-1] / "shared.pt", weights_only=True)
        for name in _COUNTS:
            getattr(work.counts, name).copy_(shared[f"counts.{name}"])
        work.pool.pointer = shared["pool.pointer"].to(work.pool.pointer.device)
        work.documents = [tuple(document) for document in meta["documents"]]
        log.cut(work.n_tokens)
        raw_documents: int = meta["raw_documents"]
        return raw_documents


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
