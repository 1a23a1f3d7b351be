"""Evidence for and against the four computation types: every test runs on every behaviour, so that a test that fits everything shows.

In: a `Scene` over all positions, pairs of prompts. Out: one row of evaluation per type (METHODS, section 6).

1. Hidden-state transfer: patching the middle layers from a prompt with another answer gives that answer; from a prompt with the same
   answer on another surface it changes little. value: rise of the source's answer; control: |margin change| of the same answer.
2. Candidate-set filtering: candidates stand high half-way up; ablating what supports the winner promotes another candidate, more than it
   promotes other likely tokens, while the candidates' mass stays. value: rise of the best other candidate's log-probability; control: the
   same of the strongest tokens that are no candidates (whatever loses probability gives it to something).
3. Abstract mapping: operand, language and operation can be swapped independently; the operation where the behaviour's file names another
   one over the same operands (`[[operation]]`), else the row is undecided at best. value: the smallest figure of the swaps: how far the
   expected answer then stands above the prompt's own, or above other operands'; control: rise with matched random features
   (`ingest.circuit.swaps`).
4. Gated decision: one fixed set of features flips the decision between the prompts of a pair, both ways, while margins among other answers
   stay. value: the smaller share of flips of the two directions; control: matched random sets.

The column split says which prompts a row rests on: `train` where a behaviour has no held-out prompt that a test can use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas import stats
from ingest.circuit.swaps import LEAST_CONCEPTS, Swap, language_swap, operation_swaps, others_of, run_swap
from ingest.controls import draw_sets
from ingest.intervene import battery
from ingest.intervene.activity import Doubles, slopes
from ingest.intervene.battery import InterventionConfig, Scene
from ingest.intervene.clean import clean_pass
from ingest.intervene.edits import Edits, Integers, concatenate
from ingest.intervene.engine import Outcomes
from ingest.intervene.rules import FeatureKey, Intervention, Sets, build_edits, corresponding
from ingest.prompts import Prompt, PromptPair

Rows = list[dict[str, Any]]
Pairs = list[tuple[int, int]]
"""(prompt, source prompt)."""
SAME_SHARE = 0.25
"""The same answer on another surface may move the margin by this share of what another answer does."""
MASS_BOUND = float(np.log(2))
"""Candidate mass stays if it is not halved."""
MAX_PAIRS = 120
OTHER_TOKENS = 5
"""Strongest tokens that are no candidates, beside the candidates."""
HALF_WAY = 0.5
"""Candidates stand high half-way up on more than this share of prompts."""
GATE_FEATURES = 20
GATE_PAIRS = 40
CONTROL_PAIRS = 32


def type_rows(scene: Scene, pairs: Sequence[PromptPair], config: InterventionConfig, operations: Sequence[Prompt] = ()) -> Rows:
    """Run the four tests; `operations` are prompts of other operations over the behaviour's operands."""
    tests: tuple[tuple[str, Callable[[], dict[str, Any]]], ...] = (
        ("hidden_state_transfer", lambda: hidden_state_transfer(scene)),
        ("candidate_set_filtering", lambda: candidate_set_filtering(scene)),
        ("abstract_mapping", lambda: abstract_mapping(scene, pairs, operations)),
        ("gated_decision", lambda: gated_decision(scene, pairs, config)),
    )
    rows = []
    for name, test in tests:
        common = {"subject": "type", "property": "type_test", "computation_type": name, "language": "all", "split": "all"}
        rows.append({**common, **test()})
    return rows


# ---- 1 ----------------------------------------------------------------------------------------------------------


def hidden_state_transfer(scene: Scene) -> dict[str, Any]:
    """Patch the middle layers from content on: another answer against the same answer."""
    other, same = _sources(scene, same_answer=False), _sources(scene, same_answer=True)
    if not other or not same:
        return _not_measured("no pair of prompts with " + ("another" if not other else "the same") + " answer on another surface")
    layers = _middle(scene)
    rise = _rises(scene, other, patch_everything(scene, other, layers, "from_content"))
    back = patch_everything(scene, same, layers, "from_content")
    stay = np.abs(back.effect.astype(np.float64))
    bound, control = _over_clusters(scene, other, rise), _over_clusters(scene, same, stay)
    supports = _above(bound, 0.0) and float(control.mean) < SAME_SHARE * float(bound.mean)
    note = (
        f"patch of layers {layers[0]} to {layers[-1]} from the operand on; control: |margin change| by a prompt with the same answer, "
        f"{len(same)} pairs; for: rise above 0 and control below {SAME_SHARE:g} of it"
    )
    split = _split(scene, [*other, *same])
    return {**_figures(bound), **_control(control), "split": split, "supports": supports, "note": note}


