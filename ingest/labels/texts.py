"""The tokens of a run's prompts or documents as flat arrays, so that millions of activations can be looked up at once.

In: tables `token`, and `prompt` or `document` for the language. Out: `Texts`, sorted by item and position.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas.errors import InputError

Integers = npt.NDArray[np.int64]
PSEUDO_LANGUAGE = "xx"
"""Random tokens: a null elsewhere, left out here."""


@dataclass(frozen=True)
class Texts:
    """Tokens of all items of one source, N of them, sorted by (item, position)."""

    source: str
    """prompt or document."""
    item: Integers
    """(N)."""
    position: Integers
    """(N): 0 is the attention sink, which no statistic counts."""
    token: Integers
    """(N): index into `vocabulary`."""
    vocabulary: tuple[str, ...]
    """Different token texts."""
    language: Integers
    """(N): index into `languages`."""
    languages: tuple[str, ...]
    role: Integers
    """(N): index into `roles`."""
    roles: tuple[str, ...]

    @classmethod
    def of_tables(cls, token: pa.Table, items: pa.Table, source: str) -> Texts:
        """Join tokens with the languages of their items; `items` is table prompt or document.

        Raises:
            InputError: a token belongs to no item.
        """
        own = token.filter(pc.equal(token["source"], source))
        item, position = own["item"].to_numpy().astype(np.int64), own["position"].to_numpy().astype(np.int64)
        order = np.lexsort((position, item))
        languages, of_item = encoded(items["language"])
        numbers = items[source].to_numpy().astype(np.int64)
        by_number = np.argsort(numbers)
        place = np.searchsorted(numbers[by_number], item[order])
        known = np.append(numbers[by_number], -1)[place] == item[order]
        if not known.all():
            raise InputError(f"token: {source} {item[order][~known][0]} is not in table {source}", hint="`atlas check` names all damage.")
        vocabulary, codes = encoded(own["token"])
        roles, role = encoded(own["role"])
        return cls(
            source,
            item[order],
            position[order],
            codes[order],
            vocabulary,
            of_item[by_number][place],
            languages,
            role[order],
            roles,
        )

    @cached_property
    def keys(self) -> Integers:
        """(N): item and position in one ascending integer."""
        return self.item << 20 | self.position

    def index(self, item: Integers, position: Integers) -> Integers:
        """Return the flat index of each (item, position); -1 where there is no such token."""
        if not len(self.keys):
            return np.full(len(item), -1)
        wanted = item << 20 | position
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[at] == wanted, at, -1)

    @cached_property
    def counted(self) -> npt.NDArray[np.bool_]:
        """(N): tokens that statistics look at: no sinks, no random tokens."""
        pseudo = [place for place, name in enumerate(self.languages) if name == PSEUDO_LANGUAGE]
        return (self.position > 0) & ~np.isin(self.language, pseudo)

    @cached_property
    def n_tokens(self) -> Integers:
        """Counted tokens of each language."""
        return np.bincount(self.language[self.counted], minlength=len(self.languages)).astype(np.int64)

    @cached_property
    def _bounds(self) -> tuple[Integers, Integers]:
        """Items in ascending order, and where each begins, with the end behind the last."""
        items, starts = np.unique(self.item, return_index=True)
        return items, np.append(starts, len(self.item)).astype(np.int64)

    def span(self, item: int) -> slice:
        """Return where the tokens of one item stand."""
        items, bounds = self._bounds
        place = int(np.searchsorted(items, item))
        return slice(int(bounds[place]), int(bounds[place + 1]))

    def window(self, item: int, position: int, half: int) -> slice:
        """Return where the tokens up to `half` places around one stand, within its item."""
        span = self.span(item)
        at = int(self.index(np.array([item]), np.array([position]))[0])
        return slice(max(span.start, at - half), min(span.stop, at + half + 1))


def encoded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Integers]:
    """Return the different texts of a column, sorted, and the index of each row's."""
    found = pc.dictionary_encode(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    names = np.array(found.dictionary.to_pylist(), dtype=object)
    order = np.argsort(names)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return tuple(names[order]), rank[found.indices.to_numpy(zero_copy_only=False)]
