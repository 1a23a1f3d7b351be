"""Graphs over a prompt set: which features matter for the answers, and what leads to what.

In: a model, transcoders, a prompt set. Out: rows of graph, node, node_language, edge, edge_language, edge_prompt; one graph a behaviour.

1. Star values of every active feature on every prompt (`ingest.graphs.stars`); positions of one prompt are added up.
2. Nodes: features active on enough prompts of some language, ranked by influence = the largest over languages of the mean |star_total|
   over that language's prompts. A feature of one language is not outvoted by the other; universal ones are marked, never dropped.
   Beside them one input node per token role (its embeddings) and the output (the margin).
3. Star edges, node -> output, with star_total and star_direct as weights.
4. Virtual weights, feature (l) -> feature (l' > l) for any later layer, from sub-matrices (`ingest.graphs.virtual`): the strongest by
   |E[1(a_j > 0) a_i] V_ij|.
5. Stability: clusters of prompts (concepts) are drawn with replacement and nodes and edges selected again; selection_frequency is the
   share of draws that keep them. Intervals are cluster t (METHODS section 8).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from atlas.errors import InputError, UsageError
from atlas.ids import feature_name
from ingest.activations import chosen_layers
from ingest.batches import Progress
from ingest.graphs.rows import EdgeColumns, NodeColumns, concat_rows
from ingest.graphs.selection import NO_ROLE, Design, EdgeConfig, FeatureNodes, design_of, feature_nodes, select_nodes
from ingest.graphs.stars import Inputs, StarResult, Stars, stars
from ingest.graphs.virtual import VirtualEdges, virtual_edges
from ingest.model import LanguageModel
from ingest.prompts import Prompt, PromptSet
from ingest.statistics import ROLES
from ingest.transcoder import TranscoderSet


def edges(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    config: EdgeConfig | None = None,
    *,
    first_graph: int = 0,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Build one graph per behaviour; graphs are numbered from `first_graph`. `progress` counts prompts.

    Raises:
        InputError: no prompt in the wanted splits, layers without a transcoder, no feature above the thresholds.
        ModelError: NaN, infinite values, out of memory.
    """
    config = config or EdgeConfig()
    _check(config)
    layers = chosen_layers(transcoders, config.layers)
    transcoders.bind(model, layers)
    behaviours = list(dict.fromkeys(prompt.behaviour for prompt in prompts.prompts))
    pieces: list[dict[str, pa.Table]] = []
    done = 0
    used = [prompt for prompt in prompts.prompts if prompt.split in config.splits]
    for offset, behaviour in enumerate(behaviours):
        own = [prompt for prompt in used if prompt.behaviour == behaviour]
        if not own:
            raise InputError(
                f"behaviour {behaviour} has no prompt in the splits {', '.join(config.splits)}",
                hint="choose other splits for the graph, or other splits in the plan",
            )

        def report(n: int, _: int, before: int = done) -> None:
            if progress is not None:
                progress(before + n, len(used))

        result = stars(model, transcoders, own, layers, batch_size=config.batch_size, progress=report)
        pieces.append(_graph(model, transcoders, own, result, config, first_graph + offset, behaviour))
        done += len(own)
    return concat_rows(pieces)


def _check(config: EdgeConfig) -> None:
    if not 0 <= config.min_frequency <= 1:
        raise UsageError(f"min_frequency is {config.min_frequency}, a share from 0 to 1")
    for name in ("max_nodes", "max_edges", "batch_size"):
        if getattr(config, name) < 1:
            raise UsageError(f"{name} is {getattr(config, name)}, at least 1")


def _graph(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: Sequence[Prompt],
    result: StarResult,
    config: EdgeConfig,
    graph: int,
    behaviour: str,
) -> dict[str, pa.Table]:
    design = design_of(prompts, config.bootstrap, config.seed)
    rows = _at_positions(result.stars, prompts, config)
    inputs = _inputs_at_positions(result.inputs, prompts, config)
    nodes = select_nodes(feature_nodes(rows, design, config), design, config)
    if len(nodes) == 0:
        raise InputError(
            f"no feature of behaviour {behaviour} is active on {config.min_frequency:.0%} of the prompts of a language",
            hint="lower min_frequency or min_influence in the plan's [edges]",
        )
    virtual = virtual_edges(model, transcoders, nodes, rows, inputs, design, config)
    return _tables(nodes, inputs, virtual, result.unexplained_share, design, config, graph, behaviour)


