"""Graphs that circuit-tracer saves with `Graph.to_pt`: the whole attribution matrix, unpruned.

In: a `.pt` file. Out: `ForeignGraph`; edges are streamed, a block of target rows at a time.

Nodes stand in the order features, errors (layer-major), tokens, logits; adjacency[target, source] (N, N). torch is imported here and
only here. The file is a pickle with circuit-tracer's own classes in it: it is read with an unpickler that builds tensors and plain
containers and nothing else. Every other class becomes an inert `Foreign` object, so that no code of the file runs and circuit-tracer
need not be installed.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from atlas.errors import InputError
from atlas.ids import canonical_json
from atlas.schema import arrow_schema
from ingest.importers.common import to_table
from ingest.importers.graph_rows import ForeignGraph, node_label

FIELDS = ("input_string", "adjacency_matrix", "cfg", "active_features", "logit_probabilities", "input_tokens", "selected_features")
ROWS_A_BATCH = 256
"""Target rows turned into edges at a time."""
SAFE = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
}
"""Besides torch's dtypes and storage types: what an unpickled graph may name."""


class Foreign:
    """An inert stand-in for a class of the file: keeps what it was made of."""

    arguments: tuple[Any, ...] = ()

    def __new__(cls, *arguments: Any, **_: Any) -> Foreign:
        """Keep the arguments."""
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything: `__new__` keeps it."""

    def __setstate__(self, state: Any) -> None:
        states = state if isinstance(state, tuple) else (state,)
        for part in states:
            if isinstance(part, dict):
                self.__dict__.update(part)


class Unpickler(pickle.Unpickler):
    """Builds tensors and plain containers; anything else becomes `Foreign`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class only if it is known to be harmless."""
        import torch

        value = getattr(torch, name, None) if module == "torch" else None
        harmless = isinstance(value, torch.dtype) or (module == "torch" and name.endswith("Storage"))
        return super().find_class(module, name) if harmless or (module, name) in SAFE else Foreign


def _load(path: Path) -> dict[str, Any]:
    import torch

    module = types.SimpleNamespace(Unpickler=Unpickler, load=pickle.load, loads=pickle.loads, __name__="restricted_pickle")
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=module, mmap=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path.name}: expected a graph saved by circuit-tracer, got a file that does not load: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path.name}: expected a dictionary, got {type(content).__name__}")
    missing = [field for field in FIELDS if field not in content]
    if missing:
        raise InputError(f"{path.name}: field {missing[0]!r}: expected a value, got nothing")
    return content


def read_graph_pt(path: Path, ordinal: int) -> ForeignGraph:
    """Read one file as graph `ordinal`."""
    content = _load(path)
    cfg = content["cfg"]
    n_layers = int(cfg["n_layers"] if isinstance(cfg, dict) else getattr(cfg, "n_layers", 0))
    tokens = np.asarray(content["input_tokens"].tolist()).reshape(-1).tolist()
    matrix = content["adjacency_matrix"].detach().float().numpy()
    targets = _logit_targets(content)
    rows = _node_rows(content, path.name, ordinal, n_layers, tokens, targets)
    if matrix.shape != (len(rows), len(rows)):
        raise InputError(f"{path.name}: field 'adjacency_matrix': expected ({len(rows)}, {len(rows)}), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InputError(f"{path.name}: field 'adjacency_matrix': expected finite values, got NaN or infinity")
    graph = {
        "graph": ordinal,
        "kind": "attribution",
        "name": path.stem,
        "prompt": ordinal,
        "n_prompts": 1,
        "n_nodes": len(rows),
        "n_edges": int(np.count_nonzero(matrix)),
        "parameters": canonical_json({"scan": _plain(content.get("scan")), "n_active_features": len(content["active_features"])}),
    }
    return ForeignGraph(
        name=path.stem,
        prompt=str(content["input_string"]),
        tokens=[f"[{token}]" for token in tokens],
        token_ids=tokens,
        scan=str(getattr(cfg, "model_name", "")) or None,
        transcoder_set=content["scan"] if isinstance(content.get("scan"), str) else None,
        tables={"graph": to_table("graph", [graph]), "node": to_table("node", rows), "edge": _edges(matrix, rows, ordinal)},
        notes=(f"{path.name}: holds token ids but no token texts; tokens are shown by id",),
    )


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else [str(item) for item in value]


def _logit_targets(content: dict[str, Any]) -> list[tuple[str, int]]:
    """Return (text, vocabulary id) of each logit; older files hold a tensor of ids."""
    targets = content.get("logit_targets", content.get("logit_tokens"))
    if targets is not None and hasattr(targets, "tolist"):
        return [("", int(token)) for token in targets.tolist()]
    pairs = []
    for target in targets or []:
        text, token = (*target.arguments, "", "")[:2] if isinstance(target, Foreign) else target[:2]
        pairs.append((str(text), int(token)))
    return pairs


def _node_rows(
    content: dict[str, Any], name: str, ordinal: int, n_layers: int, tokens: list[int], targets: list[tuple[str, int]]
) -> list[dict[str, Any]]:
    active = content["active_features"].tolist()
    selected = content["selected_features"].tolist()
    if selected and max(selected) >= len(active):
        raise InputError(f"{name}: field 'selected_features': expected indices below {len(active)}, got {max(selected)}")
    values = content.get("activation_values")
    strengths = [None] * len(active) if values is None else values.float().tolist()
    only_selected = len(strengths) == len(selected)  # some versions keep the selected ones only
    activation = dict(zip(selected if only_selected else range(len(active)), strengths, strict=True))
    rows: list[dict[str, Any]] = []
    for index in selected:
        layer, position, feature = active[index]
        rows.append(_node("feature", layer, feature, position) | {"mean_activation": activation[index]})
    rows += [_node("error", layer, None, position) for layer in range(n_layers) for position in range(len(tokens))]
    rows += [_node("token", None, None, position, f"[{token}]") | {"token_id": token} for position, token in enumerate(tokens)]
    probabilities = content["logit_probabilities"].float().tolist()
    if len(probabilities) != len(targets):
        raise InputError(f"{name}: field 'logit_targets': expected {len(probabilities)} like the probabilities, got {len(targets)}")
    vocab_size = int(content.get("vocab_size") or 2**31)
    for (text, token), probability in zip(targets, probabilities, strict=True):
        node = _node("logit", None, None, len(tokens) - 1, text or f"[{token}]")
        rows.append(node | {"token_id": token if token < vocab_size else None, "probability": probability})
    return [{"graph": ordinal, "node": number, "kept": True, **row} for number, row in enumerate(rows)]


def _node(kind: str, layer: int | None, feature: int | None, position: int, text: str = "") -> dict[str, Any]:
    label = node_label(kind, layer, feature, position, text)
    return {"kind": kind, "layer": layer, "feature": feature, "position": position, "label": label}


def _edges(matrix: npt.NDArray[np.float32], rows: list[dict[str, Any]], ordinal: int) -> Iterator[pa.RecordBatch]:
    """Yield the nonzero entries as edges, target by target."""
    schema = arrow_schema("edge")
    layer, feature = (pa.array([row[name] for row in rows], pa.int32()) for name in ("layer", "feature"))
    kind = pa.array([row["kind"] for row in rows], pa.string())
    for start in range(0, len(rows), ROWS_A_BATCH):
        block = matrix[start : start + ROWS_A_BATCH]
        target, source = np.nonzero(block)
        if not len(target):
            continue
        weight = block[target, source].astype(np.float64)
        at_target, at_source = pa.array(target + start), pa.array(source)
        columns = {
            "graph": pa.repeat(ordinal, len(target)),
            "kind": pa.repeat("attribution", len(target)),
            "source": at_source,
            "target": at_target,
            "source_layer": layer.take(at_source),
            "source_feature": feature.take(at_source),
            "target_kind": kind.take(at_target),
            "target_layer": layer.take(at_target),
            "target_feature": feature.take(at_target),
            "weight": pa.array(weight),
            "n_prompts": pa.repeat(1, len(target)),
            "accepted": pa.repeat(True, len(target)),
        }
        arrays = [columns[item.name].cast(item.type) if item.name in columns else pa.nulls(len(target), item.type) for item in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
