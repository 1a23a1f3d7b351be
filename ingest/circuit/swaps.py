"""Swaps of the abstract-mapping test: one part of the computation is exchanged, the others are kept.

In: a `Scene`, edits with the token that each row expects, prompts of another operation over the same operands. Out: `Swap`s (METHODS,
section 6, type 3).

1. A swap holds where the expected answer comes to stand above the prompt's own answer, and above the answers that the same language
   (and operation) gives for other operands: what was not exchanged is kept.
2. Language and operation: of the features at the decision position, those that differ most between the two languages (operations) on
   train prompts, by |difference of means| x ||W_dec||, are set to their mean over the other's train prompts of *other* clusters. No
   source holds the operand, so that its answer cannot have been carried along; matched random features are set likewise, and a swap
   has to do more than 97.5 % of these.
3. Prompts of the other operation that the model does not answer are left out, as source and as what is expected.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atlas import stats
from ingest.controls import draw_sets
from ingest.intervene.activity import Activity, Doubles, activity
from ingest.intervene.battery import Scene
from ingest.intervene.battery import test_prompts as held_out_prompts
from ingest.intervene.clean import clean_pass
from ingest.intervene.edits import Edits, Integers, concatenate
from ingest.intervene.engine import Engine
from ingest.intervene.rules import FeatureKey
from ingest.prompts import Prompt

MEAN_FEATURES = 50
"""Features that are set to the other language's or operation's means."""
OTHER_ANSWERS = 20
"""Other operands' answers beside the expected one, at most."""
CONTROL_DRAWS = 20
"""Sets of matched random features."""
LEAST_CONCEPTS = 6
"""Clusters that another operation is measured on: with fewer, no two-sided sign flip can give p < .05."""


@dataclass(frozen=True)
class Swap:
    """What a swap did, over clusters."""

    name: str
    rise: stats.Interval
    """Of logit(expected) - logit(own answer)."""
    moved: stats.Interval
    """Logit(expected) - logit(own answer), afterwards."""
    kept: stats.Interval | None
    """Logit(expected) - mean logit of other operands' answers, afterwards; None where there is no other answer (is against are)."""
    first: float
    """Share of prompts on which the expected answer comes first of all tokens."""
    prompts: Integers
    random: Doubles
    """(draws,) mean rise with matched random features; empty where none were set."""

    @property
    def smaller(self) -> stats.Interval:
        """The smaller of the two figures that have to lie above 0."""
        return min((bound for bound in (self.moved, self.kept) if bound is not None), key=lambda bound: float(bound.mean))

    @property
    def holds(self) -> bool | None:
        """Whether both lie above 0, and the rise above that of matched random features; None where an interval leaves it open."""
        bounds = [bound for bound in (self.moved, self.kept) if bound is not None]
        if len(self.random) and float(self.rise.mean) <= float(np.quantile(self.random, 0.975)):
            return False
        if all(bool(bound.low > 0) for bound in bounds):
            return True
        return None if all(float(bound.mean) > 0 for bound in bounds) else False

    def __str__(self) -> str:
        text = f"{self.name}: expected answer rises by {_figures(self.rise)} to {_figures(self.moved)} above the prompt's own"
        if self.kept is not None:
            text += f", {_figures(self.kept)} above other operands' answers"
        text += f", first of all tokens on {self.first:.0%} of {len(self.prompts)} prompts"
        if len(self.random):
            random = f"{self.random.mean():+.2f}, at most {self.random.max():+.2f} in {len(self.random)} draws"
            text += f"; rise with matched random features {random}"
        return text


def _figures(bound: stats.Interval) -> str:
    return f"{float(bound.mean):+.2f} [{float(bound.low):+.2f}, {float(bound.high):+.2f}]"


NONE: Doubles = np.zeros(0)