# ---- 2 ----------------------------------------------------------------------------------------------------------


def candidate_set_filtering(scene: Scene) -> dict[str, Any]:
    """Ablate what supports the winner on held-out prompts and watch the other candidates, beside tokens that are none."""
    sets, whose = _winner_sets(scene)
    prompts = battery.prompts_of_sets(scene, sets)
    if not len(prompts):
        return _not_measured("no feature supports the answer on train prompts")
    rows = _spread(scene, [(p, -1) for p in prompts.tolist()], MAX_PAIRS)
    prompts, none = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    edits = build_edits(scene.engine, scene.clean, Intervention("winner", "zero", sets, positions="all"), prompts, none)
    candidates, others, high = _candidates(scene, prompts)
    width = candidates.shape[1]
    got = scene.engine.run(edits, tokens=np.concatenate([candidates, others], axis=1))
    before, after = got.logprob_before.astype(np.float64), got.logprob_after.astype(np.float64)
    known = candidates >= 0
    low, left = np.where(known, before[:, :width], -np.inf), np.where(known, after[:, :width], -np.inf)
    each, best = np.arange(len(rows)), low[:, 1:].argmax(1) + 1
    rise, rest = (left - np.where(known, low, 0.0))[each, best], (after - before)[:, width:].mean(1)
    mass = np.logaddexp.reduce(left, axis=1) - np.logaddexp.reduce(low, axis=1)
    promoted, control, beyond, mass_bound, lost = (
        _over_clusters(scene, rows, values) for values in (rise, rest, rise - rest, mass, left[:, 0] - low[:, 0])
    )
    share = float(high.mean())
    supports = _above(beyond, 0.0) and float(mass_bound.low) > -MASS_BOUND and float(lost.mean) < 0 and share > HALF_WAY
    note = (
        f"{whose} ablated: winner's log-probability {float(lost.mean):+.2f}, log mass of candidates {float(mass_bound.mean):+.2f} "
        f"[{float(mass_bound.low):+.2f}, {float(mass_bound.high):+.2f}]; rise beyond that of the {OTHER_TOKENS} strongest other tokens "
        f"{float(beyond.mean):+.2f} [{float(beyond.low):+.2f}, {float(beyond.high):+.2f}]; on {share:.0%} of prompts two candidates stand "
        "in the top 5 % of tokens half-way up; for: rise beyond other tokens above 0, winner falls, mass not halved, more than half high"
    )
    return {**_figures(promoted), **_control(control), "split": _split(scene, rows), "supports": supports, "note": note}


def _winner_sets(scene: Scene) -> tuple[Sets, str]:
    """Return each concept's supporting features; the behaviour's where no held-out prompt is of a concept with train prompts."""
    sets = battery.concept_sets(scene)
    held_out = {scene.engine.prompts[p].concept for p in battery.test_prompts(scene).tolist()}
    if held_out & {*sets}:
        return sets, f"top {scene.config.top_features} of each concept"
    features = battery.strongest(scene, scene.train, scene.config.top_features, signed=True)
    return ({None: features} if features else {}), f"top {len(features)} of the behaviour (held-out concepts have no train prompts)"


