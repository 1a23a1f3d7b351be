"""The default battery: what is tried on every behaviour, each with its controls.

In: an `Engine` over the prompts of one behaviour, clean activations, a config. Out: jobs for `ingest.intervene.measure.run_jobs`.

1. No-op: the same path with nothing changed.
2. Exact ablation of every feature that is active at the edited positions, one by one; the strongest by |star_total| on the train split are
   tested against pooled exact effects of matched features on the same prompts.
3. Ablation of the strongest set of the behaviour, and of the strongest sets of each concept, against matched random sets, a random
   direction of the same length, the reconstruction error alone and the whole MLP output.
4. Steering: the concepts' sets scaled over a grid of strengths.
5. Activation patching between the prompts of a pair (minimal pairs, translations), or between two concepts where there is no minimal pair.
6. Injection: what is shared between two languages for one concept, put into the other language's prompt of another concept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from atlas.errors import InputError
from ingest.controls import Draws, Matching, Places, combined, draw_sets
from ingest.intervene.activity import Activity, Doubles, slopes
from ingest.intervene.edits import Edits, Integers
from ingest.intervene.engine import Engine, Outcomes
from ingest.intervene.measure import Job, PooledControls
from ingest.intervene.rules import FeatureKey, Intervention, PositionRule, Sets
from ingest.intervene.tables import partner_token
from ingest.prompts import PromptPair

CONTROLS = (("random_direction", "same_norm_direction"), ("error_only", "error_only"), ("whole_mlp", "whole_mlp"))
FIXED = tuple(rule for rule, _ in CONTROLS)
RESCALED = "rescaled"
"""The matched random sets once more, stretched to the length of what they control."""


@dataclass(frozen=True)
class InterventionConfig:
    """What the battery tries and how much of it."""

    ablated_features: int = 60
    """Features tested one by one, the strongest by mean |star_total| over train prompts."""
    top_features: int = 10
    """Size of the sets that are ablated and steered together."""
    control_draws: int = 100
    """Matched random sets beside each headline intervention."""
    steering: tuple[float, ...] = (0.0, 0.5, 2.0, 4.0)
    """Strengths, multiples of the clean activation."""
    transfer_concepts: int = 8
    """Concepts injected into each other's prompts, one a cluster; 0 leaves injection out."""
    transfer_templates: int = 2
    """Templates used for injection, held-out ones first."""
    shared_rate: float = 0.8
    """A feature is shared for a concept if it is active on at least this share of the concept's train prompts in each language."""
    max_prompts: int = 400
    """Prompts of a behaviour that are edited, balanced over languages, splits and concepts."""
    layers: tuple[int, ...] = ()
    """Layers whose features are edited; empty means all of the transcoder set."""
    position: PositionRule = "decision"
    """Where features are ablated one by one and patched."""
    set_position: PositionRule = "all"
    """Where sets are ablated, steered and injected."""
    matching: Matching = field(default_factory=Matching)
    pooled_neighbours: int = 10
    """Matched features a prompt for the pooled controls of single ablations."""
    supernodes: int = 3
    """Supernodes ablated whole, the largest first; 0 leaves them out."""
    integrated_steps: int = 4
    """Steps of integrated gradients for headline interventions; 0 leaves them out."""
    rows_at_once: int = 1024
    """Rows of a batch."""
    seed: int = 0


@dataclass(frozen=True)
class Scene:
    """What the parts of the battery share."""

    engine: Engine
    clean: Activity
    config: InterventionConfig
    position: PositionRule
    """Where features are edited."""
    entries: Integers
    """Indices into `clean` of the entries at the edited positions."""
    star: Doubles
    """star_total of these entries."""
    places: Places
    train: Integers
    """Places in the engine's list of train prompts."""
    numbers: Iterator[int]


