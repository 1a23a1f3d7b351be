"""Counts of raw activations that questions over all layers read instead of the activations themselves.

In: activation, token, prompt, prompt_pair, baseline; feature_score. Out: feature_behaviour, feature_cluster, feature_template,
feature_contrast, feature_correctness; feature_verdict, score_summary, shared_count.

1. A layer at a time, a run's activations become one row per feature, prompt and role (temporary tables `seen_role` and `seen`).
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

from queries.design import Floats, Ints, fetch
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
        judged = _judged(con, run)
        for layer in fetch(con, "layers", run=run)["layer"].tolist():
            place = {"run": run, "layer": layer}
            con.execute(read_sql("build", "seen_role"), place)
            con.execute(read_sql("build", "seen"))
            for table in COUNTED:
                con.execute(read_sql("build", table), place)
            _write_correctness(con, run, layer, judged)
        con.execute("drop table if exists seen_role")
        con.execute("drop table if exists seen")


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


def _write_correctness(con: duckdb.DuckDBPyConnection, run: str, layer: int, judged: Judged) -> None:
    """Write one layer's rows of feature_correctness."""
    import pyarrow as pa

    if not judged.here.any():
        return
    rows = fetch(con, "seen_rows")
    prompt = rows["prompt"].astype(np.int64)
    known = prompt < len(judged.here)
    feature, prompt, value = rows["feature"].astype(np.int64)[known], prompt[known], rows["activation"][known]
    by_concept = np.lexsort((judged.concept[prompt], feature))
    for behaviour, language, chosen in selections(judged):
        n_right, n_wrong = int((chosen & judged.correct).sum()), int((chosen & ~judged.correct).sum())
        some = chosen[prompt]
        if not n_right or not n_wrong or not some.any():
            continue
        columns = separation(feature[some], value[some], judged.correct[prompt[some]], n_right, n_wrong)
        order = by_concept[some[by_concept]]
        columns["n_concepts"] = distinct(feature[order], judged.concept[prompt[order]])
        con.register("separated", pa.table(columns))
        place = {"run": run, "layer": layer, "behaviour": behaviour, "language": language}
        con.execute(read_sql("build", "feature_correctness"), place)
        con.unregister("separated")


def distinct(feature: Ints, concept: Ints) -> Ints:
    """Return how many concepts each feature has (rows sorted by feature, then concept), in the order of features."""
    new_feature = np.diff(feature, prepend=-1) != 0
    new = new_feature | (np.diff(concept, prepend=-2) != 0)
    return np.bincount((np.cumsum(new_feature) - 1)[new])


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
