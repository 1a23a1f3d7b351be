"""Read transcoder sets and encode, decode, and look up rows with them.

In: a folder (or hub id) in circuit-tracer's layout (METHODS section 1): `layer_{l}.safetensors` and `config.yaml`, or
`W_enc_{l}.safetensors` and `W_dec_{l}.safetensors` of a cross-layer transcoder. Out: `TranscoderSet`.

Shapes, layers and dtypes are read from file headers when the set is opened, so a wrong file is named before a model
loads. Matrices are read when they are first used and stay while they fit the memory budget (`ingest/residency.py`);
single rows are read by slices and load no matrix. T tokens, D = d_model, F = d_transcoder, n chosen features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from atlas.errors import InputError, UsageError
from ingest.hashing import hash_files
from ingest.model import DTYPES, LanguageModel
from ingest.residency import Residency
from ingest.taps import ReadSite
from ingest.transcoder_files import LayerFiles, SetFiles, hold, open_files

ActivationFunction = Literal["relu", "jump_relu", "topk"]


@dataclass(frozen=True)
class Sparse:
    """Active features of T tokens, sorted by (token, feature)."""

    token: Tensor
    """(n,) int64 row of x."""
    feature: Tensor
    """(n,) int64."""
    value: Tensor
    """(n,) activation, not 0; below 0 only under TopK or a negative JumpReLU threshold."""
    pre: Tensor
    """(n,) pre-activation."""


class TranscoderSet:
    """Transcoders of several layers of one model; make one with `TranscoderSet.open`."""

    def __init__(
        self,
        files: SetFiles,
        *,
        dtype: torch.dtype,
        device: str | torch.device = "cpu",
        memory_budget: int | None = None,
        name: str,
        source: str,
    ) -> None:
        self.files = files
        self.name = name
        self.source = source
        self.dtype = dtype
        self.device = torch.device(device)
        self.residency = Residency(memory_budget)
        self._small: dict[tuple[int, str], Tensor | None] = {}

    @classmethod
    def open(
        cls,
        path_or_id: str | Path,
        *,
        dtype: str = "float32",
        device: str | torch.device = "cpu",
        memory_budget: int | None = None,
        revision: str | None = None,
        name: str | None = None,
        source: str | None = None,
        k: int | None = None,
    ) -> "TranscoderSet":
        """Open a set; only headers are read.

        dtype is what it computes in (weights on disk may be of another). `memory_budget` is in bytes: with None all
        matrices stay once read, else the least recently used leave. `k` gives TopK's k where config.yaml has none.

        Raises InputError that names the file and what is wrong with it.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}", hint="use --dtype float32")
        files = open_files(path_or_id, revision=revision, k=k)
        label = files.folder.resolve().name if Path(path_or_id).is_dir() else str(path_or_id)
        return cls(
            files,
            dtype=DTYPES[dtype],
            device=device,
            memory_budget=memory_budget,
            name=name or files.scan or label,
            source=source or label,
        )

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[int, Mapping[str, Tensor]],
        *,
        config: Mapping[str, object] | None = None,
        dtype: str = "float32",
        device: str | torch.device = "cpu",
        name: str = "in memory",
    ) -> "TranscoderSet":
        """Make a set from tensors in memory: layer -> W_enc, W_dec, b_enc, b_dec, … as in `layer_{l}.safetensors`.

        `config` is what config.yaml would hold (default: ReLU, reading mlp_in, writing mlp_out).
        """
        return cls(hold(weights, config or {}, name), dtype=DTYPES[dtype], device=device, name=name, source=name)

    # ---- what it is -------------------------------------------------------------------------------------------

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers with a transcoder, ascending."""
        return tuple(sorted(self.files.layers))

    @property
    def d_model(self) -> int:
        """Width of what it reads and writes."""
        return self.files.d_model

    def d_transcoder(self, layer: int) -> int:
        """Return the number of features of a layer."""
        return self._files(layer).d_transcoder

    @property
    def activation(self) -> ActivationFunction:
        """The nonlinearity after the encoder."""
        return self.files.activation

    @property
    def has_skip(self) -> bool:
        """Whether x W_skip^T is part of the prediction."""
        return any(layer.has_skip for layer in self.files.layers.values())

    @property
    def cross_layer(self) -> bool:
        """Whether a feature writes to its own layer and all later ones."""
        return self.files.cross_layer

    @property
    def read_site(self) -> ReadSite:
        """Where its encoders read."""
        return self.files.read_site

    def writes_to(self, layer: int) -> tuple[int, ...]:
        """Return the layers whose MLP outputs a feature of this layer adds to."""
        return tuple(target for target in self.layers if target >= layer) if self.cross_layer else (layer,)

    def sources_of(self, layer: int) -> tuple[int, ...]:
        """Return the layers whose features add to the MLP output of this layer."""
        return tuple(source for source in self.layers if source <= layer) if self.cross_layer else (layer,)

    def bind(self, model: LanguageModel, layers: Sequence[int] | None = None) -> None:
        """Check that the set fits a model (and has `layers`) and make the model record what its encoders read.

        Raises InputError that names the numbers which do not agree.
        """
        if self.d_model != model.d_model:
            raise InputError(
                f"transcoders {self.name} have d_model {self.d_model}, the model {model.name} has {model.d_model}",
                hint="give the transcoders that were trained on this model",
            )
        beyond = [layer for layer in self.layers if layer >= model.n_layers]
        if beyond:
            raise InputError(
                f"transcoders {self.name} have layers {beyond}, the model {model.name} has {model.n_layers} layers",
                hint="give the transcoders that were trained on this model",
            )
        self.require(layers or ())
        if self.files.writes_before_post_norm and model.adapter.mlp_post_norm is not None:
            raise InputError(
                f"transcoders {self.name} predict {self.files.hook_out}, before the norm that {model.adapter.family} puts after its MLP",
                hint="use a set whose feature_output_hook is hook_mlp_out",
            )
        model.read_site = self.read_site

    def require(self, layers: Sequence[int]) -> None:
        """Raise InputError that names which of `layers` have no transcoder."""
        missing = sorted(set(layers) - set(self.layers))
        if missing:
            raise InputError(
                f"transcoders {self.name} have no layer {', '.join(map(str, missing))}; they have {self.layers[0]} to {self.layers[-1]}",
                hint="choose --layers among them, or complete the download",
            )

    def layer_bytes(self, layer: int) -> int:
        """Return the bytes of a layer's encoder in the dtype it computes in, the least a budget must hold."""
        return self.d_transcoder(layer) * self.d_model * torch.empty(0, dtype=self.dtype).element_size()

    def rows(self, model_id: str | None) -> list[dict[str, object]]:
        """Return the rows of table `transcoder`."""
        return [
            {
                "transcoder_set": self.name,
                "layer": layer,
                "model_id": model_id,
                "source": self.source,
                "revision": self.files.revision,
                "file_hash": hash_files(self._files(layer).paths()),
                "d_transcoder": self.d_transcoder(layer),
                "activation": self.activation,
                "dtype": self._files(layer).dtype,
                "has_skip": self._files(layer).has_skip,
                "hook_in": self.files.hook_in,
                "hook_out": self.files.hook_out,
                "gain_folded": self.read_site == "mlp_normalised",
                "neuronpedia": self.files.neuronpedia(layer),
            }
            for layer in self.layers
        ]

    # ---- encoding ---------------------------------------------------------------------------------------------

    def pre_activations(self, layer: int, x: Tensor) -> Tensor:
        """Return x (..., D) W_enc^T + b_enc, (..., F)."""
        return torch.nn.functional.linear(x.to(self.device, self.dtype), self.encoder(layer), self.encoder_bias(layer))

    def activate(self, layer: int, pre: Tensor) -> Tensor:
        """Return the activation function of pre (..., F)."""
        if self.activation == "relu":
            return torch.relu(pre)
        if self.activation == "jump_relu":
            return pre * (pre > self._threshold(layer))
        top = pre.topk(min(self._k(), pre.shape[-1]), dim=-1).indices
        return torch.zeros_like(pre).scatter_(-1, top, pre.gather(-1, top))

    def encode(self, layer: int, x: Tensor) -> Tensor:
        """Return dense activations (..., F) of x (..., D)."""
        return self.activate(layer, self.pre_activations(layer, x))

    def encode_rows(self, layer: int, x: Tensor, features: Tensor) -> Tensor:
        """Return activations (..., n) of chosen features (n,) of x (..., D), from their own encoder rows (TopK needs all)."""
        if self.activation == "topk":
            return self.encode(layer, x)[..., features.to(self.device)]
        rows = self.encoder_rows(layer, features)
        pre = torch.nn.functional.linear(x.to(self.device, self.dtype), rows, self.encoder_bias(layer)[features.to(self.device)])
        if self.activation == "relu":
            return torch.relu(pre)
        return pre * (pre > self._threshold(layer)[features.to(self.device)])

    def encode_sparse(self, layer: int, x: Tensor, *, max_elements: int = 1 << 27) -> Sparse:
        """Return the active features of x (T, D), compacted on the device.

        Dense pre-activations exist for as many tokens at a time as keep them under `max_elements` numbers.
        """
        tokens_at_once = max(1, max_elements // max(1, self.d_transcoder(layer)))
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for start in range(0, max(1, len(x)), tokens_at_once):
            pre = self.pre_activations(layer, x[start : start + tokens_at_once])
            if self.activation == "topk":
                active = self.activate(layer, pre) != 0
            elif self.activation == "relu":
                active = pre > 0
            else:
                active = (pre > self._threshold(layer)) & (pre != 0)
            flat = _flat_nonzero(active)
            token, feature = flat // pre.shape[1], flat % pre.shape[1]
            value = pre.reshape(-1)[flat]
            parts.append((token + start, feature, value, value))
        token, feature, value, pre = (torch.cat(column) for column in zip(*parts, strict=True))
        return Sparse(token, feature, value, pre)

    # ---- decoding ---------------------------------------------------------------------------------------------

    def decode(self, layer: int, activations: Tensor, x: Tensor | None = None) -> Tensor:
        """Return a W_dec + b_dec (+ x W_skip^T), (..., D), of dense activations (..., F) of a single layer.

        Raises UsageError for a cross-layer set (use `reconstruct_all`) and for skip transcoders without x.
        """
        self._refuse_cross_layer("decode")
        return activations @ self.decoder(layer) + self._constant(layer, x)

    def decode_sparse(self, layer: int, active: Sparse, n_tokens: int, x: Tensor | None = None) -> Tensor:
        """Return the prediction (T, D) from active features; reads only their decoder rows."""
        self._refuse_cross_layer("decode_sparse")
        scaled = self.decoder_rows(layer, active.feature) * active.value[:, None]
        out = torch.zeros(n_tokens, self.d_model, dtype=self.dtype, device=self.device)
        return out.index_add_(0, active.token, scaled) + self._constant(layer, x)

    def reconstruct(self, layer: int, x: Tensor) -> Tensor:
        """Return the prediction m^ (..., D) for x (..., D), through active features only."""
        self._refuse_cross_layer("reconstruct")
        flat = x.reshape(-1, self.d_model)
        out = self.decode_sparse(layer, self.encode_sparse(layer, flat), len(flat), flat)
        return out.reshape(x.shape)

    def reconstruct_all(self, mlp_in: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return layer -> prediction (T, D) from layer -> x (T, D), for single- and cross-layer sets alike."""
        active = {layer: self.encode_sparse(layer, mlp_in[layer]) for layer in self.layers if layer in mlp_in}
        predictions: dict[int, Tensor] = {}
        for layer in active:
            x = mlp_in[layer]
            out = torch.zeros(len(x), self.d_model, dtype=self.dtype, device=self.device)
            for source in self.sources_of(layer):
                if source in active:
                    rows = self.decoder_rows(source, active[source].feature, target=layer)
                    out.index_add_(0, active[source].token, rows * active[source].value[:, None])
            predictions[layer] = out + self._constant(layer, x)
        return predictions

    def skip(self, layer: int, x: Tensor) -> Tensor:
        """Return x W_skip^T (..., D), zeros where the layer has no skip connection."""
        weight = self.skip_weight(layer)
        x = x.to(self.device, self.dtype)
        return torch.zeros_like(x) if weight is None else x @ weight.T

    # ---- weights ----------------------------------------------------------------------------------------------

    def encoder(self, layer: int) -> Tensor:
        """Return W_enc (F, D), read once and kept within the memory budget."""
        return self.residency.get((layer, "enc", layer), lambda: self._to(self._files(layer).encoder()))

    def decoder(self, layer: int, target: int | None = None) -> Tensor:
        """Return W_dec (F, D) into `target` (default: the layer itself), kept within the memory budget."""
        target = self._target(layer, target)
        return self.residency.get((layer, "dec", target), lambda: self._to(self._files(layer).decoder(target)))

    def encoder_rows(self, layer: int, features: Tensor) -> Tensor:
        """Return W_enc rows (n, D) of features (n,); from the resident matrix, else by slices."""
        resident = self.residency.peek((layer, "enc", layer))
        if resident is not None:
            return resident[features.to(self.device)]
        return self._to(self._files(layer).encoder_rows(features))

    def decoder_rows(self, layer: int, features: Tensor, target: int | None = None) -> Tensor:
        """Return W_dec rows (n, D) of features (n,) into `target`; from the resident matrix, else by slices."""
        target = self._target(layer, target)
        resident = self.residency.peek((layer, "dec", target))
        if resident is not None:
            return resident[features.to(self.device)]
        return self._to(self._files(layer).decoder_rows(features, target))

    def encoder_bias(self, layer: int) -> Tensor:
        """Return b_enc (F)."""
        bias = self._vector(layer, "b_enc")
        assert bias is not None
        return bias

    def decoder_bias(self, layer: int) -> Tensor:
        """Return b_dec (D)."""
        bias = self._vector(layer, "b_dec")
        assert bias is not None
        return bias

    def skip_weight(self, layer: int) -> Tensor | None:
        """Return W_skip (D, D), acting as x W_skip^T; None without one."""
        return self._vector(layer, "skip")

    def encoder_norms(self, layer: int) -> Tensor:
        """Return the Euclidean norm (F) of each encoder row."""
        norms: Tensor = torch.linalg.vector_norm(self.encoder(layer), dim=1)
        return norms

    def decoder_norms(self, layer: int) -> Tensor:
        """Return the Euclidean norm (F) of each decoder row, over all layers it writes to."""
        squares = [self.decoder(layer, target).pow(2).sum(1) for target in self.writes_to(layer)]
        return torch.stack(squares).sum(0).sqrt()

    # ---- inside -----------------------------------------------------------------------------------------------

    def _files(self, layer: int) -> LayerFiles:
        if layer not in self.files.layers:
            self.require([layer])
        return self.files.layers[layer]

    def _to(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype)

    def _vector(self, layer: int, which: str) -> Tensor | None:
        key = (layer, which)
        if key not in self._small:
            vector = self._files(layer).vector(which)
            self._small[key] = None if vector is None else self._to(vector)
        return self._small[key]

    def _threshold(self, layer: int) -> Tensor:
        threshold = self._vector(layer, "threshold")
        assert threshold is not None
        return threshold

    def _k(self) -> int:
        assert self.files.k is not None
        return self.files.k

    def _target(self, layer: int, target: int | None) -> int:
        target = layer if target is None else target
        if target not in self.writes_to(layer):
            raise UsageError(f"features of layer {layer} of {self.name} do not write to layer {target}")
        return target

    def _constant(self, layer: int, x: Tensor | None) -> Tensor:
        if not self._files(layer).has_skip:
            return self.decoder_bias(layer)
        if x is None:
            raise UsageError(f"layer {layer} of {self.name} has a skip connection: its input x is needed to decode")
        return self.decoder_bias(layer) + self.skip(layer, x)

    def _refuse_cross_layer(self, method: str) -> None:
        if self.cross_layer:
            raise UsageError(
                f"{self.name} is a cross-layer set: a layer's output has several sources, so {method} is undefined",
                hint="use reconstruct_all",
            )


def _flat_nonzero(mask: Tensor) -> Tensor:
    """Return the flat indices (n,) int64 where a mask is true; NumPy does on a CPU in a fifth of the time what torch does."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.reshape(-1).nonzero()[:, 0]