def make_scene(engine: Engine, clean: Activity, config: InterventionConfig, position: PositionRule, numbers: Iterator[int]) -> Scene:
    """Compute what the parts share.

    Raises:
        InputError: no feature is active at the edited positions, or no prompt is of the train split.
    """
    keep = clean.at_decision() if position == "decision" else _content_entries(engine, clean, position)
    entries = np.flatnonzero(keep)
    if not len(entries):
        raise InputError(f"No feature is active at the {position} position of any prompt.")
    train = np.array([i for i, prompt in enumerate(engine.prompts) if prompt.split == "train"], dtype=np.int64)
    if not len(train):
        raise InputError("No prompt is of the train split, from which features are chosen.", hint="Add `train` to the plan's splits.")
    slope = slopes(engine, clean.layer[entries], clean.prompt[entries], clean.position[entries], clean.feature[entries])
    star = slope * clean.value[entries]
    return Scene(engine, clean, config, position, entries, star, Places(clean, engine.transcoders, keep), train, numbers)


def _content_entries(engine: Engine, clean: Activity, position: PositionRule) -> np.ndarray:
    if position == "all":
        return np.ones(len(clean.key), dtype=bool)
    content = np.zeros((len(engine.prompts), int(engine.lengths.max())), dtype=bool)
    for place, prompt in enumerate(engine.prompts):
        content[place, list(prompt.content_positions)] = True
    return content[clean.prompt, clean.position]


def strongest(scene: Scene, prompts: Integers, n: int, *, signed: bool = False) -> tuple[FeatureKey, ...]:
    """Return the n features with the largest mean |star_total| (or star_total) over prompts, zeros included."""
    here = np.isin(scene.clean.prompt[scene.entries], prompts)
    star = scene.star[here] if signed else np.abs(scene.star[here])
    keys = np.stack([scene.clean.layer[scene.entries][here], scene.clean.feature[scene.entries][here]], axis=1)
    features, index = np.unique(keys, axis=0, return_inverse=True)
    total = np.bincount(index.ravel(), weights=star, minlength=len(features))
    best = np.lexsort((features[:, 1], features[:, 0], -total))[:n]
    return tuple(
        (int(layer), int(feature)) for (layer, feature), value in zip(features[best], total[best], strict=True) if not signed or value > 0
    )


def no_op_job(scene: Scene) -> Job:
    """Keep every value of the strongest features: the effect is exactly 0."""
    features = strongest(scene, scene.train, scene.config.top_features)
    work = Intervention("no-op", "no_op", {None: features}, positions=scene.position)
    return Job(work, _all(scene), _no_source(_all(scene)), next(scene.numbers), keep_answers=False)


# ---- single features ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Singles:
    """Exact effects of ablating each active feature alone, one row per (prompt, feature)."""

    prompt: Integers
    layer: Integers
    feature: Integers
    outcomes: Outcomes
    strength: Doubles
    """Sum over edited positions of |a| x ||W_dec||."""


def ablate_each(scene: Scene, progress: object = None) -> Singles:
    """Ablate every active feature alone on every prompt: the exact effects that single tests and their pooled controls read."""
    clean, entries = scene.clean, scene.entries
    keys = np.stack([clean.prompt[entries], clean.layer[entries], clean.feature[entries]], axis=1)
    rows, row = np.unique(keys, axis=0, return_inverse=True)
    row = row.ravel()
    edits = Edits(rows[:, 0].copy(), row, clean.layer[entries], clean.position[entries], clean.feature[entries], np.zeros(len(entries)))
    outcomes = scene.engine.run(edits, progress=progress)  # type: ignore[arg-type]
    norms = np.zeros(len(entries))
    for layer in np.unique(clean.layer[entries]).tolist():
        here = clean.layer[entries] == layer
        norms[here] = scene.places.norms(layer)[clean.feature[entries][here]]
    strength = np.bincount(row, weights=np.abs(clean.value[entries]) * norms, minlength=len(rows)).astype(np.float64)
    return Singles(rows[:, 0], rows[:, 1], rows[:, 2], outcomes, strength)


