"""Which prompts, features and draws a graph over prompts is made of.

In: star values of every active feature (`ingest.graphs.stars`). Out: `FeatureNodes`, the selected features with their values on each
prompt and how often a bootstrap over clusters selects them too.

1. A candidate is a (layer, feature[, token role]); its star values are added up over a prompt's positions.
2. It passes when it is active on `min_frequency` of the prompts of some language and its influence, the largest over languages of the
   mean |star_total| over that language's prompts, reaches `min_influence`; the `max_nodes` most influential ones stay.
3. Clusters of prompts (concepts) are drawn with replacement and 2. is repeated: selection_frequency is the share of draws that keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ingest.graphs.stars import Stars
from ingest.prompts import Prompt

NO_ROLE = -1
"""Role of nodes that stand for every position."""


@dataclass(frozen=True)
class EdgeConfig:
    """What becomes a node and an edge."""

    layers: tuple[int, ...] | None = None
    """Layers of feature nodes; None is every layer that has a transcoder."""
    splits: tuple[str, ...] = ("train",)
    """Prompts to discover on; the test split is for what comes after."""
    position_rule: Literal["all", "content", "decision"] = "all"
    """Positions whose features count; sinks never do."""
    by_role: bool = False
    """Whether a feature is one node per token role, instead of one node for all positions."""
    min_frequency: float = 0.1
    """Share of the prompts of some language on which a node's feature is active."""
    min_influence: float = 0.0
    """Mean |star_total| over the prompts of some language, in logits."""
    max_nodes: int = 400
    """Feature nodes, the most influential ones."""
    max_edges: int = 4000
    """Virtual-weight edges, the strongest ones."""
    min_edge_prompts: int = 2
    """Prompts on which both ends of a virtual-weight edge are active at one position."""
    universal_frequency: float = 0.95
    """Share of every language's prompts from which on a feature counts as universal."""
    bootstrap: int = 100
    """Draws of clusters for selection frequencies."""
    store_prompts: bool = True
    """Whether every prompt's star values are kept (edge_prompt)."""
    batch_size: int = 32
    """Prompts a forward and backward pass; halved when memory runs out."""
    seed: int = 0
    """Of the bootstrap."""


@dataclass(frozen=True)
class Design:
    """The prompts of a graph, as indices."""

    prompts: Sequence[Prompt]
    languages: tuple[str, ...]
    language: np.ndarray
    """(P) index into languages."""
    cluster: np.ndarray
    """(P) index of the prompt's cluster."""
    n_clusters: int
    draws: np.ndarray
    """(draws, clusters) how often each cluster was drawn."""

    @property
    def language_sizes(self) -> np.ndarray:
        """(languages) prompts."""
        return np.bincount(self.language, minlength=len(self.languages))

    def cell_sums(self, values: np.ndarray) -> np.ndarray:
        """Add up values (N, P) by (cluster, language): (N, clusters, languages)."""
        cell = self.cluster * len(self.languages) + self.language
        indicator = np.zeros((len(self.prompts), self.n_clusters * len(self.languages)))
        indicator[np.arange(len(self.prompts)), cell] = 1.0
        return (values @ indicator).reshape(len(values), self.n_clusters, len(self.languages))


@dataclass(frozen=True)
class FeatureNodes:
    """Candidate or selected feature nodes, N of them, with their values on each prompt."""

    layer: np.ndarray
    feature: np.ndarray
    role: np.ndarray
    """(N) index into `ROLES`, or `NO_ROLE`."""
    activation: np.ndarray
    """(N, P) largest activation over the prompt's positions, 0 where silent."""
    total: np.ndarray
    """(N, P) star_total, added up over positions."""
    direct: np.ndarray
    """(N, P) star_direct."""
    influence: np.ndarray
    """(N) share of the candidates' influence."""
    selection_frequency: np.ndarray
    """(N) share of bootstrap draws that select the node."""

    def __len__(self) -> int:
        return len(self.layer)

    @property
    def active(self) -> np.ndarray:
        """(N, P) bool."""
        return np.asarray(self.activation > 0)

    def take(self, index: np.ndarray) -> FeatureNodes:
        """Keep some nodes, in the given order."""
        return FeatureNodes(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def design_of(prompts: Sequence[Prompt], bootstrap: int, seed: int) -> Design:
    """Index prompts by language and cluster, and draw clusters with replacement."""
    languages = tuple(dict.fromkeys(prompt.language for prompt in prompts))
    clusters = sorted({prompt.cluster for prompt in prompts})
    index = {cluster: i for i, cluster in enumerate(clusters)}
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), size=bootstrap)
    return Design(
        prompts,
        languages,
        np.array([languages.index(prompt.language) for prompt in prompts]),
        np.array([index[prompt.cluster] for prompt in prompts]),
        len(clusters),
        draws.astype(np.float64),
    )


