"""Causal edges: what ablating one feature does to another, tested over concepts.

In: an `Engine`, clean activations, candidate pairs (source feature, later target feature or the output). Out: `CausalEdges`: the effect on
every prompt, its test, and what was accepted; and rows of edge, edge_language and edge_prompt (METHODS, section 6).

1. Candidates come from any stored edge weight, any later layer.
2. A source is ablated (a' = 0) at its positions on each prompt where it is active; all targets are read in the same pass, from their own
   encoder rows, at the decision position.
3. weight = -(a_target after - before): positive where the source drives the target. For the output it is -(margin after - before).
4. Test over clusters: cluster t below 30 of them, and Benjamini-Hochberg over all candidates. An edge is accepted if q <= alpha and
   |mean| > tau x sd of the target over prompts. Rejected candidates and per-prompt values are kept; a prompt where the source is silent
   has weight 0 and `conditional` false.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from atlas import stats
from atlas.errors import InputError, UsageError
from ingest.batches import Progress
from ingest.intervene.activity import Activity, Doubles
from ingest.intervene.edits import Edits, Integers
from ingest.intervene.engine import Engine, Read
from ingest.intervene.rules import FeatureKey
from ingest.intervene.tables import table

Target = FeatureKey | None
"""A feature, or None for the output (the margin)."""


@dataclass(frozen=True)
class CausalConfig:
    """How causal edges are tested."""

    max_candidates: int = 600
    """Pairs tested, the strongest stored weights first."""
    decision_only: bool = False
    """Ablate the source at the decision position only, instead of wherever it is active."""
    alpha: float = 0.05
    """Bound on q."""
    tau: float = 0.1
    """Smallest |mean| in standard deviations of the target."""
    max_prompts: int = 200
    """Train prompts used."""


@dataclass(frozen=True)
class CausalEdges:
    """E candidates on P prompts."""

    pairs: tuple[tuple[FeatureKey, Target], ...]
    prompts: Integers
    """(P,) places in the engine's list."""
    weights: Doubles
    """(E, P) weight per prompt."""
    active: NDArray[np.bool_]
    """(E, P) whether the source was active."""
    mean: Doubles
    """(E,) over prompts where the source was active."""
    marginal: Doubles
    """(E,) over all prompts."""
    sd: Doubles
    low: Doubles
    high: Doubles
    p: Doubles
    """NaN where fewer than 3 clusters have the source active."""
    q: Doubles
    scale: Doubles
    """(E,) sd of the target over prompts."""
    accepted: NDArray[np.bool_]


def causal_edges(
    engine: Engine,
    clean: Activity,
    pairs: Sequence[tuple[FeatureKey, Target]],
    prompts: Integers,
    config: CausalConfig | None = None,
    *,
    progress: Progress | None = None,
) -> CausalEdges:
    """Measure and test candidate pairs.

    Raises:
        UsageError: a target that is not in a later layer, an unknown feature.
        InputError: no candidate, or fewer than 3 clusters.
    """
    config = config or CausalConfig()
    if not pairs:
        raise InputError("There is no candidate for a causal edge.", hint="Build a graph with virtual-weight or attribution edges first.")
    for source, target in pairs:
        if target is not None and target[0] <= source[0]:
            raise UsageError(f"L{target[0]}_F{target[1]} is not in a later layer than L{source[0]}_F{source[1]}.")
    clusters = np.array([engine.prompts[p].cluster for p in prompts.tolist()])
    stats.require_clusters(len(set(clusters.tolist())), what="a test of causal edges")
    weights, active, scale = _measure(engine, clean, pairs, prompts, config, progress)
    return _tested(tuple(pairs), prompts, weights, active, scale, clusters, config)


def _measure(
    engine: Engine,
    clean: Activity,
    pairs: Sequence[tuple[FeatureKey, Target]],
    prompts: Integers,
    config: CausalConfig,
    progress: Progress | None,
) -> tuple[Doubles, NDArray[np.bool_], Doubles]:
    targets = sorted({target for _, target in pairs if target is not None})
    reads = [Read(layer, feature) for layer, feature in targets]
    column = {target: place for place, target in enumerate(targets)}
    weights = np.zeros((len(pairs), len(prompts)))
    active = np.zeros((len(pairs), len(prompts)), dtype=bool)
    scale = np.zeros(len(pairs))
    sources = sorted({source for source, _ in pairs})
    place_of = np.full(len(engine.prompts), -1, dtype=np.int64)
    place_of[prompts] = np.arange(len(prompts))
    edits, source_of_row = _ablations(clean, sources, prompts, config)
    if len(edits) == 0:
        raise InputError("No source of a causal edge is active on any prompt.")
    outcomes = engine.run(edits, reads=reads, progress=progress)
    spread = _target_spread(engine, clean, targets, prompts)
    margin_spread = float(np.std(outcomes.margin_before)) or 1.0
    by_source: dict[FeatureKey, list[int]] = {}
    for e, (source, _) in enumerate(pairs):
        by_source.setdefault(source, []).append(e)
    for number, source in enumerate(sources):
        rows = np.flatnonzero(source_of_row == number)
        where = place_of[edits.prompt[rows]]
        for e in by_source[source]:
            target = pairs[e][1]
            if target is None:
                change: Doubles = outcomes.effect[rows].astype(np.float64)
            else:
                change = (outcomes.read_after[rows, column[target]] - outcomes.read_before[rows, column[target]]).astype(np.float64)
            weights[e, where] = -change
            active[e, where] = True
            scale[e] = margin_spread if target is None else spread[column[target]]
    return weights, active, scale