def pooled_controls(scene: Scene, singles: Singles, layer: int, feature: int) -> tuple[Integers, PooledControls]:
    """Return the rows of a feature's ablation, and for each the exact effects of the nearest other features there."""
    own = np.flatnonzero((singles.layer == layer) & (singles.feature == feature))
    k = scene.config.pooled_neighbours
    effects, norms = np.full((len(own), k), np.nan), np.full((len(own), k), np.nan)
    lengths = singles.outcomes.delta_norm
    features = np.full((len(own), k), -1, dtype=np.int64)
    used: set[int] = set()
    key = singles.prompt * scene.engine.model.n_layers + singles.layer  # sorted: rows are ordered by prompt, layer, feature
    for place, row in enumerate(own.tolist()):
        low, high = np.searchsorted(key, [key[row], key[row] + 1])
        others = np.array([i for i in range(low, high) if i != row], dtype=np.int64)
        if len(others):
            # A dead decoder row writes nothing: its strength is 0.
            distance = np.abs(np.log(np.maximum(singles.strength[others], 1e-30) / max(singles.strength[row], 1e-30)))
            nearest = others[np.argsort(distance, kind="stable")[:k]]
            effects[place, : len(nearest)] = singles.outcomes.effect[nearest]
            norms[place, : len(nearest)] = lengths[nearest]
            features[place, : len(nearest)] = singles.feature[nearest]
            used.update(singles.feature[nearest].tolist())
    return own, PooledControls(effects, features, norms, len(used), float(len(used)))


# ---- sets with their controls ---------------------------------------------------------------------------------


def with_controls(
    scene: Scene, work: Intervention, prompts: Integers, sources: Integers, *, extra: Integers | None = None, kinds: Sequence[str] = ()
) -> list[Job]:
    """Return the job of an intervention, its matched random sets, and the further controls named in `kinds`.

    Prompts of a concept none of whose features has a control run in none of the matched sets: there they would stay as they are.
    """
    number = next(scene.numbers)
    jobs = [Job(work, prompts, sources, number, extra_tokens=extra, predict=True)]
    draws = draw_for_sets(scene, work.sets)
    chosen, distinct = combined(draws, scene.config.control_draws, scene.config.seed)
    rows = _controlled(scene, work, draws, prompts, sources)
    left_out = sorted(concept for concept in work.sets if concept is not None and concept not in draws)
    parameters = dict(work.parameters) | {"unmatched": sum(len(draw.unmatched) for draw in draws.values())}
    if left_out:
        parameters["concepts_without_control"] = left_out
    drawn = Job(
        replace(work, seed=scene.config.seed, parameters=parameters),
        prompts[rows],
        sources[rows],
        number,
        number,
        n_pool=sum(draw.n_pool for draw in draws.values()),
        distinct_sets=distinct,
        extra_tokens=None if extra is None else extra[rows],
        keep_answers=False,
    )
    for kind in ("matched_random", *(("matched_random_rescaled",) if RESCALED in kinds else ())):
        name = f"{work.name}: {kind.replace('_', ' ')}"
        for draw, sets in enumerate(chosen if len(rows) else ()):
            control = replace(drawn.work, name=f"{name} {draw}", sets=sets)
            length_of = number if kind == "matched_random_rescaled" else None
            jobs.append(replace(drawn, work=control, number=next(scene.numbers), control=kind, draw=draw, length_of=length_of))
    for rule, kind in CONTROLS:
        if rule in kinds:
            fixed = replace(work, name=f"{work.name}: {kind}", rule=rule, base_rule=work.rule, seed=scene.config.seed)  # type: ignore[arg-type]
            length_of = number if rule == "random_direction" else None
            jobs.append(
                Job(
                    fixed,
                    prompts,
                    sources,
                    next(scene.numbers),
                    number,
                    kind,
                    0,
                    extra_tokens=extra,
                    keep_answers=False,
                    length_of=length_of,
                )
            )
    return jobs


def draw_for_sets(scene: Scene, sets: Sets) -> dict[str | None, Draws]:
    """Draw matched random sets for the set of each concept; a concept none of whose features has a control is left out."""
    draws: dict[str | None, Draws] = {}
    for place, (concept, features) in enumerate(sets.items()):
        prompts = None if concept is None else _of_concept(scene, concept, _all(scene))
        pools = scene.places.pools(features, prompts, scene.config.matching)
        if any(pool.candidates for pool in pools.values()):
            draws[concept] = draw_sets(features, pools, scene.config.control_draws, scene.config.seed * 1_009 + place)
    return draws


def _controlled(scene: Scene, work: Intervention, draws: Mapping[str | None, Draws], prompts: Integers, sources: Integers) -> Integers:
    """Return the rows whose set has controls: for a swap the source's set as well as the prompt's own."""
    if None in draws:
        return np.arange(len(prompts))
    concepts = [prompt.concept for prompt in scene.engine.prompts]
    swap = work.rule == "swap"
    pairs = zip(prompts.tolist(), sources.tolist(), strict=True)
    return np.array([i for i, (p, s) in enumerate(pairs) if concepts[p] in draws and (not swap or concepts[s] in draws)], dtype=np.int64)


