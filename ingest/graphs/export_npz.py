"""Write an attribution graph as NumPy arrays.

In: an `AttributionGraph`, what pruning kept, its transcoders. Out: an `.npz` whose arrays have the names of the
reference graphs (README of the shared data folder's attribution_reference), and beside them `constants`, `row_l1` and
`scores_all_sources`, which circuit-tracer does not have. Node order: selected features, errors (layer-major), tokens,
logits; rows of `adjacency` and `edge_mask` are targets.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from atlas.errors import InputError
from ingest.adapters import upcast
from ingest.graphs.attribution import AttributionGraph
from ingest.graphs.prune import Pruned
from ingest.transcoder import TranscoderSet

MOST_NODES = 20_000
"""Above this the dense adjacency and its mask would be more than 2 GB."""


def check_size(graph: AttributionGraph) -> None:
    """Raise InputError for a graph too large for dense matrices."""
    n_nodes = graph.node_order().n_nodes
    if n_nodes > MOST_NODES:
        raise InputError(
            f"the graph has {n_nodes:,} nodes; .npz holds a dense adjacency and takes at most {MOST_NODES:,}",
            hint="write .json, write into an atlas (both are sparse), or pass --max-feature-nodes 10000",
        )


def graph_arrays(
    graph: AttributionGraph,
    pruned: Pruned,
    transcoders: TranscoderSet,
    *,
    logit_texts: Sequence[str],
    meta: Mapping[str, object],
) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays by name."""
    check_size(graph)
    order = graph.node_order()
    selected = graph.selected
    features = torch.cat([selected, torch.arange(order.n_logits) + len(graph.active)])
    encoders, decoders = _vectors(graph, transcoders)
    arrays: dict[str, torch.Tensor] = {
        "adjacency": graph.node_edges().dense(),
        "active_features": graph.active,
        "activation_values": graph.activation,
        "pre_activations": graph.pre_activation,
        "selected_features": selected,
        "error_vectors": graph.error_vectors,
        "token_vectors": graph.token_vectors,
        "encoder_vecs": encoders,
        "input_tokens": graph.tokens,
        "logit_token_ids": graph.logit_token_ids,
        "logit_probabilities": graph.logit_probabilities,
        "last_logits": graph.last_logits,
        "node_influence": pruned.influence,
        "cumulative_influence": pruned.cumulative,
        "node_mask": pruned.node_mask,
        "edge_mask": pruned.edge_mask(),
        "scores": torch.tensor([pruned.replacement_score, pruned.completeness_score], dtype=torch.float64),
        "scores_all_sources": torch.tensor(graph.scores_over_all_sources(), dtype=torch.float64),
        "constants": graph.constants[features],
        "row_l1": torch.cat([graph.row_l1[selected], graph.row_l1[graph.order.logits :]]),
    }
    if decoders is not None:
        arrays["decoder_vecs"] = decoders
    named: dict[str, npt.NDArray[np.generic]] = {name: tensor.numpy() for name, tensor in arrays.items()}
    named["logit_token_strs"] = np.array(list(logit_texts))
    named["meta"] = np.array(json.dumps(dict(meta)))
    return named


def write_npz(arrays: Mapping[str, npt.NDArray[np.generic]], path: Path) -> None:
    """Write the arrays, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]  # a keyword named allow_pickle is typed bool
    temporary.replace(path)


def _vectors(graph: AttributionGraph, transcoders: TranscoderSet) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return encoder rows (A, D) and activation x decoder rows (A, D); no decoders for a cross-layer set."""
    encoders: list[torch.Tensor] = []
    decoders: list[torch.Tensor] = []
    for layer in range(graph.order.n_layers):
        features = graph.active[graph.active[:, 0] == layer, 2]
        encoders.append(upcast(transcoders.encoder_rows(layer, features)).cpu())
        if not transcoders.cross_layer:
            decoders.append(upcast(transcoders.decoder_rows(layer, features)).cpu())
    if transcoders.cross_layer:
        return torch.cat(encoders), None
    return torch.cat(encoders), torch.cat(decoders) * graph.activation[:, None]
