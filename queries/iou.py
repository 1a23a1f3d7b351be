"""Overlap of two languages by layer with its nulls: table layer_score (METHODS, section 7; Lindsey et al. 2025, multilingual circuits).

In: activations and the design of prompts. Out: one row per layer, score, language pair and baseline.

1. A prompt's active set: features of the layer that fire at its positions (all but the sink, content, or decision). IoU of two
   prompts = common / together. Only prompts of one setting, or of one language and concept, are ever compared: what they have in common
   comes from one product of sparse matrices in which a feature counts within such a block only.
2. same_concept: translation pairs. other_concept: same setting, other cluster. antonym_partner: same setting, the partner's concept.
   split_half: one language, the same concept in another template, both languages together.
3. Intervals are over clusters; the null of same_concept deals concepts anew within template and length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from atlas import stats
from queries.design import (
    ROLES,
    Design,
    Floats,
    Ints,
    Pairs,
    codes,
    concept_shuffles,
    fetch,
    incidence,
    read_design,
    read_fired,
    read_pairs,
    read_parameters,
    read_roles,
    seen,
)

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Blocks:
    """Blocks of prompts by prompts, as rows of a design: all entries of all blocks stand in one vector, a block after the other."""

    rows: tuple[Ints, ...]
    """Prompts on one side of each block, rising."""
    columns: tuple[Ints, ...]
    """Prompts on its other side, rising."""

    @cached_property
    def starts(self) -> Ints:
        """Return where each block begins, and the length of the vector."""
        return np.cumsum([0, *(len(a) * len(b) for a, b in zip(self.rows, self.columns, strict=True))])

    def places(self, block: Ints, row: Ints, column: Ints) -> Ints:
        """Return where entries stand in the vector."""
        found = np.empty(len(block), dtype=np.int64)
        order = np.argsort(block, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(block[order])) + 1) if len(order) else []:
            k = int(block[part[0]])
            at = np.searchsorted(self.rows[k], row[part]) * len(self.columns[k]) + np.searchsorted(self.columns[k], column[part])
            found[part] = self.starts[k] + at
        return found

    def overlaps(self, present: sparse.csr_matrix) -> Floats:
        """Return intersection over union of every entry, of the columns of a (F, P) matrix of ones; NaN where both are empty."""
        binary = sparse.csr_matrix(present, dtype=np.float32)
        # Frequent features would make the sparse product dense: they are multiplied as dense matrices.
        frequent = np.diff(binary.indptr) > binary.shape[1] / 20
        common = self._common(binary[~frequent])
        head = np.ascontiguousarray(binary[frequent].toarray().T)  # (P, frequent)
        size = np.asarray(binary.sum(0)).ravel()
        union = np.empty(len(common), dtype=np.float32)
        for k, (rows, columns) in enumerate(zip(self.rows, self.columns, strict=True)):
            here = slice(self.starts[k], self.starts[k + 1])
            common[here] += (head[rows] @ head[columns].T).ravel()
            union[here] = (size[rows][:, None] + size[columns][None, :]).ravel()
        union -= common
        iou = np.full(common.shape, np.nan)
        np.divide(common, union, out=iou, where=union > 0, dtype=np.float64)
        return iou

    def _common(self, binary: sparse.csr_matrix) -> NDArray[np.float32]:
        """Return how many features every entry's prompts have in common: counts, exact in float32."""
        n_features = binary.shape[0]
        by_prompt = sparse.csr_matrix(binary.T)  # (P, F)
        sides = []
        for prompts in (self.rows, self.columns):
            side = by_prompt[np.concatenate([np.zeros(0, dtype=np.int64), *prompts])]
            block = np.repeat(np.arange(len(prompts)), [len(part) for part in prompts])
            inner = side.indices + np.repeat(block, np.diff(side.indptr)) * n_features  # a feature counts within its block only
            sides.append((side, inner))
        known, code = _numbered(np.concatenate([inner for _, inner in sides]))
        first, second = (
            sparse.csr_matrix((side.data, part.astype(np.int32), side.indptr), shape=(side.shape[0], known))
            for (side, _), part in zip(sides, np.split(code, [len(sides[0][1])]), strict=True)
        )
        product = (first @ second.T).tocoo()
        common = np.zeros(self.starts[-1], dtype=np.float32)
        common[self._entries(product.row, product.col)] = product.data
        return common

    def _entries(self, row: Ints, column: Ints) -> Ints:
        """Return where entries stand that are given by their places among all rows and all columns of all blocks."""
        heights, widths = (np.array([len(part) for part in side], dtype=np.int64) for side in (self.rows, self.columns))
        block = np.repeat(np.arange(len(heights)), heights)[row]
        first_row, first_column = np.cumsum(heights) - heights, np.cumsum(widths) - widths
        return np.asarray(self.starts[block] + (row - first_row[block]) * widths[block] + column - first_column[block])


def _numbered(values: Ints) -> tuple[int, Ints]:
    """Return how many different values there are, and each value's number in their order."""
    order = np.argsort(values)  # one sort: several times faster than what np.unique does
    number = np.empty(len(values), dtype=np.int64)
    number[order] = np.cumsum(np.diff(values[order], prepend=-1) != 0) - 1
    return int(number.max(initial=-1)) + 1, number


@dataclass(frozen=True)
class Comparison:
    """Which prompts are compared for one baseline, and the cluster each comparison belongs to."""

    baseline: str
    a: Ints
    b: Ints
    cluster: Ints
    block: Ints
    """Block of `blocks` that each comparison lies in."""


