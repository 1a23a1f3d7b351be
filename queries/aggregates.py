"""Counts of raw activations that questions over all layers read instead of the activations themselves.

In: activation, token, prompt, prompt_pair, baseline; feature_score. Out: feature_behaviour, feature_cluster, feature_template,
feature_contrast, feature_correctness; feature_verdict, score_summary, shared_count.

1. A layer at a time, a run's activations become one row per feature and prompt, and one per feature, prompt and role (`seen`, `seen_role`).
2. From these every table is counted with one statement; no parameter of a question is fixed by it, so each question answers for all its
   parameters as it would from the raw rows. The audits compare a sample of features with the raw rows.
3. The area under the curve of right against wrong answers comes from ranks (Mann and Whitney): U = sum of ranks of the right, ties at
   their mean, silent prompts tied at 0, below all active ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from queries.design import ROLES, Floats, Ints, Seen, fetch, read_fired, read_roles, seen
from queries.loader import read_sql

if TYPE_CHECKING:
    import duckdb

COUNTED = ("feature_behaviour", "feature_cluster", "feature_template", "feature_contrast")


@dataclass(frozen=True)
class Judged:
    """Prompts with a right or wrong answer, as arrays over prompt ordinals."""

    behaviour: NDArray[Any]
    language: NDArray[Any]
    concept: Ints
    correct: NDArray[np.bool_]
    here: NDArray[np.bool_]
    """Whether the prompt has a baseline at all."""


def write_counts(con: duckdb.DuckDBPyConnection) -> None:
    """Fill the tables of raw activations for every run that lacks them."""
    for run in fetch(con, "looked_runs")["run_id"].astype(str).tolist():
        judged, roles = _judged(con, run), read_roles(con, run)
        for layer in fetch(con, "layers", run=run)["layer"].tolist():
            _write_layer(con, run, layer, seen(read_fired(con, run, layer, roles)), judged)


def _write_layer(con: duckdb.DuckDBPyConnection, run: str, layer: int, rows: Seen, judged: Judged) -> None:
    """Write one layer's rows of all tables."""
    import pyarrow as pa

    at_role = [np.flatnonzero(rows.roles & (1 << role)) for role in range(len(ROLES))]
    role = np.repeat(np.arange(len(ROLES), dtype=np.int8), [len(part) for part in at_role])
    some = np.concatenate(at_role)
    con.register("seen", pa.table({"feature": rows.feature, "prompt": rows.prompt, "activation": rows.activation}))
    con.register("seen_role", pa.table({"feature": rows.feature[some], "prompt": rows.prompt[some], "role": role}))
    for table in COUNTED:
        con.execute(read_sql("build", table), {"run": run, "layer": layer})
    for name in ("seen", "seen_role"):
        con.unregister(name)
    _write_correctness(con, run, layer, rows, judged)


def write_verdicts(con: duckdb.DuckDBPyConnection) -> None:
    """Fill the tables of scores for every run that lacks them."""
    lacking = fetch(con, "verdicts_lacking")
    con.execute(read_sql("build", "verdict_begin"))
    for run, layer in zip(lacking["run_id"].astype(str).tolist(), lacking["layer"].tolist(), strict=True):
        con.execute(read_sql("build", "feature_verdict"), {"run": run, "layer": layer})
    con.execute(read_sql("build", "verdict_sorted"))
    con.execute("drop table verdict")
    con.execute(read_sql("build", "score_summary"))
    con.execute(read_sql("build", "shared_count"))


def _judged(con: duckdb.DuckDBPyConnection, run: str) -> Judged:
    rows = fetch(con, "judged_prompts", run=run)
    prompt = rows["prompt"].astype(np.int64)
    size = int(prompt.max(initial=-1)) + 1

    def spread(values: NDArray[Any], empty: Any) -> NDArray[Any]:
        result = np.full(size, empty, dtype=values.dtype)
        result[prompt] = values
        return result

    concept = np.unique(rows["concept"].astype(str), return_inverse=True)[1].astype(np.int64)
    return Judged(
        behaviour=spread(rows["behaviour"].astype(str), ""),
        language=spread(rows["language"].astype(str), ""),
        concept=spread(concept, -1),
        correct=spread(rows["correct"].astype(bool), False),
        here=spread(np.ones(len(prompt), dtype=bool), False),
    )