def _candidates(scene: Scene, prompts: Integers) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Return the candidates' tokens (P, A), -1 for none; the strongest others (P, OTHER_TOKENS); who has two high half-way (P,).

    Half-way is the residual stream into the middle layer, read by the final norm and the unembedding (logit lens); high is the top 5 %.
    """
    engine, model = scene.engine, scene.engine.model
    own = [engine.prompts[p] for p in prompts.tolist()]
    tokens = np.full((len(own), 1 + max(len(prompt.contrasts) for prompt in own)), -1, dtype=np.int64)
    for row, prompt in enumerate(own):
        answers = [prompt.correct.token_id, *(answer.token_id for answer in prompt.contrasts)]
        tokens[row, : len(answers)] = answers
    clean = clean_pass(model, [prompt.token_ids for prompt in own])
    final = model.logits(clean.captured.final[:, -1]).cpu().numpy()
    for row, prompt in enumerate(own):
        final[row, [answer.token_id for answer in prompt.answers]] = -np.inf
    others = np.argsort(-final, axis=1, kind="stable")[:, :OTHER_TOKENS].astype(np.int64)
    hidden = clean.residual[model.n_layers // 2][:, -1]
    centred = hidden - hidden.mean(-1, keepdim=True) if model.final_norm.centred else hidden
    r = torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-6)
    logits = model.logits(model.final_norm.forward(hidden, r, bias=True)).cpu().numpy()
    known = np.where(tokens >= 0, np.take_along_axis(logits, np.maximum(tokens, 0), axis=1), -np.inf)
    high = np.sort(known, axis=1)[:, -2] > np.quantile(logits, 0.95, axis=1)
    return tokens, others, high


# ---- 3 ----------------------------------------------------------------------------------------------------------


def abstract_mapping(scene: Scene, pairs: Sequence[PromptPair], operations: Sequence[Prompt] = ()) -> dict[str, Any]:
    """Swap the operand at its own tokens, and language and operation at the decision position."""
    operand = _sources(scene, same_answer=False)
    translated = _pairs_of_kind(scene, pairs, "translation")
    if not operand or not translated:
        return _not_measured("no prompt of another concept" if not operand else "no translation pair")
    languages = language_swap(scene, translated)
    operation = operation_swaps(scene, operations, MAX_PAIRS)
    swaps = [_operand_swap(scene, operand), *([languages] if languages else []), *operation]
    weakest = min(swaps, key=lambda swap: float(swap.smaller.mean))
    verdicts = [swap.holds for swap in swaps]
    holds = False if False in verdicts else None if None in verdicts else True
    missing = [] if languages else ["language: no train prompt of another concept"]
    missing += [] if operation else [f"operation: the behaviour's file names no other one on {LEAST_CONCEPTS} held-out concepts"]
    note = ". ".join([*map(str, swaps), *(f"Not swapped: {text}" for text in missing)])
    note += "; for: each comes to stand above the prompt's own and other operands' answers, by more than random features move it"
    prompts = np.unique(np.concatenate([swap.prompts for swap in swaps]))
    return {
        **_figures(weakest.smaller),
        **_beside(weakest.random),
        "split": battery.split_of(scene, prompts),
        "supports": None if holds and missing else holds,
        "note": note,
    }


def _operand_swap(scene: Scene, pairs: Pairs) -> Swap:
    """Patch every feature at the operand's tokens from a prompt of another operand, whose answer is expected."""
    prompts = scene.engine.prompts
    edits, tokens = _full_edits(scene, pairs, scene.engine.transcoders.layers, "content")
    others = others_of(scene, [p for p, _ in pairs], tokens[:, 1], prompts, [prompts[s].language for _, s in pairs])
    return run_swap(scene, "operand (every feature at its own tokens)", edits, tokens[:, 1], others)


# ---- 4 ----------------------------------------------------------------------------------------------------------


def gated_decision(scene: Scene, pairs: Sequence[PromptPair], config: InterventionConfig) -> dict[str, Any]:
    """Patch one fixed set of features between the prompts of a pair, both ways."""
    minimal = _pairs_of_kind(scene, pairs, "minimal", held_out=None)
    kind = "minimal pairs" if minimal else "prompts of two concepts"
    everything = minimal or _sources(scene, same_answer=False, held_out=None)
    train = [pair for pair in everything if scene.engine.prompts[pair[0]].split == "train"]
    tested = [pair for pair in everything if scene.engine.prompts[pair[0]].split != "train"] or everything
    if not train:
        return _not_measured("no pair of train prompts")
    gate = gate_features(scene, train, GATE_FEATURES)
    tested = _spread(scene, tested, MAX_PAIRS)
    flipped, other = _flips(scene, tested, gate)
    direction = _directions(scene, tested, bool(minimal))
    n_directions = int(direction.max()) + 1
    worst = min(range(n_directions), key=lambda number: float(flipped[direction == number].mean()))
    chosen = [pair for pair, number in zip(tested, direction.tolist(), strict=True) if number == worst]
    bound = _over_clusters(scene, chosen, flipped[direction == worst])
    null = _gate_controls(scene, _spread(scene, tested, CONTROL_PAIRS), gate, bool(minimal), config)
    figures = {**_figures(bound), **_beside(null)}
    supports = (
        bool(bound.mean > 0.5) and bool(minimal) and (not len(null) or float(bound.mean) > float(np.quantile(null, 0.975))) and other < 1.0
    )
    note = (
        f"one set of {len(gate)} features patched between {kind}, {n_directions} direction(s); margins among other answers move by "
        f"{other:.2f} on average; for: minimal pairs, more than half flip each way, more than controls, other margins move by less than 1"
    )
    return {**figures, "split": _split(scene, tested), "supports": supports, "note": note}