def blocks(design: Design, pairs: Pairs) -> tuple[Blocks, Ints, Ints]:
    """Return the blocks that hold all comparisons of two languages; each prompt's block as a second language's, and within its own.

    First a block a setting: prompts of the first language that have it or a translation in it, by prompts of the second that have it.
    Then a block a language and concept: its prompts by themselves.
    """
    settings, of_b = np.unique(design.setting[pairs.b], return_inverse=True)
    by_setting = np.full(len(design.prompt), -1, dtype=np.int64)
    by_setting[pairs.b] = of_b
    place = np.minimum(np.searchsorted(settings, design.setting[pairs.a]), len(settings) - 1)
    of_a = np.where(settings[place] == design.setting[pairs.a], place, of_b)
    rows = [np.unique(np.concatenate([pairs.a[of_a == k], pairs.a[of_b == k]])) for k in range(len(settings))]
    columns = [np.unique(pairs.b[of_b == k]) for k in range(len(settings))]
    own = np.flatnonzero(np.isin(design.language, pairs.languages))
    group = codes(design.language[own], design.concept[own])
    order = np.argsort(group, kind="stable")
    halves = [own[part] for part in np.split(order, np.flatnonzero(np.diff(group[order])) + 1)]
    within = np.full(len(design.prompt), -1, dtype=np.int64)
    within[own] = len(settings) + group
    return Blocks((*rows, *halves), (*columns, *halves)), by_setting, within


def comparisons(design: Design, pairs: Pairs, by_setting: Ints, within: Ints) -> list[Comparison]:
    """List the prompt pairs of the four baselines; `by_setting` and `within` are what `blocks` gives."""
    a, b = pairs.a, pairs.b
    together = design.setting[a][:, None] == design.setting[b][None, :]
    other = together & (design.cluster[a][:, None] != design.cluster[b][None, :])
    other &= design.partner[a][:, None] != design.concept[b][None, :]
    partner = together & (design.partner[a][:, None] == design.concept[b][None, :])
    found = [Comparison("same_concept", a, b, design.cluster[a], by_setting[b])]
    for baseline, mask in (("other_concept", other), ("antonym_partner", partner)):
        row, column = np.nonzero(mask)
        found.append(Comparison(baseline, a[row], b[column], design.cluster[a[row]], by_setting[b[column]]))
    rows = np.flatnonzero(np.isin(design.language, pairs.languages))
    half = (
        (design.language[rows][:, None] == design.language[rows][None, :])
        & (design.concept[rows][:, None] == design.concept[rows][None, :])
        & (design.template[rows][:, None] < design.template[rows][None, :])
    )
    row, column = np.nonzero(half)
    found.append(Comparison("split_half", rows[row], rows[column], design.cluster[rows[row]], within[rows[row]]))
    return found


@dataclass(frozen=True)
class Plan:
    """What is compared in every layer for two languages."""

    name: str
    blocks: Blocks
    comparisons: list[Comparison]
    places: list[Ints]
    """Where each comparison's entries stand in the vector of the blocks."""
    null: NDArray[np.int32]
    """(D, n_pairs) the same for translation pairs with concepts dealt anew."""


def plan(design: Design, pairs: Pairs, draws: int, seed: int) -> Plan:
    """Lay out the comparisons of two languages."""
    made, by_setting, within = blocks(design, pairs)
    found = comparisons(design, pairs, by_setting, within)
    null = np.empty((draws, len(pairs.a)), dtype=np.int32)
    for draw, partner in enumerate(concept_shuffles(design, pairs, draws, seed)):
        null[draw] = made.places(by_setting[pairs.b], pairs.a, pairs.b[partner])  # a deal keeps the setting of the second prompt
    return Plan(pairs.name, made, found, [made.places(item.block, item.a, item.b) for item in found], null)


def layer_rows(plan: Plan, overlap: Floats) -> Iterator[dict[str, Any]]:
    """Yield the columns of layer_score, but for run, layer and score, of one layer and language pair."""
    for comparison, places in zip(plan.comparisons, plan.places, strict=True):
        values = overlap[places]
        known = ~np.isnan(values)
        if not known.any():
            continue
        interval = stats.interval(values[known], comparison.cluster[known])
        row = {
            "languages": plan.name,
            "baseline": comparison.baseline,
            "value": float(interval.mean),
            "ci_low": float(interval.low),
            "ci_high": float(interval.high),
            "n_clusters": int(interval.n_clusters),
        }
        if comparison.baseline == "same_concept":
            with np.errstate(invalid="ignore"):
                null = np.nanmean(overlap[plan.null], axis=1)  # (D,)
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
        plans = [plan(design, pairs, draws, seed) for pairs in read_pairs(con, run, design)]
        roles = read_roles(con, run)
        found: list[dict[str, Any]] = []
        for layer in fetch(con, "layers", run=run)["layer"].tolist() if plans else []:
            rows = seen(read_fired(con, run, layer, roles))
            for score, some in (
                ("iou", slice(None)),
                ("iou_content", rows.roles & (1 << ROLES.index("content")) > 0),
                ("iou_decision", rows.roles & (1 << ROLES.index("decision")) > 0),
            ):
                matrix = incidence(rows, some, design)
                head = {"run_id": run, "layer": layer, "score": score, "parameter_set": "default"}
                for made in plans:
                    found += [head | row for row in layer_rows(made, made.blocks.overlaps(matrix))]
        insert_rows(con, "layer_score", found)


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
