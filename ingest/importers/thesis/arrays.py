"""Top-k feature arrays of a thesis run: activations at the decision token.

In: layer_*/…_top_k_indices.npy (P, K) int64 and …_top_k_values.npy (P, K) float32, P prompts, K slots. Out: rows of activation,
activation_by_prompt, token, feature, feature_language and context.

Slots beyond the active features are filler (indices 0, 1, 2, … with value 0.0 or -0.0): every value <= 0 is dropped. The files hold
no tokens: positions count words, from 1 (0 is the prepended token), and the decision position is the last word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas.errors import InputError
from ingest.importers.common import read_json
from ingest.importers.thesis.files import Files, Rows
from ingest.importers.thesis.prompts import Prompts

TOP_CONTEXTS = 20
Note = Callable[[str], None]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


def read_arrays(files: Files, prompts: Prompts, note: Note) -> Rows:
    """Read the arrays of every layer."""
    rows: Rows = {}
    for indices_path in files.of("array_indices"):
        values_path = indices_path.with_name(indices_path.name.replace("_top_k_indices", "_top_k_values"))
        if not values_path.exists():
            raise InputError(f"{files.name(indices_path)}: expected {values_path.name} beside it, got none")
        layer = int(indices_path.parent.name.removeprefix("layer_"))
        width = _check_meta(files, indices_path, layer)
        prompt, feature, value = _active(files, indices_path, values_path, prompts, width, note)
        _compare_meta(files, indices_path, feature, note)
        _add_layer(rows, layer, prompt, feature, value, prompts)
    activations = rows.get("activation", [])
    if activations:
        rows["activation_by_prompt"] = sorted(activations, key=lambda row: (row["prompt"], row["layer"], row["feature"]))
        rows["token"] = [token for index, record in enumerate(prompts.records) for token in _tokens(index, record.text("prompt"))]
    return rows


def _load(files: Files, path: Path, kind: str) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{files.name(path)}: expected a NumPy array, got a file that does not load: {error}") from error
    if array.ndim != 2 or array.dtype.kind != kind:
        raise InputError(f"{files.name(path)}: expected a matrix (prompt, slot) of kind {kind!r}, got {array.dtype} {array.shape}")
    return array


def _check_meta(files: Files, path: Path, layer: int) -> int | None:
    """Return the dictionary's width from the layer's meta file, after checking that it speaks of this layer."""
    meta_path = _meta_path(path)
    if not meta_path.exists():
        return None
    meta = read_json(meta_path, files.name(meta_path))
    if meta.integer("layer_idx") != layer:
        raise meta.fail("layer_idx", f"{layer}, as its folder says")
    return meta.integer("d_transcoder")


def _meta_path(path: Path) -> Path:
    return path.with_name(path.name.replace("_top_k_indices.npy", "_layer_meta.json"))


def _active(
    files: Files, indices_path: Path, values_path: Path, prompts: Prompts, width: int | None, note: Note
) -> tuple[Integers, Integers, Floats]:
    """Return prompt, feature and value (R) of the active slots, sorted by feature, then prompt."""
    indices, values = _load(files, indices_path, "i"), _load(files, values_path, "f")
    name = files.name(values_path)
    if indices.shape != values.shape or len(indices) != len(prompts.records):
        raise InputError(f"{name}: expected ({len(prompts.records)} prompts, K) like the indices, got {values.shape} and {indices.shape}")
    if not np.isfinite(values).all():
        row, slot = np.argwhere(~np.isfinite(values))[0]
        raise InputError(f"{name}: row {row}, slot {slot}: expected a finite value, got {values[row, slot]}")
    active = values > 0
    found = indices[active]
    if found.size and (found.min() < 0 or (width is not None and found.max() >= width)):
        raise InputError(f"{files.name(indices_path)}: expected features from 0 to {(width or 0) - 1}, got {found.min()} to {found.max()}")
    full = int(active.all(axis=1).sum())
    if full:
        note(f"{name}: all {values.shape[1]} slots are active on {full} prompts: weaker features are cut off there")
    prompt = np.nonzero(active)[0]
    order = np.lexsort((prompt, found))
    return prompt[order], found[order], values[active].astype(np.float32)[order]


def _compare_meta(files: Files, path: Path, feature: Integers, note: Note) -> None:
    meta_path = _meta_path(path)
    if meta_path.exists():
        listed = set(read_json(meta_path, files.name(meta_path)).values.get("active_features", []))
        here = set(feature.tolist())
        if listed and listed != here:
            note(f"{files.name(meta_path)}: lists {len(listed)} active features, the arrays hold {len(here)}; {len(listed ^ here)} differ")


def _add_layer(rows: Rows, layer: int, prompt: Integers, feature: Integers, value: Floats, prompts: Prompts) -> None:
    decision = np.array([len(record.text("prompt").split()) for record in prompts.records])
    activation = rows.setdefault("activation", [])
    for at, active, strength in zip(prompt.tolist(), feature.tolist(), value.tolist(), strict=True):
        activation.append({"layer": layer, "feature": active, "prompt": at, "position": int(decision[at]), "activation": strength})
    languages = np.array(prompts.languages)
    n_tokens = {language: int((languages == language).sum()) for language in sorted(set(prompts.languages))}
    bounds = np.flatnonzero(np.diff(feature, prepend=-1))
    for start, stop in zip(bounds, [*bounds[1:], len(feature)], strict=True):
        at, values = prompt[start:stop], value[start:stop].astype(np.float64)
        index = int(feature[start])
        rows.setdefault("feature", []).append(_feature(layer, index, values, len(prompts.records)))
        for language, total in n_tokens.items():
            own = values[languages[at] == language]
            rows.setdefault("feature_language", []).append(_feature_language(layer, index, language, own, total))
        for rank, place in enumerate(np.lexsort((at, -values))[:TOP_CONTEXTS]):
            item = int(at[place])
            context = _context(rank, item, int(decision[item]), float(values[place]), prompts.languages[item])
            rows.setdefault("context", []).append({"layer": layer, "feature": index} | context)


def _feature(layer: int, feature: int, values: npt.NDArray[np.float64], n_tokens: int) -> dict[str, Any]:
    return {
        "layer": layer,
        "feature": feature,
        "n_tokens": n_tokens,
        "n_active": len(values),
        "n_prompts_active": len(values),
        "density": len(values) / n_tokens,
        "max_activation": float(values.max()),
        "mean_activation": float(values.mean()),
        "sd_activation": float(values.std(ddof=1)) if len(values) > 1 else None,
    }


def _feature_language(layer: int, feature: int, language: str, values: npt.NDArray[np.float64], n_tokens: int) -> dict[str, Any]:
    return {
        "layer": layer,
        "feature": feature,
        "language": language,
        "n_tokens": n_tokens,
        "n_active": len(values),
        "n_prompts": n_tokens,
        "n_prompts_active": len(values),
        "sum_activation": float(values.sum()),
        "sum_squares": float((values**2).sum()),
        "max_activation": float(values.max(initial=0.0)),
    }


def _context(rank: int, prompt: int, position: int, value: float, language: str) -> dict[str, Any]:
    """Return a top context; only the decision position was measured, so the window is that position."""
    return {
        "kind": "top",
        "rank": rank,
        "source": "prompt",
        "item": prompt,
        "position": position,
        "language": language,
        "activation": value,
        "window_start": position,
        "window_end": position,
        "window_activations": [value],
    }


def _tokens(prompt: int, text: str) -> list[dict[str, Any]]:
    """Return the words of a prompt as tokens without ids, each with the space before it; the last one is the decision position."""
    words = list(re.finditer(r"\s*\S+", text))
    return [
        {
            "source": "prompt",
            "item": prompt,
            "position": position,
            "token": word.group(),
            "role": "decision" if position == len(words) else "other",
            "char_start": word.start(),
            "char_end": word.end(),
        }
        for position, word in enumerate(words, start=1)
    ]