def concept_sets(scene: Scene) -> dict[str | None, tuple[FeatureKey, ...]]:
    """Return for each concept with train prompts the features that support its answers most there."""
    sets: dict[str | None, tuple[FeatureKey, ...]] = {}
    for concept in dict.fromkeys(prompt.concept for prompt in scene.engine.prompts):
        prompts = _of_concept(scene, concept, scene.train)
        if len(prompts):
            features = strongest(scene, prompts, scene.config.top_features, signed=True)
            if features:
                sets[concept] = features
    return sets


def set_jobs(scene: Scene) -> list[Job]:
    """Ablate the behaviour's strongest set, and each concept's."""
    config = scene.config
    where = test_prompts(scene)
    behaviour_set = strongest(scene, scene.train, config.top_features, signed=True)
    less = {"alternative": "less", "chosen_on": "train"}
    jobs: list[Job] = []
    if behaviour_set:
        work = Intervention(f"ablate top {len(behaviour_set)}", "zero", {None: behaviour_set}, positions=scene.position, parameters=less)
        jobs += with_controls(scene, work, where, _no_source(where), kinds=FIXED)
    sets = concept_sets(scene)
    if sets:
        prompts = prompts_of_sets(scene, sets)
        name = f"ablate top {config.top_features} of each concept"
        work = Intervention(name, "zero", sets, positions=scene.position, parameters=less)
        jobs += with_controls(scene, work, prompts, _no_source(prompts), kinds=(*FIXED, RESCALED))
        for strength in config.steering:
            direction = {"alternative": "greater" if strength > 1 else "less", "chosen_on": "train"}
            work = Intervention(
                f"scale top {config.top_features} of each concept by {strength:g}",
                "scale",
                sets,
                positions=scene.position,
                strength=strength,
                parameters=direction,
            )
            jobs.append(Job(work, prompts, _no_source(prompts), next(scene.numbers), predict=True))
    return jobs


# ---- patching and injection -----------------------------------------------------------------------------------


def patch_jobs(scene: Scene, pairs: Sequence[PromptPair]) -> list[Job]:
    """Patch the behaviour's features from the other prompt of each pair; from another concept where there is no minimal pair."""
    place = {prompt.prompt: i for i, prompt in enumerate(scene.engine.prompts)}
    features = strongest(scene, scene.train, scene.config.ablated_features)
    tested = set(test_prompts(scene).tolist())
    chosen: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for pair in pairs:
        if pair.prompt_a in place and pair.prompt_b in place:
            a, b = place[pair.prompt_a], place[pair.prompt_b]
            chosen[pair.kind] += [(one, other) for one, other in ((a, b), (b, a)) if one in tested]
    if not chosen["minimal"]:
        chosen["other concept"] = other_concepts(scene, sorted(tested))
    jobs: list[Job] = []
    for kind, rows in chosen.items():
        if rows:
            prompts, sources = (np.array(column, dtype=np.int64) for column in zip(*sorted(rows), strict=True))
            predicted = "two-sided" if kind == "translation" else "less"
            work = Intervention(
                f"patch {len(features)} features from {kind}" + ("" if kind == "other concept" else " pair"),
                "patch",
                {None: features},
                positions=scene.position,
                parameters={"alternative": predicted, "chosen_on": "train", "pairs": kind},
            )
            jobs += with_controls(scene, work, prompts, sources, kinds=FIXED)
    return jobs


def other_concepts(scene: Scene, chosen: Sequence[int]) -> list[tuple[int, int]]:
    """Pair each chosen prompt with the same template's next prompt of another cluster and another answer; ascending.

    Another answer of the same variant is taken where there is one, else (agreement, gates) of another variant.
    """
    prompts = scene.engine.prompts
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[prompt.language, prompt.template].append(i)
    rows = []
    for i in chosen:
        own = prompts[i]
        members = groups[own.language, own.template]
        start = members.index(i)
        fits = [
            j
            for j in members[start + 1 :] + members[:start]
            if prompts[j].cluster != own.cluster and prompts[j].correct.token_id != own.correct.token_id
        ]
        fits = [j for j in fits if prompts[j].variant == own.variant] or fits
        rows += [(i, j) for j in fits[:1]]
    return sorted(rows)


