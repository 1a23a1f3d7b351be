"""Discover circuits on train prompts and measure them on held-out ones, beside matched random circuits.

In: a `Scene` over all positions, a `CircuitConfig`. Out: `CircuitFigures`: circuits, their controls, and rows of evaluation
(METHODS, section 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atlas import stats
from atlas.errors import InputError
from ingest.circuit import discovery
from ingest.circuit.metrics import Ratio, curves, faithfulness_values, ratio
from ingest.circuit.replacement import ERROR_MODES, REFERENCES, Members, Replacement, counterfactuals
from ingest.controls import MINIMUM_DISTINCT, draw_sets
from ingest.intervene.activity import Doubles
from ingest.intervene.battery import Scene, test_prompts
from ingest.intervene.edits import Edits, Integers
from ingest.intervene.engine import Engine
from ingest.intervene.rules import FeatureKey

if TYPE_CHECKING:
    from ingest.circuits import CircuitConfig

Evaluations = list[dict[str, Any]]
"""Rows of evaluation without their ordinal."""


@dataclass(frozen=True)
class FoundCircuit:
    """A circuit and the random circuits matched to it."""

    name: str
    method: str
    members: Members
    controls: tuple[Members, ...]
    parameters: Mapping[str, Any]
    order: tuple[FeatureKey, ...] = ()
    """Members of a ranking, best first; empty where order says nothing."""


@dataclass(frozen=True)
class CircuitFigures:
    """What was found and measured."""

    circuits: tuple[FoundCircuit, ...]
    rows: Evaluations
    """Rows of evaluation; `of` is the name of the circuit."""
    reference: str


@dataclass(frozen=True)
class Universe:
    """Features active on train prompts, with what rankings need."""

    features: tuple[FeatureKey, ...]
    star: dict[FeatureKey, float]
    """Mean star_total over train prompts, summed over positions, zeros included."""
    magnitude: dict[FeatureKey, float]
    """Mean |a| x ||W_dec||."""
    frequency: dict[FeatureKey, float]
    """Share of train prompts with the feature active anywhere."""

    def ranking(self, by: str, language_star: Mapping[FeatureKey, float] | None = None) -> list[FeatureKey]:
        """Return all features, best first, by `attribution` (|star|), `attribution_signed` or `magnitude`."""
        star = language_star or self.star
        if by == "magnitude":
            score = self.magnitude
        else:
            score = {f: star.get(f, 0.0) if by == "attribution_signed" else abs(star.get(f, 0.0)) for f in self.features}
        return sorted(self.features, key=lambda f: (-score[f], f))


def universe_of(scene: Scene, prompts: Integers) -> Universe:
    """Summarise every feature that is active on the given prompts.

    Raises:
        InputError: none is.
    """
    clean, entries = scene.clean, scene.entries
    here = np.isin(clean.prompt[entries], prompts)
    at = entries[here]
    if not len(at):
        raise InputError("No feature is active on the prompts from which circuits are built.")
    keys, index = np.unique(np.stack([clean.layer[at], clean.feature[at]], axis=1), axis=0, return_inverse=True)
    index = index.ravel()
    features = tuple((int(layer), int(feature)) for layer, feature in keys)
    norms = np.array([scene.places.norms(layer)[feature] for layer, feature in features])
    star = np.bincount(index, weights=scene.star[here], minlength=len(features)) / len(prompts)
    size = np.bincount(index, weights=np.abs(clean.value[at]), minlength=len(features)) * norms / len(prompts)
    pairs = np.unique(np.stack([index, clean.prompt[at]], axis=1), axis=0)
    frequency = np.bincount(pairs[:, 0], minlength=len(features)) / len(prompts)
    return Universe(
        features,
        dict(zip(features, star.tolist(), strict=True)),
        dict(zip(features, size.tolist(), strict=True)),
        dict(zip(features, frequency.tolist(), strict=True)),
    )


def evaluate_circuits(scene: Scene, config: CircuitConfig, _evaluations: Iterable[int] = ()) -> CircuitFigures:
    """Find circuits on train prompts and measure them on prompts that discovery did not see.

    Raises:
        InputError: fewer than 3 clusters among the prompts measured.
    """
    engine = scene.engine
    train = spread_prompts(scene, scene.train, config.circuit_prompts)
    tested = spread_prompts(scene, test_prompts(scene), config.circuit_prompts)
    clusters = [engine.prompts[p].cluster for p in tested.tolist()]
    stats.require_clusters(len(set(clusters)), what="figures of a circuit")
    layers = config.layers or engine.transcoders.layers
    discover = Replacement(engine, train, reference=config.reference, error=config.error, reference_prompts=scene.train, layers=layers)
    universe = universe_of(scene, scene.train)
    empty, whole = discover.empty(), discover.whole()
    if ratio(whole, empty, whole, _clusters(scene, train)).value is None:
        return CircuitFigures((), [_no_circuit(config, train)], config.reference)
    ranking = universe.ranking("attribution")
    members, value = discovery.pruned(discover, ranking, config.target, empty, whole)
    smaller, smaller_value = discovery.greedy(discover, members, config.target, empty, whole, rounds=config.greedy_rounds)
    by_size = universe.ranking("magnitude")[: len(members)]
    parameters = {"target": config.target, "error": config.error, "n_universe": len(universe.features), "discovery_prompts": len(train)}
    found = [
        ("attribution-pruned", "attribution_pruned", members, value),
        ("greedy", "greedy", smaller, smaller_value),
        ("magnitude only", "magnitude", frozenset(by_size), float("nan")),
    ]
    circuits = tuple(_found(scene, universe, config, parameters, *item) for item in found if item[2])
    measured = Replacement(
        engine, tested, reference=config.reference, error=config.error, reference_prompts=scene.train, layers=layers, shared=None
    )
    rows: Evaluations = []
    for item in circuits:
        rows += _headline_rows(scene, measured, item)
        rows += _grid_rows(scene, measured, item, config)
    rows += _sufficiency_rows(scene, tested, circuits)
    rows += _curve_rows(scene, measured, universe, config)
    rows += _language_transfer_rows(scene, measured, discover, universe, config)
    rankings = tuple(_ranking_circuit(name, universe.ranking(name)) for name in RANKINGS)
    return CircuitFigures((*circuits, *rankings), rows, config.reference)


RANKINGS = ("attribution", "attribution_signed", "magnitude")


def _ranking_circuit(name: str, order: list[FeatureKey]) -> FoundCircuit:
    """All features in the order in which a curve keeps them."""
    return FoundCircuit(f"ranking by {name}", f"ranking_{name}", frozenset(order), (), {"ranking": name}, tuple(order))


def _no_circuit(config: CircuitConfig, train: Integers) -> dict[str, Any]:
    """Say that features carry none of the margin: between nothing and everything kept, its interval over concepts holds 0."""
    note = "no circuit: the margin with all features live minus that with none is 0 within its interval over concepts"
    return {
        "subject": "behaviour",
        "property": "faithfulness",
        "language": "all",
        "split": "train",
        "reference": config.reference,
        "error_mode": config.error,
        "n_prompts": len(train),
        "note": note,
    }


def _found(
    scene: Scene,
    universe: Universe,
    config: CircuitConfig,
    parameters: Mapping[str, Any],
    name: str,
    method: str,
    members: Members,
    kept: float,
) -> FoundCircuit:
    """Put a circuit together with its controls; magnitude only is a comparison and has none."""
    if method == "magnitude":
        return FoundCircuit(name, method, members, (), parameters)
    controls, n_matched = _controls(scene, universe, members, config)
    return FoundCircuit(name, method, members, controls, {**parameters, "train_faithfulness": kept, "n_matched": n_matched})


def spread_prompts(scene: Scene, prompts: Integers, n: int) -> Integers:
    """Take n prompts, spread over templates, languages and clusters."""
    order = sorted(
        prompts.tolist(),
        key=lambda p: (scene.engine.prompts[p].cluster, scene.engine.prompts[p].language, scene.engine.prompts[p].template, p),
    )
    if len(order) <= n:
        return np.array(order, dtype=np.int64)
    picked = np.linspace(0, len(order) - 1, n).round().astype(np.int64)
    return np.array([order[i] for i in np.unique(picked)], dtype=np.int64)


NEAR = 10
"""Where a feature has no matched control, its stand-in is drawn among this many of its layer with the nearest frequency."""


def _controls(scene: Scene, universe: Universe, members: Members, config: CircuitConfig) -> tuple[tuple[Members, ...], int]:
    """Draw random circuits of the same layers: matched features where there are any; and say how many members have one.

    Members without a matched control, and draws beyond the distinct matched sets, take features of the nearest frequency.
    """
    features = sorted(members)
    pools = scene.places.pools(features, scene.train, scene.config.matching)
    matched = [feature for feature in features if pools[feature].candidates]
    drawn = draw_sets(features, pools, config.random_circuits, config.seed).sets if matched else ()
    near = {feature: _nearest(universe, feature, members) for feature in features}
    controls: dict[Members, None] = {}
    for draw in range(config.random_circuits * 5):
        if len(controls) == config.random_circuits:
            break
        chosen = set[FeatureKey](drawn[draw] if draw < len(drawn) else ())
        generator = np.random.default_rng([config.seed, draw])
        missing = {
            layer: sum(1 for f in features if f[0] == layer) - sum(1 for f in chosen if f[0] == layer) for layer in {f[0] for f in features}
        }
        for feature in (features[i] for i in generator.permutation(len(features))):
            free = list(islice((f for f in near[feature] if f not in chosen), NEAR))
            if missing[feature[0]] > 0 and free:
                chosen.add(free[int(generator.integers(len(free)))])
                missing[feature[0]] -= 1
        controls[frozenset(chosen)] = None
    return tuple(controls), len(matched)


def _nearest(universe: Universe, feature: FeatureKey, members: Members) -> list[FeatureKey]:
    others = [other for other in universe.features if other[0] == feature[0] and other not in members]
    own = universe.frequency.get(feature, 0.0)
    return sorted(others, key=lambda other: (abs(universe.frequency[other] - own), other))


def _clusters(scene: Scene, prompts: Integers) -> list[str]:
    return [scene.engine.prompts[p].cluster for p in prompts.tolist()]


def _split(engine: Engine, prompts: Integers) -> str:
    """Name the prompts that are measured: `train` where a behaviour has no held-out prompt."""
    return "train" if all(engine.prompts[p].split == "train" for p in prompts.tolist()) else "held_out"


def _row(item: FoundCircuit, name: str, value: Ratio, measured: Replacement, language: str = "all", **more: Any) -> dict[str, Any]:
    return {
        "of": item.name,
        "subject": "circuit",
        "property": name,
        "language": language,
        "split": _split(measured.engine, measured.prompts),
        "reference": measured.reference,
        "error_mode": measured.error,
        "value": value.value,
        "ci_low": value.low,
        "ci_high": value.high,
        "n_prompts": value.n_prompts,
        "n_clusters": value.n_clusters,
        **more,
    }


def _against(value: float | None, controls: Doubles, alternative: str) -> dict[str, Any]:
    controls = controls[np.isfinite(controls)]
    if value is None or not len(controls):
        return {"n_controls": len(controls)}
    low, high = stats.quantile_band(controls)
    p = float(stats.empirical_p(value, controls, alternative=alternative)) if len(controls) >= MINIMUM_DISTINCT else None  # type: ignore[arg-type]
    return {
        "control_mean": float(controls.mean()),
        "control_low": float(low),
        "control_high": float(high),
        "n_controls": len(controls),
        "p_value": p,
        "supports": None if p is None else p <= 0.05,
    }


def _headline_rows(scene: Scene, measured: Replacement, item: FoundCircuit) -> Evaluations:
    """Faithfulness, completeness and necessity under the default reference, by language, beside the matched random circuits."""
    circuits = [item.members, *item.controls]
    alone, without = measured.margins(circuits), measured.margins(circuits, complement=True)
    empty, whole = measured.empty(), measured.whole()
    languages = np.array([scene.engine.prompts[p].language for p in measured.prompts.tolist()])
    clusters = np.array(_clusters(scene, measured.prompts))
    rows: Evaluations = []
    for language in ("all", *dict.fromkeys(languages.tolist())):
        keep = (languages == language) | (language == "all")
        for name, margins, better in (("faithfulness", alone, "greater"), ("completeness", without, "less")):
            value = ratio(margins[0][keep], empty[keep], whole[keep], clusters[keep].tolist())
            controls = faithfulness_values(margins[1:][:, keep], empty[keep], whole[keep]) if len(item.controls) else np.zeros(0)
            rows.append(_row(item, name, value, measured, language, **_against(value.value, controls, better)))
            if name == "completeness":
                lost = Ratio(_minus(value.value), _minus(value.high), _minus(value.low), value.n_prompts, value.n_clusters)
                rows.append(_row(item, "necessity", lost, measured, language, **_against(lost.value, 1 - controls, "greater")))
    return rows


def _minus(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _grid_rows(scene: Scene, measured: Replacement, item: FoundCircuit, config: CircuitConfig) -> Evaluations:
    """Faithfulness and completeness under every reference and error mode: they differ a lot, so all are reported."""
    rows: Evaluations = []
    for reference in REFERENCES:
        if reference == "counterfactual" and not (counterfactuals(scene.engine, measured.prompts) >= 0).any():
            continue
        for error in ERROR_MODES:
            if (reference, error) == (measured.reference, measured.error):
                continue
            other = Replacement(scene.engine, measured.prompts, reference=reference, error=error, layers=measured.layers, shared=measured)
            empty, whole, clusters = other.empty(), other.whole(), _clusters(scene, other.prompts)
            alone, without = other.margins([item.members])[0], other.margins([item.members], complement=True)[0]
            rows.append(_row(item, "faithfulness", ratio(alone, empty, whole, clusters), other))
            rows.append(_row(item, "completeness", ratio(without, empty, whole, clusters), other))
    return rows


def _sufficiency_rows(scene: Scene, tested: Integers, circuits: Sequence[FoundCircuit]) -> Evaluations:
    """Sufficiency with everything else frozen (linear), and with one layer's others removed at a time (layer-wise); reference zero."""
    engine, clean = scene.engine, scene.clean
    at = scene.entries[np.isin(clean.prompt[scene.entries], tested)]
    place = np.full(len(engine.prompts), -1, dtype=np.int64)
    place[tested] = np.arange(len(tested))
    clusters = _clusters(scene, tested)

    def removed(drop: NDArray[np.bool_], mode: Any) -> tuple[Doubles, Doubles]:
        chosen = at[drop]
        edits = Edits(
            tested, place[clean.prompt[chosen]], clean.layer[chosen], clean.position[chosen], clean.feature[chosen], np.zeros(len(chosen))
        )
        outcome = engine.run(edits, mode=mode)
        return outcome.margin_after.astype(np.float64), outcome.margin_before.astype(np.float64)

    rows: Evaluations = []
    split = _split(engine, tested)
    for item in circuits:
        member = np.array([key in item.members for key in zip(clean.layer[at].tolist(), clean.feature[at].tolist(), strict=True)])
        if member.all() or not member.any():
            continue
        empty, before = removed(np.ones(len(at), dtype=bool), "direct")
        kept, _ = removed(~member, "direct")
        zero = {"of": item.name, "subject": "circuit", "language": "all", "split": split, "reference": "zero", "error_mode": "clean"}
        rows.append({**zero, "property": "sufficiency_linear", **_figures(ratio(kept, empty, before, clusters))})
        for layer in sorted({layer for layer, _ in item.members}):
            own = clean.layer[at] == layer
            if not (own & ~member).any():
                continue
            nothing, before = removed(own, "free")
            left, _ = removed(own & ~member, "free")
            rows.append({**zero, "property": "sufficiency_layer", "x": float(layer), **_figures(ratio(left, nothing, before, clusters))})
    return rows


