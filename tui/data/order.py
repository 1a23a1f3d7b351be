"""Features in the order of a column: one vector of row ids, sorted without a join and in little memory.

In: a cursor, a view with one order column, a run whose rows stand in natural order, a mask or None. Out: row ids.

1. The column is read some layers at a time and becomes a code of 32 bits that orders as its values do; rows without a value come last.
2. Code and row id are packed into 64 bits, so that sorting them orders ties by row id; one array of 8 bytes a row is all there is.
3. Words are numbered in their order first (`tui_word`, a table of the cursor's own), and their numbers are the codes. Where there are
   millions of different labels, they are ordered by as many first letters as the memory for browsing holds.
4. The row ids are written to a file (`ids.py`), and the array is given back.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tui.data.compose import used
from tui.data.engine import Meter, arrays
from tui.data.features import BASE, SAME, FeatureComposer, FeatureView
from tui.data.ids import Ids
from tui.data.masks import Chunk, Places, chunks, source_text
from tui.data.runs import RunInfo

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    Array = np.ndarray[Any, Any]

LAST = 0xFFFFFFFF
"""The code of a row without a value."""
BLOCK = 1 << 18
WORDS = 100_000
"""Different words that are numbered at most."""
LENGTHS = (4, 8, 12, 16, 20, 24, 32)
"""Letters by which labels are ordered where there are more different ones."""
STRETCH = 400_000
"""Labels that are read at once."""
SAMPLE = 300_000
"""Labels that are looked at to choose among them."""


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
    packed = np.empty(info.total if mask is None else int(np.count_nonzero(mask)), np.uint64)
    end = 0
    for chunk in chunks(info):
        meter.step()
        wanted = None if mask is None else mask[chunk.start : chunk.stop].nonzero()[0]
        if wanted is not None and not len(wanted):
            continue
        codes = read(chunk)
        if wanted is None:
            rows, kept = np.arange(chunk.start, chunk.stop, dtype=np.uint64), codes
        else:
            rows, kept = (wanted + chunk.start).astype(np.uint64), codes[wanted]
        packed[end : end + len(rows)] = (kept.astype(np.uint64) << np.uint64(32)) | (rows + np.uint64(info.first))
        end += len(rows)
    meter.check()
    packed.sort()
    for start in range(0, len(packed), BLOCK):
        ids.append(packed[start : start + BLOCK] & np.uint64(0xFFFFFFFF))
    return ids


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
    if column in ("promotes", "suppresses") and not (column == "promotes" and info.has_terms):
        _number_words(cursor, view, info, column)
    text, names, is_base = _statement(view, info, column)
    places = Places(info)

    def read(chunk: Chunk) -> "Array":
        found = arrays(cursor, text, {**names, "low": chunk.low, "high": chunk.high})
        where, which = (found["place"], slice(None)) if is_base else places(found["layer"], found["feature"])
        codes = np.full(chunk.stop - chunk.start, LAST, np.uint32)
        codes[where - chunk.start] = code(found["key"], down=down)[which]
        return codes

    return read


def _statement(view: FeatureView, info: RunInfo, column: str) -> tuple[str, dict[str, Any], bool]:
    """Return the statement that gives a column's keys for a chunk, its values, and whether it gives places."""
    composer = FeatureComposer(view, info.languages, info.scores)
    if column == "promotes" and info.has_terms:
        text = "select layer, feature, term as key from feature_term where run_id = $run and rank = 0 and layer between $low and $high"
        return text, {"run": view.run_id}, False
    key = composer.key(column)
    if column in BASE:
        first = composer.names.bind(info.first, "first")
        is_words = column in ("promotes", "suppresses")
        joined = f" join tui_word w on w.word = {key}" if is_words else ""
        text = f"select f.rowid - {first} as place, {'w.code' if is_words else key} as key from feature f{joined}"
        text += f" where f.run_id = {composer.run} and f.layer between $low and $high and {key} is not null"
        return text, composer.names.values, True
    (source,) = composer.sources.values()
    return source_text(source, f"{key} is not null", f"{key} as key"), composer.names.values, False


NUMBERED = (
    "create or replace temp table tui_word as"
    " select word, row_number() over (order by word) - 1 as code from ({words}) where word is not null"
)


def _number_words(cursor: "duckdb.DuckDBPyConnection", view: FeatureView, info: RunInfo, column: str) -> None:
    """Number the words of a column in their order: they are few beside the features, so that ordering them takes no time."""
    composer = FeatureComposer(view, info.languages, info.scores)
    words = f"select distinct {composer.key(column)} as word from feature f where f.run_id = {composer.run}"
    cursor.execute(NUMBERED.format(words=words), used(words, composer.names.values))


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
    2. Labels are read by stretches of rows, mechanical ones before those that somebody wrote, and set at the places of their features:
       this run's over another run's, a newer one over an older one.
    3. People's own words of since the last publish come last.
    """
    import numpy as np

    composer = FeatureComposer(view, info.languages, info.scores)
    published, own = composer.labels()
    word = "text" if length is None else f"left(text, {length})"
    values = composer.names.values
    words = " union ".join(f"select distinct {word} as word from ({rows})" for rows in (published, own) if rows)
    cursor.execute(NUMBERED.format(words=words), used(words, values))
    codes, newest = np.full(info.total, LAST, np.uint32), np.zeros(info.total, np.uint32)
    places = Places(info)
    ((rows,),) = cursor.execute("select count(*) from label").fetchall()
    meter.total += 2 * math.ceil(rows / STRETCH)
    for written in (False, True):
        newest[:] = 0
        for low in range(0, rows, STRETCH):
            meter.step()
            part = f"{published} and rowid between $low and $high and (method <> 'mechanical') = $written"
            at = "epoch(created_at)::ubigint + is_own::ubigint * 2147483648 as at"
            text = f"select layer, feature, w.code, {at} from ({part}) join tui_word w on w.word = {word}"
            found = arrays(cursor, text, {**values, "low": low, "high": low + STRETCH - 1, "written": written})
            where, which = places(found["layer"], found["feature"])
            when, key = (found[name][which].astype(np.uint32) for name in ("at", "code"))
            if len(when) and when.min() != when.max():
                order = np.argsort(when, kind="stable")
                where, when, key = where[order], when[order], key[order]
            newer = when >= newest[where]
            codes[where[newer]], newest[where[newer]] = key[newer], when[newer]
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
