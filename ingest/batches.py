"""Batches of prompts that halve when memory runs out.

In: a prompt set, a batch size. Out: padded batches in order, each given to a function; a batch that does not fit is cut in two and
tried again, the smaller size is kept from then on, and it is said on the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from atlas.errors import ModelError

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
"""Called with (done, all) after each step."""
ONE_THREAD_BELOW = 256
"""d_model below which one thread is faster than two: the products are too small to share."""
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or what caused it, is a device's lack of memory."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or isinstance(error.__cause__, torch.cuda.OutOfMemoryError)


def in_halving_batches(n: int, size: int, run: Callable[[slice], Result], *, what: str = "prompts") -> Iterator[Result]:
    """Yield `run(slice)` over 0..n in slices of at most `size`, halved whenever memory runs out.

    Raises:
        ModelError: when a single one does not fit.
    """
    start = 0
    while start < n:
        part = slice(start, min(start + size, n))
        try:
            result = run(part)
        except (torch.cuda.OutOfMemoryError, ModelError) as error:
            if not is_out_of_memory(error):
                raise
            if part.stop - part.start == 1:
                raise ModelError(
                    f"memory runs out with a single one of the {what} in a batch",
                    hint="give a smaller --memory-budget, fewer layers, or another device",
                ) from error
            size = max((part.stop - part.start) // 2, 1)
            torch.cuda.empty_cache()
            log.warning("out of memory with %d %s at once: going on with %d", part.stop - part.start, what, size)
            continue
        yield result
        start = part.stop


def pad_right(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return ids (B, T) int64 padded with 0 on the right, and the mask (B, T) bool."""
    length = max((len(row) for row in rows), default=0)
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[index, : len(row)] = True
    return ids, mask
