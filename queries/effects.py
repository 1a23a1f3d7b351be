"""Tested summaries of outcomes: table effect, and the bridge scores of features (METHODS, sections 5, 7 and 8).

In: outcome, intervention, prompt. Out: one row per intervention, language, split and kind of control; scores `bridge` and `causal_bridge`.

1. Outcomes become a matrix interventions x prompts with NaN where an intervention did not run; sources of a swap are averaged.
2. Means over prompts, intervals over clusters. Controls: the mean effect of each draw over the same prompts, its band, and
   p = (1 + #as extreme) / (1 + draws), two-sided; null where fewer than 100 distinct control sets exist. Prompts on which a kind of
   control did not run are left out of that comparison, the intervention's own mean included, and counted.
3. A bridge has a mean effect below 0 in both languages: p is the larger one-sided cluster p (intersection-union). A causal bridge has it
   after its matched controls' mean effect on the same prompt is taken off; where only the controls' mean over prompts was stored, that
   is taken off, on held-out prompts where there are any, and p is not below the stored p against the controls either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas import stats
from queries.design import Design, Floats, Ints, fetch, read_design, read_parameters
from queries.iou import insert_rows
from queries.scores import Score, insert_scores

if TYPE_CHECKING:
    import duckdb

CALIPER = 0.2
"""A control's change is as long as what it controls where it differs by at most this share (schema.sql, effect.n_in_caliper)."""
CHUNK = 256
"""Interventions summarised together: bounds memory at about CHUNK x draws of the bootstrap doubles."""
MINIMUM_DISTINCT_SETS = stats.MINIMUM_DRAWS
"""Fewer distinct control sets than this give no p-value (schema.sql, effect.p_value)."""


@dataclass(frozen=True)
class Outcomes:
    """Effects of one run: I interventions by P prompts of a design."""

    design: Design
    split: NDArray[np.str_]
    intervention: Ints
    effect: Floats
    """(I, P), NaN where it did not run."""
    rule: NDArray[np.str_]
    norm: Floats
    """(I, P) length of the change, NaN where it is not known."""
    control_of: Ints
    """Row of the intervention it controls, -1 for none."""
    control: NDArray[np.str_]
    distinct_sets: Floats

    @cached_property
    def controls(self) -> dict[int, list[tuple[str, Ints]]]:
        """Return, by row of an intervention, each kind of control and its rows, in order."""
        rows = np.flatnonzero(self.control_of >= 0)
        order = rows[np.lexsort((rows, self.control[rows], self.control_of[rows]))]
        new = (np.diff(self.control_of[order], prepend=-1) != 0) | (self.control[order] != np.roll(self.control[order], 1))
        found: dict[int, list[tuple[str, Ints]]] = {}
        for part in np.split(order, np.flatnonzero(new)[1:]) if len(order) else []:
            found.setdefault(int(self.control_of[part[0]]), []).append((str(self.control[part[0]]), part))
        return found


def read_outcomes(con: duckdb.DuckDBPyConnection, run: str) -> Outcomes:
    """Read the outcomes of a run."""
    design = read_design(con, run)
    split = fetch(con, "splits", run=run)
    things = fetch(con, "interventions", run=run)
    rows = fetch(con, "outcomes", run=run)
    ordinals = things["intervention"].astype(np.int64)
    effect, norm = np.full((len(ordinals), len(design.prompt)), np.nan), np.full((len(ordinals), len(design.prompt)), np.nan)
    column = design.row(rows["prompt"].astype(np.int64))
    row = np.searchsorted(ordinals, rows["intervention"].astype(np.int64))
    effect[row[column >= 0], column[column >= 0]] = rows["effect"][column >= 0]
    norm[row[column >= 0], column[column >= 0]] = rows["delta_norm"][column >= 0].astype(np.float64)
    control_of = things["control_of"].astype(np.int64)
    place = np.minimum(np.searchsorted(ordinals, control_of), max(len(ordinals) - 1, 0))
    return Outcomes(
        design=design,
        split=split["split"].astype(str)[np.isin(split["prompt"], design.prompt)],
        intervention=ordinals,
        effect=effect,
        norm=norm,
        rule=things["rule"].astype(str),
        control_of=np.where(ordinals[place] == control_of, place, -1) if len(ordinals) else place,
        control=things["control"].astype(str),
        distinct_sets=things["distinct_sets"].astype(np.float64),
    )


@dataclass(frozen=True)
class Beside:
    """An intervention beside its controls of one kind, on the prompts where both ran."""

    row: int
    kind: str
    shared: NDArray[np.bool_]
    """(P,) prompts on which the intervention and a control ran."""
    n_left_out: int
    draws: Floats
    """Mean effect of each control."""
    ratios: Floats
    """Length of each control's change over the intervention's own; empty where one is not known."""
    is_testable: bool


