"""Interventions stage: the default battery on every behaviour of a prompt set, as rows of schema.sql.

In: model, transcoders, prompts, config. Out: tables intervention, intervention_member, outcome, outcome_answer, effect and transfer
(METHODS, section 5).

1. The prompts to edit are chosen: balanced over languages, splits and concepts, translations kept together.
2. One clean pass; clean activations; star_total of every active feature at the edited positions.
3. The battery of `ingest.intervene.battery` is run; effects are summarised with their controls.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import pyarrow as pa

from atlas.errors import UsageError
from atlas.schema import arrow_schema
from ingest.batches import Progress
from ingest.intervene import battery, variants
from ingest.intervene.activity import activity
from ingest.intervene.battery import InterventionConfig, Scene, Singles, make_scene
from ingest.intervene.effects import effect_table
from ingest.intervene.engine import Engine, Outcomes
from ingest.intervene.measure import Job, Measured, noise_floor, run_jobs
from ingest.intervene.rules import FeatureKey, Intervention
from ingest.intervene.tables import intervention_tables
from ingest.model import LanguageModel
from ingest.prompts import Prompt, PromptSet
from ingest.transcoder import TranscoderSet

TABLES = ("intervention", "intervention_member", "outcome", "outcome_answer", "transfer", "effect")

__all__ = ["TABLES", "InterventionConfig", "choose_prompts", "interventions"]


def interventions(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    config: InterventionConfig | None = None,
    *,
    behaviours: Sequence[str] | None = None,
    features: Mapping[str, Sequence[FeatureKey]] | None = None,
    supernodes: Mapping[str, Mapping[str, Sequence[FeatureKey]]] | None = None,
    first_number: int = 0,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Run the battery.

    Args:
        model: the analysed model.
        transcoders: of its layers.
        prompts: all prompts of the run.
        config: what is tried.
        behaviours: names; default all of the set.
        features: behaviour -> (layer, feature) to test one by one instead of the strongest, e.g. the nodes of its graph.
        supernodes: behaviour -> name -> (layer, feature) of its supernodes, largest first.
        first_number: ordinal of the first intervention.
        progress: called with (rows done, rows) of the part under way.

    Raises:
        UsageError: an unknown behaviour, layer or feature.
        InputError: no train prompt, or no active feature.
        ModelError: NaN or infinity.
    """
    config = config or InterventionConfig()
    known = [behaviour.name for behaviour in prompts.behaviours]
    parts: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    number = first_number
    for name in known if behaviours is None else behaviours:
        if name not in known:
            raise UsageError(f"Unknown behaviour {name!r}.", hint=f"The prompt set has: {', '.join(known)}.")
        chosen = choose_prompts([prompt for prompt in prompts.prompts if prompt.behaviour == name], config.max_prompts, config.seed)
        engine = Engine(model, transcoders, chosen, rows_at_once=config.rows_at_once)
        groups = (supernodes or {}).get(name)
        tables = run_battery(engine, prompts, name, config, (features or {}).get(name), number, progress, supernodes=groups)
        number += tables["intervention"].num_rows
        for table_name, table in tables.items():
            parts[table_name].append(table)
    return {name: pa.concat_tables(tables) if tables else arrow_schema(name).empty_table() for name, tables in parts.items()}


@dataclass(frozen=True)
class BatteryResult:
    """Everything the battery measured, for stages that go on from it."""

    scene: Scene
    measured: Sequence[Measured]
    noise: float


def run_battery(
    engine: Engine,
    prompts: PromptSet,
    behaviour: str,
    config: InterventionConfig,
    features: Sequence[FeatureKey] | None = None,
    first_number: int = 0,
    progress: Progress | None = None,
    *,
    supernodes: Mapping[str, Sequence[FeatureKey]] | None = None,
) -> dict[str, pa.Table]:
    """Run the battery on one behaviour's engine."""
    result = measure_battery(engine, prompts, config, features, first_number, progress, supernodes=supernodes)
    tables = intervention_tables(engine, result.measured, behaviour, result.noise)
    return tables | {"effect": effect_table(engine.prompts, result.measured)}


def measure_battery(
    engine: Engine,
    prompts: PromptSet,
    config: InterventionConfig,
    features: Sequence[FeatureKey] | None = None,
    first_number: int = 0,
    progress: Progress | None = None,
    *,
    supernodes: Mapping[str, Sequence[FeatureKey]] | None = None,
) -> BatteryResult:
    """Run the battery and keep its outcomes."""
    clean, numbers = activity(engine, config.layers or None), count(first_number)
    scene = make_scene(engine, clean, config, config.position, numbers)
    set_scene = scene if config.set_position == config.position else make_scene(engine, clean, config, config.set_position, numbers)
    layers = np.unique(scene.clean.layer).tolist()
    noise = noise_floor(engine, np.arange(min(len(engine.prompts), 32)), layers)
    no_op = run_jobs(engine, scene.clean, [battery.no_op_job(scene)], progress=progress)
    margins = no_op[0].outcomes.margin_before.astype(np.float64)
    tested = features or battery.strongest(scene, scene.train, config.ablated_features)
    singles = single_ablations(scene, battery.ablate_each(scene, progress), tested)
    jobs = [*battery.set_jobs(set_scene), *battery.patch_jobs(scene, prompts.pairs)]
    if config.transfer_concepts > 1:
        jobs += battery.injection_jobs(set_scene, margins)
    jobs += variants.variant_jobs(set_scene)
    jobs += variants.supernode_jobs(set_scene, dict(list((supernodes or {}).items())[: config.supernodes]))
    headline = run_jobs(engine, scene.clean, jobs, integrated_steps=config.integrated_steps, progress=progress)
    return BatteryResult(scene, [*no_op, *singles, *headline], noise)


