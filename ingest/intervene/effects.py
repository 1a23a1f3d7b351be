"""Table effect: what an intervention does on average, with its interval over concepts and its controls.

In: `Measured` jobs with their controls. Out: rows of `effect`, one per intervention, language, split and kind of control.

1. The mean is over prompts, its interval over the statistical clusters of the prompts (METHODS, section 8).
2. A control's draw is the mean of that control over the same prompts; p = (1 + #draws as extreme) / (1 + draws), in the direction that
   was predicted before the test rows were looked at, and null below 100 distinct control sets.
   Prompts on which the controls could not run are left out of the comparison, the intervention's own mean included, and counted.
   Beside it stands how long the controls' changes are: the mean ratio to the intervention's own, and the draws inside the caliper.
3. q is Benjamini-Hochberg within (rule, language, split, control).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas import stats
from ingest.controls import MINIMUM_DISTINCT
from ingest.intervene.activity import Doubles
from ingest.intervene.measure import Measured, PooledControls, rows_in
from ingest.intervene.tables import table
from ingest.prompts import Prompt

ALL = "all"
CALIPER = 0.2
"""A control's change is as long as what it controls where it differs by at most this share (METHODS, section 5)."""
TINY = 1e-12
HELD_OUT = "held_out"
"""Split name for everything that discovery did not see: validation and test together."""