def shared_features(scene: Scene, concept: str, languages: Sequence[str]) -> tuple[FeatureKey, ...]:
    """Return features active on at least `shared_rate` of a concept's train prompts, of any one variant, in each of the languages.

    Variants (singular and plural, allow and refuse) are taken apart, since what decides between them is active in one of them only.
    """
    result: set[FeatureKey] = set()
    own = _of_concept(scene, concept, scene.train).tolist()
    for variant in dict.fromkeys(scene.engine.prompts[i].variant for i in own):
        chosen = [i for i in own if scene.engine.prompts[i].variant == variant]
        often = [_often_active(scene, [i for i in chosen if scene.engine.prompts[i].language == language]) for language in languages]
        result |= set.intersection(*often)
    return tuple(sorted(result))


def _often_active(scene: Scene, prompts: Sequence[int]) -> set[FeatureKey]:
    at = scene.entries[np.isin(scene.clean.prompt[scene.entries], prompts)]
    if not len(at):
        return set()
    keys = np.unique(np.stack([scene.clean.layer[at], scene.clean.feature[at], scene.clean.prompt[at]], axis=1), axis=0)
    features, counts = np.unique(keys[:, :2], axis=0, return_counts=True)
    return {(int(layer), int(feature)) for layer, feature in features[counts >= scene.config.shared_rate * len(prompts)]}


def injection_jobs(scene: Scene, margins: Doubles) -> list[Job]:
    """Inject what two languages share for one concept into the other language's prompts of other concepts, in both directions."""
    languages = list(dict.fromkeys(prompt.language for prompt in scene.engine.prompts))
    jobs: list[Job] = []
    for i, one in enumerate(languages):
        for other in languages[i + 1 :]:
            concepts = transfer_concepts(scene, (one, other), margins)
            sets: dict[str | None, tuple[FeatureKey, ...]] = {c: shared_features(scene, c, (one, other)) for c in concepts}
            sets = {concept: features for concept, features in sets.items() if features}
            if len(sets) < 2:
                continue
            for source, target in ((one, other), (other, one)):
                jobs += _injection(scene, source, target, sets)
    return jobs


def _injection(scene: Scene, source: str, target: str, sets: Sets) -> list[Job]:
    concepts = [concept for concept in sets if concept is not None]
    rows, expected, other = _injection_rows(scene, source, target, concepts)
    if not len(rows):
        return []
    parameters = {"alternative": "less", "source_language": source, "target_language": target, "shared_rate": scene.config.shared_rate}
    work = Intervention(f"inject shared features {source} -> {target}", "swap", sets, positions=scene.position, parameters=parameters)
    jobs = with_controls(scene, work, rows[:, 0], rows[:, 1], extra=expected, kinds=("random_direction", "whole_mlp", RESCALED))
    if (other[:, 0] < 0).all():
        return jobs
    name = f"{work.name}: another concept's answer"
    jobs.append(
        Job(
            replace(work, name=name),
            rows[:, 0],
            rows[:, 1],
            next(scene.numbers),
            jobs[0].number,
            "other_concept",
            0,
            extra_tokens=other,
            keep_answers=False,
        )
    )
    return jobs


