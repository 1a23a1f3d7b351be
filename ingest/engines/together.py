"""One of several processes that do a plan together, with nothing between them but the folder: Slurm arrays, torchrun, two terminals.

In: a `Workshop`, this process's number and how many there are. Out: all shards are committed, by whomever.

1. Of the shards that are ready, a process takes its share (every N-th of a kind) and claims each by a lock on a file; the lock goes
   with its process.
2. When its share is done it takes what nobody has claimed, one at a time: of a process that was killed, is late, or never starts.
3. When all that is left is claimed, it waits.

A claim only saves work: where locks do not reach other machines a shard may be computed twice, and is committed once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atlas import files
from atlas.errors import StoreError
from atlas.shards import shard_of
from ingest.engines.alone import compute
from ingest.plan_shards import Shard, ready
from ingest.workshop import Workshop

POLL_SECONDS = 0.5
"""Time between two looks at what others have committed."""


@dataclass(frozen=True)
class Together:
    """Process `index` (from 0) of `count`."""

    index: int
    count: int

    def __call__(self, shop: Workshop) -> None:
        """Do this process's share, then whatever nobody does; return when all shards are committed.

        Raises:
            UsageError: index is not in 0 … count - 1.
        """
        names = [shard.name for shard in shop.shards]
        shard_of(names, self.index, self.count)
        done: set[str] = set()
        while True:
            done |= {shard.name for shard in shop.shards if shard.name not in done and shop.is_done(shard)}
            shop.report_shards(len(done))
            if len(done) == len(names):
                return
            if not self._work(shop, ready(shop.shards, done), done):
                time.sleep(POLL_SECONDS)

    def _work(self, shop: Workshop, waiting: list[Shard], done: set[str]) -> bool:
        """Do what of the ready shards can be claimed; False where everything is claimed by others."""
        for share in self._shares(shop, waiting):
            with claimed(shop, share) as mine:
                left = [shard for shard in mine if not shop.is_done(shard)]
                for shard in compute(shop, left) if left else ():
                    done.add(shard.name)
                    shop.report_shards(len(done))
                if mine:
                    return True
        return False

    def _shares(self, shop: Workshop, waiting: list[Shard]) -> Iterator[list[Shard]]:
        """Yield what to try to claim: the own share of each kind, then single shards of others."""
        for kind in dict.fromkeys(shard.kind for shard in waiting):
            own = set(shard_of([shard.name for shard in shop.shards if shard.kind == kind], self.index, self.count))
            if mine := [shard for shard in waiting if shard.kind == kind and shard.name in own]:
                yield mine
        for shard in waiting:
            yield [shard]


@contextlib.contextmanager
def claimed(shop: Workshop, shards: list[Shard]) -> Iterator[list[Shard]]:
    """Hold the claims on those shards that nobody else holds."""
    folder = shop.scratch / f"claims-{shop.writer.attempt}"
    files.make_folder(folder)
    handles: list[int] = []
    mine: list[Shard] = []
    try:
        for shard in shards:
            handle = _try_lock(folder / f"{shard.name}.lock")
            if handle is not None:
                handles.append(handle)
                mine.append(shard)
        yield mine
    finally:
        for handle in handles:
            os.close(handle)


def _try_lock(path: Path) -> int | None:
    """Lock a file; None where another process holds it, or has just finished the run. Without locks everybody gets it."""
    try:
        with files.explained(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except StoreError:
        if path.parent.is_dir():
            raise
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        pass
    return handle
