"""Interventions as data, and the absolute target values their rules turn into.

In: an `Intervention` (which features, by which rule, where), the prompts to run and the prompts to take values from, clean activations.
Out: `Edits` (METHODS, section 5).

    zero 0 · mean of a reference set · resample another prompt's · scale alpha x clean · add clean + alpha x sd
    patch a paired prompt's · swap the source's set and zeros for the rest of the union · no_op keeps the current value

Positions of source and target correspond by role: decision to decision, content to content counted from its last token; of all positions
those behind the content are counted from the end, those before it from the content backwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch

from atlas.errors import UsageError
from ingest.intervene.activity import Activity, Doubles
from ingest.intervene.edits import Edits, Integers, VectorKind
from ingest.intervene.engine import Engine, Mode
from ingest.prompts import Prompt

Rule = Literal[
    "no_op", "zero", "mean", "resample", "scale", "add", "patch", "swap", "random_direction", "error_only", "whole_mlp"
]  # fmt: skip
PositionRule = Literal["decision", "content", "all", "explicit"]
FeatureKey = tuple[int, int]
"""(layer, feature)."""
Sets = Mapping[str | None, tuple[FeatureKey, ...]]
"""Concept -> its features; the key None is for all prompts."""
NEEDS_SOURCE = frozenset({"resample", "patch", "swap"})


@dataclass(frozen=True)
class Intervention:
    """What is done; a row of table `intervention` and its members."""

    name: str
    rule: Rule
    sets: Sets
    mode: Mode = "free"
    positions: PositionRule = "decision"
    explicit: tuple[int, ...] = ()
    """Positions of rule `explicit`."""
    strength: float | None = None
    """alpha of scale and add."""
    base_rule: Rule | None = None
    """The rule whose places and lengths a random direction, error-only or whole-MLP control takes over."""
    values: Mapping[FeatureKey, float] = field(default_factory=dict)
    """Reference means (mean) or standard deviations (add) of features."""
    frozen_layers: tuple[int, ...] = ()
    seed: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise UsageError(f"Unknown rule {self.rule!r}.", hint=f"One of: {', '.join(get_args(Rule))}.")
        if not any(self.sets.values()):
            raise UsageError(f"The intervention {self.name!r} has an empty set of features.", hint="Name at least one feature.")
        if self.rule in ("scale", "add") and self.strength is None:
            raise UsageError(f"The intervention {self.name!r} of rule {self.rule} needs a strength.")
        if self.positions == "explicit" and not self.explicit:
            raise UsageError(f"The intervention {self.name!r} names no position.", hint="Give positions, or use decision, content or all.")

    @cached_property
    def features(self) -> tuple[FeatureKey, ...]:
        """All distinct features, ascending."""
        return tuple(sorted({feature for members in self.sets.values() for feature in members}))

    def set_for(self, concept: str) -> tuple[FeatureKey, ...]:
        """Return the features edited on a prompt of a concept."""
        return self.sets.get(concept, self.sets.get(None, ()))


@dataclass(frozen=True)
class Places:
    """(row, position, source position) of every edited place."""

    row: Integers
    position: Integers
    source_position: Integers


def build_edits(
    engine: Engine, clean: Activity, work: Intervention, prompts: Integers, sources: Integers, places: Places | None = None
) -> Edits:
    """Return the edits of one intervention on R rows of (prompt, source prompt or -1).

    `places`, where given, are those of another intervention at the same positions of the same rows.

    Raises:
        UsageError: a rule that needs a source has none.
    """
    rule = work.base_rule or work.rule
    if rule in NEEDS_SOURCE and (sources < 0).any():
        raise UsageError(f"The intervention {work.name!r} of rule {rule} needs a source prompt for each prompt.")
    places = places or edited_places(engine, work, prompts, sources)
    if work.rule in ("error_only", "whole_mlp"):
        return _vector_edits(engine, work, prompts, sources, places)
    row, position, source_position, layer, feature, from_source = _members(engine, work, prompts, sources, places)
    value = _targets(clean, work, rule, prompts[row], sources[row], layer, feature, position, source_position, from_source)
    direction = None
    if work.rule == "random_direction":
        direction = np.full(len(prompts), work.seed or 0, dtype=np.int64) * 100_003 + prompts
    return Edits(prompts, row, layer, position, feature, value, direction)


def edited_places(engine: Engine, work: Intervention, prompts: Integers, sources: Integers) -> Places:
    """Return every edited place of R rows of (prompt, source prompt or -1)."""
    rows: list[int] = []
    positions: list[int] = []
    source_positions: list[int] = []
    for row, (prompt, source) in enumerate(zip(prompts.tolist(), sources.tolist(), strict=True)):
        for position in _positions(engine, work, prompt):
            rows.append(row)
            positions.append(position)
            source_positions.append(
                position
                if source < 0 or work.positions == "explicit"
                else corresponding(engine.prompts[prompt], engine.prompts[source], position)
            )
    return Places(np.array(rows, dtype=np.int64), np.array(positions, dtype=np.int64), np.array(source_positions, dtype=np.int64))


def corresponding(target: Prompt, source: Prompt, position: int) -> int:
    """Return the source's position of the same role: decision, content from its last token, what follows it, what precedes it."""
    if position == target.decision_position:
        return source.decision_position
    own, theirs = target.content_positions, source.content_positions
    if position in own:
        return theirs[max(len(theirs) - len(own) + own.index(position), 0)]
    if position > own[-1]:
        return max(source.decision_position - (target.decision_position - position), min(theirs[-1] + 1, source.decision_position))
    return max(theirs[0] - (own[0] - position), 1)


