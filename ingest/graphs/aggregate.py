"""Attribution graphs of many prompts, added up into one graph over the prompt set.

In: a model, transcoders, a prompt set. Out: rows of graph, node, node_language, edge, edge_language, edge_prompt with edges of
kind `attribution` (METHODS section 3: attention paths included), one graph a behaviour. Steps:

1. The attribution graph of every prompt, with its candidate answers as logits, pruned (METHODS section 4.3).
2. Nodes lose their positions: a feature is one node, tokens are one input node per token role, errors one node per layer, the
   answers one output node. A pair of nodes has a prompt's support when pruning keeps an edge between any of its positions.
3. Candidate edges: supported on `min_frequency` of the prompts of some language; those with most support stay, `max_edges`.
   selection_frequency is the share of draws of clusters (concepts) that select the edge too.
4. Every prompt once more, with only the candidates' targets attributed: weights on all prompts where both ends are active,
   also those where pruning dropped the edge, added up over positions. An edge to the output is the edge to the correct answer
   less that to the best contrast, on the margin. Means over prompts pruned away would be biased outwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from atlas.errors import InputError
from atlas.ids import feature_name
from atlas.stats import cluster_t
from ingest.batches import Progress
from ingest.graphs.attribution import AttributionConfig, AttributionGraph, attribute
from ingest.graphs.rows import NodeColumns, concat_rows, masked_moments
from ingest.graphs.selection import Design, design_of
from ingest.graphs.tables import unexplained_share
from ingest.model import LanguageModel
from ingest.prompts import Prompt, PromptSet
from ingest.statistics import ROLES
from ingest.transcoder import TranscoderSet

Keys = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

OUTPUT = np.int64(1) << 62
_ERROR = np.int64(1) << 60
_INPUT = np.int64(1) << 61


@dataclass(frozen=True)
class AggregateConfig:
    """What becomes an edge over prompts."""

    splits: tuple[str, ...] = ("train",)
    """Prompts to discover on."""
    node_threshold: float = 0.8
    """Of each prompt's pruning."""
    edge_threshold: float = 0.98
    """Of each prompt's pruning."""
    max_feature_nodes: int | None = None
    """Features attributed on each prompt; None: all active ones."""
    min_frequency: float = 0.5
    """Share of the prompts of some language on which pruning keeps the edge."""
    max_edges: int = 4000
    """Edges, those with most support."""
    universal_frequency: float = 0.95
    """Share of every language's prompts from which on a feature counts as universal."""
    bootstrap: int = 100
    """Draws of clusters for selection frequencies."""
    batch_size: int = 8
    """Prompts a forward pass."""
    seed: int = 0
    """Of the bootstrap."""