def run_swap(scene: Scene, name: str, edits: Edits, expected: Integers, others: Integers, random: Doubles = NONE) -> Swap:
    """Run edits and measure what the expected answer does.

    Args:
        scene: its engine runs the edits.
        name: what is swapped.
        edits: one row a prompt.
        expected: (R,) the token that each row should bring.
        others: (R, K) tokens of other operands' answers, -1 beyond.
        random: (draws,) what matched random features did.
    """
    own = np.array([scene.engine.prompts[p].correct.token_id for p in edits.prompt.tolist()])
    got = scene.engine.run(edits, tokens=np.column_stack([own, expected, others]))
    after, before = got.logit_after.astype(np.float64), got.logit_before.astype(np.float64)
    clusters = np.array([scene.engine.prompts[p].cluster for p in edits.prompt.tolist()])
    moved = after[:, 1] - after[:, 0]
    rise = moved - (before[:, 1] - before[:, 0])
    known = others >= 0
    there = known.any(1)
    kept = None
    if there.any():
        mean = np.where(known, after[:, 2:], 0.0).sum(1)[there] / known.sum(1)[there]
        kept = stats.cluster_t(after[there, 1] - mean, clusters[there])
    first = float((got.top1_after == expected).mean())
    return Swap(name, stats.cluster_t(rise, clusters), stats.cluster_t(moved, clusters), kept, first, edits.prompt, random)


def other_answers(pool: Sequence[Prompt], language: str, cluster: str, taken: set[int]) -> list[int]:
    """Return up to OTHER_ANSWERS distinct answers of a language's prompts of other clusters, spread over these; -1 fills up."""
    tokens = dict.fromkeys(p.correct.token_id for p in pool if p.language == language and p.cluster != cluster)
    free = [token for token in tokens if token not in taken]
    chosen = [free[i] for i in _spread(len(free), OTHER_ANSWERS)]
    return chosen + [-1] * (OTHER_ANSWERS - len(chosen))


def _spread(n: int, most: int) -> list[int]:
    """Return at most `most` places of n, evenly spread."""
    places: list[int] = np.unique(np.linspace(0, n - 1, min(most, n)).round().astype(np.int64)).tolist() if n else []
    return places


def others_of(scene: Scene, prompts: Sequence[int], expected: Integers, pool: Sequence[Prompt], languages: Sequence[str]) -> Integers:
    """Return (R, OTHER_ANSWERS) other operands' answers for rows of (prompt, expected token, language of the answers)."""
    rows = []
    for p, token, language in zip(prompts, expected.tolist(), languages, strict=True):
        own = scene.engine.prompts[p]
        rows.append(other_answers(pool, language, own.cluster, {token, own.correct.token_id}))
    return np.array(rows, dtype=np.int64).reshape(len(rows), OTHER_ANSWERS)


# ---- language and operation -------------------------------------------------------------------------------------


def language_swap(scene: Scene, pairs: Sequence[tuple[int, int]]) -> Swap | None:
    """Swap the language in, on (prompt, translation) pairs: the translation's answer is expected, where it is another token.

    None without a pair, or without train prompts of other clusters.
    """
    prompts = scene.engine.prompts
    train = [prompts[p] for p in scene.train.tolist()]
    decision = {p: [(prompts[p], feature, value) for feature, value in entries] for p, entries in _by_prompt(scene.clean).items()}
    means = Means.of(train, [entry for p in scene.train.tolist() for entry in decision.get(p, [])])
    pairs = [(p, other) for p, other in pairs if prompts[p].correct.token_id != prompts[other].correct.token_id]
    expected = {p: prompts[translation].correct.token_id for p, translation in pairs}
    language = {p: prompts[translation].language for p, translation in pairs}
    return _mean_swap(scene, "language", means, expected, language, prompts)


def operation_swaps(scene: Scene, operations: Sequence[Prompt], most: int) -> list[Swap]:
    """Swap each other operation in, on at most `most` held-out prompts; those with few concepts to measure them on are left out."""
    swaps = []
    for name in dict.fromkeys(prompt.template for prompt in operations):
        asked = answered(scene, [prompt for prompt in operations if prompt.template == name])
        answer = {_case(p): p.correct.token_id for p in asked}
        targets = [p for p in held_out_prompts(scene).tolist() if _case(scene.engine.prompts[p]) in answer]
        targets = [targets[i] for i in _spread(len(targets), most)]
        sources = [p for p in asked if p.split == "train"]
        if not targets or not sources:
            continue
        expected = {p: answer[_case(scene.engine.prompts[p])] for p in targets}
        language = {p: scene.engine.prompts[p].language for p in targets}
        swap = _mean_swap(scene, f"operation {name}", _means_of(scene, sources), expected, language, asked)
        if swap is not None and int(swap.rise.n_clusters) >= LEAST_CONCEPTS:
            swaps.append(swap)
    return swaps


