"""The files of a transcoder set: layout, shapes and dtypes, checked from headers before anything is loaded.

In: a folder in circuit-tracer's layout, or a hub id. Out: `SetFiles`, one `LayerFiles` a layer, which read a matrix, a
few of its rows (safetensors slices), or a small vector.

Layouts (METHODS section 1). Single-layer: `layer_{l}.safetensors` with W_enc (F, D), W_dec (F, D), b_enc (F), b_dec
(D), optional `activation_function.threshold` (F or 1), optional W_skip (D, D) acting as x W_skip^T, optional k.
Cross-layer: `W_enc_{l}.safetensors` with W_enc_{l}, b_enc_{l}, b_dec_{l}, optional threshold_{l}, and
`W_dec_{l}.safetensors` with W_dec_{l} (F, L - l, D). `config.yaml` beside them names the hook points.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atlas.errors import InputError
from ingest.taps import ReadSite

READ_SITES: dict[str, ReadSite] = {
    "mlp.hook_in": "mlp_in",
    "mlp_in": "mlp_in",
    "ln2.hook_normalized": "mlp_normalised",
    "hook_resid_mid": "residual",
}
"""Where each `feature_input_hook` reads."""

WRITE_SITES = {"mlp.hook_out": True, "hook_mlp_out": False, "mlp_out": False}
"""Each `feature_output_hook`, and whether it lies before a post-norm of the MLP."""

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Stored:
    """One tensor in a file."""

    path: Path
    key: str
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """Return the whole tensor."""
        with safe_open(str(self.path), "pt") as file:
            tensor: Tensor = file.get_tensor(self.key)
            return tensor

    def rows(self, index: Tensor, column: int | None = None) -> Tensor:
        """Return chosen rows by slices, [index] or [index, column]; each row is read once."""
        unique, inverse = torch.unique(index.cpu(), return_inverse=True)
        if not len(unique):
            return torch.empty(0, self.shape[-1])
        with safe_open(str(self.path), "pt") as file:
            stored = file.get_slice(self.key)
            rows: Tensor = stored[unique] if column is None else stored[unique, column]
        return rows.reshape(len(unique), -1)[inverse]

    def column(self, column: int) -> Tensor:
        """Return [:, column]."""
        with safe_open(str(self.path), "pt") as file:
            tensor: Tensor = file.get_slice(self.key)[:, column]
            return tensor.reshape(self.shape[0], -1)


@dataclass(frozen=True)
class Held:
    """One tensor in memory, with the same readers."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape."""
        return tuple(self.tensor.shape)

    def read(self) -> Tensor:
        """Return the whole tensor."""
        return self.tensor

    def rows(self, index: Tensor, column: int | None = None) -> Tensor:
        """Return chosen rows, [index] or [index, column]."""
        index = index.to(self.tensor.device)
        return self.tensor[index] if column is None else self.tensor[index, column]

    def column(self, column: int) -> Tensor:
        """Return [:, column]."""
        return self.tensor[:, column]


@dataclass(frozen=True)
class LayerFiles:
    """The tensors of one layer, stored or in memory."""

    layer: int
    d_transcoder: int
    dtype: str
    w_enc: Stored | Held
    w_dec: Stored | Held
    vectors: dict[str, Stored | Held]
    """b_enc, b_dec, and where there are: threshold, skip, k."""
    cross_layer: bool

    @property
    def has_skip(self) -> bool:
        """Whether the layer has a skip connection."""
        return "skip" in self.vectors

    def paths(self) -> list[Path]:
        """Return the layer's files."""
        return sorted({stored.path for stored in (self.w_enc, self.w_dec) if isinstance(stored, Stored)})

    def encoder(self) -> Tensor:
        """Return W_enc (F, D) in the dtype on disk."""
        return self.w_enc.read()

    def decoder(self, target: int) -> Tensor:
        """Return W_dec (F, D) into a target layer."""
        return self.w_dec.column(target - self.layer) if self.cross_layer else self.w_dec.read()

    def encoder_rows(self, features: Tensor) -> Tensor:
        """Return rows of W_enc (n, D)."""
        return self.w_enc.rows(features)

    def decoder_rows(self, features: Tensor, target: int) -> Tensor:
        """Return rows of W_dec (n, D) into a target layer."""
        return self.w_dec.rows(features, target - self.layer if self.cross_layer else None)

    def vector(self, name: str) -> Tensor | None:
        """Return b_enc, b_dec, threshold or skip; None where the layer has none."""
        stored = self.vectors.get(name)
        return None if stored is None else stored.read()