def _directions(scene: Scene, pairs: Pairs, minimal: bool) -> Integers:
    """Return the direction (rows,) of each pair: the variant that is turned into another; 0 where pairs are not minimal."""
    names = [(scene.engine.prompts[p].variant or "") if minimal else "" for p, _ in pairs]
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names], dtype=np.int64)


def gate_features(scene: Scene, pairs: Pairs, n: int) -> tuple[FeatureKey, ...]:
    """Return the features that move the margin most when patched alone between the prompts of train pairs.

    Candidates are the 8 n largest by |change x slope|; each is then patched exactly, since a saturated feature has next to no slope.
    """
    few = _spread(scene, pairs, GATE_PAIRS)
    edits, _ = _full_edits(scene, few, scene.engine.transcoders.layers, "all")
    prompt = edits.prompt[edits.row]
    change = edits.value - scene.clean.values(edits.layer, prompt, edits.position, edits.feature)
    slope = slopes(scene.engine, edits.layer, prompt, edits.position, edits.feature)
    keys, index = np.unique(np.stack([edits.layer, edits.feature], axis=1), axis=0, return_inverse=True)
    index = index.ravel()
    size = np.bincount(index, weights=np.abs(change * slope), minlength=len(keys)) + 1e-9 * np.bincount(index, weights=np.abs(change))
    likely = np.argsort(-size, kind="stable")[: 8 * n]
    kept = np.flatnonzero(np.isin(index, likely))
    rows, row = np.unique(np.stack([index[kept], edits.row[kept]], axis=1), axis=0, return_inverse=True)
    alone = Edits(edits.prompt[rows[:, 1]], row.ravel(), edits.layer[kept], edits.position[kept], edits.feature[kept], edits.value[kept])
    effect = scene.engine.run(alone).effect.astype(np.float64)
    total = np.bincount(rows[:, 0], weights=effect, minlength=len(keys))
    best = likely[np.argsort(total[likely], kind="stable")[:n]]
    return tuple((int(layer), int(feature)) for layer, feature in keys[np.sort(best)])


def _flips(scene: Scene, pairs: Pairs, features: tuple[FeatureKey, ...]) -> tuple[Doubles, float]:
    """Return (rows,) whether the source's answer beats the prompt's own after patching, and how far other answers' margins move."""
    prompts, sources = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    work = Intervention("gate", "patch", {None: features}, positions="all")
    own = [scene.engine.prompts[p] for p in prompts.tolist()]
    width = max(len(prompt.answers) for prompt in own)
    tokens = np.full((len(own), width + 1), -1, dtype=np.int64)
    for row, (prompt, source) in enumerate(zip(own, sources.tolist(), strict=True)):
        tokens[row, : len(prompt.answers)] = [answer.token_id for answer in prompt.answers]
        tokens[row, width] = scene.engine.prompts[source].correct.token_id
    got = scene.engine.run(build_edits(scene.engine, scene.clean, work, prompts, sources), tokens=tokens)
    flipped = (got.logit_after[:, width] > got.logit_after[:, 0]).astype(np.float64)
    moved = []
    for row, prompt in enumerate(own):
        others = [
            i for i, answer in enumerate(prompt.answers) if i and answer.token_id != tokens[row, width] and answer.role != "source_language"
        ]
        change = (got.logit_after[row, others] - got.logit_before[row, others]).astype(np.float64)
        if len(change) > 1:
            moved.append(float(np.abs(change - change.mean()).mean()))
    return flipped, float(np.mean(moved)) if moved else 0.0


