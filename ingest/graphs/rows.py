"""Rows of node, node_language, edge, edge_language and edge_prompt for graphs over prompts.

In: values of nodes and edges on each prompt. Out: Arrow tables. Means and deviations are over the prompts where the source is active;
frequencies have all prompts (of the language) as denominator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.stats import cluster_t
from ingest.graphs.selection import NO_ROLE, Design
from ingest.graphs.virtual import VirtualEdges


def concat_rows(pieces: Sequence[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
    """Join the tables of several graphs."""
    return {name: pa.concat_tables([piece[name] for piece in pieces]) for name in pieces[0]}


def _number(value: float) -> float | None:
    """Return None for NaN."""
    return None if np.isnan(value) else float(value)


def _numbers(values: np.ndarray) -> pa.Array:
    """Return doubles with null for NaN."""
    return pa.array(np.asarray(values, np.float64), from_pandas=True)


def masked_moments(values: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return n, mean and sample standard deviation (..., ) over the last axis where `present`; NaN where undefined."""
    n = present.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, values, 0.0).sum(-1) / n
        squares = np.where(present, (values - mean[..., None]) ** 2, 0.0).sum(-1)
        sd = np.where(n > 1, np.sqrt(squares / (n - 1)), np.nan)
    return n, np.where(n > 0, mean, np.nan), sd


class NodeColumns:
    """Collects nodes of one graph."""

    def __init__(self, graph: int, design: Design) -> None:
        self.graph, self.design = graph, design
        self.nodes: list[dict[str, object]] = []
        self.languages: list[dict[str, object]] = []

    def add(
        self,
        node: int,
        kind: str,
        label: str,
        activation: np.ndarray | None,
        present: np.ndarray,
        *,
        layer: int | None = None,
        feature: int | None = None,
        role: str | None = None,
        influence: float | None = None,
        selection_frequency: float | None = None,
        universal_frequency: float | None = None,
    ) -> None:
        """Add a node that is active on the prompts where `present` (P) is true."""
        values = np.full(len(present), np.nan) if activation is None else activation
        n, mean, sd = (float(x) for x in masked_moments(values, present))
        frequencies = []
        for i, language in enumerate(self.design.languages):
            own = self.design.language == i
            n_own, mean_own, sd_own = (float(x) for x in masked_moments(values[own], present[own]))
            frequencies.append(n_own / int(own.sum()))
            self.languages.append(
                {
                    "graph": self.graph,
                    "node": node,
                    "language": language,
                    "n_prompts": int(n_own),
                    "frequency": frequencies[-1],
                    "mean_activation": _number(mean_own),
                    "sd_activation": _number(sd_own),
                }
            )
        self.nodes.append(
            {
                "graph": self.graph,
                "node": node,
                "kind": kind,
                "layer": layer,
                "feature": feature,
                "role": role,
                "label": label,
                "n_prompts": int(n),
                "frequency": n / len(present),
                "mean_activation": _number(mean),
                "sd_activation": _number(sd),
                "influence": influence,
                "selection_frequency": selection_frequency,
                "kept": True,
                "universal": None if universal_frequency is None else min(frequencies) >= universal_frequency,
            }
        )

    def tables(self) -> dict[str, pa.Table]:
        """Return node and node_language."""
        return {
            "node": pa.Table.from_pylist(self.nodes, schema=_NODE),
            "node_language": pa.Table.from_pylist(self.languages, schema=_NODE_LANGUAGE),
        }


