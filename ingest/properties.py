"""The three properties of a behaviour's features as numbers with controls; the type tests stand in `ingest.type_tests`.

In: a `Scene` over all positions, pairs of prompts, a config. Out: rows of evaluation (METHODS, section 6).

    directionality    share of held-out prompts' effects with the sign that star_total predicted on train prompts; null: matched features
                      in the tested ones' places
    persistence       rank correlation over features of mean effects: train against held-out templates (language all), and two languages;
                      Jaccard of the strongest sets second; null: features exchanged within their layer
    replaceability    rise of the predicted token after injecting another concept's features, beside matched random sets
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from atlas import stats
from ingest.controls import MINIMUM_DISTINCT, product_of
from ingest.intervene import battery
from ingest.intervene.activity import Doubles
from ingest.intervene.battery import InterventionConfig, Scene, Singles, make_scene
from ingest.intervene.edits import Integers
from ingest.intervene.measure import Measured, PooledControls, rows_in, run_jobs
from ingest.intervene.rules import FeatureKey
from ingest.intervene.tables import EXPECTED, prefers_expected, transfer_rises
from ingest.prompts import Prompt, PromptPair
from ingest.type_tests import type_rows

Rows = list[dict[str, Any]]
DRAWS = 999
OFTEN = 0.25
"""A matched feature counts where it stands beside the tested one on this share of the prompts of the commonest one."""


def property_rows(
    scene: Scene, pairs: Sequence[PromptPair], behaviour: str, config: InterventionConfig, operations: Sequence[Prompt] = ()
) -> Rows:
    """Measure the three properties and run the four type tests on one behaviour."""
    rows: Rows = []
    single = scene if scene.position == config.position else make_scene(scene.engine, scene.clean, config, config.position, count())
    singles = battery.ablate_each(single)
    features = battery.strongest(single, single.train, config.ablated_features)
    rows += directionality(single, singles, features)
    rows += persistence(single, singles, features)
    rows += replaceability(scene, config)
    rows += type_rows(scene, pairs, config, operations)
    return [{"behaviour": behaviour, **row} for row in rows]


@dataclass(frozen=True)
class Slot:
    """One tested feature and what could have stood in its place."""

    name: int
    n_rows: int
    """Held-out prompts on which it is active: its weight in the mean."""
    right: float
    """Share of its effects there that have its predicted sign."""
    others: tuple[int, ...]
    """Matched features, other tested ones among them."""
    others_right: Doubles
    """Share of the effects of each that have the tested feature's predicted sign, on the prompts on which it stands beside it."""


def directionality(scene: Scene, singles: Singles, features: Sequence[FeatureKey]) -> Rows:
    """Share of single ablations on held-out prompts whose effect has the predicted sign; controls are matched features' effects there.

    The null exchanges features: a draw puts one feature, the same on all prompts, in each tested feature's place, none twice, the
    tested ones included: theirs is one draw of all. Drawing another neighbour on every prompt would average the differences between
    features away, and leaving the tested ones out would take the mean of few neighbours for that of all: both reject too often.
    """
    tested = np.isin(singles.prompt, battery.test_prompts(scene))
    predicted = _signs(scene)
    slots: list[Slot] = []
    right: list[NDArray[np.bool_]] = []
    prompts: list[Integers] = []
    for layer, feature in features:
        rows, pool = battery.pooled_controls(scene, singles, layer, feature)
        sign = predicted.get((layer, feature), 0.0)
        keep = tested[rows] & (pool.features >= 0).any(1)
        if sign == 0 or not keep.any():
            continue
        own = -sign * singles.outcomes.effect[rows[keep]] > 0
        others, shares = _beside(layer, pool, keep, sign)
        if len(others):
            slots.append(Slot((layer << 32) + feature, int(keep.sum()), float(own.mean()), others, shares))
            right.append(own)
            prompts.append(singles.prompt[rows[keep]])
    if not slots:
        return [_nothing("directionality", "no tested feature is active beside matched ones on a held-out prompt")]
    clusters = np.array([scene.engine.prompts[prompt].cluster for prompt in np.concatenate(prompts).tolist()])
    bound = stats.cluster_t(np.concatenate(right).astype(np.float64), clusters)
    note = f"{len(slots)} strongest features on train prompts; share of their exact single ablations with the predicted sign"
    against = _exchange_test(float(bound.mean), slots, scene.config.seed)
    return [{**_row("directionality", bound, **against, note=note), "split": battery.split_of(scene, battery.test_prompts(scene))}]