def _at_positions(rows: Stars, prompts: Sequence[Prompt], config: EdgeConfig) -> Stars:
    keep = _position_mask(rows.prompt, rows.position, prompts, config)
    return rows if keep is None else Stars(*(getattr(rows, name)[keep] for name in rows.__dataclass_fields__))


def _inputs_at_positions(rows: Inputs, prompts: Sequence[Prompt], config: EdgeConfig) -> Inputs:
    keep = _position_mask(rows.prompt, rows.position, prompts, config)
    return rows if keep is None else Inputs(*(getattr(rows, name)[keep] for name in rows.__dataclass_fields__))


def _position_mask(prompt: np.ndarray, position: np.ndarray, prompts: Sequence[Prompt], config: EdgeConfig) -> np.ndarray | None:
    if config.position_rule == "all":
        return None
    longest = max(len(entry.token_ids) for entry in prompts)
    wanted = np.zeros((len(prompts), longest), bool)
    for i, entry in enumerate(prompts):
        wanted[i, [entry.decision_position] if config.position_rule == "decision" else list(entry.content_positions)] = True
    return np.asarray(wanted[prompt, position])


# ---------------------------------------------------------------------------------------------- rows of schema.sql


def _tables(
    nodes: FeatureNodes,
    inputs: Inputs,
    virtual: VirtualEdges,
    unexplained_share: float | None,
    design: Design,
    config: EdgeConfig,
    graph: int,
    behaviour: str,
) -> dict[str, pa.Table]:
    roles = sorted({int(role) for role in inputs.role})
    output = len(nodes) + len(roles)
    node_columns, edge_columns = NodeColumns(graph, design), EdgeColumns(graph, design, config.store_prompts)
    for i in range(len(nodes)):
        layer, feature, role = int(nodes.layer[i]), int(nodes.feature[i]), int(nodes.role[i])
        suffix = f" @{ROLES[role]}" if role != NO_ROLE else ""
        node_columns.add(
            i,
            "feature",
            feature_name(layer, feature) + suffix,
            nodes.activation[i],
            nodes.active[i],
            layer=layer,
            feature=feature,
            role=ROLES[role] if role != NO_ROLE else None,
            influence=float(nodes.influence[i]),
            selection_frequency=float(nodes.selection_frequency[i]),
            universal_frequency=config.universal_frequency,
        )
    input_total, input_direct, present = _input_values(inputs, roles, len(design.prompts))
    for i, role in enumerate(roles):
        node_columns.add(len(nodes) + i, "input", f"input {ROLES[role]}", None, present[i], role=ROLES[role])
    everywhere = np.ones(len(design.prompts), bool)
    node_columns.add(output, "output", "margin", None, everywhere)

    sources = np.arange(output)
    selection = np.concatenate([nodes.selection_frequency, np.full(len(roles), np.nan)])
    layer_of = np.concatenate([nodes.layer.astype(np.int64), np.full(len(roles), -1)])
    feature_of = np.concatenate([nodes.feature.astype(np.int64), np.full(len(roles), -1)])
    active = np.concatenate([nodes.active, present])
    for kind, feature_values, input_values in (
        ("star_total", nodes.total, input_total),
        ("star_direct", nodes.direct, input_direct),
    ):
        values = np.concatenate([feature_values, input_values])
        edge_columns.add_stars(kind, sources, output, layer_of, feature_of, values, active, selection)
    edge_columns.add_virtual(virtual, layer_of, feature_of, {role: len(nodes) + i for i, role in enumerate(roles)})
    tables = node_columns.tables() | edge_columns.tables()
    tables["graph"] = pa.Table.from_pylist(
        [
            {
                "graph": graph,
                "kind": "prompt_set",
                "name": f"{behaviour}, {' and '.join(config.splits)}",
                "behaviour": behaviour,
                "n_prompts": len(design.prompts),
                "n_nodes": tables["node"].num_rows,
                "n_edges": tables["edge"].num_rows,
                "unexplained_share": unexplained_share,
                "parameters": json.dumps(asdict(config), sort_keys=True),
            }
        ]
    )
    return tables


def _input_values(inputs: Inputs, roles: Sequence[int], n_prompts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up input stars by (role, prompt): total, direct, and where the role occurs; (roles, P) each."""
    place = np.full(len(ROLES), -1)
    place[list(roles)] = np.arange(len(roles))
    cell = place[inputs.role] * n_prompts + inputs.prompt
    size, shape = len(roles) * n_prompts, (len(roles), n_prompts)
    return (
        np.bincount(cell, inputs.total, size).reshape(shape),
        np.bincount(cell, inputs.direct, size).reshape(shape),
        np.bincount(cell, minlength=size).reshape(shape) > 0,
    )
