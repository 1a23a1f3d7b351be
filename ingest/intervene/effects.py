"""Table effect: what an intervention does on average, with its interval over concepts and its controls.

In: `Measured` jobs with their controls. Out: rows of `effect`, one per intervention, language, split and kind of control.

1. The mean is over prompts, its interval over the statistical clusters of the prompts (METHODS, section 8).
2. A control's draw is the mean of that control over the same prompts; p = (1 + #draws as extreme) / (1 + draws), in the direction that
   was predicted before the test rows were looked at, and null below 100 distinct control sets.
3. q is Benjamini-Hochberg within (rule, language, split, control).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas import stats
from ingest.controls import MINIMUM_DISTINCT
from ingest.intervene.activity import Doubles
from ingest.intervene.measure import Measured, PooledControls
from ingest.intervene.tables import table
from ingest.prompts import Prompt

ALL = "all"
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
    clusters = np.array([prompt.cluster for prompt in run])
    languages = np.array([prompt.language for prompt in run])
    splits = np.array([prompt.split for prompt in run])
    alternative = str(item.job.work.parameters.get("alternative", "two-sided"))
    rows = []
    for language in (ALL, *dict.fromkeys(languages.tolist())):
        for split in (ALL, HELD_OUT, *dict.fromkeys(splits.tolist())):
            held_out = splits != "train"
            keep = ((languages == language) | (language == ALL)) & ((splits == split) | (split == ALL) | ((split == HELD_OUT) & held_out))
            if not keep.any():
                continue
            interval = stats.cluster_t(item.effect[keep], clusters[keep])
            row = {
                "rule": item.job.work.rule,
                "intervention": item.job.number,
                "language": language,
                "split": split,
                "control": "none",
                "n_prompts": int(keep.sum()),
                "n_clusters": int(interval.n_clusters),
                "mean": float(interval.mean),
                "ci_low": _or_none(interval.low),
                "ci_high": _or_none(interval.high),
                "method": interval.method,
                "control_mean": None,
                "control_low": None,
                "control_high": None,
                "n_controls": 0,
                "p_value": None,
                "q_value": None,
            }
            rows.append(row)
            for kind, items in controls.items():
                distinct = min(float(len(items)), items[0].job.distinct_sets or 0.0)
                null = np.array([control.effect[keep].mean() for control in items])
                rows.append(row | _against(kind, item.effect[keep].mean(), null, alternative, distinct))
            for pool in item.job.pooled:
                null = neighbour_means(pool, keep)
                if len(null):
                    rows.append(row | _against("matched_random", item.effect[keep].mean(), null, alternative, float(len(null))))
    return rows


def neighbour_means(pool: PooledControls, keep: NDArray[np.bool_]) -> Doubles:
    """Return the mean effect of each matched feature over the kept rows on which it stands beside the tested one.

    The unit that is exchanged is the feature: drawing another neighbour on every prompt would average the differences between
    features away and reject far too often. A feature counts where it is a neighbour on at least a quarter as many rows as the
    commonest one.
    """
    features, effects = pool.features[keep], pool.effects[keep]
    there = ~np.isnan(effects)
    names, place = np.unique(features[there], return_inverse=True)
    if not len(names):
        return np.zeros(0)
    counts = np.bincount(place)
    means: Doubles = np.bincount(place, weights=effects[there]) / counts
    common: Doubles = means[counts >= 0.25 * counts.max()]
    return common


def _against(kind: str, observed: float, null: Doubles, alternative: str, distinct: float) -> dict[str, Any]:
    low, high = stats.quantile_band(null)
    tested = distinct >= MINIMUM_DISTINCT and len(null) >= MINIMUM_DISTINCT
    p = float(stats.empirical_p(observed, null, alternative=alternative)) if tested else None  # type: ignore[arg-type]
    return {
        "control": kind,
        "control_mean": float(null.mean()),
        "control_low": float(low) if len(null) > 1 else None,
        "control_high": float(high) if len(null) > 1 else None,
        "n_controls": len(null),
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
