"""Rows of tables `graph`, `node`, `edge` and `target_total` for attribution graphs.

In: an `AttributionGraph` and what pruning kept. Out: Arrow tables by name, without `run_id` (docs/contract.md). All nodes
of the graph are stored, `kept` says which survive pruning; edges are the kept ones. `target_total` has the sums of weights
over all sources of each attributed target, so that a share of its input can be computed without the edges not stored.
"""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import torch

from ingest.graphs.attribution import AttributionGraph
from ingest.graphs.prune import NodeOrder, Pruned


def graph_tables(
    graph: AttributionGraph,
    pruned: Pruned,
    *,
    ordinal: int,
    name: str,
    token_texts: Sequence[str],
    logit_texts: Sequence[str],
    node_threshold: float,
    edge_threshold: float,
    behaviour: str | None = None,
    prompt: int | None = None,
    parameters: Mapping[str, object] | None = None,
) -> dict[str, pa.Table]:
    """Return the rows of one graph. `ordinal` is its number in the run, `prompt` its prompt's, where there is one.

    Scores are over all sources (METHODS section 4.3); those normalised over the graph's own nodes stand in `parameters`.
    """
    order = graph.node_order()
    replacement, completeness = graph.scores_over_all_sources()
    settings = {
        **(parameters or {}),
        "tokens": graph.tokens.tolist(),
        "n_active_features": len(graph.active),
        "replacement_score_selected": pruned.replacement_score,
        "completeness_score_selected": pruned.completeness_score,
    }
    row = {
        "graph": ordinal,
        "kind": "attribution",
        "name": name,
        "behaviour": behaviour,
        "prompt": prompt,
        "n_prompts": 1,
        "n_nodes": order.n_nodes,
        "n_edges": len(pruned.source),
        "replacement_score": replacement,
        "completeness_score": completeness,
        "unexplained_share": unexplained_share(graph),
        "node_threshold": node_threshold,
        "edge_threshold": edge_threshold,
        "parameters": json.dumps(settings, sort_keys=True),
    }
    return {
        "graph": pa.table({column: [value] for column, value in row.items()}),
        "node": _nodes(graph, pruned, order, ordinal, token_texts, logit_texts),
        "edge": _edges(graph, pruned, order, ordinal),
        "target_total": _totals(graph, order, ordinal),
    }


def unexplained_share(graph: AttributionGraph) -> float:
    """Return the share of the logits' absolute input that comes from errors, weighted by probability."""
    order = graph.order
    share = graph.edges.share_from(order.errors, order.tokens, graph.row_l1)[order.logits :]
    weights = graph.logit_probabilities.to(share.dtype)
    return float((share * weights).sum() / weights.sum())


def _nodes(
    graph: AttributionGraph,
    pruned: Pruned,
    order: NodeOrder,
    ordinal: int,
    token_texts: Sequence[str],
    logit_texts: Sequence[str],
) -> pa.Table:
    selected = graph.selected
    layer, position, feature = (column.tolist() for column in graph.active[selected].T)
    n_features, n_errors = order.n_features, order.n_layers * order.n_positions
    places = list(range(order.n_positions))
    none_tail = [None] * (order.n_positions + order.n_logits)
    names = [f"L{at}_F{number}" for at, number in zip(layer, feature, strict=True)]
    error_layers = [at for at in range(order.n_layers) for _ in places]
    error_places = places * order.n_layers
    no_feature: list[int | None] = [None] * (n_errors + order.n_positions + order.n_logits)
    return pa.table(
        {
            "graph": pa.array([ordinal] * order.n_nodes),
            "node": pa.array(range(order.n_nodes)),
            "kind": pa.array(["feature"] * n_features + ["error"] * n_errors + ["token"] * order.n_positions + ["logit"] * order.n_logits),
            "layer": pa.array([*layer, *error_layers, *none_tail], pa.int16()),
            "feature": pa.array([*feature, *no_feature], pa.int32()),
            "position": pa.array([*position, *error_places, *places, *[order.n_positions - 1] * order.n_logits], pa.int16()),
            "token_id": pa.array([None] * (n_features + n_errors) + graph.tokens.tolist() + graph.logit_token_ids.tolist(), pa.int32()),
            "label": pa.array(
                [
                    *(f"{text} @{at}" for text, at in zip(names, position, strict=True)),
                    *(f"error L{at} @{place}" for at, place in zip(error_layers, error_places, strict=True)),
                    *token_texts,
                    *logit_texts,
                ]
            ),
            "mean_activation": pa.array([*graph.activation[selected].tolist(), *no_feature], pa.float64()),
            "influence": pa.array((pruned.influence / graph.logit_probabilities.sum()).double().numpy()),
            "cumulative_influence": pa.array(pruned.cumulative.double().numpy()),
            "probability": pa.array(
                [None] * order.logits + graph.logit_probabilities.tolist(),
                pa.float64(),
            ),
            "kept": pa.array(pruned.node_mask.numpy()),
        }
    )


def _totals(graph: AttributionGraph, order: NodeOrder, ordinal: int) -> pa.Table:
    """Return what the incoming edges of each attributed feature and each logit add up to, over all sources."""
    nodes = torch.cat([torch.arange(order.n_features), torch.arange(order.logits, order.n_nodes)])
    everywhere = torch.cat([graph.selected, torch.arange(graph.order.logits, graph.order.n_nodes)])
    constants = torch.cat([graph.constants[graph.selected], graph.constants[len(graph.active) :]])
    return pa.table(
        {
            "graph": pa.array([ordinal] * len(nodes), pa.int32()),
            "node": pa.array(nodes.numpy()),
            "absolute_total": pa.array(graph.row_l1[everywhere].double().numpy()),
            "absolute_selected": pa.array(graph.node_edges().row_sums()[nodes].double().numpy()),
            "signed_total": pa.array(graph.edges.row_sums(absolute=False)[everywhere].double().numpy()),
            "constant": pa.array(constants.double().numpy()),
        }
    )


def _edges(graph: AttributionGraph, pruned: Pruned, order: NodeOrder, ordinal: int) -> pa.Table:
    """Return the kept edges, sorted by (source, target)."""
    by_source = torch.argsort(pruned.source * order.n_nodes + pruned.target)
    source, target, weight = pruned.source[by_source], pruned.target[by_source], pruned.weight[by_source]
    active = graph.active[graph.selected]

    def column(node: torch.Tensor, field: int) -> pa.Array:
        """Return layer (0) or feature (2) of nodes, null where they have none."""
        values = torch.full((order.n_nodes,), -1)
        values[: order.n_features] = active[:, field]
        if field == 0:
            values[order.errors : order.tokens] = torch.arange(order.n_layers).repeat_interleave(order.n_positions)
        picked = values[node].numpy()
        return pa.array(picked, mask=picked < 0)

    is_logit = (target >= order.logits).numpy()
    return pa.table(
        {
            "graph": pa.array([ordinal] * len(source), pa.int32()),
            "kind": pa.array(["attribution"] * len(source), pa.string()),
            "source": pa.array(source.numpy()),
            "target": pa.array(target.numpy()),
            "source_layer": column(source, 0),
            "source_feature": column(source, 2),
            "target_kind": pa.array(["logit" if logit else "feature" for logit in is_logit], pa.string()),
            "target_layer": column(target, 0),
            "target_feature": column(target, 2),
            "weight": pa.array(weight.double().numpy()),
            "n_prompts": pa.array([1] * len(source), pa.int32()),
            "frequency": pa.array([1.0] * len(source), pa.float64()),
            "accepted": pa.array([True] * len(source), pa.bool_()),
        }
    )