def effect_table(prompts: Sequence[Prompt], measured: Sequence[Measured]) -> pa.Table:
    """Summarise every intervention that is no control and no no-op."""
    controls: dict[int, dict[str, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for item in measured:
        if item.job.control_of is not None and item.job.control is not None:
            controls[item.job.control_of][item.job.control].append(item)
    rows: list[dict[str, Any]] = []
    for item in measured:
        if item.job.control_of is None and item.job.work.rule != "no_op" and len(item.job.prompts):
            rows += _rows_of(prompts, item, controls.get(item.job.number, {}))
    _adjust(rows)
    names = [name for name in rows[0] if name != "rule"] if rows else ["intervention"]
    return table("effect", {name: [row[name] for row in rows] for name in names})


def _rows_of(prompts: Sequence[Prompt], item: Measured, controls: dict[str, list[Measured]]) -> list[dict[str, Any]]:
    run = [prompts[p] for p in item.job.prompts.tolist()]
    languages = np.array([prompt.language for prompt in run])
    splits = np.array([prompt.split for prompt in run])
    null_of = {kind: _Null.of(item, items) for kind, items in controls.items()}
    subject = _Subject(item, np.array([prompt.cluster for prompt in run]))
    rows = []
    for language in (ALL, *dict.fromkeys(languages.tolist())):
        for split in (ALL, HELD_OUT, *dict.fromkeys(splits.tolist())):
            held_out = splits != "train"
            keep = ((languages == language) | (language == ALL)) & ((splits == split) | (split == ALL) | ((split == HELD_OUT) & held_out))
            if not keep.any():
                continue
            head = {"rule": item.job.work.rule, "intervention": item.job.number, "language": language, "split": split}
            rows.append(head | {"control": "none"} | subject.summary(keep))
            for kind, null in null_of.items():
                shared = keep & null.ran
                if shared.any():
                    against = null.against(subject, shared) | {"n_left_out": int((keep & ~null.ran).sum())}
                    rows.append(head | {"control": kind} | subject.summary(shared) | against)
            for pool in item.job.pooled:
                means = neighbour_means(pool, keep)
                if len(means):
                    ratios = neighbour_means(pool, keep, pool.norms) / max(float(subject.norms[keep].mean()), TINY)
                    against = _against(subject.mean(keep), means, ratios, subject.alternative, float(len(means)))
                    rows.append(head | {"control": "matched_random"} | subject.summary(keep) | against)
    return rows


class _Subject:
    """An intervention's effects with the clusters of its rows."""

    def __init__(self, item: Measured, clusters: NDArray[np.str_]) -> None:
        self.effect, self.norms, self.clusters = item.effect, item.outcomes.delta_norm.astype(np.float64), clusters
        self.alternative = str(item.job.work.parameters.get("alternative", "two-sided"))

    def mean(self, keep: NDArray[np.bool_]) -> float:
        """Return the mean effect of the kept rows."""
        return float(self.effect[keep].mean())

    def summary(self, keep: NDArray[np.bool_]) -> dict[str, Any]:
        """Return mean and interval of the kept rows, and columns without a control."""
        interval = stats.cluster_t(self.effect[keep], self.clusters[keep])
        return {
            "n_prompts": int(keep.sum()),
            "n_clusters": int(interval.n_clusters),
            "mean": float(interval.mean),
            "ci_low": _or_none(interval.low),
            "ci_high": _or_none(interval.high),
            "method": interval.method,
            **dict.fromkeys(("control_mean", "control_low", "control_high", "length_ratio", "n_in_caliper", "n_left_out"), None),
            "n_controls": 0,
            "p_value": None,
            "q_value": None,
        }


@dataclass(frozen=True)
class _Null:
    """Controls of one kind on the rows of what they control: D draws, R rows."""

    ran: NDArray[np.bool_]
    """(R,) rows on which the controls ran."""
    effects: Doubles
    """(D, R) effects, 0 elsewhere."""
    norms: Doubles
    """(D, R) lengths of their changes, 0 elsewhere."""
    distinct: float

    @classmethod
    def of(cls, item: Measured, items: Sequence[Measured]) -> _Null:
        """Bring the draws to the rows of the intervention."""
        shape = (len(items), len(item.job.prompts))
        ran, effects, norms = np.zeros(shape[1], dtype=bool), np.zeros(shape), np.zeros(shape)
        rows = rows_in(item.job, items[0].job)
        ran[rows] = True
        for draw, control in enumerate(items):
            effects[draw, rows], norms[draw, rows] = control.effect, control.outcomes.delta_norm
        return cls(ran, effects, norms, min(float(len(items)), items[0].job.distinct_sets or 0.0))

    def against(self, subject: _Subject, keep: NDArray[np.bool_]) -> dict[str, Any]:
        """Compare the subject with the draws on the kept rows."""
        ratios = self.norms[:, keep].mean(1) / max(float(subject.norms[keep].mean()), TINY)
        return _against(subject.mean(keep), self.effects[:, keep].mean(1), ratios, subject.alternative, self.distinct)


def neighbour_means(pool: PooledControls, keep: NDArray[np.bool_], of: Doubles | None = None) -> Doubles:
    """Return the mean effect (or another value) of each matched feature over the kept rows on which it stands beside the tested one.

    The unit that is exchanged is the feature: drawing another neighbour on every prompt would average the differences between
    features away and reject far too often. A feature counts where it is a neighbour on at least a quarter as many rows as the
    commonest one.
    """
    features, effects = pool.features[keep], (pool.effects if of is None else of)[keep]
    there = features >= 0
    names, place = np.unique(features[there], return_inverse=True)
    if not len(names):
        return np.zeros(0)
    counts = np.bincount(place)
    means: Doubles = np.bincount(place, weights=effects[there]) / counts
    common: Doubles = means[counts >= 0.25 * counts.max()]
    return common


def _against(observed: float, null: Doubles, ratios: Doubles, alternative: str, distinct: float) -> dict[str, Any]:
    low, high = stats.quantile_band(null)
    tested = distinct >= MINIMUM_DISTINCT and len(null) >= MINIMUM_DISTINCT
    p = float(stats.empirical_p(observed, null, alternative=alternative)) if tested else None  # type: ignore[arg-type]
    return {
        "control_mean": float(null.mean()),
        "control_low": float(low) if len(null) > 1 else None,
        "control_high": float(high) if len(null) > 1 else None,
        "n_controls": len(null),
        "length_ratio": float(ratios.mean()),
        "n_in_caliper": int((np.abs(ratios - 1) <= CALIPER).sum()),
        "p_value": p,
    }


def _adjust(rows: list[dict[str, Any]]) -> None:
    families: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["p_value"] is not None:
            families[row["rule"], row["language"], row["split"], row["control"]].append(row)
    for family in families.values():
        for row, q in zip(family, stats.benjamini_hochberg([row["p_value"] for row in family]).tolist(), strict=True):
            row["q_value"] = q


def _or_none(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
