"""Features in the order of a column: one vector of row ids, sorted without a join and in little memory.

In: a cursor, a view with one order column, a run whose rows stand in natural order, a mask or None. Out: row ids.

1. The column is read some layers at a time and becomes a code of 32 bits that orders as its values do; rows without a value come last.
2. Code and row id are packed into 64 bits, so that sorting them orders ties by row id: a range of codes at a time, so that an array of
   4 bytes a row and an eighth of one of 8 bytes is all there is.
3. Words are numbered in their order first (`tui_word`, a table of the cursor's own), and their numbers are the codes. Where there are
   millions of different labels, they are ordered by as many first letters as the memory for browsing holds.
4. The row ids are written to a file (`ids.py`), and the array is given back.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tui.data.compose import used
from tui.data.engine import Meter, arrays
from tui.data.features import BASE, SAME, FeatureComposer, FeatureView
from tui.data.ids import Ids
from tui.data.masks import AT_ONCE, Chunk, Places, chunks, source_text, together
from tui.data.runs import RunInfo

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    Array = np.ndarray[Any, Any]

LAST = 0xFFFFFFFF
"""The code of a row without a value."""
BLOCK = 1 << 18
PARTS = 8
"""Ranges of codes that are sorted one after another."""
WORDS = 100_000
"""Different words that are numbered at most."""
LENGTHS = (4, 8, 12, 16, 20, 24, 32)
"""Letters by which labels are ordered where there are more different ones."""
STRETCH = 245_760
"""Labels that are read at once."""
SAMPLE = 300_000
"""Labels that are looked at to choose among them."""
IDS = {"promotes": "f.promoted_token_ids[1]", "suppresses": "f.suppressed_token_ids[1]"}
"""The token whose text a column is ordered by."""


def can_order(info: RunInfo, view: FeatureView) -> bool:
    """Say whether this module can order a view."""
    return info.is_range and info.first + info.total < LAST and len(view.order) == 1


def selected_ids(info: RunInfo, mask: "Array") -> Ids:
    """Return the row ids of a mask in natural order."""
    ids = Ids()
    for start in range(0, len(mask), BLOCK):
        ids.append(mask[start : start + BLOCK].nonzero()[0] + (info.first + start))
    return ids


def ordered_ids(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, mask: "Array | None", meter: Meter) -> Ids:
    """Return the row ids of a mask (None: all) in the order of the view's one order column."""
    import numpy as np

    ((column, down),) = view.order
    ids = Ids()
    length = letters(cursor) if column == "label" else None
    if length is not None:
        ids.note = f"by their first {length} letters"
    read = _reader(cursor, view, info, SAME.get(column, column), meter, down=down, length=length)
    codes = np.full(info.total, LAST, np.uint32)
    for chunk in together(chunks(info), AT_ONCE):
        meter.step(AT_ONCE)
        if mask is None or mask[chunk.start : chunk.stop].any():
            codes[chunk.start : chunk.stop] = read(chunk)
    for block in _sorted_rows(codes, mask, meter):
        ids.append(block + info.first)
    return ids


def _sorted_rows(codes: "Array", mask: "Array | None", meter: Meter) -> "Iterator[Array]":
    """Yield the places of a mask in the order of their codes, ties by place: one range of codes after another, to take little memory."""
    import numpy as np

    edges = _edges(codes, mask)
    starts = range(0, len(codes), BLOCK)
    inner = np.array(edges[1:-1], np.uint32)
    counts = np.zeros(len(edges) - 1, np.int64)
    for start in starts:
        block = codes[start : start + BLOCK] if mask is None else codes[start : start + BLOCK][mask[start : start + BLOCK]]
        counts += np.bincount(np.searchsorted(inner, block, side="right"), minlength=len(counts))
    alike = [high == low + 1 for low, high in itertools.pairwise(edges)]
    packed = np.empty(max((int(n) for n, one in zip(counts, alike, strict=True) if not one), default=0), np.uint64)
    for (low, high), one in zip(itertools.pairwise(edges), alike, strict=True):
        meter.check()
        end = 0
        for start in starts:
            block = codes[start : start + BLOCK]
            inside = block == low if one else (block >= low) & (block < high)
            if mask is not None:
                inside &= mask[start : start + BLOCK]
            found = inside.nonzero()[0]
            if one:
                yield found + start
                continue
            part = packed[end : end + len(found)]
            part[:] = block[found]
            part <<= np.uint64(32)
            part |= (found + start).view(np.uint64)
            end += len(found)
        packed[:end].sort()
        for start in range(0, end, BLOCK):
            yield packed[start : min(end, start + BLOCK)] & np.uint64(LAST)