def single_ablations(scene: Scene, singles: Singles, features: Sequence[FeatureKey]) -> list[Measured]:
    """Take the ablation of each feature out of the exact effects of all, with its pooled controls; untested ones carry none.

    Raises:
        UsageError: a feature that its layer does not have.
    """
    for layer, feature in features:
        if layer not in scene.engine.transcoders.layers or not 0 <= feature < scene.engine.transcoders.d_transcoder(layer):
            raise UsageError(f"There is no feature {feature} of layer {layer} in {scene.engine.transcoders.name}.")
    measured = []
    star = _mean_star(scene)
    for layer, feature in features:
        rows, pool = battery.pooled_controls(scene, singles, layer, feature)
        if not len(rows):
            continue
        predicted = "less" if star.get((layer, feature), 0.0) >= 0 else "greater"
        work = Intervention(
            f"ablate L{layer}_F{feature}",
            "zero",
            {None: ((layer, feature),)},
            positions=scene.position,
            parameters={
                "alternative": predicted,
                "chosen_on": "train",
                "controls": "exact effects of matched features on the same prompts",
            },
        )
        prompts = singles.prompt[rows]
        job = Job(
            work,
            prompts,
            np.full(len(rows), -1),
            next(scene.numbers),
            keep_answers=False,
            n_pool=pool.n_pool,
            distinct_sets=pool.distinct_sets,
            pooled=(pool,),
        )
        columns = {name: getattr(singles.outcomes, name) for name in Outcomes.__dataclass_fields__}
        outcomes = Outcomes(**{name: column[rows] if len(column) else column for name, column in columns.items()})
        gradient = _single_prediction(scene, layer, feature, prompts)
        measured.append(Measured(job, outcomes, gradient, np.full(len(rows), np.nan, dtype=np.float32), np.zeros((len(rows), 0), np.int64)))
    return measured


def _mean_star(scene: Scene) -> dict[FeatureKey, float]:
    """Return the sum of star_total over train prompts by feature: its sign is the predicted direction."""
    here = np.isin(scene.clean.prompt[scene.entries], scene.train)
    at = scene.entries[here]
    keys, index = np.unique(np.stack([scene.clean.layer[at], scene.clean.feature[at]], axis=1), axis=0, return_inverse=True)
    totals = np.bincount(index.ravel(), weights=scene.star[here], minlength=len(keys))
    return {(int(layer), int(feature)): float(total) for (layer, feature), total in zip(keys, totals, strict=True)}


def _single_prediction(scene: Scene, layer: int, feature: int, prompts: np.ndarray) -> np.ndarray:
    """Return -star_total, summed over edited positions: what the gradient predicts of an ablation."""
    at = scene.entries
    here = (scene.clean.layer[at] == layer) & (scene.clean.feature[at] == feature)
    total = np.bincount(scene.clean.prompt[at][here], weights=-scene.star[here], minlength=len(scene.engine.prompts))
    predicted: np.ndarray = total[prompts].astype(np.float32)
    return predicted


def choose_prompts(prompts: Sequence[Prompt], limit: int, seed: int) -> list[Prompt]:
    """Keep at most `limit` prompts: all languages of a (concept, template, variant) stay together, splits keep their shares.

    Whole templates are dropped before concepts, so that every kept template has all kept concepts (injection needs both).
    """
    if len(prompts) <= limit:
        return list(prompts)
    templates: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        label = "held out" if prompt.held_out in ("template", "both") else "train"
        if prompt.template not in templates[label]:
            templates[label].append(prompt.template)
    shuffled = {label: random.Random(f"templates-{seed}-{label}").sample(sorted(names), len(names)) for label, names in templates.items()}
    clusters = random.Random(f"clusters-{seed}").sample(sorted({p.cluster for p in prompts}), len({p.cluster for p in prompts}))
    share = limit / len(prompts)
    kept = {name for names in shuffled.values() for name in names[: max(2, int(len(names) * share))]}
    left = [prompt for prompt in prompts if prompt.template in kept]
    n_clusters = max(2, int(len(clusters) * min(1.0, limit / len(left))))
    by_split = _clusters_by_split(left, clusters, n_clusters)
    return [prompt for prompt in left if prompt.cluster in by_split]


def _clusters_by_split(prompts: Sequence[Prompt], order: Sequence[str], n: int) -> set[str]:
    """Keep about n clusters, of each kind (train concepts or held-out ones) in proportion."""
    held_out = {prompt.cluster: prompt.held_out in ("concept", "both") for prompt in prompts}
    kept: set[str] = set()
    for label in (False, True):
        names = [cluster for cluster in order if held_out.get(cluster) is label]
        kept.update(names[: max(1, round(n * len(names) / max(1, len(held_out))))])
    return kept