def _gate_controls(scene: Scene, pairs: Pairs, gate: tuple[FeatureKey, ...], minimal: bool, config: InterventionConfig) -> Doubles:
    """Return (draws,) the smaller share of flips of the directions, for matched random sets."""
    pools = scene.places.pools(gate, scene.train, config.matching)
    if not any(pool.candidates for pool in pools.values()):
        return np.zeros(0)
    draws = draw_sets(gate, pools, config.control_draws, config.seed)
    prompts, sources = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    works = [Intervention("gate control", "patch", {None: chosen}, positions="all") for chosen in draws.sets]
    joined = concatenate([build_edits(scene.engine, scene.clean, work, prompts, sources) for work in works])
    answers = np.array([[scene.engine.prompts[p].correct.token_id, scene.engine.prompts[s].correct.token_id] for p, s in pairs])
    got = scene.engine.run(joined, tokens=np.tile(answers, (len(works), 1)))
    flipped = (got.logit_after[:, 1] > got.logit_after[:, 0]).reshape(len(works), len(pairs))
    direction = _directions(scene, pairs, minimal)
    shares: Doubles = np.min([flipped[:, direction == number].mean(1) for number in np.unique(direction)], axis=0)
    return shares


# ---- patching everything ----------------------------------------------------------------------------------------


def patch_everything(scene: Scene, pairs: Pairs, layers: Sequence[int], where: str) -> Outcomes:
    """Set every feature at corresponding positions to the source's value: `content`, `frame` (all but content), `from_content`, `all`."""
    edits, tokens = _full_edits(scene, pairs, layers, where)
    return scene.engine.run(edits, tokens=tokens)


def _full_edits(scene: Scene, pairs: Pairs, layers: Sequence[int], where: str) -> tuple[Edits, Integers]:
    clean, engine = scene.clean, scene.engine
    entries_of: dict[tuple[int, int], Integers] = _by_place(scene, {p for pair in pairs for p in pair})
    kept_layers = set(layers)
    columns: list[list[int]] = [[], [], [], []]
    values: list[float] = []
    tokens = np.array([[engine.prompts[p].correct.token_id, engine.prompts[s].correct.token_id] for p, s in pairs])
    nothing = np.zeros(0, dtype=np.int64)
    for row, (p, s) in enumerate(pairs):
        target, source = engine.prompts[p], engine.prompts[s]
        for position in _positions(target, where):
            there = entries_of.get((s, corresponding(target, source, position)), nothing)
            taken = {(int(clean.layer[i]), int(clean.feature[i])): float(clean.value[i]) for i in there}
            here = {(int(clean.layer[i]), int(clean.feature[i])): 0.0 for i in entries_of.get((p, position), nothing)}
            for (layer, feature), value in {**here, **taken}.items():
                if layer in kept_layers:
                    for column, number in zip(columns, (row, layer, position, feature), strict=True):
                        column.append(number)
                    values.append(value)
    prompts = np.array([p for p, _ in pairs], dtype=np.int64)
    row_, layer_, position_, feature_ = (np.array(column, dtype=np.int64) for column in columns)
    return Edits(prompts, row_, layer_, position_, feature_, np.array(values)), tokens


def _by_place(scene: Scene, prompts: set[int]) -> dict[tuple[int, int], Integers]:
    clean = scene.clean
    chosen = np.flatnonzero(np.isin(clean.prompt, list(prompts)))
    order = chosen[np.lexsort((clean.position[chosen], clean.prompt[chosen]))]
    keys = np.stack([clean.prompt[order], clean.position[order]], axis=1)
    breaks = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
    return {(int(clean.prompt[part[0]]), int(clean.position[part[0]])): part for part in np.split(order, breaks) if len(part)}


def _positions(prompt: Any, where: str) -> list[int]:
    everything = range(1, len(prompt.token_ids))
    content = set(prompt.content_positions)
    if where == "content":
        return sorted(content)
    if where == "frame":
        return [position for position in everything if position not in content]
    if where == "from_content":
        return [position for position in everything if position >= min(content)]
    return list(everything)