class EdgeColumns:
    """Collects edges of one graph."""

    def __init__(self, graph: int, design: Design, store_prompts: bool) -> None:
        self.graph, self.design, self.store_prompts = graph, design, store_prompts
        self._edges: list[pa.Table] = []
        self._languages: list[pa.Table] = []
        self._prompts: list[pa.Table] = [_EDGE_PROMPT.empty_table()]

    def add_stars(
        self,
        kind: str,
        sources: np.ndarray,
        output: int,
        layer: np.ndarray,
        feature: np.ndarray,
        values: np.ndarray,
        active: np.ndarray,
        selection_frequency: np.ndarray,
    ) -> None:
        """Add edges of all sources (S) to the output node, from their values (S, P) where active (S, P)."""
        design = self.design
        n, mean, sd = masked_moments(values, active)
        bounds = cluster_t(values, design.cluster, active)
        with np.errstate(invalid="ignore", divide="ignore"):
            sign = (active & (np.sign(values) == np.sign(mean)[:, None])).sum(1) / n
        self._edges.append(
            self._edge_table(
                kind,
                sources,
                np.full(len(sources), output),
                layer,
                feature,
                "output",
                None,
                None,
                weight=mean,
                sd=sd,
                n_prompts=n,
                frequency=(active & (values != 0)).sum(1) / values.shape[1],
                selection_frequency=selection_frequency,
                sign_stability=sign,
                ci_low=np.asarray(bounds.low),
                ci_high=np.asarray(bounds.high),
            )
        )
        for i, language in enumerate(design.languages):
            own = design.language == i
            n_own, mean_own, sd_own = masked_moments(values[:, own], active[:, own])
            some = n_own > 0
            self._languages.append(
                self._language_table(
                    kind, sources[some], np.full(int(some.sum()), output), language, n_own[some], mean_own[some], sd_own[some]
                )
            )
        if self.store_prompts:
            which, prompt = np.nonzero(active)
            ordinals = np.array([entry.prompt for entry in design.prompts], np.int32)
            self._prompts.append(
                pa.table(
                    {
                        "graph": pa.array(np.full(len(which), self.graph, np.int32)),
                        "kind": pa.array([kind] * len(which), pa.string()),
                        "source": pa.array(sources[which].astype(np.int32)),
                        "target": pa.array(np.full(len(which), output, np.int32)),
                        "prompt": pa.array(ordinals[prompt]),
                        "weight": pa.array(values[which, prompt]),
                    }
                )
            )

    def add_virtual(self, edges: VirtualEdges, layer: np.ndarray, feature: np.ndarray, input_nodes: Mapping[int, int]) -> None:
        """Add virtual-weight edges; `layer` and `feature` are those of all nodes, `input_nodes` maps roles to nodes."""
        is_input = edges.source_role != NO_ROLE
        inputs = np.array([input_nodes.get(int(role), -1) for role in edges.source_role], np.int64)
        source = np.where(is_input, inputs, edges.source)
        self._edges.append(
            self._edge_table(
                "virtual_weight",
                source,
                edges.target,
                layer[source],
                feature[source],
                "feature",
                layer[edges.target],
                feature[edges.target],
                weight=edges.weight,
                sd=edges.sd,
                n_prompts=edges.n_prompts,
                frequency=edges.n_prompts / len(self.design.prompts),
                static_weight=edges.static,
                attribution=edges.attribution,
                target_weighted=edges.target_weighted,
                selection_frequency=edges.selection_frequency,
            )
        )
        for i, language in enumerate(self.design.languages):
            some = edges.language_prompts[:, i] > 0
            self._languages.append(
                self._language_table(
                    "virtual_weight",
                    source[some],
                    edges.target[some],
                    language,
                    edges.language_prompts[some, i],
                    edges.language_weight[some, i],
                    np.full(int(some.sum()), np.nan),
                    edges.language_attribution[some, i],
                )
            )

    def _edge_table(
        self,
        kind: str,
        source: np.ndarray,
        target: np.ndarray,
        source_layer: np.ndarray,
        source_feature: np.ndarray,
        target_kind: str,
        target_layer: np.ndarray | None,
        target_feature: np.ndarray | None,
        **numbers: np.ndarray,
    ) -> pa.Table:
        n = len(source)
        columns: dict[str, pa.Array] = {
            "graph": pa.array(np.full(n, self.graph, np.int32)),
            "kind": pa.array([kind] * n, pa.string()),
            "source": pa.array(source.astype(np.int32)),
            "target": pa.array(target.astype(np.int32)),
            "source_layer": _or_null(source_layer, pa.int16()),
            "source_feature": _or_null(source_feature, pa.int32()),
            "target_kind": pa.array([target_kind] * n, pa.string()),
            "target_layer": _or_null(target_layer, pa.int16(), n),
            "target_feature": _or_null(target_feature, pa.int32(), n),
            "n_prompts": pa.array(numbers.pop("n_prompts").astype(np.int32)),
            "accepted": pa.array(np.ones(n, bool)),
        }
        for name in _EDGE_NUMBERS:
            columns[name] = _numbers(numbers[name]) if name in numbers else pa.nulls(n, pa.float64())
        return pa.table(columns).filter(pc.is_valid(columns["weight"]))

    def _language_table(
        self,
        kind: str,
        source: np.ndarray,
        target: np.ndarray,
        language: str,
        n_prompts: np.ndarray,
        weight: np.ndarray,
        sd: np.ndarray,
        attribution: np.ndarray | None = None,
    ) -> pa.Table:
        n = len(source)
        return pa.table(
            {
                "graph": pa.array(np.full(n, self.graph, np.int32)),
                "kind": pa.array([kind] * n, pa.string()),
                "source": pa.array(source.astype(np.int32)),
                "target": pa.array(target.astype(np.int32)),
                "language": pa.array([language] * n, pa.string()),
                "n_prompts": pa.array(n_prompts.astype(np.int32)),
                "weight": _numbers(weight),
                "sd": _numbers(sd),
                "attribution": pa.nulls(n, pa.float64()) if attribution is None else _numbers(attribution),
            }
        )

    def tables(self) -> dict[str, pa.Table]:
        """Return edge, edge_language and edge_prompt."""
        return {
            "edge": pa.concat_tables(self._edges),
            "edge_language": pa.concat_tables(self._languages),
            "edge_prompt": pa.concat_tables(self._prompts),
        }


def _or_null(values: np.ndarray | None, kind: pa.DataType, n: int = 0) -> pa.Array:
    """Return integers with null for what is below 0."""
    if values is None:
        return pa.nulls(n, kind)
    return pa.array(values.astype(np.int64), mask=values < 0).cast(kind)


_EDGE_NUMBERS = (
    "weight", "sd", "frequency", "static_weight", "attribution", "target_weighted", "selection_frequency", "sign_stability",
    "ci_low", "ci_high",
)  # fmt: skip
_NODE = pa.schema(
    [
        ("graph", pa.int32()),
        ("node", pa.int32()),
        ("kind", pa.string()),
        ("layer", pa.int16()),
        ("feature", pa.int32()),
        ("role", pa.string()),
        ("label", pa.string()),
        ("n_prompts", pa.int32()),
        ("frequency", pa.float64()),
        ("mean_activation", pa.float64()),
        ("sd_activation", pa.float64()),
        ("influence", pa.float64()),
        ("selection_frequency", pa.float64()),
        ("kept", pa.bool_()),
        ("universal", pa.bool_()),
    ]
)
_NODE_LANGUAGE = pa.schema(
    [
        ("graph", pa.int32()),
        ("node", pa.int32()),
        ("language", pa.string()),
        ("n_prompts", pa.int32()),
        ("frequency", pa.float64()),
        ("mean_activation", pa.float64()),
        ("sd_activation", pa.float64()),
    ]
)
_EDGE_PROMPT = pa.schema(
    [
        ("graph", pa.int32()),
        ("kind", pa.string()),
        ("source", pa.int32()),
        ("target", pa.int32()),
        ("prompt", pa.int32()),
        ("weight", pa.float64()),
    ]
)