def effect_rows(outcomes: Outcomes, summarised: Ints) -> Iterator[dict[str, Any]]:
    """Yield one row per intervention that is not summarised yet, language, split and kind of control."""
    design = outcomes.design
    subjects = np.flatnonzero((outcomes.control == "") & ~np.isin(outcomes.intervention, summarised))
    for language in ("all", *design.languages):
        for split in ("all", *sorted(set(outcomes.split.tolist()))):
            here = ((language == "all") | (design.language == language)) & ((split == "all") | (outcomes.split == split))
            present = ~np.isnan(outcomes.effect[np.ix_(subjects, here)])
            ran = subjects[present.any(-1)]
            for start in range(0, len(ran), CHUNK):
                yield from _summaries(outcomes, ran[start : start + CHUNK], here, {"language": language, "split": split})


def _summaries(outcomes: Outcomes, rows: Ints, here: NDArray[np.bool_], head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of some interventions on some prompts: their intervals, and those on the prompts of their controls, together."""
    clusters = outcomes.design.cluster[here]
    effect = outcomes.effect[np.ix_(rows, here)]
    own = stats.interval(np.nan_to_num(effect), clusters, ~np.isnan(effect))
    beside = [item for row in rows for item in _beside(outcomes, int(row), here)]
    place = {int(row): k for k, row in enumerate(rows)}
    by_row: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(beside), CHUNK):
        some = beside[start : start + CHUNK]
        values = np.nan_to_num(effect[[place[item.row] for item in some]])
        shared = stats.interval(values, clusters, np.stack([item.shared for item in some]))
        for k, item in enumerate(some):
            by_row.setdefault(item.row, []).append(_control_columns(item, shared, k))
    for k, row in enumerate(rows):
        named = {"intervention": int(outcomes.intervention[row]), **head}
        for control in by_row.get(int(row), [{"control": "none", "n_controls": 0}]):
            yield named | _columns(own, k) | control


def _columns(interval: stats.Interval, k: int) -> dict[str, Any]:
    """Return the k-th interval as columns of effect."""
    return {
        "n_prompts": int(interval.n[k]),
        "n_clusters": int(interval.n_clusters[k]),
        "mean": float(interval.mean[k]),
        "ci_low": float(interval.low[k]),
        "ci_high": float(interval.high[k]),
        "method": interval.method,
    }


def _beside(outcomes: Outcomes, row: int, here: NDArray[np.bool_]) -> Iterator[Beside]:
    """Yield an intervention beside each kind of its controls that ran on some of its prompts."""
    where = np.flatnonzero(here & ~np.isnan(outcomes.effect[row]))  # nothing else of a wide matrix is read
    for kind, controls in outcomes.controls.get(row, []):
        effect = outcomes.effect[np.ix_(controls, where)]
        both = ~np.isnan(effect)
        some = both.any(-1)
        if not some.any():
            continue
        controls, both, effect = controls[some], both[some], effect[some]
        shared = np.zeros(len(here), dtype=bool)
        shared[where] = both.any(0)
        yield Beside(
            row=row,
            kind=kind,
            shared=shared[here],
            n_left_out=int((~both.any(0)).sum()),
            draws=np.where(both, np.nan_to_num(effect), 0).sum(-1) / both.sum(-1),
            ratios=_length_ratios(outcomes.norm[row, where], outcomes.norm[np.ix_(controls, where)], both),
            is_testable=bool(outcomes.distinct_sets[controls].max() >= MINIMUM_DISTINCT_SETS),
        )


def _control_columns(item: Beside, shared: stats.Interval, k: int) -> dict[str, Any]:
    """Return the columns that speak of controls; `shared` has the intervention's own mean on the prompts where they ran at k."""
    low, high = stats.quantile_band(item.draws)
    mean = float(shared.mean[k])
    return {
        **(_columns(shared, k) if item.n_left_out else {}),
        "control": item.kind,
        "control_mean": float(item.draws.mean()),
        "control_low": float(low),
        "control_high": float(high),
        "n_controls": len(item.draws),
        "length_ratio": float(item.ratios.mean()) if len(item.ratios) else None,
        "n_in_caliper": int((np.abs(item.ratios - 1) <= CALIPER).sum()) if len(item.ratios) else None,
        "n_left_out": item.n_left_out,
        "p_value": float(stats.empirical_p(mean, item.draws, alternative="two-sided")) if item.is_testable else None,
    }


def _length_ratios(own: Floats, controls: Floats, both: NDArray[np.bool_]) -> Floats:
    """Return the mean length of each control's change over the intervention's on the same prompts; empty where one is not known."""
    if np.isnan(own[both.any(0)]).any() or np.isnan(controls[both]).any():
        return np.zeros(0)
    lengths = [np.where(both, np.nan_to_num(part), 0).sum(-1) for part in (controls, np.broadcast_to(own, controls.shape))]
    return lengths[0] / lengths[1] if (lengths[1] > 0).all() else np.zeros(0)


def write_effects(con: duckdb.DuckDBPyConnection) -> None:
    """Summarise the outcomes of interventions that brought no effects of their own."""
    for run in fetch(con, "effect_runs")["run_id"].astype(str).tolist():
        outcomes = read_outcomes(con, run)
        rows = list(effect_rows(outcomes, fetch(con, "summarised", run=run)["intervention"].astype(np.int64)))
        rules = dict(zip(outcomes.intervention.tolist(), outcomes.rule.tolist(), strict=True))
        families: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in rows:
            families.setdefault((rules[row["intervention"]], row["language"]), []).append(row)
        for family in families.values():
            p_values = np.array([np.nan if row.get("p_value") is None else row["p_value"] for row in family])
            for row, q in zip(family, stats.benjamini_hochberg(p_values), strict=True):
                row["q_value"] = float(q)
        insert_rows(con, "effect", [{"run_id": run} | row for row in rows])


def write_bridges(con: duckdb.DuckDBPyConnection) -> None:
    """Score single-feature ablations as bridges in every run that has them."""
    parameters = read_parameters(con)
    for run in fetch(con, "bridge_runs")["run_id"].astype(str).tolist():
        outcomes = read_outcomes(con, run)
        single = fetch(con, "ablations", run=run)
        rows = np.searchsorted(outcomes.intervention, single["intervention"].astype(np.int64))
        if not len(rows):
            continue
        spoken = list(combinations(outcomes.design.languages, 2))
        layer, feature = single["layer"].astype(np.int64), single["feature"].astype(np.int64)
        for name in ("default", "per_prompt"):
            clustered = parameters[name, "bridge"]["rows"] == "clusters"
            family = [_bridge(outcomes, "bridge", name, both, outcomes.effect[rows], clustered) for both in spoken]
            insert_scores(con, run, layer, feature, family, parameters)
        insert_scores(con, run, layer, feature, [_causal_bridge(con, run, outcomes, rows, both) for both in spoken], parameters)


def _causal_bridge(con: duckdb.DuckDBPyConnection, run: str, outcomes: Outcomes, rows: Ints, languages: tuple[str, str]) -> Score:
    """Score one pair of languages after the effects of matched controls are taken off."""
    corrected = outcomes.effect[rows] - _matched(outcomes, rows)
    least_p = np.zeros(len(rows))
    stored = fetch(con, "control_means", run=run)
    places = {int(outcomes.intervention[row]): k for k, row in enumerate(rows)}
    for number, language, mean, p_value, held_out in zip(*stored.values(), strict=True):
        if int(number) in places and language in languages:
            k = places[int(number)]
            here = (outcomes.design.language == language) & ((outcomes.split != "train") | (not held_out))
            corrected[k, here] = outcomes.effect[rows[k], here] - mean
            least_p[k] = max(least_p[k], p_value)
    score = _bridge(outcomes, "causal_bridge", "default", languages, corrected, True)
    score.p_value = np.maximum(score.p_value, least_p)
    return score


def _matched(outcomes: Outcomes, rows: Ints) -> Floats:
    """Mean effect of the matched random controls on each prompt, NaN where there are none."""
    result = np.full((len(rows), outcomes.effect.shape[1]), np.nan)
    for k, row in enumerate(rows):
        effect = outcomes.effect[dict(outcomes.controls.get(int(row), [])).get("matched_random", np.zeros(0, dtype=np.int64))]
        known = ~np.isnan(effect)
        count = known.sum(0)
        result[k] = np.where(count > 0, np.where(known, effect, 0).sum(0) / np.maximum(count, 1), np.nan)
    return result


def _bridge(outcomes: Outcomes, score: str, name: str, languages: tuple[str, str], effect: Floats, clustered: bool) -> Score:
    """Score one pair of languages: the less negative of the two means; flag: both are below 0."""
    means, p_values = [], []
    for language in languages:
        here = outcomes.design.language == language
        labels = outcomes.design.cluster[here] if clustered else np.arange(int(here.sum()))
        values, present = np.nan_to_num(effect[:, here]), ~np.isnan(effect[:, here])
        means.append(stats.cluster_sums(values, labels, present).mean)
        p_values.append(stats.cluster_t_p(values, labels, present, alternative="less"))
    mean = np.stack(means)
    here = np.isin(outcomes.design.language, languages)
    result = Score(
        score,
        name,
        "+".join(languages),
        np.max(mean, axis=0),
        np.asarray((mean < 0).all(axis=0)),
        (~np.isnan(effect[:, here])).sum(-1).astype(np.float64),
    )
    result.p_value = stats.intersection_union(np.stack(p_values), axis=0)
    return result