def _case(prompt: Prompt) -> tuple[str, str, str | None]:
    return prompt.language, prompt.concept, prompt.variant


def answered(scene: Scene, asked: Sequence[Prompt]) -> list[Prompt]:
    """Keep the prompts whose answer the model prefers to the behaviour's own answer and to the operation's other answers."""
    if not asked:
        return []
    model = scene.engine.model
    clean = clean_pass(model, [prompt.token_ids for prompt in asked])
    logits = model.logits(clean.captured.final[:, -1]).cpu().numpy()
    answers: dict[str, set[int]] = defaultdict(set)
    for prompt in asked:
        answers[prompt.language] |= {answer.token_id for answer in (prompt.correct, *prompt.contrasts)}
    return [
        prompt for prompt, row in zip(asked, logits, strict=True) if row[prompt.correct.token_id] >= row[[*answers[prompt.language]]].max()
    ]


def _means_of(scene: Scene, sources: Sequence[Prompt]) -> Means:
    """Run prompts that are not the scene's, in the layers that it looks at."""
    clean = activity(Engine(scene.engine.model, scene.engine.transcoders, sources), scene.config.layers or None)
    return Means.of(sources, [(sources[p], feature, value) for p, entries in _by_prompt(clean).items() for feature, value in entries])


def _mean_swap(
    scene: Scene, name: str, means: Means, expected: Mapping[int, int], language: Mapping[int, str], pool: Sequence[Prompt]
) -> Swap | None:
    """Set features to means over prompts of other clusters in a language; prompts for which there is none are left out.

    Args:
        scene: its engine runs the edits.
        name: what is swapped.
        means: of what is swapped in.
        expected: prompt -> token that should rise.
        language: prompt -> language of the sources.
        pool: prompts whose answers are the other operands' answers.
    """
    prompts = scene.engine.prompts
    routes = dict.fromkeys((prompts[p].language, language[p]) for p in expected)
    features = {route: means.features(scene, *route) for route in routes}
    targets = [p for p in expected if features[prompts[p].language, language[p]] and means.has_others(language[p], prompts[p].cluster)]
    if not targets:
        return None
    tokens = np.array([expected[p] for p in targets], dtype=np.int64)
    others = others_of(scene, targets, tokens, pool, [language[p] for p in targets])
    drawn = {route: _drawn(scene, members) for route, members in features.items() if members}
    random = _random_rises(scene, means, targets, tokens, language, drawn)
    text = f"{name} ({MEAN_FEATURES} features at the decision position set to their means over other operands' prompts)"
    return run_swap(scene, text, means.edits(scene, targets, language, features), tokens, others, random)


def _drawn(scene: Scene, members: Sequence[FeatureKey]) -> tuple[tuple[FeatureKey, ...], ...]:
    """Draw sets matched to a route's features; none where no feature has a matched control."""
    pools = scene.places.pools(members, scene.train, scene.config.matching)
    if not any(pool.candidates for pool in pools.values()):
        return ()
    return draw_sets(members, pools, CONTROL_DRAWS, scene.config.seed).sets


Route = tuple[str, str]
"""(language of the prompt, language of the sources)."""


def _random_rises(
    scene: Scene,
    means: Means,
    targets: Sequence[int],
    expected: Integers,
    language: Mapping[int, str],
    drawn: Mapping[Route, Sequence[tuple[FeatureKey, ...]]],
) -> Doubles:
    """Set matched random features to the same kind of means; return (draws,) how far the expected answer rises."""
    own = np.array([scene.engine.prompts[p].correct.token_id for p in targets])
    n_draws = min((len(sets) for sets in drawn.values()), default=0)
    if not n_draws:
        return NONE
    parts = [means.edits(scene, targets, language, {route: sets[draw] for route, sets in drawn.items()}) for draw in range(n_draws)]
    got = scene.engine.run(concatenate(parts), tokens=np.tile(np.column_stack([own, expected]), (n_draws, 1)))
    change = got.logit_after.astype(np.float64) - got.logit_before.astype(np.float64)
    rises: Doubles = (change[:, 1] - change[:, 0]).reshape(n_draws, len(targets)).mean(1)
    return rises


