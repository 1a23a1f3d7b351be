"""Row ids in the order of a view: millions of them stand in a file without a name, so that they take no memory.

In: blocks of ids, appended. Out: stretches of them, and where one stands. Fewer than KEPT stay in memory.
"""

import os
import tempfile
import weakref
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

KEPT = 250_000
"""Ids that are kept in memory."""
BLOCK = 1 << 20
SIZE = 4
"""Bytes of an id."""


class Ids:
    """A growing vector of row ids below 2^32."""

    note = ""
    """What is to be known of their order."""

    def __init__(self) -> None:
        self._length = 0
        self._blocks: list[Array] = []
        self._file: IO[bytes] | None = None

    def append(self, block: "Array") -> None:
        """Put more ids at the end."""
        import numpy as np

        self._length += len(block)
        self._blocks.append(block.astype(np.uint32))
        if self._length > KEPT:
            if self._file is None:
                self._file = cast("IO[bytes]", tempfile.TemporaryFile(buffering=0, prefix="atlas-tui-"))  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            for part in self._blocks:
                self._file.write(part.tobytes())
            self._blocks.clear()

    def __len__(self) -> int:
        return self._length

    def stretch(self, first: int, last: int) -> "Array":
        """Return ids first..last-1."""
        import numpy as np

        last = max(first, min(last, self._length))
        if self._file is None:
            return np.concatenate([np.empty(0, np.uint32), *self._blocks])[first:last]
        return np.frombuffer(_read(self._file.fileno(), first * SIZE, (last - first) * SIZE), np.uint32)

    def find(self, row: int) -> int | None:
        """Return where an id stands."""
        for first in range(0, self._length, BLOCK):
            found = (self.stretch(first, first + BLOCK) == row).nonzero()[0]
            if len(found):
                return first + int(found[0])
        return None


def _read(descriptor: int, offset: int, size: int) -> bytes:
    """Read at a place, whatever other threads read."""
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        offset, size = offset + len(part), size - len(part)
    return b"".join(parts)
