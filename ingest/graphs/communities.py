"""Communities and supernodes of a graph over prompts.

In: the rows of node and edge (and, for supernodes, of activation, with decoder rows). Out: rows of partition, community, supernode.

Communities
1. Undirected weights between feature nodes: the sum of |attribution| of their virtual-weight edges (or another edge column).
2. Louvain (Blondel et al. 2008) with many seeds; the share of seeds that put two nodes together is their agreement.
3. Consensus (Lancichinetti and Fortunato 2012): agreements below the threshold are cut, Louvain runs on what is left, until all seeds
   give one partition.
4. Stability of the partition: mean adjusted Rand index over pairs of seeds; of a node: share of seeds in which it stays with its group.

Supernodes
1. Similarity of two features = mean of the cosine of what they write (negative values count as 0), the Jaccard of their active tokens,
   and the cosine of their virtual-weight profiles.
2. Average linkage, cut at a similarity; only groups of two or more features get a name, single ones keep their own.
3. Stability: tokens are drawn again by cluster of prompts, the clustering repeated; share of a node's supernode that stays with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from ingest.batches import Progress
from ingest.features import output_vectors
from ingest.prompts import PromptSet
from ingest.transcoder import TranscoderSet

_CONSENSUS_ROUNDS = 20


@dataclass(frozen=True)
class CommunityConfig:
    """How a graph is divided."""

    edge_kind: str = "virtual_weight"
    weight: str = "attribution"
    """Column of `edge` whose absolute value connects two features."""
    resolution: float = 1.0
    """Louvain's; larger values give smaller communities."""
    n_seeds: int = 20
    """Louvain runs."""
    threshold: float = 0.5
    """Agreement below which two nodes are cut in the consensus."""
    supernode_similarity: float = 0.5
    """Similarity at which average linkage stops to merge."""
    supernode_draws: int = 20
    """Bootstrap draws of prompt clusters for the stability of supernodes."""
    seed: int = 0


@dataclass(frozen=True)
class Division:
    """A partition of nodes into groups, 0 the largest."""

    group: np.ndarray
    """(N) group of each node."""
    quality: float
    """Modularity."""
    stability: float
    """Mean adjusted Rand index over pairs of seeds or draws."""
    node_stability: np.ndarray
    """(N) share of seeds or draws in which the node stays with its group."""