def attribution_edges(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    config: AggregateConfig | None = None,
    *,
    first_graph: int = 0,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Build one graph per behaviour; graphs are numbered from `first_graph`. `progress` counts prompts, each twice.

    Raises InputError where no prompt is in the wanted splits or no edge has the wanted support.
    """
    config = config or AggregateConfig()
    wanted = [prompt for prompt in prompts.prompts if prompt.split in config.splits]
    if not wanted:
        raise InputError(f"no prompt is in {' or '.join(config.splits)}", hint="choose another split")
    behaviours = list(dict.fromkeys(prompt.behaviour for prompt in wanted))
    counter = _Counter(progress, 2 * len(wanted))
    pieces = []
    for offset, behaviour in enumerate(behaviours):
        own = [prompt for prompt in wanted if prompt.behaviour == behaviour]
        pieces.append(_graph(model, transcoders, own, config, first_graph + offset, behaviour, counter))
    return concat_rows(pieces)


@dataclass
class _Counter:
    progress: Progress | None
    total: int
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True)
class _Support:
    """Which prompts support which pairs of nodes."""

    source: Keys
    target: Keys
    prompts: npt.NDArray[np.bool_]
    """(E, P)."""
    unexplained: float
    """Mean over prompts of the share of the answers' absolute input that comes from reconstruction errors."""


@dataclass(frozen=True)
class _Weights:
    """Candidate edges and nodes on every prompt."""

    weight: Numbers
    """(E, P), NaN where source or target is silent."""
    nodes: Keys
    activation: Numbers
    """(M, P) largest activation, NaN where silent or where the node is no feature."""
    present: npt.NDArray[np.bool_]
    """(M, P)."""


def _graph(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: Sequence[Prompt],
    config: AggregateConfig,
    graph: int,
    behaviour: str,
    counter: _Counter,
) -> dict[str, pa.Table]:
    design = design_of(prompts, config.bootstrap, config.seed)
    support = _support(model, transcoders, prompts, config, counter)
    chosen, selection = _select(support, design, config)
    if not len(chosen):
        raise InputError(
            f"no edge of behaviour {behaviour} is kept on {config.min_frequency:.0%} of the prompts of a language",
            hint="lower min_frequency, or raise the thresholds of pruning",
        )
    support = _Support(support.source[chosen], support.target[chosen], support.prompts[chosen], support.unexplained)
    weights = _weights(model, transcoders, prompts, support, config, counter)
    return _tables(support, weights, selection[chosen], design, config, graph, behaviour)


# ---------------------------------------------------------------------------------------------- steps 1 to 3


def _support(
    model: LanguageModel, transcoders: TranscoderSet, prompts: Sequence[Prompt], config: AggregateConfig, counter: _Counter
) -> _Support:
    found: list[tuple[Keys, npt.NDArray[np.int64]]] = []
    unexplained = []
    settings = AttributionConfig(max_feature_nodes=config.max_feature_nodes)
    for start in range(0, len(prompts), config.batch_size):
        batch = prompts[start : start + config.batch_size]
        answers = [[answer.token_id for answer in prompt.answers] for prompt in batch]
        graphs = attribute(model, transcoders, [prompt.token_ids for prompt in batch], settings, targets=answers)
        for index, graph in enumerate(graphs):
            pruned = graph.prune(config.node_threshold, config.edge_threshold)
            keep = torch.ones(graph.order.n_nodes, dtype=torch.bool)
            keep[: len(graph.active)] = graph.attributed
            keys = _node_keys(graph, batch[index])[keep.numpy()]
            pairs = np.stack([keys[pruned.source.numpy()], keys[pruned.target.numpy()]], axis=1)
            unexplained.append(unexplained_share(graph))
            found.append((np.unique(pairs, axis=0), np.int64(start + index) * np.ones(1, np.int64)))
            counter.step()
    everything = np.concatenate([pairs for pairs, _ in found])
    owner = np.concatenate([np.repeat(prompt, len(pairs)) for pairs, prompt in found])
    unique, place = np.unique(everything, axis=0, return_inverse=True)
    supported = np.zeros((len(unique), len(prompts)), bool)
    supported[place.reshape(-1), owner] = True
    return _Support(unique[:, 0], unique[:, 1], supported, float(np.mean(unexplained)))


def _node_keys(graph: AttributionGraph, prompt: Prompt) -> Keys:
    """Return one key for each node of a prompt's graph; nodes that are one over prompts have one key."""
    order = graph.order
    layer, _, feature = (column.astype(np.int64) for column in graph.active.numpy().T)
    errors = np.repeat(np.arange(order.n_layers, dtype=np.int64), order.n_positions)
    roles = np.array([ROLES.index(role) for role in prompt.roles], np.int64)
    return np.concatenate([(layer << 32) | feature, _ERROR | errors, _INPUT | roles, np.full(order.n_logits, OUTPUT)])


def _select(support: _Support, design: Design, config: AggregateConfig) -> tuple[npt.NDArray[np.intp], Numbers]:
    """Return the selected edges, most supported first, and every edge's share of draws that select it."""
    cells = design.cell_sums(support.prompts.astype(np.float64))  # (E, clusters, languages)
    sizes = design.cell_sums(np.ones((1, len(design.prompts))))[0]  # (clusters, languages)

    def frequency(draw: Numbers) -> Numbers:
        with np.errstate(invalid="ignore", divide="ignore"):
            shares: Numbers = np.nan_to_num(np.einsum("c,ecl->el", draw, cells) / (draw @ sizes)).max(1)
        return shares

    once = frequency(np.ones(design.n_clusters))
    kept = np.zeros(len(cells))
    for draw in design.draws:
        kept += frequency(draw) >= config.min_frequency
    passing = np.flatnonzero(once >= config.min_frequency)
    ranked = passing[np.lexsort((support.target[passing], support.source[passing], -once[passing]))]
    return ranked[: config.max_edges], kept / max(1, len(design.draws))


# ---------------------------------------------------------------------------------------------- step 4


def _weights(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: Sequence[Prompt],
    support: _Support,
    config: AggregateConfig,
    counter: _Counter,
) -> _Weights:
    nodes = np.unique(np.concatenate([support.source, support.target]))
    pair = np.searchsorted(nodes, support.source) * len(nodes) + np.searchsorted(nodes, support.target)
    by_pair = np.argsort(pair)
    only: dict[int, list[int]] = {}
    for key in np.unique(support.target[support.target < _ERROR]).tolist():
        only.setdefault(key >> 32, []).append(key & 0xFFFFFFFF)
    weight = np.full((len(pair), len(prompts)), np.nan)
    activation = np.full((len(nodes), len(prompts)), np.nan)
    present = np.zeros((len(nodes), len(prompts)), bool)
    for start in range(0, len(prompts), config.batch_size):
        batch = prompts[start : start + config.batch_size]
        answers = [[answer.token_id for answer in prompt.answers] for prompt in batch]
        graphs = attribute(model, transcoders, [prompt.token_ids for prompt in batch], targets=answers, only=only)
        for index, graph in enumerate(graphs):
            column = start + index
            keys = _node_keys(graph, batch[index])
            place = np.searchsorted(nodes, keys).clip(max=len(nodes) - 1)
            place = np.where(nodes[place] == keys, place, -1)
            present[place[place >= 0], column] = True
            _note_activations(graph, place, activation[:, column])
            summed = _summed(graph, place, pair[by_pair], len(nodes))
            both = present[np.searchsorted(nodes, support.source), column] & present[np.searchsorted(nodes, support.target), column]
            weight[by_pair, column] = summed
            weight[~both, column] = np.nan
            counter.step()
    return _Weights(weight, nodes, activation, present)


def _note_activations(graph: AttributionGraph, place: npt.NDArray[np.intp], column: Numbers) -> None:
    """Write the largest activation of each feature node over positions into a column."""
    mine = place[: len(graph.active)]
    largest = np.full(len(column), -np.inf)
    np.maximum.at(largest, mine[mine >= 0], graph.activation.double().numpy()[mine >= 0])
    column[np.isfinite(largest)] = largest[np.isfinite(largest)]


def _summed(graph: AttributionGraph, place: npt.NDArray[np.intp], pairs: Keys, n_nodes: int) -> Numbers:
    """Return the weight of each of the sorted pairs, added up over positions; the output's is on the margin."""
    sign = torch.ones(graph.order.n_nodes, dtype=graph.edges.dtype)
    contrasts = graph.last_logits[graph.logit_token_ids[1:]]
    sign[graph.order.logits :] = 0
    sign[graph.order.logits] = 1
    if len(contrasts):
        sign[graph.order.logits + 1 + int(contrasts.argmax())] = -1
    total = np.zeros(len(pairs))
    for block in graph.edges.blocks:
        rows, columns = place[block.targets.numpy()], place[block.sources.numpy()]
        row, column = np.flatnonzero(rows >= 0), np.flatnonzero(columns >= 0)
        if not len(row) or not len(column):
            continue
        pair = columns[column][None].astype(np.int64) * n_nodes + rows[row][:, None]
        at = np.searchsorted(pairs, pair).clip(max=len(pairs) - 1)
        hit = pairs[at] == pair
        values = (block.weights * sign[block.targets][:, None])[row][:, column].double().numpy()
        np.add.at(total, at[hit], values[hit])
    return total


# ---------------------------------------------------------------------------------------------- rows of schema.sql


def _tables(
    support: _Support,
    weights: _Weights,
    selection: Numbers,
    design: Design,
    config: AggregateConfig,
    graph: int,
    behaviour: str,
) -> dict[str, pa.Table]:
    columns = NodeColumns(graph, design)
    for node, key in enumerate(weights.nodes.tolist()):
        kind, layer, feature, role = _parts(key)
        labels = {"error": f"error L{layer}", "input": f"input @{role}", "output": "margin"}
        label = labels.get(kind) or feature_name(layer or 0, feature or 0)
        columns.add(
            node,
            kind,
            label,
            weights.activation[node] if kind == "feature" else None,
            weights.present[node],
            layer=layer,
            feature=feature,
            role=role,
            universal_frequency=config.universal_frequency if kind == "feature" else None,
        )
    parameters = {**asdict(config), "edges": "attribution"}
    row = {
        "graph": graph,
        "kind": "prompt_set",
        "name": f"{behaviour}: attribution",
        "behaviour": behaviour,
        "n_prompts": len(design.prompts),
        "n_nodes": len(weights.nodes),
        "n_edges": len(support.source),
        "unexplained_share": support.unexplained,
        "node_threshold": config.node_threshold,
        "edge_threshold": config.edge_threshold,
        "parameters": json.dumps(parameters, sort_keys=True),
    }
    return {
        "graph": pa.table({name: [value] for name, value in row.items()}),
        **columns.tables(),
        **_edge_tables(support, weights, selection, design, graph),
    }


def _parts(key: int) -> tuple[str, int | None, int | None, str | None]:
    """Return kind, layer, feature and role of a node's key."""
    if key == OUTPUT:
        return "output", None, None, None
    if key & int(_INPUT):
        return "input", None, None, ROLES[key & 0xFF]
    if key & int(_ERROR):
        return "error", key & 0xFFFF, None, None
    return "feature", key >> 32, key & 0xFFFFFFFF, None


def _edge_tables(support: _Support, weights: _Weights, selection: Numbers, design: Design, graph: int) -> dict[str, pa.Table]:
    source, target = np.searchsorted(weights.nodes, support.source), np.searchsorted(weights.nodes, support.target)
    measured = ~np.isnan(weights.weight)
    n, mean, sd = masked_moments(weights.weight, measured)
    bounds = cluster_t(np.nan_to_num(weights.weight), design.cluster, measured)
    with np.errstate(invalid="ignore", divide="ignore"):
        sign = (measured & (np.sign(weights.weight) == np.sign(mean)[:, None])).sum(1) / n
    parts = [[_parts(key) for key in keys.tolist()] for keys in (support.source, support.target)]
    fixed = {"graph": pa.array([graph] * len(source), pa.int32()), "kind": pa.array(["attribution"] * len(source))}
    ends = {"source": pa.array(source, pa.int32()), "target": pa.array(target, pa.int32())}
    edge = pa.table(
        {
            **fixed,
            **ends,
            "source_layer": pa.array([part[1] for part in parts[0]], pa.int16()),
            "source_feature": pa.array([part[2] for part in parts[0]], pa.int32()),
            "target_kind": pa.array([part[0] for part in parts[1]]),
            "target_layer": pa.array([part[1] for part in parts[1]], pa.int16()),
            "target_feature": pa.array([part[2] for part in parts[1]], pa.int32()),
            "weight": pa.array(mean),
            "sd": pa.array(sd, from_pandas=True),
            "n_prompts": pa.array(n.astype(np.int32)),
            "frequency": pa.array(support.prompts.mean(1)),
            "selection_frequency": pa.array(selection),
            "sign_stability": pa.array(sign),
            "ci_low": pa.array(np.asarray(bounds.low, np.float64), from_pandas=True),
            "ci_high": pa.array(np.asarray(bounds.high, np.float64), from_pandas=True),
            "accepted": pa.array([True] * len(source)),
        }
    )
    languages = []
    for index, language in enumerate(design.languages):
        own = design.language == index
        n_own, mean_own, sd_own = masked_moments(weights.weight[:, own], measured[:, own])
        some = pa.array(n_own > 0)
        table = pa.table(
            {
                **fixed,
                **ends,
                "language": pa.array([language] * len(source)),
                "n_prompts": pa.array(n_own.astype(np.int32)),
                "weight": pa.array(mean_own, from_pandas=True),
                "sd": pa.array(sd_own, from_pandas=True),
            }
        )
        languages.append(table.filter(some))
    which, prompt = np.nonzero(measured)
    ordinals = np.array([entry.prompt for entry in design.prompts], np.int32)
    per_prompt = pa.table(
        {
            "graph": pa.array([graph] * len(which), pa.int32()),
            "kind": pa.array(["attribution"] * len(which), pa.string()),
            "source": pa.array(source[which], pa.int32()),
            "target": pa.array(target[which], pa.int32()),
            "prompt": pa.array(ordinals[prompt]),
            "weight": pa.array(weights.weight[which, prompt]),
        }
    )
    return {"edge": edge, "edge_language": pa.concat_tables(languages), "edge_prompt": per_prompt}