def selections(judged: Judged) -> Iterator[tuple[str | None, str | None, NDArray[np.bool_]]]:
    """Yield behaviour, language and the prompts meant; None is all."""
    behaviours: list[str | None] = [None, *sorted(set(judged.behaviour[judged.here].tolist()))]
    languages: list[str | None] = [None, *sorted(set(judged.language[judged.here].tolist()))]
    for behaviour in behaviours:
        for language in languages:
            chosen = judged.here.copy()
            if behaviour is not None:
                chosen &= judged.behaviour == behaviour
            if language is not None:
                chosen &= judged.language == language
            yield behaviour, language, chosen


def _write_correctness(con: duckdb.DuckDBPyConnection, run: str, layer: int, rows: Seen, judged: Judged) -> None:
    """Write one layer's rows of feature_correctness."""
    import pyarrow as pa

    if not judged.here.any():
        return
    known = np.flatnonzero(rows.prompt < len(judged.here))
    # The weakest activation of a feature first; the bits of numbers above 0 order as the numbers do, and one key sorts ten times faster.
    key = rows.feature[known].astype(np.int64) << 32 | rows.activation[known].view(np.uint32)
    order = known[np.argsort(key)]
    feature, prompt, value = rows.feature[order].astype(np.int64), rows.prompt[order], rows.activation[order]
    right = judged.correct[prompt]
    kind = np.unique(np.stack([judged.behaviour, judged.language]), axis=1, return_inverse=True)[1].reshape(-1)  # of each prompt
    spread = ConceptSpread(feature, judged.concept[prompt], kind[prompt])
    for behaviour, language, chosen in selections(judged):
        n_right, n_wrong = int((chosen & judged.correct).sum()), int((chosen & ~judged.correct).sum())
        some = chosen[prompt]
        if not n_right or not n_wrong or not some.any():
            continue
        columns = separation(feature[some], value[some], right[some], n_right, n_wrong)
        columns["n_concepts"] = spread.count(np.unique(kind[chosen]))
        con.register("separated", pa.table(columns))
        place = {"run": run, "layer": layer, "behaviour": behaviour, "language": language}
        con.execute(read_sql("build", "feature_correctness"), place)
        con.unregister("separated")


class ConceptSpread:
    """How many concepts each feature has among prompts of some kinds: each feature, concept and kind of prompt is kept once."""

    def __init__(self, feature: Ints, concept: Ints, kind: Ints) -> None:
        n_kinds, n_concepts = int(kind.max(initial=0)) + 1, int(concept.max(initial=0)) + 1
        key = np.sort((feature * n_concepts + concept) * n_kinds + kind)
        key = key[np.diff(key, prepend=-1) != 0]
        self._place, self._kind = key // n_kinds, key % n_kinds
        self._n_concepts = n_concepts

    def count(self, kinds: Ints) -> Ints:
        """Return the number for every feature that has any, in the order of features."""
        place = self._place[np.isin(self._kind, kinds)]
        place = place[np.diff(place, prepend=-1) != 0]
        feature = place // self._n_concepts
        starts = np.flatnonzero(np.diff(feature, prepend=-1))
        return np.diff(np.append(starts, len(feature)))


def separation(feature: Ints, value: NDArray[Any], right: NDArray[np.bool_], n_right: int, n_wrong: int) -> dict[str, Floats | Ints]:
    """Return, by feature, how well its activation tells right from wrong prompts.

    `feature` (R,) and `value` (R,) are sorted by feature, then value; a row is a prompt on which the feature is active. `n_right` and
    `n_wrong` count all prompts, silent ones too.
    """
    new = np.diff(feature, prepend=-1) != 0
    start = np.flatnonzero(new)
    owner = np.cumsum(new) - 1
    tied = np.flatnonzero(new | (np.diff(value, prepend=np.nan) != 0))  # where each group of equal values begins
    ends = np.append(tied[1:], len(feature))
    group = np.repeat(np.arange(len(tied)), ends - tied)
    rank = (tied + ends - 1)[group] / 2 - start[owner] + 1
    size = len(start)
    active_right = np.bincount(owner, right, size).astype(np.int64)
    active_wrong = np.bincount(owner, ~right, size).astype(np.int64)
    ranks = np.bincount(owner, rank * right, size)
    silent_right, silent_wrong = n_right - active_right, n_wrong - active_wrong
    above = ranks - active_right * (active_right + 1) / 2 + active_right * silent_wrong + 0.5 * silent_right * silent_wrong
    return {
        "feature": feature[start],
        "n_right": np.full(size, n_right),
        "n_wrong": np.full(size, n_wrong),
        "n_active_right": active_right,
        "n_active_wrong": active_wrong,
        "auc": above / (n_right * n_wrong),
    }
