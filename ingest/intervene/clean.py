"""The clean pass of some prompts, kept so that edited passes can start at the edited layer and at the earliest edited position.

In: a model and left-padded prompts. Out: `CleanPass`: the residual stream into every layer, MLP inputs and outputs, keys and values,
and the arguments (mask, rotary angles) each decoder layer was called with. B prompts, T positions, D = d_model.

1. A pre-hook on each decoder layer notes its arguments and gives it a cache that records keys and values.
2. `CleanPass.layer_inputs` cuts these down to chosen rows and to the last w positions of them, for `ingest.intervene.engine`.

Padding is on the left, so that the last w positions of all prompts line up whatever their lengths.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atlas.errors import ModelError
from ingest.adapters import resolve
from ingest.model import LanguageModel, pad_left
from ingest.taps import Captured


class KeyValueRecorder:
    """A cache in the sense of transformers that stores what it is given and returns it unchanged."""

    def __init__(self) -> None:
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, KV, T, d) of a layer."""
        self.keys[layer], self.values[layer] = keys.detach(), values.detach()
        return keys, values


class PrefixCache:
    """A cache that puts clean keys and values of the positions before the window in front of the live ones."""

    def __init__(self, clean: CleanPass, rows: Tensor, window: int) -> None:
        self.clean, self.rows, self.window = clean, rows, window

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values (N, KV, T, d) of prefix and window."""
        stop = self.clean.length - self.window
        if stop == 0:
            return keys, values
        prefix_keys = self.clean.keys[layer][:, :, :stop].index_select(0, self.rows)
        prefix_values = self.clean.values[layer][:, :, :stop].index_select(0, self.rows)
        return torch.cat([prefix_keys, keys], dim=2), torch.cat([prefix_values, values], dim=2)


@dataclass(frozen=True)
class CleanPass:
    """What edited passes reuse."""

    captured: Captured
    residual: Sequence[Tensor]
    """n_layers + 1 tensors (B, T, D): the input of each layer, then that of the final norm."""
    keys: Mapping[int, Tensor]
    """layer -> (B, KV, T, d)."""
    values: Mapping[int, Tensor]
    arguments: Sequence[Mapping[str, Any]]
    """Keyword arguments of each decoder layer."""
    lengths: Tensor
    """(B,) int64: tokens of each prompt."""

    @property
    def length(self) -> int:
        """T, with padding."""
        return int(self.captured.tokens.shape[1])

    def column(self, prompt: Tensor, position: Tensor) -> Tensor:
        """Return the padded column of a prompt's position."""
        return position + self.length - self.lengths[prompt]

    def layer_inputs(self, layer: int, rows: Tensor, window: int) -> dict[str, Any]:
        """Return a layer's keyword arguments for rows (N,) of the clean batch and the last `window` positions."""
        batch = int(self.captured.tokens.shape[0])
        cut = {name: _cut(name, value, rows, window, batch, self.length) for name, value in self.arguments[layer].items()}
        return cut | {"past_key_values": PrefixCache(self, rows, window)}

    def last_positions(self, window: int, *, final: bool = False) -> Captured:
        """Return the record of the last `window` positions, for `Freeze` (`final`: one position for the final norm)."""
        record = self.captured
        return Captured(
            record.tokens[:, -window:],
            record.mask[:, -window:],
            record.final[:, -window:],
            record.embeddings[:, -window:],
            {layer: value[:, -window:] for layer, value in record.mlp_in.items()},
            {layer: value[:, -window:] for layer, value in record.mlp_out.items()},
            {layer: value[:, :, -window:] for layer, value in record.patterns.items()},
            {key: value[:, -1:] if key[0] == "final" else value[:, -window:] for key, value in record.denominators.items()},
        )


def clean_pass(model: LanguageModel, prompts: Sequence[Sequence[int]], *, frozen: bool = False) -> CleanPass:
    """Run prompts (token ids, unpadded) once and keep what edited passes need.

    `frozen` also keeps attention patterns and norm denominators, for the modes that hold them (METHODS, section 5).

    Raises:
        ModelError: NaN, infinity, out of memory, or a family whose layers cannot be called one by one.
    """
    tokens, mask = pad_left(prompts)
    layers = decoder_layers(model)
    recorder = KeyValueRecorder()
    residual: list[Tensor] = []
    arguments: list[Mapping[str, Any]] = []

    def note(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = inspect.signature(type(module).forward).bind(module, *positional, **named)
        given = {name: value for name, value in bound.arguments.items() if name != "self"}
        given |= given.pop("kwargs", {})
        hidden = given.pop("hidden_states")
        residual.append(hidden.detach())
        given["past_key_values"] = recorder
        arguments.append({name: value for name, value in given.items() if name != "past_key_values"})
        return (hidden,), given

    with ExitStack() as stack:
        for layer in layers:
            handle = layer.register_forward_pre_hook(note, with_kwargs=True)
            stack.callback(handle.remove)
        last = layers[-1].register_forward_hook(lambda _module, _inputs, output: residual.append(first(output).detach()))
        stack.callback(last.remove)
        captured = model.capture(tokens, mask, patterns=frozen, denominators=frozen)
    if len(recorder.keys) != len(layers):
        raise ModelError(
            f"{model.name} kept keys and values of {len(recorder.keys)} of {len(layers)} layers: its attention does not use a cache",
            hint="an adapter's attention must call past_key_values.update(keys, values, layer)",
        )
    return CleanPass(captured, residual, recorder.keys, recorder.values, arguments, mask.sum(1).to(captured.tokens.device))


def decoder_layers(model: LanguageModel) -> nn.ModuleList:
    """Return the model's decoder layers."""
    layers = resolve(model.hf, model.adapter.layers, model.adapter.family)
    assert isinstance(layers, nn.ModuleList)
    return layers


def first(output: Any) -> Tensor:
    """Return the hidden states of a layer's output, which some families put in a tuple."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _cut(name: str, value: Any, rows: Tensor, window: int, batch: int, length: int) -> Any:
    """Cut one argument down to rows and window; its shape says which of its dimensions are prompts and positions."""
    if isinstance(value, tuple):
        return tuple(_cut(name, part, rows, window, batch, length) for part in value)
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 4:  # attention mask (B or 1, 1, T, T): queries are cut, keys stay
        picked = value if value.shape[0] == 1 and batch != 1 else value.index_select(0, rows)
        return picked[:, :, -window:]
    if value.ndim == 1 and value.shape[0] == length:  # cache_position (T,)
        return value[-window:]
    if value.ndim >= 2 and value.shape[1] == length:  # position ids, rotary angles (B or 1, T, …)
        picked = value if value.shape[0] == 1 and batch != 1 else value.index_select(0, rows)
        return picked[:, -window:]
    raise ModelError(f"a decoder layer's argument {name!r} of shape {tuple(value.shape)} is of a kind that cannot be cut to rows")