def _beside(layer: int, pool: PooledControls, keep: NDArray[np.bool_], sign: float) -> tuple[tuple[int, ...], Doubles]:
    """Return the matched features that stand beside one often enough, and how often each has its predicted sign."""
    features, effects = pool.features[keep], pool.effects[keep]
    there = features >= 0
    names, place = np.unique(features[there], return_inverse=True)
    counts = np.bincount(place)
    shares: Doubles = np.bincount(place, weights=-sign * effects[there] > 0) / counts
    often = counts >= OFTEN * counts.max()
    return tuple((layer << 32) + int(name) for name in names[often]), shares[often]


def _exchange_test(observed: float, slots: Sequence[Slot], seed: int) -> dict[str, Any]:
    """Give the band of draws of untested features, and p among draws of all: null where fewer than 100 can be told apart."""
    untested = exchanged(slots, DRAWS, seed, tested=False)
    found = _against(observed, untested[~np.isnan(untested)], "greater")
    if product_of(len(slot.others) + 1 for slot in slots) < MINIMUM_DISTINCT:
        return {**found, "p_value": None, "supports": None}
    p = float(stats.empirical_p(observed - 1e-12, exchanged(slots, DRAWS, seed), alternative="greater"))
    return {**found, "p_value": p, "supports": p <= 0.05}


def exchanged(slots: Sequence[Slot], draws: int, seed: int, *, tested: bool = True) -> Doubles:
    """Return (draws,) weighted mean shares with one feature drawn for each slot, none twice in a draw; NaN where none could be.

    `tested` lets slots keep or exchange their own features; without, only untested ones are drawn.
    """
    generator = np.random.default_rng(seed)
    own = {slot.name for slot in slots}
    column = {name: i for i, name in enumerate(sorted(own.union(*(slot.others for slot in slots))))}
    used = np.zeros((draws, len(column)), dtype=bool)
    if not tested:
        used[:, [column[name] for name in own]] = True
    total, weight = np.zeros(draws), np.zeros(draws)
    everyone = np.arange(draws)
    for slot in sorted(slots, key=lambda slot: len(slot.others)):  # small pools first, so that larger ones do not use them up
        columns = np.array([column[name] for name in (*slot.others, slot.name)])
        key = np.where(used[:, columns], -1.0, generator.random((draws, len(columns))))
        pick = key.argmax(1)
        free = key[everyone, pick] >= 0  # a slot whose pool is used up is left out of that draw
        used[everyone[free], columns[pick[free]]] = True
        total[free] += slot.n_rows * np.append(slot.others_right, slot.right)[pick[free]]
        weight[free] += slot.n_rows
    means: Doubles = np.where(weight > 0, total / np.maximum(weight, 1), np.nan)
    return means


def persistence(scene: Scene, singles: Singles, features: Sequence[FeatureKey]) -> Rows:
    """Correlate mean effects of features over templates and over languages; compare the strongest sets by Jaccard."""
    prompts = scene.engine.prompts
    rows: Rows = []
    comparisons: list[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]] = []
    held_out = np.array([prompt.split != "train" for prompt in prompts])
    if held_out.any() and not held_out.all():
        comparisons.append(("all", ~held_out, held_out))
    languages = np.array([prompt.language for prompt in prompts])
    names = list(dict.fromkeys(languages.tolist()))
    comparisons += [(f"{a}+{b}", languages == a, languages == b) for i, a in enumerate(names) for b in names[i + 1 :]]
    effects, present = _effect_matrix(singles, features, len(prompts))
    clusters = np.array([prompt.cluster for prompt in prompts])
    layers = np.array([layer for layer, _ in features])
    for name, one, other in comparisons:
        rows.append(_correlation(name, effects, present, one, other, clusters, layers, scene.config.seed))
        rows.append(_jaccard(scene, name, np.flatnonzero(one), np.flatnonzero(other)))
    return rows


