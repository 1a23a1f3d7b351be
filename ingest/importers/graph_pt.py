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
from ingest.importers.common import HIGHEST_INT, HIGHEST_SMALL, to_table
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


def _bad(name: str, field: str, expected: str, got: Any) -> InputError:
    return InputError(
        f"{name}: field {field!r}: expected {expected}, got {str(got)[:80]}",
        hint="Nothing was imported; save the graph again with Graph.to_pt.",
    )


def _array(content: dict[str, Any], name: str, field: str, n_dims: int, kind: str, high: int = HIGHEST_INT) -> npt.NDArray[Any]:
    """Return a tensor field as an array of finite numbers: `kind` i, whole numbers from 0 to `high`, or f."""
    import torch

    value = content[field]
    words = f"a tensor of {n_dims} dimension{'s' if n_dims > 1 else ''} of {'whole numbers' if kind == 'i' else 'numbers'}"
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.dim() != n_dims or value.is_complex():
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise _bad(name, field, words, shape)
    if kind == "f":
        array: npt.NDArray[Any] = value.detach().float().numpy()
        if not np.isfinite(array).all():
            raise _bad(name, field, "finite values", "NaN or infinity")
        return array
    if value.is_floating_point() or value.dtype is torch.bool:
        raise _bad(name, field, words, value.dtype)
    array = value.long().numpy()
    if array.size and not 0 <= array.min() <= array.max() <= high:
        raise _bad(name, field, f"whole numbers from 0 to {high}", f"{array.min()} to {array.max()}")
    return array


def _n_layers(content: dict[str, Any], name: str) -> int:
    cfg = content["cfg"]
    found = cfg.get("n_layers") if isinstance(cfg, dict) else getattr(cfg, "n_layers", None)
    if type(found) is not int or not 0 < found <= HIGHEST_SMALL:
        raise _bad(name, "cfg", f"n_layers from 1 to {HIGHEST_SMALL}", found)
    return found


def read_graph_pt(path: Path, ordinal: int) -> ForeignGraph:
    """Read one file as graph `ordinal`."""
    content = _load(path)
    n_layers = _n_layers(content, path.name)
    if hasattr(content["input_tokens"], "reshape"):
        content["input_tokens"] = content["input_tokens"].reshape(-1)  # (T) or (1, T)
    tokens: list[int] = _array(content, path.name, "input_tokens", 1, "i").tolist()
    if not 0 < len(tokens) <= HIGHEST_SMALL:
        raise _bad(path.name, "input_tokens", f"from 1 to {HIGHEST_SMALL} tokens", len(tokens))
    matrix = _array(content, path.name, "adjacency_matrix", 2, "f")
    targets = _logit_targets(content, path.name)
    rows = _node_rows(content, path.name, ordinal, n_layers, tokens, targets)
    if matrix.shape != (len(rows), len(rows)):
        raise _bad(path.name, "adjacency_matrix", f"({len(rows)}, {len(rows)})", matrix.shape)
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
        prompt=_text(content["input_string"], path.name),
        tokens=[f"[{token}]" for token in tokens],
        token_ids=tokens,
        scan=_model_name(content["cfg"]),
        transcoder_set=content["scan"] if isinstance(content.get("scan"), str) else None,
        tables={"graph": to_table("graph", [graph]), "node": to_table("node", rows), "edge": _edges(matrix, rows, ordinal)},
        notes=(f"{path.name}: holds token ids but no token texts; tokens are shown by id",),
    )


def _model_name(cfg: Any) -> str | None:
    found = cfg.get("model_name") if isinstance(cfg, dict) else getattr(cfg, "model_name", None)
    return found if isinstance(found, str) and found else None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _bad(name, "input_string", "a text", value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return value if value is None else str(value)


def _logit_targets(content: dict[str, Any], name: str) -> list[tuple[str, int]]:
    """Return (text, vocabulary id) of each logit; older files hold a tensor of ids."""
    field = "logit_targets" if "logit_targets" in content else "logit_tokens"
    targets = content.get(field)
    if hasattr(targets, "tolist"):
        return [("", token) for token in _array(content, name, field, 1, "i").tolist()]
    pairs = []
    for target in targets if isinstance(targets, list | tuple) else ():
        parts = target.arguments if isinstance(target, Foreign) else target
        if not isinstance(parts, list | tuple) or len(parts) < 2 or type(parts[1]) is not int or not 0 <= parts[1] <= HIGHEST_INT:
            raise _bad(name, field, "pairs of text and vocabulary id", parts)
        pairs.append((str(parts[0]), parts[1]))
    return pairs


def _node_rows(
    content: dict[str, Any], name: str, ordinal: int, n_layers: int, tokens: list[int], targets: list[tuple[str, int]]
) -> list[dict[str, Any]]:
    active = _array(content, name, "active_features", 2, "i")
    if active.shape[1] != 3 or (len(active) and (active[:, 0].max() >= n_layers or active[:, 1].max() >= len(tokens))):
        expected = f"(layer below {n_layers}, position below {len(tokens)}, feature) each"
        raise _bad(name, "active_features", expected, active.max(axis=0).tolist() if len(active) else active.shape)
    selected: list[int] = _array(content, name, "selected_features", 1, "i").tolist()
    if selected and (max(selected) >= len(active) or len(set(selected)) < len(selected)):
        expected = f"indices below {len(active)}, each once"
        raise _bad(name, "selected_features", expected, f"{max(selected)} among {len(set(selected))} different ones")
    rows: list[dict[str, Any]] = []
    activation = _strengths(content, name, selected, len(active))
    for index in selected:
        layer, position, feature = active[index].tolist()
        rows.append(_node("feature", layer, feature, position) | {"mean_activation": activation[index]})
    rows += [_node("error", layer, None, position) for layer in range(n_layers) for position in range(len(tokens))]
    rows += [_node("token", None, None, position, f"[{token}]") | {"token_id": token} for position, token in enumerate(tokens)]
    probabilities: list[float] = _array(content, name, "logit_probabilities", 1, "f").tolist()
    if len(probabilities) != len(targets):
        raise _bad(name, "logit_targets", f"{len(probabilities)} like the probabilities", len(targets))
    stated = content.get("vocab_size")
    vocab_size = stated if type(stated) is int and stated > 0 else HIGHEST_INT + 1
    for (text, token), probability in zip(targets, probabilities, strict=True):
        node = _node("logit", None, None, len(tokens) - 1, text or f"[{token}]")
        rows.append(node | {"token_id": token if token < vocab_size else None, "probability": probability})
    return [{"graph": ordinal, "node": number, "kept": True, **row} for number, row in enumerate(rows)]


def _strengths(content: dict[str, Any], name: str, selected: list[int], n_active: int) -> dict[int, float | None]:
    """Return {active feature: activation}; some versions keep the selected features' only, some none."""
    if content.get("activation_values") is None:
        return dict.fromkeys(selected)
    values: list[float] = _array(content, name, "activation_values", 1, "f").tolist()
    if len(values) not in (n_active, len(selected)):
        raise _bad(name, "activation_values", f"{n_active} values, or {len(selected)} of the selected features", len(values))
    return dict(zip(range(n_active) if len(values) == n_active else selected, values, strict=True))


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