def _figures(value: Ratio) -> dict[str, Any]:
    return {
        "value": value.value,
        "ci_low": value.low,
        "ci_high": value.high,
        "n_prompts": value.n_prompts,
        "n_clusters": value.n_clusters,
    }


def _curve_rows(scene: Scene, measured: Replacement, universe: Universe, config: CircuitConfig) -> Evaluations:
    """Curves of three rankings beside stratified random rankings, with CPR (high is good) and CMD (low is good).

    Faithfulness is that of the first features of a ranking, completeness (low is good) that of everything else.
    """
    empty, whole = measured.empty(), measured.whole()
    base = universe.ranking("attribution")
    randoms = discovery.stratified_rankings(universe.frequency, base, config.random_circuits, config.seed)
    names = RANKINGS
    rankings = [*[universe.ranking(name) for name in names], *randoms]
    drawn = curves(measured, rankings, config.shares, empty, whole)
    without = curves(measured, rankings, config.shares_without, empty, whole, complement=True)
    controls = drawn[len(names) :]
    rows: Evaluations = []
    common = {
        "subject": "circuit",
        "language": "all",
        "split": _split(scene.engine, measured.prompts),
        "reference": measured.reference,
        "error_mode": measured.error,
        "n_prompts": len(measured.prompts),
        "n_clusters": len(set(_clusters(scene, measured.prompts))),
    }
    for name, curve in zip(names, drawn, strict=False):
        note = f"features kept in order of {name}; controls are random orders within layer and frequency decile"
        for figure, value, null, better in (
            ("cpr", curve.cpr, np.array([control.cpr for control in controls]), "greater"),
            ("cmd", curve.cmd, np.array([control.cmd for control in controls]), "less"),
        ):
            rows.append(
                {**common, "of": f"ranking by {name}", "property": figure, "value": value, "note": note, **_against(value, null, better)}
            )
    for figure, better, lines in (("faithfulness", "greater", drawn), ("completeness", "less", without)):
        for name, curve in zip(names, lines, strict=False):
            note = f"features {'kept' if figure == 'faithfulness' else 'taken out'} in order of {name}; controls are random orders"
            for place, (share, value) in enumerate(zip(curve.shares, curve.values, strict=True)):
                null = np.array([control.values[place] for control in lines[len(names) :]])
                ends = {"n_controls": len(null)} if share in (0.0, 1.0) else _against(value, null, better)
                rows.append({**common, "of": f"ranking by {name}", "property": figure, "x": share, "value": value, "note": note, **ends})
    return rows


