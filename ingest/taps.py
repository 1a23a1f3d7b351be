"""Taps: what one forward pass records and what it holds fixed or changes.

In: a transformers decoder and its adapter. Out: `install`, which puts taps at the hook points, and the records that
flow through them: `Run` (one pass), `Captured` (what it saw), `Freeze` (what a later pass keeps at those values).

The taps are three: every norm of a decoder layer computes its reciprocal denominator apart from its linear part; the
attention interface of transformers is given a function that hands out, or is handed, the pattern; the MLP's output
passes through one function. Live and frozen passes therefore share their arithmetic, and a no-op is exactly 0.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from ingest.adapters import Adapter, resolve, upcast

ReadSite = Literal["mlp_in", "mlp_normalised", "residual"]
"""Where a transcoder reads: after the MLP norm's gain, before it, or the residual stream before that norm."""

Edit = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, mlp_in (B, T, D), mlp_out (B, T, D)) of the current pass -> the mlp_out that goes on."""

Observer = Callable[[int, Tensor, Tensor], None]
"""(layer, mlp_in, mlp_out) as they pass; nothing is kept."""

NormKey = tuple[str, int]
"""(the norm's path in its layer, layer); the final norm is ("final", n_layers)."""

ATTENTION = "feature_atlas"
"""Name under which the attention function is registered with transformers."""


@dataclass(frozen=True)
class Captured:
    """What one forward pass saw. Tensors stay on the model's device in its dtype."""

    tokens: Tensor
    """(B, T) int64."""
    mask: Tensor
    """(B, T) bool, False at padding."""
    final: Tensor
    """(B, T, D) after the final norm; `LanguageModel.logits` goes on from here."""
    embeddings: Tensor
    """(B, T, D) input of the first layer (with position embeddings where a family adds them)."""
    mlp_in: Mapping[int, Tensor]
    """layer -> (B, T, D) at the model's read site."""
    mlp_out: Mapping[int, Tensor]
    """layer -> (B, T, D) after any post-norm and after any edit."""
    patterns: Mapping[int, Tensor] = field(default_factory=dict)
    """layer -> (B, H, T, T) attention patterns, rows are queries; empty unless asked for."""
    denominators: Mapping[NormKey, Tensor] = field(default_factory=dict)
    """norm -> (B, T, 1) reciprocal denominators; empty unless asked for."""


@dataclass(frozen=True)
class Freeze:
    """Values of a clean pass that a later pass keeps. See `freeze_for` for the modes of METHODS section 5."""

    clean: Captured
    patterns: bool = True
    denominators: bool = False
    mlp_layers: frozenset[int] = frozenset()
    """Layers whose MLP outputs stay at their clean values (plus the skip connection's change)."""
    skip: Callable[[int, Tensor], Tensor] | None = None
    """(layer, x) -> x W_skip^T of a transcoder with skip, which stays live where MLP outputs are frozen."""
    rows: Tensor | None = None
    """(B',) row of the clean batch for each row of the edited batch; None: the same rows."""

    def pick(self, values: Tensor) -> Tensor:
        """Return clean values (B, ...) in the rows of the edited batch."""
        return values if self.rows is None else values[self.rows.to(values.device)]

    def mlp_output(self, layer: int, mlp_in: Tensor) -> Tensor:
        """Return the frozen MLP output of a layer, with the skip connection's change for the live mlp_in."""
        frozen = self.pick(self.clean.mlp_out[layer])
        if self.skip is None:
            return frozen
        return frozen + self.skip(layer, mlp_in) - self.skip(layer, self.pick(self.clean.mlp_in[layer]))


@dataclass
class Run:
    """One forward pass: what to record, what to hold, what to change; and the records."""

    layers: frozenset[int]
    keep_patterns: bool = False
    keep_denominators: bool = False
    edit: Edit | None = None
    freeze: Freeze | None = None
    observe: Observer | None = None
    gradients: bool = False
    read_site: ReadSite = "mlp_in"
    keep_mlp: bool = True
    live_mlp_in: Tensor | None = None
    embeddings: Tensor | None = None
    mlp_in: dict[int, Tensor] = field(default_factory=dict)
    mlp_out: dict[int, Tensor] = field(default_factory=dict)
    patterns: dict[int, Tensor] = field(default_factory=dict)
    denominators: dict[NormKey, Tensor] = field(default_factory=dict)


@dataclass
class Taps:
    """The taps of one model; `run` is the pass under way, None outside of one."""

    adapter: Adapter
    n_layers: int
    run: Run | None = None

    def at_norm(self, key: NormKey, x: Tensor, r: Tensor) -> Tensor:
        """Record a norm's input and denominator; return the denominator to use."""
        run = self.run
        if run is None:
            return r
        if run.freeze is not None and run.freeze.denominators:
            r = run.freeze.pick(run.freeze.clean.denominators[key])
        if run.keep_denominators:
            run.denominators[key] = r
        if key == (self.adapter.attention_norm, 0):
            run.embeddings = x
        if key[0] == self.adapter.mlp_norm and run.read_site == "residual":
            run.live_mlp_in = x
        return r

    def at_mlp_norm_output(self, normalised: Tensor, scaled: Tensor) -> None:
        """Remember what the transcoder of this layer reads until its MLP has run."""
        if self.run is not None and self.run.read_site != "residual":
            self.run.live_mlp_in = normalised if self.run.read_site == "mlp_normalised" else scaled

    def at_mlp_output(self, layer: int, mlp_out: Tensor) -> Tensor:
        """Freeze, edit, show and record a layer's MLP output, in this order."""
        run = self.run
        if run is None or run.live_mlp_in is None:
            return mlp_out
        mlp_in, run.live_mlp_in = run.live_mlp_in, None
        if run.freeze is not None and layer in run.freeze.mlp_layers:
            mlp_out = run.freeze.mlp_output(layer, mlp_in)
        if run.edit is not None:
            mlp_out = run.edit(layer, mlp_in, mlp_out)
        if layer in run.layers:
            if run.observe is not None:
                run.observe(layer, mlp_in, mlp_out)
            if run.keep_mlp:
                run.mlp_in[layer], run.mlp_out[layer] = mlp_in, mlp_out
        return mlp_out


def install(model: nn.Module, adapter: Adapter) -> Taps:
    """Put taps at every hook point the adapter names; return the switch they look at."""
    layers = resolve(model, adapter.layers, adapter.family)
    assert isinstance(layers, nn.ModuleList)
    taps = Taps(adapter, len(layers))
    for index, layer in enumerate(layers):
        for path in adapter.norm_paths():
            _tap_norm(taps, resolve(layer, path, adapter.family), (path, index))
        attention = resolve(layer, adapter.attention, adapter.family)
        object.__setattr__(attention, "_atlas_taps", taps)
        object.__setattr__(attention, "_atlas_layer", index)
        for name in ("q_norm", "k_norm"):
            if hasattr(attention, name) and next(attention.parameters()).dtype == torch.float64:
                # transformers computes norms in float32 at most; a float64 model is to be float64 throughout.
                _tap_norm(taps, resolve(attention, name, adapter.family), (name, index), silent=True)
        if adapter.mlp_post_norm is None:
            _tap_mlp(taps, resolve(layer, adapter.mlp, adapter.family), index)
    _tap_norm(taps, resolve(model, adapter.final_norm, adapter.family), ("final", len(layers)))
    return taps


def _tap_norm(taps: Taps, module: nn.Module, key: NormKey, *, silent: bool = False) -> None:
    """Replace a norm's forward by one whose denominator is apart; same arithmetic, same rounding.

    A silent one records nothing and is never frozen.
    """
    adapter = taps.adapter
    epsilon = adapter.epsilon(module)
    offset = adapter.gain_offset

    def forward(hidden: Tensor) -> Tensor:
        x = upcast(hidden)
        centred = x - x.mean(-1, keepdim=True) if adapter.layer_norm else x
        r = torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + epsilon)
        r = r if silent else taps.at_norm(key, hidden, r)
        normalised = centred * r
        weight = cast(Tensor, module.weight)
        if adapter.rounds_before_gain:
            normalised = normalised.to(hidden.dtype)
            y = weight * normalised
        else:
            y = normalised * (upcast(weight) + offset) if offset else normalised * upcast(weight)
        bias = cast(Tensor | None, getattr(module, "bias", None))
        y = (y if bias is None else y + bias).to(hidden.dtype)
        if key[0] == adapter.mlp_norm:
            taps.at_mlp_norm_output(normalised.to(hidden.dtype), y)
        if key[0] == adapter.mlp_post_norm:
            y = taps.at_mlp_output(key[1], y)
        return y

    object.__setattr__(module, "forward", forward)