def _injection_rows(scene: Scene, source: str, target: str, concepts: Sequence[str]) -> tuple[Integers, Integers, Integers]:
    """Return (target, source) rows, their (expected, source's own, partner) tokens, and those of a third concept instead.

    A row expects another answer than the target's own. Where answers depend on the variant alone (agreement, gates) the source is of
    another variant, and there is no third answer (-1). Where only some rows have a third concept, the others are left out.
    """
    index = {(p.language, p.concept, p.template, p.variant): i for i, p in enumerate(scene.engine.prompts)}
    prompts = scene.engine.prompts
    variants = list(dict.fromkeys(prompt.variant for prompt in prompts))
    rows, expected, other = [], [], []
    for (language, concept, template, variant), place in index.items():
        if language != target or concept not in concepts or template not in _transfer_templates(scene, target):
            continue
        for source_concept in concepts:
            for theirs in (variant, *(name for name in variants if name != variant)):
                from_place = index.get((source, source_concept, template, theirs))
                answer_place = index.get((target, source_concept, template, theirs))
                if from_place is None or answer_place is None or prompts[from_place].cluster == prompts[place].cluster:
                    continue
                answer = prompts[answer_place]
                if answer.correct.token_id == prompts[place].correct.token_id:
                    continue
                third = _third(scene, concepts, source_concept, concept)
                third_place = None if third is None else index.get((target, third, template, theirs))
                third_token = -1 if third_place is None else prompts[third_place].correct.token_id
                rows.append((place, from_place))
                expected.append((answer.correct.token_id, prompts[from_place].correct.token_id, partner_token(answer)))
                other.append((-1 if third_token == answer.correct.token_id else third_token, -1, -1))
                break
    as_array = [np.array(column, dtype=np.int64).reshape(len(rows), width) for column, width in ((rows, 2), (expected, 3), (other, 3))]
    keep = as_array[2][:, 0] >= 0
    keep |= not keep.any()
    return as_array[0][keep], as_array[1][keep], as_array[2][keep]


def _third(scene: Scene, concepts: Sequence[str], source: str, target: str) -> str | None:
    """Return the next concept after the source whose cluster is neither the source's nor the target's."""
    cluster = {prompt.concept: prompt.cluster for prompt in scene.engine.prompts}
    start = concepts.index(source)
    for offset in range(1, len(concepts)):
        candidate = concepts[(start + offset) % len(concepts)]
        if cluster[candidate] not in (cluster[source], cluster[target]):
            return candidate
    return None


def _transfer_templates(scene: Scene, language: str) -> list[str]:
    """Return the templates used for injection: held-out ones first."""
    held_out: dict[str, bool] = {}
    for prompt in scene.engine.prompts:
        if prompt.language == language:
            held_out[prompt.template] = prompt.held_out in ("template", "both")
    return sorted(held_out, key=lambda name: (not held_out[name], name))[: scene.config.transfer_templates]


def transfer_concepts(scene: Scene, languages: Sequence[str], margins: Doubles) -> list[str]:
    """Choose one train concept a cluster that the model answers in every language, in order of appearance."""
    by_cluster: dict[str, str] = {}
    for concept in dict.fromkeys(prompt.concept for prompt in scene.engine.prompts):
        train = _of_concept(scene, concept, scene.train)
        known = [
            np.mean([margins[i] > 0 for i in train.tolist() if scene.engine.prompts[i].language == language] or [False])
            for language in languages
        ]
        if len(train) and min(known) > 0.5:
            by_cluster.setdefault(scene.engine.prompts[int(train[0])].cluster, concept)
    return list(by_cluster.values())[: scene.config.transfer_concepts]


def test_prompts(scene: Scene) -> Integers:
    """Return the prompts that discovery did not see; all of them where every prompt is of the train split."""
    held_out = np.array([i for i, prompt in enumerate(scene.engine.prompts) if prompt.split != "train"], dtype=np.int64)
    return held_out if len(held_out) else _all(scene)


def split_of(scene: Scene, prompts: Integers) -> str:
    """Name what prompts were used: `held_out` if discovery saw none of them, `train` if it saw all, else `all`."""
    seen = np.isin(prompts, scene.train)
    return "all" if seen.any() and not seen.all() else "train" if seen.all() else "held_out"


def prompts_of_sets(scene: Scene, sets: Sets) -> Integers:
    """Return the held-out prompts of concepts with a set; their train prompts where they have no other (the split column says so)."""
    for prompts in (test_prompts(scene), _all(scene)):
        own = [i for i in prompts.tolist() if None in sets or scene.engine.prompts[i].concept in sets]
        if own:
            return np.array(own, dtype=np.int64)
    return np.zeros(0, dtype=np.int64)


def _of_concept(scene: Scene, concept: str, among: Integers) -> Integers:
    return np.array([i for i in among.tolist() if scene.engine.prompts[i].concept == concept], dtype=np.int64)


def _all(scene: Scene) -> Integers:
    return np.arange(len(scene.engine.prompts))


def _no_source(prompts: Integers) -> Integers:
    return np.full(len(prompts), -1, dtype=np.int64)
