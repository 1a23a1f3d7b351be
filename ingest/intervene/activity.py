"""Clean activations of all prompts as a sorted look-up, and gradients of the margin along decoder rows.

In: an `Engine`. Out: `Activity`, which answers "what is the activation of this feature at this place" for any number of places at once,
and `slopes`, the derivative of the margin along decoder rows with nothing frozen (METHODS, sections 3 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.errors import InputError
from ingest.intervene.edits import Integers
from ingest.intervene.engine import Engine

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Activity:
    """Entries (A,) with an activation other than 0, sorted by layer, prompt, position, feature. The first position is left out."""

    layer: Integers
    prompt: Integers
    position: Integers
    feature: Integers
    value: Doubles
    lengths: Integers
    """Tokens of each prompt."""
    sizes: tuple[int, ...]
    """Prompts, positions and features a layer at most: the radix of the sort key."""
    key: Integers

    def values(self, layer: Integers, prompt: Integers, position: Integers, feature: Integers) -> Doubles:
        """Return the clean activation at each place, 0 where the feature is not active."""
        wanted = _key(self.sizes, layer, prompt, position, feature)
        if not len(self.key):
            return np.zeros(len(wanted))
        at = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        return np.where(self.key[at] == wanted, self.value[at], 0.0)

    def at_decision(self) -> NDArray[np.bool_]:
        """Tell which entries (A,) stand at the decision position."""
        return np.asarray(self.position == self.lengths[self.prompt] - 1)


def activity(engine: Engine, layers: Sequence[int] | None = None) -> Activity:
    """Encode every position of every prompt in the given layers (default: all of the transcoder set).

    Raises:
        InputError: an activation is not finite, naming its layer and prompt.
    """
    layers = engine.transcoders.layers if layers is None else tuple(layers)
    engine.transcoders.require(layers)
    columns: dict[str, list[Integers]] = {name: [] for name in ("layer", "prompt", "position", "feature")}
    values: list[Doubles] = []
    for chunk, ordinals in enumerate(engine.chunks()):
        clean = engine.clean(chunk)
        kept = clean.captured.mask.clone()
        kept[torch.arange(len(kept)), kept.long().argmax(1)] = False
        row, column = kept.nonzero(as_tuple=True)
        position = (column - (clean.length - clean.lengths[row])).cpu().numpy()
        prompt = ordinals[row.cpu().numpy()]
        for layer in layers:
            active = engine.transcoders.encode_sparse(layer, clean.captured.mlp_in[layer][row, column])
            token = active.token.cpu().numpy()
            value = active.value.double().cpu().numpy()
            if not np.isfinite(value).all():
                bad = int(prompt[token[np.flatnonzero(~np.isfinite(value))[0]]])
                raise InputError(f"Layer {layer} has an activation that is not finite on prompt {bad}.", hint="Load the model in float32.")
            for name, column_values in zip(
                columns, (np.full(len(token), layer), prompt[token], position[token], active.feature.cpu().numpy()), strict=True
            ):
                columns[name].append(column_values.astype(np.int64))
            values.append(value)
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    width = max(engine.transcoders.d_transcoder(layer) for layer in layers)
    sizes = (len(engine.prompts), int(engine.lengths.max()), width)
    key = _key(sizes, arrays["layer"], arrays["prompt"], arrays["position"], arrays["feature"])
    order = np.argsort(key, kind="stable")
    return Activity(
        layer=arrays["layer"][order],
        prompt=arrays["prompt"][order],
        position=arrays["position"][order],
        feature=arrays["feature"][order],
        value=np.concatenate(values)[order],
        lengths=engine.lengths,
        sizes=sizes,
        key=key[order],
    )


def slopes(engine: Engine, layer: Integers, prompt: Integers, position: Integers, feature: Integers) -> Doubles:
    """Return d margin / d activation (M,) at places: <d margin / d mlp_out[position], W_dec[feature]>, nothing frozen.

    Times the activation it is star_total (METHODS, section 3). A cross-layer feature's is the sum over the layers it writes to.
    """
    out = np.zeros(len(layer))
    for chunk, ordinals in enumerate(engine.chunks()):
        inside = np.flatnonzero((prompt >= ordinals[0]) & (prompt <= ordinals[-1]))
        if not len(inside):
            continue
        gradients = margin_gradients(engine, chunk)
        clean = engine.clean(chunk)
        for source in np.unique(layer[inside]).tolist():
            members = inside[layer[inside] == source]
            rows = torch.from_numpy(prompt[members] - ordinals[0]).to(engine.model.device)
            columns = clean.column(rows, torch.from_numpy(position[members]).to(engine.model.device))
            features, index = torch.unique(torch.from_numpy(feature[members]).to(engine.model.device), return_inverse=True)
            total = torch.zeros(len(members), dtype=torch.float64)
            for target in engine.transcoders.writes_to(source):
                decoder = engine.transcoders.decoder_rows(source, features, target=target)
                for start in range(0, len(members), 1 << 16):
                    part = slice(start, start + (1 << 16))
                    gradient = gradients[target][rows[part], columns[part]]
                    total[part] += (gradient * decoder[index[part]]).sum(-1).double().cpu()
            out[members] = total.numpy()
    return out


def margin_gradients(engine: Engine, chunk: int) -> dict[int, Tensor]:
    """Return layer -> d margin / d mlp_out (B, T, D) of a chunk's prompts, left-padded as its clean pass."""
    clean = engine.clean(chunk)
    captured = engine.model.capture(clean.captured.tokens, clean.captured.mask, gradients=True)
    ordinals = list(engine.chunks())[chunk]
    with torch.enable_grad():
        margins = engine.margins(engine.model.logits(captured.final[:, -1]), np.asarray(ordinals))
        layers = list(captured.mlp_out)
        gradients = torch.autograd.grad(margins.sum(), [captured.mlp_out[layer] for layer in layers])
    return dict(zip(layers, gradients, strict=True))


def _key(sizes: tuple[int, ...], layer: Integers, prompt: Integers, position: Integers, feature: Integers) -> Integers:
    prompts, positions, width = sizes
    return np.asarray(((layer * prompts + prompt) * positions + position) * width + feature, dtype=np.int64)
