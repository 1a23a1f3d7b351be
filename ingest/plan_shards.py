"""The shards of a plan: pieces of work that can be computed apart, each committed when it is finished.

In: a plan, the names of its behaviours, the layers that are analysed with their widths. Out: `Shard`s in an order in which one process
can do them. They follow from what decides the numbers alone, never from the engine, the machine or the budget, so that any number of
processes agree on them.

- activations: a shard a layer (narrow layers share one), and one for all layers replaced at once. A cross-layer set is one shard:
  a layer needs all before it.
- neighbours: a shard a layer too; co-activation looks at every layer's activations.
- graph, communities, attribution, interventions, circuits: a shard a behaviour.
- corpus: a shard a layer; then neighbours, the documents with the tokens that contexts show, and the labels that read these.

Interventions, circuits and evaluations are numbered over all behaviours. From the second behaviour on they are computed as a draft
with numbers of its own; a small shard adds what was counted before. So behaviours do not wait for each other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingest.plan import Plan

NUMBERED = {"interventions": ("intervention",), "circuits": ("circuit", "evaluation")}
"""Stages whose rows are numbered over all behaviours: the tables, and columns, of these numbers."""
FEATURES_A_SHARD = 2048
"""Layers share a shard while they have no more features than this together, so that small models do not drown in small files."""


@dataclass(frozen=True)
class Shard:
    """One piece of work."""

    name: str
    """Of its commit record, or of its draft."""
    stage: str
    """Stage of the plan that it belongs to."""
    kind: str
    """What computes it: a key of `ingest.stages.FUNCTIONS`."""
    needs: tuple[str, ...] = ()
    """Shards that must be committed before."""
    layers: tuple[int, ...] = ()
    behaviour: str | None = None
    ordinal: int = 0
    """Place of the behaviour in the run."""
    draft: bool = False
    """Whether it is kept in the run's scratch folder, for another shard to read, and not committed."""


def plan_shards(plan: Plan, behaviours: Sequence[str], widths: Mapping[int, int], *, cross_layer: bool = False) -> tuple[Shard, ...]:
    """Divide a plan; every shard comes after those it needs. `widths`: layer that is analysed -> its number of features."""
    groups = [tuple(sorted(widths))] if cross_layer else list(_groups(widths))
    return tuple(_corpus(groups) if plan.corpus else _prompts(plan, behaviours, groups))


def ready(shards: Sequence[Shard], done: Collection[str]) -> list[Shard]:
    """Return the shards that are not done and lack nothing, in order."""
    return [shard for shard in shards if shard.name not in done and all(name in done for name in shard.needs)]


def _groups(widths: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
    """Yield the layers of each shard: as many as hold FEATURES_A_SHARD features together, at least one."""
    group: list[int] = []
    for layer in sorted(widths):
        if group and sum(widths[other] for other in (*group, layer)) > FEATURES_A_SHARD:
            yield tuple(group)
            group = []
        group.append(layer)
    if group:
        yield tuple(group)


def _of_layers(name: str, stage: str, kind: str, groups: Sequence[tuple[int, ...]], needs: tuple[str, ...]) -> list[Shard]:
    """Return a shard a group of layers: `name-L7`, or `name-L0-5` for several."""
    labels = [f"L{group[0]}" + (f"-{group[-1]}" if len(group) > 1 else "") for group in groups]
    return [Shard(f"{name}-{label}", stage, kind, needs, layers=group) for label, group in zip(labels, groups, strict=True)]


def _corpus(groups: Sequence[tuple[int, ...]]) -> Iterator[Shard]:
    own = _of_layers("corpus", "corpus", "corpus", groups, ())
    names = tuple(shard.name for shard in own)
    yield from own
    yield from _of_layers("neighbours", "corpus", "neighbours", groups, names)
    yield Shard("corpus-documents", "corpus", "documents", names)
    yield from _of_layers("labels", "corpus", "labels", groups, (*names, "corpus-documents"))


def _prompts(plan: Plan, behaviours: Sequence[str], groups: Sequence[tuple[int, ...]]) -> Iterator[Shard]:
    after = ("baseline",)  # below its gate nothing else is computed
    active = _of_layers("activations", "activations", "activations", groups, after)
    active_names = tuple(shard.name for shard in active)
    for stage in plan.stages():
        if stage in ("prompts", "baseline"):
            yield Shard(stage, stage, stage)
        elif stage == "activations":
            yield from active
            yield Shard("activations-replaced", stage, "replaced", after)
            yield from _of_layers("neighbours", stage, "neighbours", groups, active_names)
        else:
            yield from _of_behaviours(stage, behaviours, active_names)


def _of_behaviours(stage: str, behaviours: Sequence[str], active: tuple[str, ...]) -> Iterator[Shard]:
    """Yield a shard a behaviour; one with running numbers adds, from the second on, what all before it have counted."""
    labels = _file_names(behaviours)
    for ordinal, (behaviour, label) in enumerate(zip(behaviours, labels, strict=True)):
        needs = {
            "communities": (f"graph-{label}", *active),
            "interventions": (f"graph-{label}", f"communities-{label}"),
            "circuits": (f"graph-{label}",),
        }.get(stage, ("baseline",))
        name = f"{stage}-{label}"
        if stage not in NUMBERED or ordinal == 0:
            yield Shard(name, stage, stage, needs, behaviour=behaviour, ordinal=ordinal)
            continue
        draft = Shard(f"{name}=draft", stage, stage, needs, behaviour=behaviour, ordinal=ordinal, draft=True)
        before = tuple(f"{stage}-{earlier}" for earlier in labels[:ordinal])
        yield draft
        yield Shard(name, stage, "numbered", (draft.name, *before), behaviour=behaviour, ordinal=ordinal)


def _file_names(behaviours: Sequence[str]) -> list[str]:
    """Give each behaviour a part of a file name: its own name where that is one, else with its place."""
    plain = [re.sub(r"[^A-Za-z0-9_.-]+", "_", behaviour)[:60] for behaviour in behaviours]
    return [label if plain.count(label) == 1 else f"{label}-{place}" for place, label in enumerate(plain)]
