"""The behaviour's set by other rules and in other modes, and whole supernodes: what an effect owes to how it was measured.

In: a `Scene`. Out: jobs for `ingest.intervene.measure.run_jobs` (METHODS, section 5).

1. Zero, mean (over train prompts) and resampling (a prompt of another concept and answer in the same words) of the same set on the same
   prompts, and steps of its standard deviation added.
2. The zero ablation with attention patterns held, with everything held (direct), and with the MLP outputs above the set held.
3. The largest supernodes, each ablated whole beside matched random sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ingest.intervene import battery
from ingest.intervene.battery import Scene
from ingest.intervene.edits import Integers
from ingest.intervene.measure import Job
from ingest.intervene.rules import FeatureKey, Intervention

SUPERNODE_PROMPTS = 32
"""Held-out prompts on which a supernode and its controls are ablated."""


def variant_jobs(scene: Scene) -> list[Job]:
    """Return the behaviour's set by other rules and in other modes; none where no feature supports the answer."""
    members = battery.strongest(scene, scene.train, scene.config.top_features, signed=True)
    where = battery.test_prompts(scene)
    if not members:
        return []
    nothing = np.full(len(where), -1, dtype=np.int64)
    parameters = {"alternative": "less", "chosen_on": "train"}
    base = Intervention(f"ablate top {len(members)}", "zero", {None: members}, positions=scene.position, parameters=parameters)
    jobs = [Job(work, where, nothing, next(scene.numbers)) for work in (*_other_rules(scene, base), *_other_modes(scene, base))]
    pairs = battery.other_concepts(scene, where.tolist())
    if pairs:
        prompts, sources = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
        jobs.append(Job(replace(base, name=f"{base.name}: resample", rule="resample"), prompts, sources, next(scene.numbers)))
    return jobs


def _other_rules(scene: Scene, base: Intervention) -> list[Intervention]:
    mean, sd = reference_values(scene, base.features)
    works = [replace(base, name=f"{base.name}: mean", rule="mean", values=mean)]
    for strength in scene.config.steering:
        if strength > 0:
            parameters = {**base.parameters, "alternative": "greater"}
            name = f"add {strength:g} standard deviations to top {len(base.features)}"
            works.append(replace(base, name=name, rule="add", strength=strength, values=sd, parameters=parameters))
    return works


def _other_modes(scene: Scene, base: Intervention) -> list[Intervention]:
    works = [replace(base, name=f"{base.name}: {mode}", mode=mode) for mode in ("frozen_attention", "direct")]
    above = tuple(range(max(layer for layer, _ in base.features) + 1, scene.engine.model.n_layers))
    if above:
        works.append(replace(base, name=f"{base.name}: MLP outputs above held", mode="constrained_layers", frozen_layers=above))
    return works


def reference_values(scene: Scene, features: Sequence[FeatureKey]) -> tuple[dict[FeatureKey, float], dict[FeatureKey, float]]:
    """Return mean and standard deviation of features over the edited positions of train prompts, zeros included."""
    trained = np.isin(scene.places.prompt_of_place, scene.train)
    mean: dict[FeatureKey, float] = {}
    sd: dict[FeatureKey, float] = {}
    for layer, feature in features:
        here = scene.entries[(scene.clean.layer[scene.entries] == layer) & (scene.clean.feature[scene.entries] == feature)]
        values = np.zeros(int(trained.sum()))
        active = scene.clean.value[here[np.isin(scene.clean.prompt[here], scene.train)]]
        values[: len(active)] = active
        mean[layer, feature], sd[layer, feature] = float(values.mean()), float(values.std())
    return mean, sd


def supernode_jobs(scene: Scene, supernodes: Mapping[str, Sequence[FeatureKey]]) -> list[Job]:
    """Ablate each supernode whole on held-out prompts, beside matched random sets; those without an active feature are left out."""
    active = set(zip(scene.clean.layer[scene.entries].tolist(), scene.clean.feature[scene.entries].tolist(), strict=True))
    where = _few(scene, battery.test_prompts(scene), SUPERNODE_PROMPTS)
    jobs: list[Job] = []
    for name, features in supernodes.items():
        members = tuple(sorted(set(features) & active))
        if members:
            parameters = {"alternative": "two-sided", "chosen_on": "train", "supernode": name}
            work = Intervention(f"ablate supernode {name}", "zero", {None: members}, positions=scene.position, parameters=parameters)
            jobs += battery.with_controls(scene, work, where, np.full(len(where), -1, dtype=np.int64))
    return jobs


def _few(scene: Scene, prompts: Integers, n: int) -> Integers:
    """Take n prompts, spread over languages, clusters and templates."""
    own = scene.engine.prompts
    order = sorted(prompts.tolist(), key=lambda p: (own[p].language, own[p].cluster, own[p].template, p))
    picked = np.unique(np.linspace(0, len(order) - 1, min(n, len(order))).round().astype(np.int64))
    return np.array(sorted(order[i] for i in picked.tolist()), dtype=np.int64)