@dataclass(frozen=True)
class SetFiles:
    """A whole set."""

    folder: Path
    layers: dict[int, LayerFiles]
    d_model: int
    activation: Literal["relu", "jump_relu", "topk"]
    k: int | None
    cross_layer: bool
    hook_in: str
    hook_out: str
    scan: str | None
    revision: str | None

    @property
    def read_site(self) -> ReadSite:
        """Where its encoders read."""
        return READ_SITES[self.hook_in]

    @property
    def writes_before_post_norm(self) -> bool:
        """Whether it predicts the MLP's output before a norm that some families put after it."""
        return WRITE_SITES[self.hook_out]

    def neuronpedia(self, layer: int) -> str | None:
        """Return Neuronpedia's source id where the set's name is one (`qwen3-4b/transcoder-hp`)."""
        if self.scan is None or not re.fullmatch(r"[\w.-]+/transcoder[\w.-]*", self.scan):
            return None
        model, source = self.scan.split("/")
        return f"{model}/{layer}-{source}"


def open_files(path_or_id: str | Path, *, revision: str | None = None, k: int | None = None) -> SetFiles:
    """Find and check the files of a set. Raises InputError that names the file and the numbers."""
    folder = _folder(path_or_id, revision)
    config = _config(folder)
    cross_layer = config.get("model_kind") == "cross_layer_transcoder" or bool(list(folder.glob("W_enc_*.safetensors")))
    layers = _cross_layer(folder) if cross_layer else _single_layer(folder)
    return _checked(folder, layers, config, cross_layer, revision, k)


def _checked(
    folder: Path,
    layers: dict[int, LayerFiles],
    config: Mapping[str, Any],
    cross_layer: bool,
    revision: str | None,
    k: int | None,
) -> SetFiles:
    """Check what layers have to agree on, and what config.yaml says."""
    d_model = _agreed_d_model(layers)
    k = k if k is not None else config.get("k")
    activation = _activation(folder, config, layers, k)
    if activation == "topk" and k is None:
        k = _stored_k(folder, layers)
    hook_in = str(config.get("feature_input_hook", "mlp.hook_in"))
    hook_out = str(config.get("feature_output_hook", "hook_mlp_out"))
    for hook, known in ((hook_in, READ_SITES), (hook_out, WRITE_SITES)):
        if hook not in known:
            raise InputError(
                f"{folder.name}/config.yaml names the hook {hook!r}; known: {', '.join(known)}",
                hint="name where the transcoders read and write with one of these",
            )
    scan = config.get("scan")
    return SetFiles(
        folder, layers, d_model, activation, k, cross_layer, hook_in, hook_out,
        scan if isinstance(scan, str) else None, revision,
    )  # fmt: skip


def _folder(path_or_id: str | Path, revision: str | None) -> Path:
    path = Path(path_or_id)
    if path.is_dir():
        return path
    if path.is_absolute() or str(path_or_id).startswith(".") or str(path_or_id).count("/") != 1:
        raise InputError(f"no transcoder folder at {path_or_id}", hint="give a folder with layer_0.safetensors, or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = ["*.safetensors", "config.yaml"]
        return Path(snapshot_download(str(path_or_id), revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"cannot download transcoders {path_or_id!r}: {error}",
            hint="download them elsewhere and give the folder",
        ) from error


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.exists():
        return {}
    try:
        loaded = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path.name} of {folder.name} is not YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path.name} of {folder.name} holds no mapping", hint="see docs/qwen3-4b.md for an example")
    return loaded