def _ablations(clean: Activity, sources: Sequence[FeatureKey], prompts: Integers, config: CausalConfig) -> tuple[Edits, Integers]:
    """Zero each source at every position where it is active, one row per (source, prompt)."""
    number = {source: place for place, source in enumerate(sources)}
    keep = np.isin(clean.prompt, prompts) & np.isin(clean.layer, [layer for layer, _ in sources])
    if config.decision_only:
        keep &= clean.at_decision()
    at = np.flatnonzero(keep)
    which = np.array(
        [number.get(key, -1) for key in zip(clean.layer[at].tolist(), clean.feature[at].tolist(), strict=True)], dtype=np.int64
    )
    at, which = at[which >= 0], which[which >= 0]
    rows, row = np.unique(np.stack([which, clean.prompt[at]], axis=1), axis=0, return_inverse=True)
    row = row.ravel()
    edits = Edits(rows[:, 1].copy(), row, clean.layer[at], clean.position[at], clean.feature[at], np.zeros(len(at)))
    return edits, rows[:, 0].copy()


def _target_spread(engine: Engine, clean: Activity, targets: Sequence[FeatureKey], prompts: Integers) -> Doubles:
    """Return the sd of each target's clean activation at the decision position over prompts, zeros included."""
    out = np.zeros(len(targets))
    decision = engine.lengths[prompts] - 1
    for place, (layer, feature) in enumerate(targets):
        values = clean.values(np.full(len(prompts), layer), prompts, decision, np.full(len(prompts), feature))
        out[place] = values.std()
    return out


def _tested(
    pairs: tuple[tuple[FeatureKey, Target], ...],
    prompts: Integers,
    weights: Doubles,
    active: NDArray[np.bool_],
    scale: Doubles,
    clusters: NDArray[np.str_],
    config: CausalConfig,
) -> CausalEdges:
    interval = stats.cluster_t(weights, clusters, active)
    p = stats.cluster_t_p(weights, clusters, active)
    p = np.where(interval.n_clusters >= stats.MINIMUM_CLUSTERS, p, np.nan)
    q = stats.benjamini_hochberg(p)
    mean = np.where(active.any(1), np.nan_to_num(interval.mean), 0.0)
    with np.errstate(invalid="ignore"):
        accepted = (q <= config.alpha) & (np.abs(mean) > config.tau * scale) & (scale > 0)
    deviation = np.where(active, weights - mean[:, None], 0.0)
    sd = np.sqrt((deviation**2).sum(1) / np.maximum(active.sum(1), 1))
    return CausalEdges(
        pairs,
        prompts,
        weights,
        active,
        mean,
        weights.mean(1),
        sd,
        interval.low,
        interval.high,
        p,
        q,
        scale,
        np.asarray(accepted, dtype=bool),
    )


def causal_tables(engine: Engine, edges: CausalEdges, graph: int, node_of: dict[FeatureKey, int], output: int) -> dict[str, pa.Table]:
    """Return rows of edge, edge_language and edge_prompt of kind causal, between nodes of a graph."""
    source = np.array([node_of[pair[0]] for pair in edges.pairs])
    target = np.array([output if pair[1] is None else node_of[pair[1]] for pair in edges.pairs])
    languages = np.array([engine.prompts[p].language for p in edges.prompts.tolist()])
    ordinals = np.array([engine.prompts[p].prompt for p in edges.prompts.tolist()])
    n_active = edges.active.sum(1)
    same_sign = ((np.sign(edges.weights) == np.sign(edges.mean)[:, None]) & edges.active).sum(1)
    e, p = len(edges.pairs), len(edges.prompts)
    rows = {
        "graph": np.full(e, graph),
        "kind": ["causal"] * e,
        "source": source,
        "target": target,
        "source_layer": [pair[0][0] for pair in edges.pairs],
        "source_feature": [pair[0][1] for pair in edges.pairs],
        "target_kind": ["output" if pair[1] is None else "feature" for pair in edges.pairs],
        "target_layer": [None if pair[1] is None else pair[1][0] for pair in edges.pairs],
        "target_feature": [None if pair[1] is None else pair[1][1] for pair in edges.pairs],
        "weight": edges.mean,
        "sd": edges.sd,
        "n_prompts": n_active,
        "frequency": (edges.weights != 0).mean(1),
        "sign_stability": same_sign / np.maximum(n_active, 1),
        "ci_low": edges.low,
        "ci_high": edges.high,
        "p_value": edges.p,
        "q_value": edges.q,
        "accepted": edges.accepted,
    }
    by_language: dict[str, list[object]] = {
        name: [] for name in ("graph", "kind", "source", "target", "language", "n_prompts", "weight", "sd")
    }
    for language in dict.fromkeys(languages.tolist()):
        here = edges.active & (languages == language)
        count = here.sum(1)
        for i in np.flatnonzero(count).tolist():
            values = edges.weights[i, here[i]]
            for name, value in zip(
                by_language,
                (graph, "causal", int(source[i]), int(target[i]), language, int(count[i]), float(values.mean()), float(values.std())),
                strict=True,
            ):
                by_language[name].append(value)
    per_prompt = {
        "graph": np.full(e * p, graph),
        "kind": ["causal"] * (e * p),
        "source": np.repeat(source, p),
        "target": np.repeat(target, p),
        "prompt": np.tile(ordinals, e),
        "weight": edges.weights.ravel(),
        "conditional": edges.active.ravel(),
    }
    return {
        "edge": table("edge", rows),
        "edge_language": table("edge_language", by_language),
        "edge_prompt": table("edge_prompt", per_prompt),
    }