def communities(
    graphs: Mapping[str, pa.Table],
    transcoders: TranscoderSet | None = None,
    prompts: PromptSet | None = None,
    activation: pa.Table | None = None,
    config: CommunityConfig | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Divide each graph of `graphs["graph"]`; supernodes are made where transcoders, prompts and activations are given.

    Partition 0 of a graph are its communities, partition 1 its supernodes.
    """
    config = config or CommunityConfig()
    rows: dict[str, list[dict[str, object]]] = {"partition": [], "community": [], "supernode": []}
    numbers = graphs["graph"]["graph"].to_pylist()
    for done, graph in enumerate(numbers):
        node = _of_graph(graphs["node"], graph)
        node = node.filter(pc.equal(node["kind"], "feature"))
        edge = _of_graph(graphs["edge"], graph)
        edge = edge.filter(pc.equal(edge["kind"], config.edge_kind))
        nodes = node["node"].to_numpy()
        weights = connection_weights(nodes, edge, config.weight)
        found = louvain_consensus(weights, config)
        rows["partition"].append(_partition_row(graph, 0, "community", "louvain consensus", found, config, config.resolution))
        rows["community"] += [
            {"graph": graph, "partition": 0, "node": int(n), "community": int(g), "stability": float(s)}
            for n, g, s in zip(nodes, found.group, found.node_stability, strict=True)
        ]
        if transcoders is not None and prompts is not None and activation is not None and len(nodes) > 1:
            merged = supernodes(node, weights, transcoders, prompts, activation, config)
            rows["partition"].append(_partition_row(graph, 1, "supernode", "average linkage", merged, config, None))
            rows["supernode"] += _supernode_rows(graph, node, merged)
        if progress is not None:
            progress(done + 1, len(numbers))
    return {name: pa.Table.from_pylist(rows[name], schema=_SCHEMAS[name]) for name in rows}


def _of_graph(table: pa.Table, graph: int) -> pa.Table:
    return table.filter(pc.equal(table["graph"], graph))


def connection_weights(nodes: np.ndarray, edge: pa.Table, column: str) -> np.ndarray:
    """Return the symmetric matrix (N, N) of summed |weights| between feature nodes; other ends are left out."""
    order = np.argsort(nodes)
    ends = []
    for name in ("source", "target"):
        wanted = edge[name].to_numpy()
        at = np.minimum(np.searchsorted(nodes[order], wanted), len(nodes) - 1)
        ends.append(np.where(nodes[order][at] == wanted, order[at], -1))
    values = np.abs(np.nan_to_num(edge[column].cast(pa.float64()).to_numpy(zero_copy_only=False)))
    inside = (ends[0] >= 0) & (ends[1] >= 0)
    matrix = np.zeros((len(nodes), len(nodes)))
    np.add.at(matrix, (ends[0][inside], ends[1][inside]), values[inside])
    return matrix + matrix.T


def louvain_consensus(weights: np.ndarray, config: CommunityConfig) -> Division:
    """Divide a weighted graph (N, N) by the consensus of many Louvain runs; nodes without edges are groups of their own."""
    graph = _graph(weights)
    runs = [_louvain(graph, config.resolution, config.seed + i) for i in range(config.n_seeds)]
    agreement = agreement_matrix(runs)
    current = agreement
    for round_ in range(_CONSENSUS_ROUNDS):
        cut = np.where(current >= config.threshold, current, 0.0)
        np.fill_diagonal(cut, 0.0)
        consensus_graph = _graph(cut)
        again = [_louvain(consensus_graph, 1.0, config.seed + i) for i in range(config.n_seeds)]
        current = agreement_matrix(again)
        if np.isin(current, (0.0, 1.0)).all() or round_ == _CONSENSUS_ROUNDS - 1:
            break
    group = by_size(again[0])
    return Division(group, modularity(weights, group, config.resolution), mean_rand_index(runs), node_stability(group, runs))


def _graph(weights: np.ndarray) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(range(len(weights)))
    rows, columns = np.nonzero(np.triu(weights, 1))
    graph.add_weighted_edges_from(zip(rows.tolist(), columns.tolist(), weights[rows, columns].tolist(), strict=True))
    return graph


def _louvain(graph: nx.Graph, resolution: float, seed: int) -> np.ndarray:
    group = np.zeros(graph.number_of_nodes(), np.int64)
    if graph.number_of_edges() == 0:
        return np.arange(len(group))
    for number, members in enumerate(nx.community.louvain_communities(graph, resolution=resolution, seed=seed)):
        group[list(members)] = number
    return group


def agreement_matrix(runs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of runs (N, N) that put two nodes into one group."""
    total = np.zeros((len(runs[0]), len(runs[0])))
    for group in runs:
        total += group[:, None] == group[None, :]
    return total / len(runs)


def by_size(group: np.ndarray) -> np.ndarray:
    """Number groups anew: 0 is the largest; ties go to the group of the earlier node."""
    names, first, inverse, counts = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    new = np.empty(len(names), np.int64)
    new[order] = np.arange(len(names))
    return np.asarray(new[inverse])


def modularity(weights: np.ndarray, group: np.ndarray, resolution: float = 1.0) -> float:
    """Return sum over groups of (w_in / 2m - resolution (degree / 2m)^2) (Newman 2004); 0 for a graph without edges."""
    total = weights.sum()
    if total == 0:
        return 0.0
    degree = weights.sum(1)
    value = 0.0
    for number in np.unique(group):
        own = group == number
        value += weights[np.ix_(own, own)].sum() / total - resolution * (degree[own].sum() / total) ** 2
    return float(value)


def adjusted_rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """Return the adjusted Rand index of two partitions (Hubert and Arabie 1985); 1 for equal ones."""
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    everything = len(a) * (len(a) - 1) / 2
    expected = rows * columns / everything if everything else 0.0
    largest = (rows + columns) / 2
    return 1.0 if largest == expected else (both - expected) / (largest - expected)


def mean_rand_index(runs: Sequence[np.ndarray]) -> float:
    """Return the mean adjusted Rand index over pairs of runs; 1 for a single run."""
    values = [adjusted_rand_index(a, b) for a, b in itertools.combinations(runs, 2)]
    return float(np.mean(values)) if values else 1.0


def node_stability(group: np.ndarray, runs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of runs in which a node is in the run's group that overlaps its own group most."""
    stays = np.zeros(len(group))
    for run in runs:
        overlap = np.zeros((int(group.max()) + 1, int(run.max()) + 1))
        np.add.at(overlap, (group, run), 1)
        stays += run == overlap.argmax(1)[group]
    return stays / len(runs)


# ---------------------------------------------------------------------------------------------- supernodes


def supernodes(
    node: pa.Table,
    weights: np.ndarray,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    activation: pa.Table,
    config: CommunityConfig,
) -> Division:
    """Merge features that write alike, fire together and connect alike; `weights` (N, N) are the graph's connections."""
    layer, feature = node["layer"].to_numpy(), node["feature"].to_numpy()
    cosine = np.maximum(decoder_cosines(transcoders, layer, feature), 0.0)
    profiles = _cosines(weights)
    active, cluster = _active_tokens(layer, feature, prompts, activation)
    together = shared_tokens(active, cluster)
    n_clusters = len(together)

    def linked(weights: np.ndarray) -> np.ndarray:
        return _linked((cosine + profiles + jaccard(together, weights)) / 3, config.supernode_similarity)

    group = by_size(linked(np.ones(n_clusters)))
    generator = np.random.default_rng(config.seed)
    draws = generator.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=config.supernode_draws)
    runs = [linked(draw.astype(np.float64)) for draw in draws]
    stability = node_stability(group, runs) if runs else np.ones(len(group))
    return Division(group, modularity(weights, group), mean_rand_index(runs) if runs else 1.0, stability)


def decoder_cosines(transcoders: TranscoderSet, layer: np.ndarray, feature: np.ndarray) -> np.ndarray:
    """Return the cosines (N, N) of what features write to the residual stream."""
    vectors = np.zeros((len(layer), transcoders.d_model))
    for number in np.unique(layer):
        own = np.flatnonzero(layer == number)
        rows = output_vectors(transcoders, int(number), torch.from_numpy(feature[own].astype(np.int64)))
        vectors[own] = rows.double().cpu().numpy()
    return _cosines(vectors)


def _cosines(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return np.asarray(unit @ unit.T)


def _active_tokens(layer: np.ndarray, feature: np.ndarray, prompts: PromptSet, activation: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, tokens) bool where features are active, sinks left out, and each token's cluster of prompts."""
    clusters = {name: i for i, name in enumerate(dict.fromkeys(prompt.cluster for prompt in prompts.prompts))}
    cluster_of = {prompt.prompt: clusters[prompt.cluster] for prompt in prompts.prompts}
    name = activation["layer"].to_numpy().astype(np.int64) << 32 | activation["feature"].to_numpy()
    position = activation["position"].to_numpy()
    wanted = layer.astype(np.int64) << 32 | feature
    names, which = np.unique(wanted, return_inverse=True)
    at = np.minimum(np.searchsorted(names, name), len(names) - 1)
    use = (names[at] == name) & (position > 0)
    prompt = activation["prompt"].to_numpy()[use]
    tokens, token = np.unique(prompt.astype(np.int64) << 16 | position[use], return_inverse=True)
    active = np.zeros((len(names), len(tokens)), bool)
    active[at[use], token] = True
    return active[which], np.array([cluster_of.get(int(key) >> 16, 0) for key in tokens], np.int64)


def shared_tokens(active: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Count, per cluster of prompts, the tokens that two features share: (clusters, N, N), from active (N, tokens)."""
    n_clusters = int(cluster.max()) + 1 if len(cluster) else 1
    counts = np.zeros((n_clusters, len(active), len(active)))
    for number in range(n_clusters):
        member = active[:, cluster == number].astype(np.float32)  # counts below 2^24 are exact
        counts[number] = member @ member.T
    return counts


def jaccard(together: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the Jaccard (N, N) of sets of tokens from counts (clusters, N, N), each cluster as often as its weight; 0 for empty sets."""
    both = np.tensordot(weights, together, axes=1)
    size = np.diagonal(both)
    either = size[:, None] + size[None, :] - both
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


def _linked(similarity: np.ndarray, cut: float) -> np.ndarray:
    distance = np.clip(1.0 - similarity, 0.0, None)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False), method="average")
    return np.asarray(fcluster(tree, 1.0 - cut, criterion="distance")) - 1


def _partition_row(
    graph: int, partition: int, kind: str, algorithm: str, found: Division, config: CommunityConfig, resolution: float | None
) -> dict[str, object]:
    return {
        "graph": graph,
        "partition": partition,
        "kind": kind,
        "algorithm": algorithm,
        "seed": config.seed,
        "resolution": resolution,
        "quality": found.quality,
        "n_groups": int(found.group.max()) + 1 if len(found.group) else 0,
        "stability": found.stability,
    }


def _supernode_rows(graph: int, node: pa.Table, merged: Division) -> list[dict[str, object]]:
    labels = node["label"].to_pylist()
    influence = [value or 0.0 for value in node["influence"].to_pylist()]
    strongest: dict[int, int] = {}
    for i, group in enumerate(merged.group):
        if int(group) not in strongest or influence[i] > influence[strongest[int(group)]]:
            strongest[int(group)] = i
    sizes = np.bincount(merged.group)
    return [
        {
            "graph": graph,
            "partition": 1,
            "node": int(number),
            "supernode": int(group),
            "name": labels[strongest[int(group)]] + (f" and {sizes[group] - 1} more" if sizes[group] > 1 else ""),
            "stability": float(stability),
        }
        for number, group, stability in zip(node["node"].to_pylist(), merged.group, merged.node_stability, strict=True)
    ]


_SCHEMAS = {
    "partition": pa.schema(
        [
            ("graph", pa.int32()),
            ("partition", pa.int32()),
            ("kind", pa.string()),
            ("algorithm", pa.string()),
            ("seed", pa.int32()),
            ("resolution", pa.float64()),
            ("quality", pa.float64()),
            ("n_groups", pa.int32()),
            ("stability", pa.float64()),
        ]
    ),
    "community": pa.schema(
        [
            ("graph", pa.int32()),
            ("partition", pa.int32()),
            ("node", pa.int32()),
            ("community", pa.int32()),
            ("stability", pa.float64()),
        ]
    ),
    "supernode": pa.schema(
        [
            ("graph", pa.int32()),
            ("partition", pa.int32()),
            ("node", pa.int32()),
            ("supernode", pa.int32()),
            ("name", pa.string()),
            ("stability", pa.float64()),
        ]
    ),
}