def _edges(codes: "Array", mask: "Array | None") -> list[int]:
    """Return the ends of ranges of codes with about as many rows each; a code that many rows have is one of its own, not to be sorted."""
    import numpy as np

    step = max(1, len(codes) // SAMPLE)
    sample = codes[::step] if mask is None else codes[::step][mask[::step]]
    if len(codes) <= BLOCK or not len(sample):
        return [0, LAST, LAST + 1]
    cuts = np.quantile(sample, np.arange(1, PARTS) / PARTS, method="nearest").tolist()
    edges = {0, LAST, LAST + 1, *cuts, *(cut + 1 for cut in cuts if cuts.count(cut) > 1)}
    return sorted(edges)


Read = Callable[[Chunk], "Array"]
"""Gives the codes of a chunk's features."""


def _reader(
    cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, column: str, meter: Meter, *, down: bool, length: int | None
) -> Read:
    """Return what reads the codes of a column."""
    import numpy as np

    if column == "label":
        codes = label_codes(cursor, view, info, meter, length)
        if down:
            codes[codes != LAST] = np.uint32(LAST - 1) - codes[codes != LAST]
        return lambda chunk: codes[chunk.start : chunk.stop]
    word = ""
    if column in ("promotes", "suppresses") and not (column == "promotes" and info.has_terms):
        word = _number_words(cursor, view, info, column)
    text, names, is_base = _statement(view, info, column, word)
    places = Places(info)

    def read(chunk: Chunk) -> "Array":
        found = arrays(cursor, text, {**names, "low": chunk.low, "high": chunk.high})
        where, which = (found["place"], slice(None)) if is_base else places(found["layer"], found["feature"])
        codes = np.full(chunk.stop - chunk.start, LAST, np.uint32)
        codes[where - chunk.start] = code(found["key"], down=down)[which]
        return codes

    return read


def _statement(view: FeatureView, info: RunInfo, column: str, word: str = "") -> tuple[str, dict[str, Any], bool]:
    """Return the statement that gives a column's keys for a chunk, its values, and whether it gives places.

    `word` joins the numbered words, where the column is one of words.
    """
    composer = FeatureComposer(view, info.languages, info.scores)
    if column == "promotes" and info.has_terms:
        text = "select layer, feature, term as key from feature_term where run_id = $run and rank = 0 and layer between $low and $high"
        return text, {"run": view.run_id}, False
    key = composer.key(column)
    if column in BASE:
        first = composer.names.bind(info.first, "first")
        text = f"select f.rowid - {first} as place, {'w.code' if word else key} as key from feature f{word}"
        text += f" where f.run_id = {composer.run} and f.layer between $low and $high"
        text += "" if word else f" and {key} is not null"
        return text, composer.names.values, True
    (source,) = composer.sources.values()
    return source_text(source, f"{key} is not null", f"{key} as key"), composer.names.values, False


NUMBERED = (
    "create or replace temp table tui_word as"
    " select *, (dense_rank() over (order by word) - 1)::integer as code from ({words}) where word is not null"
)


def _number_words(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, column: str) -> str:
    """Number the words of a column in their order; return the join that gives a feature its number.

    Words are few beside the features, so that ordering them takes no time. Reading them does: where each token's id has one text, the
    features are joined by the ids.
    """
    composer = FeatureComposer(view, info.languages, info.scores)
    key, ids = composer.key(column), IDS[column]
    words = f"select distinct {ids} as id, {key} as word from feature f where f.run_id = {composer.run}"
    cursor.execute(NUMBERED.format(words=words), used(words, composer.names.values))
    ((is_by_id,),) = cursor.execute("select count(*) = count(distinct id) from tui_word").fetchall()
    if is_by_id:
        return f" join tui_word w on w.id = {ids}"
    cursor.execute("create or replace temp table tui_word as select distinct word, code from tui_word")
    return f" join tui_word w on w.word = {key}"


def letters(cursor: "duckdb.DuckDBPyConnection") -> int | None:
    """Return by how many letters labels are ordered: None, all, unless there are more different ones than the memory for browsing holds."""
    ((n,),) = cursor.execute("select count(*) from label").fetchall()
    if n <= WORDS:
        return None
    counts = ", ".join(
        f"approx_count_distinct(left(text, {length})), approx_count_distinct(left(text, {length})) filter (rowid < {SAMPLE // 2})"
        for length in LENGTHS
    )
    (found,) = cursor.execute(f"select {counts} from label where rowid < {SAMPLE}").fetchall()
    # What the second half of a sample adds is more than what each further doubling does.
    doublings = math.log2(max(1.0, n / SAMPLE))
    expected = [whole * (whole / max(1, half)) ** doublings for whole, half in zip(found[::2], found[1::2], strict=True)]
    return max((length for length, words in zip(LENGTHS, expected, strict=True) if words <= WORDS), default=LENGTHS[0])


def label_codes(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, meter: Meter, length: int | None) -> "Array":
    """Return the code of each feature's shown label, in the order of the first `length` letters of texts, None: of all.

    1. The beginnings of all labels are numbered in their order.
    2. Labels are read by stretches of rows and set at the places of their features: mechanical ones, of other runs and older ones first,
       then those that somebody wrote, the newest last.
    3. People's own words of since the last publish come last.
    """
    import numpy as np

    composer = FeatureComposer(view, info.languages, info.scores)
    published, own = composer.labels()
    word = "text" if length is None else f"left(text, {length})"
    values = composer.names.values
    words = " union ".join(f"select distinct {word} as word from ({rows})" for rows in (published, own) if rows)
    cursor.execute(NUMBERED.format(words=words), used(words, values))
    codes, places = np.full(info.total, LAST, np.uint32), Places(info)
    ((rows,),) = cursor.execute("select count(*) from label").fetchall()
    kinds = cursor.execute(
        f"select is_own, created_at from ({published}) where not is_written group by all order by all", used(published, values)
    ).fetchall()
    meter.total += (len(kinds) + 1) * math.ceil(rows / STRETCH)
    alone = f"select layer, feature, w.code from ({published} and rowid between $low and $high) join tui_word w on w.word = {word}"
    steps = [("not is_written and is_own = $own and created_at = $at", {"own": own_, "at": at}) for own_, at in kinds]
    for condition, bound in [*steps, ("is_written", {})]:
        for low in range(0, rows, STRETCH):
            meter.step()
            order = "" if bound else " order by is_own, created_at"
            given = {**values, **bound, "low": low, "high": low + STRETCH - 1}
            found = arrays(cursor, f"{alone} where {condition}{order}", given)
            where, which = places(found["layer"], found["feature"])
            codes[where] = found["code"][which]
    if own is not None:
        found = arrays(cursor, f"select layer, feature, w.code from ({own}) join tui_word w on w.word = {word}", values)
        where, which = places(found["layer"], found["feature"])
        codes[where] = found["code"][which]
    return codes


def code(keys: "Array", *, down: bool) -> "Array":
    """Return codes of 32 bits that order as the keys do, or against them: 0 to LAST - 1."""
    import numpy as np

    if keys.dtype.kind == "f":
        bits = (keys.astype(np.float32) + np.float32(0)).view(np.uint32)
        codes = np.where(bits >> 31 != 0, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)
    else:
        codes = np.clip(keys.astype(np.int64), 0, LAST - 1).astype(np.uint32)
    return np.uint32(LAST - 1) - codes if down else codes