def _tap_mlp(taps: Taps, module: nn.Module, layer: int) -> None:
    """Pass an MLP's (or sparse block's) output through the taps."""

    def hook(_module: nn.Module, _inputs: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (taps.at_mlp_output(layer, output[0]), *output[1:])
        return taps.at_mlp_output(layer, output)

    module.register_forward_hook(hook)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Attend as transformers' eager attention does, with the pattern recorded or given.

    query (B, H, T, d), key and value (B, KV, T, d) -> output (B, T, H, d) and pattern (B, H, T, T). The softmax runs
    in float32 at least, in float64 for a float64 model.
    """
    taps: Taps | None = getattr(module, "_atlas_taps", None)
    run = None if taps is None else taps.run
    layer: int = getattr(module, "_atlas_layer", -1)
    groups = query.shape[1] // key.shape[1]
    if run is not None and run.freeze is not None and run.freeze.patterns:
        pattern = run.freeze.pick(run.freeze.clean.patterns[layer])
    else:
        scores = query @ key.repeat_interleave(groups, dim=1).transpose(2, 3)  # (B, H, T, T)
        scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        if attention_mask is not None:
            scores = scores + attention_mask
        pattern = torch.softmax(upcast(scores), dim=-1).to(query.dtype)
    if run is not None and run.keep_patterns:
        run.patterns[layer] = pattern
    output = pattern @ value.repeat_interleave(groups, dim=1)
    return output.transpose(1, 2).contiguous(), pattern


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


Mode = Literal["free", "frozen_attention", "direct", "constrained_layers"]


def freeze_for(
    mode: Mode,
    clean: Captured,
    *,
    layers: Iterable[int] = (),
    skip: Callable[[int, Tensor], Tensor] | None = None,
    rows: Tensor | None = None,
) -> Freeze | None:
    """Return what a mode of METHODS section 5 keeps at the clean values; None for `free`.

    `clean` needs `patterns=True` (and `denominators=True` for `direct`, and every layer's MLP). `layers` are those of
    `constrained_layers`, whose MLP outputs are frozen; norms are frozen there only if that is every layer, which is
    `direct`.
    """
    if mode == "free":
        return None
    if mode == "frozen_attention":
        return Freeze(clean, rows=rows)
    every = frozenset(clean.mlp_out)
    held = every if mode == "direct" else frozenset(layers)
    return Freeze(clean, denominators=held >= every, mlp_layers=held, skip=skip, rows=rows)