def _correlation(
    name: str,
    effects: Doubles,
    present: NDArray[np.bool_],
    one: NDArray[np.bool_],
    other: NDArray[np.bool_],
    clusters: NDArray[np.str_],
    layers: Integers,
    seed: int,
) -> dict[str, Any]:
    both = (present & one).any(1) & (present & other).any(1)
    if both.sum() < 5:
        return _nothing("persistence", f"only {int(both.sum())} features are active on both sides")
    effects, present, layers = effects[both], present[both], layers[both]
    a, b = (stats.cluster_sums(effects, clusters, present & side) for side in (one, other))
    value = _spearman(a.mean, b.mean)
    generator = np.random.default_rng(seed)
    n_clusters = a.sums.shape[-1]
    boot = []
    for _ in range(400):
        weights = generator.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters)).astype(np.float64)
        counts = (a.counts @ weights, b.counts @ weights)
        known = (counts[0] > 0) & (counts[1] > 0)
        if known.sum() >= 5:
            boot.append(_spearman((a.sums @ weights)[known] / counts[0][known], (b.sums @ weights)[known] / counts[1][known]))
    ranks = rankdata(a.mean), rankdata(b.mean)  # ranks of exchanged values are exchanged ranks
    null = stats.permutation_null(
        lambda order: np.asarray(_correlated(ranks[0], ranks[1][order])), np.arange(len(layers)), within=layers, draws=DRAWS
    )
    low, high = stats.quantile_band(boot) if len(boot) >= 100 else (np.nan, np.nan)
    return {
        **_plain("persistence"),
        "language": name,
        "value": value,
        "ci_low": _or_none(low),
        "ci_high": _or_none(high),
        "n_prompts": int((one | other).sum()),
        "n_clusters": n_clusters,
        **_against(value, null, "greater"),
        "note": f"rank correlation of the mean effects of {len(layers)} features; null: exchanged within layers; bootstrap over concepts",
    }


def _jaccard(scene: Scene, name: str, one: Integers, other: Integers) -> dict[str, Any]:
    """Compare the strongest sets by |star_total|; null: sets of the same size a layer, drawn among active features."""
    k = scene.config.ablated_features
    sets = [set(battery.strongest(scene, side, k)) for side in (one, other)]
    value = len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))
    at = scene.entries
    active = np.unique(np.stack([scene.clean.layer[at], scene.clean.feature[at]], axis=1), axis=0)
    generator = np.random.default_rng(scene.config.seed)
    per_layer = {layer: active[active[:, 0] == layer, 1] for layer in np.unique(active[:, 0]).tolist()}
    sizes = [[sum(1 for feature in side if feature[0] == layer) for layer in per_layer] for side in sets]
    null = []
    for _ in range(DRAWS):
        shared = total = 0
        for place, features in enumerate(per_layer.values()):
            a, b = (set(generator.choice(features, size=size[place], replace=False).tolist()) for size in sizes)
            shared += len(a & b)
            total += len(a | b)
        null.append(shared / max(1, total))
    return {
        **_plain("persistence_jaccard"),
        "language": name,
        "value": value,
        **_against(value, np.array(null), "greater"),
        "n_prompts": len(one) + len(other),
        "note": f"the {k} strongest features on each side by mean |star_total|",
    }


def replaceability(scene: Scene, config: InterventionConfig) -> Rows:
    """Rise of the expected answer after injection, and the share of prompts that prefer it, beside matched random sets."""
    small = replace(
        scene, config=replace(config, transfer_concepts=min(6, config.transfer_concepts), transfer_templates=1), numbers=count()
    )
    no_op = run_jobs(scene.engine, scene.clean, [battery.no_op_job(small)])
    jobs = battery.injection_jobs(small, no_op[0].outcomes.margin_before.astype(np.float64)) if config.transfer_concepts > 1 else []
    wanted = [job for job in jobs if job.control in (None, "matched_random")]
    if not wanted:
        return [_nothing("replaceability", "fewer than two languages or two concepts that are answered in both")]
    measured = run_jobs(scene.engine, scene.clean, [replace(job, predict=False, keep_answers=False) for job in wanted], integrated_steps=0)
    rows: Rows = []
    for item in (item for item in measured if item.job.control is None):
        controls = [control for control in measured if control.job.control_of == item.job.number]
        rows += _replaceability_rows(scene, item, controls)
    return rows


