"""Features in the order of a column: one vector of row ids, sorted without a join and in little memory.

In: a cursor, a view with one order column, a run whose rows stand in natural order, a mask or None. Out: row ids.

1. The column is read some layers at a time and becomes a code of 32 bits that orders as its values do; rows without a value come last.
2. Code and row id are packed into 64 bits, so that sorting them orders ties by row id; one array of 8 bytes a row is all there is.
3. The row ids are written to a file (`ids.py`), and the array is given back.
"""

from typing import TYPE_CHECKING, Any

from tui.data.engine import Meter, arrays
from tui.data.features import BASE, SAME, FeatureComposer, FeatureView
from tui.data.ids import Ids
from tui.data.masks import Places, chunks, source_text
from tui.data.runs import RunInfo

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    Array = np.ndarray[Any, Any]

LAST = 0xFFFFFFFF
"""The code of a row without a value."""
BLOCK = 1 << 18


def can_order(info: RunInfo, view: FeatureView) -> bool:
    """Say whether this module can order a view."""
    if not info.is_range or info.first + info.total >= LAST:
        return False
    names = [SAME.get(column, column) for column, _ in view.order]
    return len(names) == 1 and names[0] not in ("label", "suppresses") and (names[0] != "promotes" or info.has_terms)


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
    text, names, is_base = _statement(view, info, SAME.get(column, column))
    places = Places(info)
    packed = np.empty(info.total if mask is None else int(np.count_nonzero(mask)), np.uint64)
    end = 0
    for chunk in chunks(info):
        meter.step()
        wanted = None if mask is None else mask[chunk.start : chunk.stop].nonzero()[0]
        if wanted is not None and not len(wanted):
            continue
        found = arrays(cursor, text, {**names, "low": chunk.low, "high": chunk.high})
        where, which = (found["place"], slice(None)) if is_base else places(found["layer"], found["feature"])
        codes = np.full(chunk.stop - chunk.start, LAST, np.uint32)
        codes[where - chunk.start] = code(found["key"], down=down)[which]
        if wanted is None:
            rows, kept = np.arange(chunk.start, chunk.stop, dtype=np.uint64), codes
        else:
            rows, kept = (wanted + chunk.start).astype(np.uint64), codes[wanted]
        packed[end : end + len(rows)] = (kept.astype(np.uint64) << np.uint64(32)) | (rows + np.uint64(info.first))
        end += len(rows)
    meter.check()
    packed.sort()
    ids = Ids()
    for start in range(0, len(packed), BLOCK):
        ids.append(packed[start : start + BLOCK] & np.uint64(0xFFFFFFFF))
    return ids


def _statement(view: FeatureView, info: RunInfo, column: str) -> tuple[str, dict[str, Any], bool]:
    """Return the statement that gives a column's keys for a chunk, its values, and whether it gives places."""
    composer = FeatureComposer(view, info.languages, info.scores)
    if column == "promotes":
        text = "select layer, feature, term as key from feature_term where run_id = $run and rank = 0 and layer between $low and $high"
        return text, {"run": view.run_id}, False
    key = composer.key(column)
    if column in BASE:
        first = composer.names.bind(info.first, "first")
        text = f"select f.rowid - {first} as place, {key} as key from feature f where f.run_id = {composer.run}"
        return text + f" and f.layer between $low and $high and {key} is not null", composer.names.values, True
    (source,) = composer.sources.values()
    return source_text(source, f"{key} is not null", f"{key} as key"), composer.names.values, False


def code(keys: "Array", *, down: bool) -> "Array":
    """Return codes of 32 bits that order as the keys do, or against them: 0 to LAST - 1."""
    import numpy as np

    if keys.dtype.kind == "f":
        bits = (keys.astype(np.float32) + np.float32(0)).view(np.uint32)
        codes = np.where(bits >> 31 != 0, ~bits, bits | np.uint32(0x80000000)).astype(np.uint32)
    else:
        codes = np.clip(keys.astype(np.int64), 0, LAST - 1).astype(np.uint32)
    return np.uint32(LAST - 1) - codes if down else codes