def feature_nodes(rows: Stars, design: Design, config: EdgeConfig) -> FeatureNodes:
    """Add up star values over positions: one candidate per (layer, feature[, role])."""
    role = rows.role.astype(np.int64) if config.by_role else np.full(len(rows.role), NO_ROLE, np.int64)
    name = (rows.layer.astype(np.int64) << 40) | (rows.feature.astype(np.int64) << 8) | (role - NO_ROLE)
    names, index = np.unique(name, return_inverse=True)
    frequent = _frequent_enough(index, rows.prompt, rows.activation > 0, len(names), design, config)
    kept = np.flatnonzero(frequent)
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))
    at = place[index]
    use = at >= 0
    cell = at[use] * len(design.prompts) + rows.prompt[use]
    size = len(kept) * len(design.prompts)
    shape = (len(kept), len(design.prompts))
    activation = np.zeros(size, np.float64)
    np.maximum.at(activation, cell, rows.activation[use])
    names = names[kept]
    return FeatureNodes(
        layer=(names >> 40).astype(np.int16),
        feature=((names >> 8) & 0xFFFFFFFF).astype(np.int32),
        role=((names & 0xFF) + NO_ROLE).astype(np.int8),
        activation=activation.reshape(shape),
        total=np.bincount(cell, rows.total[use], size).reshape(shape),
        direct=np.bincount(cell, rows.direct[use], size).reshape(shape),
        influence=np.zeros(len(kept)),
        selection_frequency=np.zeros(len(kept)),
    )


def _frequent_enough(index: np.ndarray, prompt: np.ndarray, active: np.ndarray, n: int, design: Design, config: EdgeConfig) -> np.ndarray:
    """Tell which candidates reach half the wanted frequency in a language: a bootstrap draw may push them over it."""
    pairs = np.unique(index[active].astype(np.int64) * len(design.prompts) + prompt[active])
    node, on = pairs // len(design.prompts), pairs % len(design.prompts)
    counts = np.zeros((n, len(design.languages)))
    np.add.at(counts, (node, design.language[on]), 1.0)
    return np.asarray((counts / design.language_sizes).max(1) >= config.min_frequency / 2)


def select_nodes(candidates: FeatureNodes, design: Design, config: EdgeConfig) -> FeatureNodes:
    """Keep frequent and influential candidates, strongest first, with the share of cluster draws that keep them too."""
    active = design.cell_sums(candidates.active.astype(np.float64))  # (N, clusters, languages)
    strength = design.cell_sums(np.abs(candidates.total))
    sizes = np.zeros((design.n_clusters, len(design.languages)))
    np.add.at(sizes, (design.cluster, design.language), 1.0)
    once = np.ones(design.n_clusters)
    chosen, influence = _selected(active, strength, sizes, once, config)
    kept = np.zeros(len(candidates))
    for draw in design.draws:
        kept += _selected(active, strength, sizes, draw, config)[0]
    order = np.flatnonzero(chosen)
    order = order[np.lexsort((candidates.feature[order], candidates.layer[order], -influence[order]))]
    nodes = candidates.take(order)
    total = influence.sum()
    return FeatureNodes(
        nodes.layer,
        nodes.feature,
        nodes.role,
        nodes.activation,
        nodes.total,
        nodes.direct,
        influence=influence[order] / total if total > 0 else influence[order],
        selection_frequency=kept[order] / max(len(design.draws), 1),
    )


def _selected(
    active: np.ndarray, strength: np.ndarray, sizes: np.ndarray, weights: np.ndarray, config: EdgeConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return which candidates a weighting of clusters selects, and their influence."""
    with np.errstate(invalid="ignore"):
        denominators = weights @ sizes
        frequency = np.nan_to_num(np.einsum("c,ncl->nl", weights, active) / denominators)
        influence = np.nan_to_num(np.einsum("c,ncl->nl", weights, strength) / denominators).max(1)
    passes = (frequency.max(1) >= config.min_frequency) & (influence >= config.min_influence)
    if passes.sum() > config.max_nodes:
        ranked = np.where(passes, influence, -1.0)
        top = np.argsort(-ranked, kind="stable")[: config.max_nodes]
        passes = np.zeros_like(passes)
        passes[top] = True
    return passes, influence