def _rises(scene: Scene, pairs: Pairs, got: Outcomes) -> Doubles:
    """Return the rise of logit(source's correct answer) - logit(own)."""
    after, before = got.logit_after.astype(np.float64), got.logit_before.astype(np.float64)
    rises: Doubles = (after[:, 1] - after[:, 0]) - (before[:, 1] - before[:, 0])
    return rises


def _middle(scene: Scene) -> tuple[int, ...]:
    layers = scene.engine.transcoders.layers
    return tuple(layers[len(layers) // 4 : max(len(layers) // 4 + 1, -(-3 * len(layers) // 4))])


def _sources(scene: Scene, *, same_answer: bool, held_out: bool | None = True) -> Pairs:
    """Pair held-out prompts with the next of another cluster and answer in the same words, or of the same answer on another surface."""
    prompts = scene.engine.prompts
    tested = battery.test_prompts(scene).tolist() if held_out else list(range(len(prompts)))
    if not same_answer:
        return _spread(scene, battery.other_concepts(scene, tested), MAX_PAIRS)
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        groups[prompt.language, prompt.correct.token_id].append(i)
    rows: Pairs = []
    for i in tested:
        own = prompts[i]
        group = groups[own.language, own.correct.token_id]
        start = group.index(i)
        rest = group[start + 1 :] + group[:start]
        rows += [(i, j) for j in rest if (prompts[j].template, prompts[j].operand) != (own.template, own.operand)][:1]
    return _spread(scene, rows, MAX_PAIRS)


def _spread(scene: Scene, rows: Pairs, n: int) -> Pairs:
    """Take n of the rows, spread over languages, variants, templates and clusters of the prompts that are edited."""
    if len(rows) <= n:
        return rows
    prompts = scene.engine.prompts

    def place(row: tuple[int, int]) -> tuple[str, str, str, str, tuple[int, int]]:
        prompt = prompts[row[0]]
        return prompt.language, prompt.variant or "", prompt.template, prompt.cluster, row

    order = sorted(rows, key=place)
    return sorted(order[i] for i in np.unique(np.linspace(0, len(order) - 1, n).round().astype(np.int64)).tolist())


def _split(scene: Scene, rows: Pairs) -> str:
    return battery.split_of(scene, np.array([p for p, _ in rows], dtype=np.int64))


def _pairs_of_kind(scene: Scene, pairs: Sequence[PromptPair], kind: str, held_out: bool | None = True) -> Pairs:
    place = {prompt.prompt: i for i, prompt in enumerate(scene.engine.prompts)}
    tested = set(battery.test_prompts(scene).tolist()) if held_out else set(place.values())
    rows: Pairs = []
    for pair in pairs:
        if pair.kind == kind and pair.prompt_a in place and pair.prompt_b in place:
            a, b = place[pair.prompt_a], place[pair.prompt_b]
            rows += [(one, other) for one, other in ((a, b), (b, a)) if one in tested]
    return _spread(scene, rows, 2 * MAX_PAIRS) if held_out else rows


def _over_clusters(scene: Scene, pairs: Pairs, values: Doubles) -> stats.Interval:
    return stats.cluster_t(values, np.array([scene.engine.prompts[p].cluster for p, _ in pairs]))


def _above(bound: stats.Interval, level: float) -> bool:
    return bool(not np.isnan(bound.low) and bound.low > level)


def _figures(bound: stats.Interval) -> dict[str, Any]:
    low, high = (None if np.isnan(x) else float(x) for x in (bound.low, bound.high))
    return {"value": float(bound.mean), "ci_low": low, "ci_high": high, "n_prompts": int(bound.n), "n_clusters": int(bound.n_clusters)}


def _control(bound: stats.Interval) -> dict[str, Any]:
    low, high = (None if np.isnan(x) else float(x) for x in (bound.low, bound.high))
    return {"control_mean": float(bound.mean), "control_low": low, "control_high": high, "n_controls": int(bound.n)}


def _beside(null: Doubles) -> dict[str, Any]:
    if not len(null):
        return {}
    low, high = stats.quantile_band(null)
    return {"control_mean": float(null.mean()), "control_low": float(low), "control_high": float(high), "n_controls": len(null)}


def _not_measured(why: str) -> dict[str, Any]:
    return {"supports": None, "note": f"not measured: {why}"}