def hold(weights: Mapping[int, Mapping[str, Tensor]], config: Mapping[str, Any], name: str) -> SetFiles:
    """Return a set in memory: layer -> tensors by the names they have in `layer_{l}.safetensors`; checked the same.

    Cross-layer weights have W_dec (F, L - l, D) and `model_kind: cross_layer_transcoder` in config.
    """
    cross_layer = config.get("model_kind") == "cross_layer_transcoder"
    names = {torch_dtype: stored for stored, torch_dtype in FLOATS.items()}
    layers = {}
    for layer, tensors in sorted(weights.items()):
        headers: dict[str, tuple[Stored | Held, str]] = {
            key: (Held(tensor), names.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype))) for key, tensor in tensors.items()
        }
        writes = len(weights) - layer if cross_layer else None
        layers[layer] = _layer(layer, headers, Path(name) / f"layer_{layer}", suffix="", writes=writes)
    return _checked(Path(name), layers, config, cross_layer, None, None)


def _headers(path: Path) -> dict[str, tuple[Stored | Held, str]]:
    """Return key -> (where, dtype) of a safetensors file, from its header."""
    try:
        with safe_open(str(path), "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - safe_open is no mapping
            return {key: (Stored(path, key, tuple(s.get_shape())), s.get_dtype()) for key, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.parent.name}/{path.name} cannot be read: {error}", hint="download the file again") from error


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in folder.glob("*.safetensors"):
        match = re.fullmatch(pattern, path.name)
        if match:
            found[int(match[1])] = path
    return found


def _single_layer(folder: Path) -> dict[int, LayerFiles]:
    paths = _numbered(folder, r"layer_(\d+)\.safetensors")
    if not paths:
        raise InputError(
            f"{folder.name} holds no layer_{{l}}.safetensors",
            hint="give a folder in circuit-tracer's layout: layer_0.safetensors, …, config.yaml",
        )
    return {layer: _layer(layer, _headers(path), path, suffix="") for layer, path in sorted(paths.items())}


def _cross_layer(folder: Path) -> dict[int, LayerFiles]:
    encoders, decoders = _numbered(folder, r"W_enc_(\d+)\.safetensors"), _numbered(folder, r"W_dec_(\d+)\.safetensors")
    expected = set(range(max(encoders | decoders, default=-1) + 1))
    missing = [f"W_enc_{n}" for n in sorted(expected - set(encoders))]
    missing += [f"W_dec_{n}" for n in sorted(expected - set(decoders))]
    if missing or not expected:
        raise InputError(
            f"{folder.name} is a cross-layer set without {', '.join(missing) or 'any layer'}",
            hint="a cross-layer set needs every layer from 0: complete the download",
        )
    layers = {}
    for layer in sorted(expected):
        headers = _headers(encoders[layer]) | _headers(decoders[layer])
        layers[layer] = _layer(layer, headers, encoders[layer], suffix=f"_{layer}", writes=len(expected) - layer)
    return layers


def _layer(layer: int, headers: dict[str, tuple[Stored | Held, str]], path: Path, *, suffix: str, writes: int | None = None) -> LayerFiles:
    """Check one layer's tensors against each other. F and D come from W_enc."""
    place = f"{path.parent.name}/{path.name}"

    def stored(key: str) -> Stored | Held:
        if key not in headers:
            raise InputError(f"{place} has no tensor {key!r}; it has {', '.join(sorted(headers))}")
        return headers[key][0]

    w_enc = stored(f"W_enc{suffix}")
    if len(w_enc.shape) != 2:
        raise InputError(f"{place}: W_enc has shape {w_enc.shape}, expected (features, d_model)")
    width, d_model = w_enc.shape
    w_dec = stored(f"W_dec{suffix}")
    vectors = {"b_enc": stored(f"b_enc{suffix}"), "b_dec": stored(f"b_dec{suffix}")}
    optional = {
        "threshold": "activation_function.threshold" if not suffix else f"threshold{suffix}",
        "skip": f"W_skip{suffix}",
        "k": "k",
    }
    vectors |= {name: headers[key][0] for name, key in optional.items() if key in headers}
    shapes: dict[str, tuple[tuple[int, ...], list[tuple[int, ...]]]] = {
        "W_dec": (w_dec.shape, [(width, d_model) if writes is None else (width, writes, d_model)]),
        "b_enc": (vectors["b_enc"].shape, [(width,)]),
        "b_dec": (vectors["b_dec"].shape, [(d_model,)]),
    }
    if "threshold" in vectors:
        shapes["threshold"] = (vectors["threshold"].shape, [(width,), (1,), ()])
    if "skip" in vectors:
        shapes["W_skip"] = (vectors["skip"].shape, [(d_model, d_model)])
    for name, (found, allowed) in shapes.items():
        if found not in allowed:
            raise InputError(
                f"{place}: {name} has shape {found}, expected {allowed[0]} (W_enc is {w_enc.shape})",
                hint="W_enc and W_dec are feature-major: (features, d_model)",
            )
    dtypes = {key: headers[key][1] for key in (f"W_enc{suffix}", f"W_dec{suffix}")}
    for key, dtype in dtypes.items():
        if dtype not in FLOATS:
            raise InputError(
                f"{place}: {key} has dtype {dtype}, expected one of {', '.join(FLOATS)}",
                hint="quantised transcoders are not read: convert them to bfloat16 or float32",
            )
    return LayerFiles(layer, width, FLOATS[dtypes[f"W_enc{suffix}"]], w_enc, w_dec, vectors, writes is not None)


def _agreed_d_model(layers: dict[int, LayerFiles]) -> int:
    widths = {layer: files.w_enc.shape[1] for layer, files in layers.items()}
    first = next(iter(widths.values()))
    for layer, width in widths.items():
        if width != first:
            raise InputError(f"layer {layer} has d_model {width}, layer {next(iter(widths))} has {first}")
    return first


def _activation(
    folder: Path, config: Mapping[str, Any], layers: dict[int, LayerFiles], k: int | None
) -> Literal["relu", "jump_relu", "topk"]:
    """Return the activation function: config.yaml's, else JumpReLU with thresholds, TopK with k, else ReLU."""
    named = str(config.get("activation", "")).replace("_", "").lower()
    with_threshold = [layer for layer, files in layers.items() if "threshold" in files.vectors]
    if named == "topk" or (not named and not with_threshold and (k is not None or _has_k(layers))):
        return "topk"
    if named == "relu":
        return "relu"
    if with_threshold and len(with_threshold) < len(layers):
        missing = sorted(set(layers) - set(with_threshold))
        raise InputError(f"layers {missing} of {folder.name} have no activation_function.threshold, others have")
    if named == "jumprelu" and not with_threshold:
        raise InputError(f"{folder.name} is JumpReLU by config.yaml, but its layers have no threshold")
    if named not in ("", "jumprelu"):
        raise InputError(f"{folder.name}/config.yaml names the activation {config['activation']!r}; known: relu, jump_relu, topk")
    return "jump_relu" if with_threshold else "relu"


def _has_k(layers: dict[int, LayerFiles]) -> bool:
    return all("k" in files.vectors for files in layers.values())


def _stored_k(folder: Path, layers: dict[int, LayerFiles]) -> int:
    if not _has_k(layers):
        raise InputError(f"{folder.name} is TopK, but neither config.yaml nor its layers say k", hint="pass k")
    values = {int(files.vectors["k"].read()) for files in layers.values()}
    if len(values) != 1:
        raise InputError(f"layers of {folder.name} have different k: {sorted(values)}", hint="pass k")
    return values.pop()