def _language_transfer_rows(
    scene: Scene, measured: Replacement, discover: Replacement, universe: Universe, config: CircuitConfig
) -> Evaluations:
    """Find a circuit on one language's train prompts and measure it on the other's held-out prompts."""
    prompts = scene.engine.prompts
    languages = list(dict.fromkeys(prompts[p].language for p in discover.prompts.tolist()))
    rows: Evaluations = []
    if len(languages) < 2:
        return rows
    empty, whole = discover.empty(), discover.whole()
    test_empty, test_whole = measured.empty(), measured.whole()
    clusters = np.array(_clusters(scene, measured.prompts))
    for source in languages:
        own = np.array([prompts[p].language == source for p in scene.train.tolist()])
        ranking = universe.ranking("attribution", universe_of(scene, scene.train[own]).star)
        inside = np.array([prompts[p].language == source for p in discover.prompts.tolist()])
        small = Replacement(
            scene.engine, discover.prompts[inside], reference=config.reference, error=config.error, layers=discover.layers, shared=discover
        )
        members, _ = discovery.pruned(small, ranking, config.target, empty[inside], whole[inside])
        margins = measured.margins([members])[0]
        for target in languages:
            keep = np.array([prompts[p].language == target for p in measured.prompts.tolist()])
            if keep.any():
                value = ratio(margins[keep], test_empty[keep], test_whole[keep], clusters[keep].tolist())
                note = f"{len(members)} features found on {source} train prompts, measured on {target}"
                note += "" if value.value is not None else "; none: the margin with all features minus that with none may be 0"
                rows.append(
                    {
                        "subject": "behaviour",
                        "property": f"transfer_from_{source}",
                        "language": target,
                        "split": _split(scene.engine, measured.prompts),
                        "reference": config.reference,
                        "error_mode": config.error,
                        "note": note,
                        **_figures(value),
                    }
                )
    return rows