@dataclass(frozen=True)
class Means:
    """Activations at the decision position of prompts, summed so that any cluster can be left out."""

    total: dict[tuple[str, FeatureKey], float]
    """(language, feature) -> sum over prompts."""
    of_cluster: dict[tuple[str, str, FeatureKey], float]
    """(language, cluster, feature) -> sum over prompts."""
    n: dict[str, int]
    n_of_cluster: dict[tuple[str, str], int]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], entries: Iterable[tuple[Prompt, FeatureKey, float]]) -> Means:
        """Sum entries (prompt, feature, activation at its decision position)."""
        total: dict[tuple[str, FeatureKey], float] = defaultdict(float)
        of_cluster: dict[tuple[str, str, FeatureKey], float] = defaultdict(float)
        for prompt, feature, value in entries:
            total[prompt.language, feature] += value
            of_cluster[prompt.language, prompt.cluster, feature] += value
        n, n_of_cluster = Counter(p.language for p in prompts), Counter((p.language, p.cluster) for p in prompts)
        return cls(dict(total), dict(of_cluster), dict(n), dict(n_of_cluster))

    def has_others(self, language: str, cluster: str) -> bool:
        """Tell whether a prompt of another cluster stands among the sources of a language."""
        return self.n.get(language, 0) > self.n_of_cluster.get((language, cluster), 0)

    def without(self, language: str, cluster: str, feature: FeatureKey) -> float:
        """Return the mean over a language's prompts of other clusters, prompts without the feature counted as 0."""
        left = self.total.get((language, feature), 0.0) - self.of_cluster.get((language, cluster, feature), 0.0)
        return max(0.0, left) / (self.n[language] - self.n_of_cluster.get((language, cluster), 0))

    def features(self, scene: Scene, own: str, source: str) -> tuple[FeatureKey, ...]:
        """Return the features whose means differ most between the scene's train prompts of a language and these sources'."""
        train = {p for p in scene.train.tolist() if scene.engine.prompts[p].language == own}
        if not train or not self.n.get(source):
            return ()
        difference: dict[FeatureKey, float] = defaultdict(float)
        for place, entries in _by_prompt(scene.clean).items():
            for feature, value in entries if place in train else []:
                difference[feature] += value / len(train)
        for (language, feature), value in self.total.items():
            if language == source:
                difference[feature] -= value / self.n[source]
        size = {feature: abs(value) * float(scene.places.norms(feature[0])[feature[1]]) for feature, value in difference.items()}
        return tuple(sorted(sorted(size, key=lambda feature: (-size[feature], feature))[:MEAN_FEATURES]))

    def edits(
        self, scene: Scene, targets: Sequence[int], language: Mapping[int, str], features: Mapping[Route, tuple[FeatureKey, ...]]
    ) -> Edits:
        """Set each target's features to the means over other clusters, at its decision position."""
        columns: list[tuple[int, int, int, int]] = []
        values: list[float] = []
        for row, place in enumerate(targets):
            prompt, source = scene.engine.prompts[place], language[place]
            for layer, feature in features[prompt.language, source]:
                columns.append((row, layer, prompt.decision_position, feature))
                values.append(self.without(source, prompt.cluster, (layer, feature)))
        rows, layers, positions, numbers = (column.copy() for column in np.array(columns, dtype=np.int64).reshape(-1, 4).T)
        return Edits(np.array(targets, dtype=np.int64), rows, layers, positions, numbers, np.array(values))


def _by_prompt(clean: Activity) -> dict[int, list[tuple[FeatureKey, float]]]:
    """Return prompt -> (feature, value) of every entry at its decision position."""
    entries: dict[int, list[tuple[FeatureKey, float]]] = defaultdict(list)
    at = np.flatnonzero(clean.at_decision())
    columns = (clean.prompt[at].tolist(), clean.layer[at].tolist(), clean.feature[at].tolist(), clean.value[at].tolist())
    for prompt, layer, feature, value in zip(*columns, strict=True):
        entries[prompt].append(((layer, feature), value))
    return entries
