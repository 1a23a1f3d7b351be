"""Keep as many matrices in memory as a budget allows.

In: keys and functions that read a matrix. Out: the matrix, read again only when it had to leave; the least recently
used one leaves first. A matrix larger than the whole budget is handed out and not kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from torch import Tensor


class Residency:
    """A cache of tensors with a budget in bytes; None keeps everything."""

    def __init__(self, budget: int | None) -> None:
        self.budget = budget
        self.used = 0
        self.reads = 0
        """How many matrices were read, again or for the first time."""
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of a key, reading it if it is not resident."""
        kept = self.peek(key)
        if kept is not None:
            return kept
        tensor = read()
        self.reads += 1
        size = tensor.nbytes
        if self.budget is None or size <= self.budget:
            self._make_room(size)
            self._kept[key] = tensor
            self.used += size
        return tensor

    def peek(self, key: Hashable) -> Tensor | None:
        """Return the tensor of a key if it is resident."""
        tensor = self._kept.get(key)
        if tensor is not None:
            self._kept.move_to_end(key)
        return tensor

    def clear(self) -> None:
        """Let everything go."""
        self._kept.clear()
        self.used = 0

    def _make_room(self, size: int) -> None:
        while self.budget is not None and self._kept and self.used + size > self.budget:
            _, tensor = self._kept.popitem(last=False)
            self.used -= tensor.nbytes