def _positions(engine: Engine, work: Intervention, prompt: int) -> tuple[int, ...]:
    item = engine.prompts[prompt]
    if work.positions == "decision":
        return (item.decision_position,)
    if work.positions == "content":
        return item.content_positions
    if work.positions == "all":
        return tuple(range(1, len(item.token_ids)))
    return work.explicit


def _members(
    engine: Engine, work: Intervention, prompts: Integers, sources: Integers, places: Places
) -> tuple[Integers, Integers, Integers, Integers, Integers, Integers]:
    """Cross places with the set of each place's row; a swap's set is the union of source's and target's."""
    concepts = [engine.prompts[p].concept for p in prompts.tolist()]
    swap = (work.base_rule or work.rule) == "swap"
    source_concepts = [engine.prompts[s].concept if swap and s >= 0 else "" for s in sources.tolist()]
    group_of: dict[tuple[str, str], int] = {}
    group = np.array([group_of.setdefault(key, len(group_of)) for key in zip(concepts, source_concepts, strict=True)], dtype=np.int64)
    members: list[tuple[int, int, bool]] = []
    sizes = []
    for concept, source in group_of:
        own, theirs = work.set_for(concept), work.set_for(source) if swap else ()
        union = sorted({*own, *theirs})
        inside = frozenset(theirs)
        members += [(*member, member in inside) for member in union]
        sizes.append(len(union))
    if not members:
        raise UsageError(f"The intervention {work.name!r} has no feature for any of its {len(prompts)} prompts.")
    columns = np.array(members, dtype=np.int64)  # (members of all groups, 3)
    size = np.array(sizes, dtype=np.int64)
    group_of_place = group[places.row]
    n = size[group_of_place]
    place = np.repeat(np.arange(len(n)), n)
    within = np.arange(len(place)) - np.repeat(np.cumsum(n) - n, n)
    layer, feature, from_source = columns[(np.cumsum(size) - size)[group_of_place][place] + within].T
    return places.row[place], places.position[place], places.source_position[place], layer, feature, from_source


def _targets(
    clean: Activity,
    work: Intervention,
    rule: Rule,
    prompts: Integers,
    sources: Integers,
    layer: Integers,
    feature: Integers,
    position: Integers,
    source_position: Integers,
    from_source: Integers,
) -> Doubles:
    if rule == "zero":
        return np.zeros(len(layer))
    if rule == "no_op":
        return np.full(len(layer), np.nan)
    if rule in ("resample", "patch"):
        return clean.values(layer, sources, source_position, feature)
    if rule == "swap":
        return np.where(from_source > 0, clean.values(layer, sources, source_position, feature), 0.0)
    if rule == "scale":
        return (work.strength or 0.0) * clean.values(layer, prompts, position, feature)
    reference = np.array([work.values.get((a, b), np.nan) for a, b in zip(layer.tolist(), feature.tolist(), strict=True)])
    if np.isnan(reference).any():
        at = int(np.flatnonzero(np.isnan(reference))[0])
        raise UsageError(f"The intervention {work.name!r} has no reference value for feature {int(feature[at])} of layer {int(layer[at])}.")
    if rule == "mean":
        return reference
    return clean.values(layer, prompts, position, feature) + (work.strength or 0.0) * reference


def _vector_edits(engine: Engine, work: Intervention, prompts: Integers, sources: Integers, places: Places) -> Edits:
    """Put the source's MLP output (or its error) at the places and layers of the base; zeros where there is no source."""
    kind: VectorKind = "error" if work.rule == "error_only" else "mlp"
    rows, layers, positions, prompt_of, position_of = [], [], [], [], []
    for row in range(len(prompts)):
        concept = engine.prompts[int(prompts[row])].concept
        members = {*work.set_for(concept)}
        if sources[row] >= 0:
            members |= {*work.set_for(engine.prompts[int(sources[row])].concept)}
        here = np.flatnonzero(places.row == row)
        for layer in sorted({member[0] for member in members}):
            rows += [row] * len(here)
            layers += [layer] * len(here)
            positions += places.position[here].tolist()
            prompt_of += [int(sources[row])] * len(here)
            position_of += places.source_position[here].tolist()
    empty = np.zeros(0, dtype=np.int64)
    target = mlp_vectors(engine, kind, layers, prompt_of, position_of)
    return Edits(
        prompts,
        empty,
        empty,
        empty,
        empty,
        np.zeros(0),
        None,
        np.array(rows, dtype=np.int64),
        np.array(layers, dtype=np.int64),
        np.array(positions, dtype=np.int64),
        target,
        kind,
    )


def mlp_vectors(engine: Engine, kind: VectorKind, layers: Sequence[int], prompts: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
    """Return (K, D) clean MLP outputs, or their reconstruction errors, at places; zeros where the prompt is -1."""
    out = torch.zeros(len(layers), engine.model.d_model, device=engine.model.device, dtype=engine.model.dtype)
    layer, prompt, position = (np.array(column, dtype=np.int64) for column in (layers, prompts, positions))
    for chunk, ordinals in enumerate(engine.chunks()):
        inside = (prompt >= ordinals[0]) & (prompt <= ordinals[-1])
        if not inside.any():
            continue
        clean = engine.clean(chunk)
        for number in np.unique(layer[inside]).tolist():
            at = np.flatnonzero(inside & (layer == number))
            rows = torch.from_numpy(prompt[at] - ordinals[0]).to(engine.model.device)
            columns = clean.column(rows, torch.from_numpy(position[at]).to(engine.model.device))
            vectors = clean.captured.mlp_out[number][rows, columns]
            if kind == "error":
                vectors = vectors - engine.transcoders.reconstruct(number, clean.captured.mlp_in[number][rows, columns])
            out[torch.from_numpy(at)] = vectors
    return out
