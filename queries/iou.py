"""Overlap of two languages by layer with its nulls: table layer_score (METHODS, section 7; Lindsey et al. 2025, multilingual circuits).

In: activations and the design of prompts. Out: one row per layer, score, language pair and baseline.

1. A prompt's active set: features of the layer that fire at its positions (all but the sink, content, or decision). IoU of two
   prompts = common / together. All pairs of prompts come from one product of a sparse matrix with itself.
2. same_concept: translation pairs. other_concept: same setting, other cluster. antonym_partner: same setting, the partner's concept.
   split_half: one language, the same concept in another template, both languages together.
3. Intervals are over clusters; the null of same_concept deals concepts anew within template and length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from atlas import stats
from queries.design import (
    Design,
    Floats,
    Ints,
    Pairs,
    concept_shuffles,
    fetch,
    read_design,
    read_pairs,
    read_parameters,
    read_presence,
)

if TYPE_CHECKING:
    import duckdb


def iou_matrix(present: sparse.csr_matrix) -> Floats:
    """Return (P, P) intersection over union of the columns of a (F, P) matrix; NaN where both are empty."""
    binary = sparse.csr_matrix(present > 0, dtype=np.float32)
    n_prompts = binary.shape[1]
    # Frequent features would make the sparse product dense: they are multiplied as a dense matrix.
    frequent = np.diff(binary.indptr) > n_prompts / 20
    head = binary[frequent].toarray()
    tail = binary[~frequent]
    common = (tail.T @ tail).toarray()  # (P, P) float32: counts, exact
    common += head.T @ head
    size = common.diagonal().copy()
    union = size[:, None] + size[None, :]
    union -= common
    iou = np.full(common.shape, np.nan)
    np.divide(common, union, out=iou, where=union > 0, dtype=np.float64)
    return iou


@dataclass(frozen=True)
class Comparison:
    """Which prompts are compared for one baseline, and the cluster each comparison belongs to."""

    baseline: str
    a: Ints
    b: Ints
    cluster: Ints


def comparisons(design: Design, pairs: Pairs) -> list[Comparison]:
    """List the prompt pairs of the four baselines."""
    a, b = pairs.a, pairs.b
    together = design.setting[a][:, None] == design.setting[b][None, :]
    other = together & (design.cluster[a][:, None] != design.cluster[b][None, :])
    other &= design.partner[a][:, None] != design.concept[b][None, :]
    partner = together & (design.partner[a][:, None] == design.concept[b][None, :])
    found = [Comparison("same_concept", a, b, design.cluster[a])]
    for baseline, mask in (("other_concept", other), ("antonym_partner", partner)):
        row, column = np.nonzero(mask)
        found.append(Comparison(baseline, a[row], b[column], design.cluster[a[row]]))
    rows = np.flatnonzero(np.isin(design.language, pairs.languages))
    half = (
        (design.language[rows][:, None] == design.language[rows][None, :])
        & (design.concept[rows][:, None] == design.concept[rows][None, :])
        & (design.template[rows][:, None] < design.template[rows][None, :])
    )
    row, column = np.nonzero(half)
    found.append(Comparison("split_half", rows[row], rows[column], design.cluster[rows[row]]))
    return found


def layer_rows(design: Design, pairs: Pairs, iou: Floats, shuffles: Ints) -> Iterator[dict[str, Any]]:
    """Yield the columns of layer_score, but for run, layer and score, of one layer and language pair."""
    for comparison in comparisons(design, pairs):
        values = iou[comparison.a, comparison.b]
        known = ~np.isnan(values)
        if not known.any():
            continue
        interval = stats.interval(values[known], comparison.cluster[known])
        row = {
            "languages": pairs.name,
            "baseline": comparison.baseline,
            "value": float(interval.mean),
            "ci_low": float(interval.low),
            "ci_high": float(interval.high),
            "n_clusters": int(interval.n_clusters),
        }
        if comparison.baseline == "same_concept":
            with np.errstate(invalid="ignore"):
                null = np.nanmean(iou[pairs.a, pairs.b[shuffles]], axis=1)  # (D,)
            low, high = stats.quantile_band(null)
            row |= {
                "null_mean": float(null.mean()),
                "null_low": float(low),
                "null_high": float(high),
                "p_value": float((1 + (null >= interval.mean - 1e-12).sum()) / (1 + len(null))),
            }
        yield row


def write_layer_scores(con: duckdb.DuckDBPyConnection) -> None:
    """Compute the overlap of languages for every run that has activations and translation pairs and no such rows."""
    general = read_parameters(con)["default", "all"]
    draws, seed = int(general["draws"]), int(general["seed"])
    for run in fetch(con, "overlap_runs")["run_id"].astype(str).tolist():
        design = read_design(con, run)
        pairs = read_pairs(con, run, design)
        shuffles = [concept_shuffles(design, pair, draws, seed) for pair in pairs]
        rows: list[dict[str, Any]] = []
        for layer in fetch(con, "layers", run=run)["layer"].tolist() if pairs else []:
            presence = read_presence(con, run, layer, design)
            for score, matrix in (
                ("iou", presence.n_active),
                ("iou_content", presence.n_content),
                ("iou_decision", presence.n_decision),
            ):
                iou = iou_matrix(matrix)
                head = {"run_id": run, "layer": layer, "score": score, "parameter_set": "default"}
                for pair, shuffle in zip(pairs, shuffles, strict=True):
                    rows += [head | row for row in layer_rows(design, pair, iou, shuffle)]
        insert_rows(con, "layer_score", rows)


def insert_rows(con: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows by column name; NaN becomes null."""
    import pyarrow as pa

    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([row.get(name) for row in rows], from_pandas=True) for name in names}
    con.register("computed", pa.table(columns))
    con.execute(f"insert into {table} by name select * from computed")
    con.unregister("computed")