def _replaceability_rows(scene: Scene, item: Measured, controls: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    prompts = scene.engine.prompts
    job = item.job
    target = np.array([prompts[p].cluster for p in job.prompts.tolist()])
    source = np.array([prompts[p].cluster for p in job.sources.tolist()])
    language = prompts[int(job.prompts[0])].language
    from_language = prompts[int(job.sources[0])].language
    # Prompts of concepts without a control are left out of the comparison.
    shared = rows_in(job, controls[0].job) if controls else np.arange(len(job.prompts))
    note = f"features shared by {from_language} and {language}, injected from {from_language}; interval over source and target concepts"
    if len(shared) < len(job.prompts):
        note += f"; {len(job.prompts) - len(shared)} of {len(job.prompts)} injections have no matched control and are left out"
    for name, every, null in (
        ("replaceability", transfer_rises(item)[:, EXPECTED], [transfer_rises(control)[:, EXPECTED].mean() for control in controls]),
        ("replaceability_share", prefers_expected(item).astype(float), [prefers_expected(control).mean() for control in controls]),
    ):
        values = every[shared]
        bound = stats.pigeonhole_bootstrap(values, source[shared], target[shared], seed=scene.config.seed)
        against = _against(float(values.mean()), np.array(null), "greater")
        yield {**_row(name, bound, **against, note=note), "language": language, "split": battery.split_of(scene, job.prompts)}


# ---- shared -----------------------------------------------------------------------------------------------------


def _signs(scene: Scene) -> dict[FeatureKey, float]:
    """Return the sign of each feature's star_total, added up over train prompts."""
    here = np.isin(scene.clean.prompt[scene.entries], scene.train)
    at = scene.entries[here]
    keys, index = np.unique(np.stack([scene.clean.layer[at], scene.clean.feature[at]], axis=1), axis=0, return_inverse=True)
    total = np.bincount(index.ravel(), weights=scene.star[here], minlength=len(keys))
    return {(int(layer), int(feature)): float(np.sign(value)) for (layer, feature), value in zip(keys, total, strict=True)}


def _effect_matrix(singles: Singles, features: Sequence[FeatureKey], n_prompts: int) -> tuple[Doubles, NDArray[np.bool_]]:
    """Return (features, prompts) effects of single ablations, and where the feature is active."""
    effects = np.zeros((len(features), n_prompts))
    present = np.zeros((len(features), n_prompts), dtype=bool)
    for place, (layer, feature) in enumerate(features):
        rows = np.flatnonzero((singles.layer == layer) & (singles.feature == feature))
        effects[place, singles.prompt[rows]] = singles.outcomes.effect[rows]
        present[place, singles.prompt[rows]] = True
    return effects, present


def _spearman(a: Doubles, b: Doubles) -> float:
    return _correlated(rankdata(a), rankdata(b))


def _correlated(a: Doubles, b: Doubles) -> float:
    return 0.0 if a.std() == 0 or b.std() == 0 else float(np.corrcoef(a, b)[0, 1])


def _plain(name: str) -> dict[str, Any]:
    return {"subject": "behaviour", "property": name, "language": "all", "split": "all"}


def _nothing(name: str, why: str) -> dict[str, Any]:
    return {**_plain(name), "note": f"not measured: {why}"}


def _row(name: str, bound: stats.Interval, **more: Any) -> dict[str, Any]:
    return {
        **_plain(name),
        "value": float(bound.mean),
        "ci_low": _or_none(bound.low),
        "ci_high": _or_none(bound.high),
        "n_prompts": int(bound.n),
        "n_clusters": int(bound.n_clusters),
        **more,
    }


def _against(value: float, null: Doubles, alternative: str) -> dict[str, Any]:
    if not len(null):
        return {"n_controls": 0}
    low, high = stats.quantile_band(null)
    p = float(stats.empirical_p(value, null, alternative=alternative)) if len(null) >= MINIMUM_DISTINCT else None  # type: ignore[arg-type]
    return {
        "control_mean": float(np.mean(null)),
        "control_low": float(low),
        "control_high": float(high),
        "n_controls": len(null),
        "p_value": p,
        "supports": None if p is None else p <= 0.05,
    }


def _or_none(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
