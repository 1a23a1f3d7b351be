"""Where features' counts by language stand, so that a page of scattered features reads a few rows and not a column of all.

In: the table `feature_language`. Out: stretches of row ids.

1. A run's rows are cut into steps of STEP rows; the lowest and the highest feature of each are kept, 24 bytes a step.
2. A feature's rows lie in the steps whose ends enclose it: one or two, where rows stand in the order of features. Where they do not, or
   where rows of another run stand between, the answer is None, and the table is scanned.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

STEP = 128
ENDS = (
    f"select rowid // {STEP} as step, min(layer::bigint * 4294967296 + feature) as low, max(layer::bigint * 4294967296 + feature) as high,"
    " min(rowid) as first, max(rowid) as last, count(*) as n from feature_language where run_id = $run group by step order by step"
)


class CountPlaces:
    """The ends of the steps of one run, read when they are first asked for."""

    def __init__(self) -> None:
        self._ends: dict[str, NDArray[np.int64]] | None = None
        self._in_order = False
        self.first, self.last = 0, -1
        """Row ids of the run's first and last row."""

    def starts(self, cursor: "duckdb.DuckDBPyConnection", run_id: str, keys: Iterable[int]) -> list[int] | None:
        """Return the first row ids of the steps that hold the counts of some features (`feature_key`), None where order does not tell."""
        import numpy as np

        if self._ends is None:
            found: dict[str, Any] = cursor.execute(ENDS, {"run": run_id}).fetchnumpy()
            found = {name: np.asarray(values).astype(np.int64) for name, values in found.items()}
            self.first, self.last = int(found["first"].min(initial=2**62)), int(found["last"].max(initial=-1))
            alone = not len(found["n"]) or self.last - self.first + 1 == found["n"].sum()
            self._in_order = bool(alone and (found["low"][1:] >= found["high"][:-1]).all())
            self._ends = {name: found[name] for name in ("step", "low", "high")}
        if not self._in_order:
            return None
        wanted = np.fromiter(keys, dtype=np.int64)
        first, last = np.searchsorted(self._ends["high"], wanted, "left"), np.searchsorted(self._ends["low"], wanted, "right")
        places = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        return [int(step) * STEP for step in np.unique(self._ends["step"][np.concatenate(places)])] if places else []
