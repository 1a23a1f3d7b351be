"""The margin of a circuit: its members recompute, every other feature stays at a reference value.

In: an `Engine`, prompts, a reference (zero, mean, counterfactual), what happens to the reconstruction error (clean, live, mean). Out:
margins per circuit and prompt (METHODS, section 6). N rows, T positions, U distinct member features of a layer.

The MLP output of every stated layer, at every position but the first, becomes

    error + b_dec (+ x W_skip^T) + sum over members a(x) W_dec + sum over others a_ref W_dec

with a(x) current. A complement (everything but a circuit) is the whole reconstruction with the circuit's features moved to their
reference. Members are (layer, feature) at all positions; the universe is every feature of the stated layers, also those that become
active only after the edit.

    mean          mean over reference prompts by role of position: decision, content, other
    counterfactual the same position of a prompt of equal length, same template, another cluster (or the other of a minimal pair)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from atlas.errors import InputError, UsageError
from ingest.intervene.clean import CleanPass, clean_pass
from ingest.intervene.edits import Integers
from ingest.intervene.engine import Engine, Floats, check_features
from ingest.intervene.rules import FeatureKey

Reference = Literal["zero", "mean", "counterfactual"]
ErrorMode = Literal["clean", "live", "mean"]
REFERENCES: tuple[Reference, ...] = ("zero", "mean", "counterfactual")
ERROR_MODES: tuple[ErrorMode, ...] = ("clean", "live", "mean")
Members = frozenset[FeatureKey]


@dataclass(frozen=True)
class _Means:
    """Means over reference prompts by role (3,): of each layer's reconstruction (3, D), error (3, D) and inputs for single features."""

    reconstruction: dict[int, Tensor]
    error: dict[int, Tensor]
    activation: dict[int, Tensor]
    """layer -> (3, F)."""


class Replacement:
    """Circuits of one engine's prompts."""

    def __init__(
        self,
        engine: Engine,
        prompts: Integers,
        *,
        reference: Reference = "mean",
        error: ErrorMode = "clean",
        reference_prompts: Integers | None = None,
        layers: Sequence[int] | None = None,
        shared: Replacement | None = None,
    ) -> None:
        """Prepare references.

        Args:
            engine: its model, transcoders and prompts.
            prompts: (P,) places of the prompts that are measured.
            reference: what non-members stay at.
            error: what the reconstruction error does.
            reference_prompts: prompts that means are taken over (default: the measured ones).
            layers: layers whose MLPs are replaced (default: all of the transcoder set).
            shared: another one over the same prompts, whose clean passes and means are reused.

        Raises:
            UsageError: a cross-layer set, an unknown reference or error mode.
            InputError: no prompt has a counterfactual.
        """
        if engine.transcoders.cross_layer:
            raise UsageError(f"{engine.transcoders.name} is a cross-layer set: circuits of these are not measured.")
        if reference not in REFERENCES or error not in ERROR_MODES:
            raise UsageError(f"Unknown reference {reference!r} or error mode {error!r}.", hint=f"{REFERENCES}; {ERROR_MODES}")
        self.engine, self.reference, self.error = engine, reference, error
        self.layers = tuple(engine.transcoders.layers if layers is None else layers)
        engine.transcoders.require(self.layers)
        if reference == "counterfactual":
            partner = counterfactuals(engine, prompts)
            prompts, self.partners = prompts[partner >= 0], partner[partner >= 0]
            if not len(prompts):
                raise InputError("No prompt has a counterfactual of its length.", hint="Use reference mean or zero.")
        self.prompts = prompts
        same = shared is not None and np.array_equal(shared.prompts, prompts)
        self.clean: CleanPass = (
            shared.clean if same and shared else clean_pass(engine.model, [engine.prompts[p].token_ids for p in prompts])
        )
        self.role = _roles(engine, self.clean, prompts)
        self._edited = _edited_positions(self.clean)
        means: _Means | None = None if shared is None else shared._means
        self._means: _Means = means or self._take_means(prompts if reference_prompts is None else reference_prompts)
        self._other: CleanPass | None = None
        if reference == "counterfactual":
            self._other = clean_pass(engine.model, [engine.prompts[p].token_ids for p in self.partners])
        self._constant = {layer: self._constants(layer) for layer in self.layers}
        self._clean_error = {layer: self._clean_errors(layer) for layer in self.layers}

    # ---- measuring --------------------------------------------------------------------------------------------

    def margins(self, circuits: Sequence[Members], *, complement: bool = False, rows_at_once: int = 512) -> Floats:
        """Return margins (C, P) with each circuit's members live and all others at their reference (or the reverse).

        Circuits of like size share a batch: its cost goes with the distinct members of all its circuits.
        """
        for layer in {layer for members in circuits for layer, _ in members}:
            if layer not in self.layers:
                raise UsageError(
                    f"A circuit has a feature in layer {layer}, whose MLP is not replaced.", hint=f"Replaced: {list(self.layers)}."
                )
            features = np.array([f for members in circuits for number, f in members if number == layer], dtype=np.int64)
            check_features(self.engine.transcoders, layer, features)
        n_circuits, n_prompts = len(circuits), len(self.prompts)
        out = np.zeros((n_circuits, n_prompts), dtype=np.float32)
        at_once = max(1, rows_at_once // n_prompts)
        order = sorted(range(n_circuits), key=lambda number: len(circuits[number]))
        for start in range(0, n_circuits, at_once):
            numbers = order[start : start + at_once]
            part = [circuits[number] for number in numbers]
            for first in range(0, n_prompts, rows_at_once):
                places = np.arange(first, min(first + rows_at_once, n_prompts))
                out[np.ix_(np.array(numbers), places)] = self._run(part, places, complement)
        return out

    def whole(self) -> Floats:
        """Return margins (P,) with every feature live."""
        everything: Floats = self.margins([frozenset()], complement=True)[0]
        return everything

    def empty(self) -> Floats:
        """Return margins (P,) with every feature at its reference."""
        nothing: Floats = self.margins([frozenset()])[0]
        return nothing

    def _run(self, circuits: Sequence[Members], places: Integers, complement: bool) -> Floats:
        rows = torch.from_numpy(np.tile(places, len(circuits))).to(self.engine.model.device)
        circuit = torch.arange(len(circuits), device=rows.device).repeat_interleave(len(places))
        chosen = {layer: self._member_mask(circuits, layer) for layer in self.layers}

        def edit(layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
            if layer not in chosen:
                return mlp_out
            new = self._output(layer, mlp_in, mlp_out, rows, circuit, *chosen[layer], complement)
            return torch.where(self._edited[rows][..., None], new, mlp_out)

        tokens, mask = self.clean.captured.tokens[rows], self.clean.captured.mask[rows]
        with torch.no_grad():
            captured = self.engine.model.capture(tokens, mask, layers=(), mlp=False, edit=edit)
            logits = self.engine.model.logits(captured.final[:, -1])
            margins = self.engine.margins(logits, np.tile(self.prompts[places], len(circuits)))
        return margins.float().cpu().numpy().reshape(len(circuits), len(places))

    def _member_mask(self, circuits: Sequence[Members], layer: int) -> tuple[Tensor, Tensor]:
        """Return the distinct member features (U,) of a layer, and which circuit has which, (C, U)."""
        device = self.engine.model.device
        features = sorted({feature for members in circuits for number, feature in members if number == layer})
        column = {feature: place for place, feature in enumerate(features)}
        mask = torch.zeros(len(circuits), len(features), dtype=self.engine.model.dtype)
        for row, members in enumerate(circuits):
            own = [column[feature] for number, feature in members if number == layer]
            mask[row, own] = 1
        return torch.tensor(features, dtype=torch.int64, device=device), mask.to(device)

    def _output(
        self, layer: int, x: Tensor, live: Tensor, rows: Tensor, circuit: Tensor, features: Tensor, mask: Tensor, complement: bool
    ) -> Tensor:
        """Return what the MLP output becomes, (N, T, D); `mask` (C, U) says which circuit has which of `features` (U,)."""
        transcoders = self.engine.transcoders
        if complement and self.error != "live" and 4 * len(features) > transcoders.d_transcoder(layer):
            # With many features among the members, one dense pass is less than a sparse reconstruction and the change to it.
            kept = torch.ones(len(mask), transcoders.d_transcoder(layer), dtype=mask.dtype, device=mask.device)
            kept[:, features] -= mask
            rest = transcoders.decode(layer, transcoders.encode(layer, x) * kept[circuit][:, None, :], x)
            return self._error(layer, rows) + rest + self._held(layer, rows, circuit, features, mask)
        change = torch.zeros_like(live)
        if len(features):
            own = transcoders.encode_rows(layer, x, features) * mask[circuit][:, None, :]  # (N, T, U)
            change = own @ transcoders.decoder_rows(layer, features) - self._held(layer, rows, circuit, features, mask)
        if complement:
            if self.error == "live":
                return live - change
            return self._error(layer, rows) + transcoders.reconstruct(layer, x) - change
        if self.error == "live":
            return live - transcoders.reconstruct(layer, x) + self._fixed(layer, rows, x) + change
        return self._error(layer, rows) + self._fixed(layer, rows, x) + change

    def _held(self, layer: int, rows: Tensor, circuit: Tensor, features: Tensor, mask: Tensor) -> Tensor | float:
        """Return what members would write at their reference values, (N, T, D); means hang on circuit and role of position alone."""
        if self.reference == "zero":
            return 0.0
        decoder = self.engine.transcoders.decoder_rows(layer, features)
        if self.reference == "mean":
            written = (self._means.activation[layer][:, features][None] * mask[:, None, :]) @ decoder  # (C, 3, D)
            return written[circuit[:, None], self.role[rows]]
        assert self._other is not None
        values = self.engine.transcoders.encode_rows(layer, self._other.captured.mlp_in[layer][rows], features)
        return (values * mask[circuit][:, None, :]) @ decoder

    # ---- references -------------------------------------------------------------------------------------------

    def _fixed(self, layer: int, rows: Tensor, x: Tensor) -> Tensor:
        """Return b_dec (+ skip) + sum over all features of a_ref W_dec."""
        fixed = self._constant[layer][rows]
        return fixed + self.engine.transcoders.skip(layer, x) if self.engine.transcoders.has_skip else fixed

    def _constants(self, layer: int) -> Tensor:
        transcoders, shape = self.engine.transcoders, self.clean.captured.mlp_out[layer].shape
        if self.reference == "zero":
            return transcoders.decoder_bias(layer).expand(shape)
        if self.reference == "mean":
            return self._means.reconstruction[layer][self.role]
        assert self._other is not None
        x = self._other.captured.mlp_in[layer]
        return transcoders.reconstruct(layer, x) - (transcoders.skip(layer, x) if transcoders.has_skip else 0.0)

    def _error(self, layer: int, rows: Tensor) -> Tensor:
        if self.error == "mean":
            return self._means.error[layer][self.role[rows]]
        return self._clean_error[layer][rows]

    def _clean_errors(self, layer: int) -> Tensor:
        captured = self.clean.captured
        return captured.mlp_out[layer] - self.engine.transcoders.reconstruct(layer, captured.mlp_in[layer])

    def _take_means(self, prompts: Integers) -> _Means:
        clean = clean_pass(self.engine.model, [self.engine.prompts[p].token_ids for p in prompts])
        role, edited = _roles(self.engine, clean, prompts), _edited_positions(clean)
        transcoders = self.engine.transcoders
        reconstruction, errors, activations = {}, {}, {}
        for layer in self.layers:
            x, out = clean.captured.mlp_in[layer], clean.captured.mlp_out[layer]
            activation = torch.zeros(3, transcoders.d_transcoder(layer), dtype=out.dtype, device=out.device)
            error = torch.zeros(3, out.shape[-1], dtype=out.dtype, device=out.device)
            for number in range(3):
                chosen = edited & (role == number)
                if chosen.any():
                    active = transcoders.encode_sparse(layer, x[chosen])
                    activation[number] = activation[number].index_add(0, active.feature, active.value) / int(chosen.sum())
                    error[number] = (out[chosen] - transcoders.reconstruct(layer, x[chosen])).mean(0)
            activations[layer], errors[layer] = activation, error
            reconstruction[layer] = activation @ transcoders.decoder(layer) + transcoders.decoder_bias(layer)
        return _Means(reconstruction, errors, activations)


def counterfactuals(engine: Engine, prompts: Integers) -> Integers:
    """Return (P,) for each prompt the place of its counterfactual, -1 for none: the other variant, else another cluster's prompt."""
    out = np.full(len(prompts), -1, dtype=np.int64)
    everyone = list(enumerate(engine.prompts))
    for row, place in enumerate(prompts.tolist()):
        own = engine.prompts[place]
        alike = [
            (i, other)
            for i, other in everyone
            if other.language == own.language
            and other.template == own.template
            and len(other.token_ids) == len(own.token_ids)
            and i != place
        ]
        minimal = [i for i, other in alike if other.concept == own.concept and other.variant != own.variant]
        others = [i for i, other in alike if other.cluster != own.cluster]
        chosen = minimal or [i for i in others if i > place] or others
        if chosen:
            out[row] = chosen[0]
    return out


def _roles(engine: Engine, clean: CleanPass, prompts: Integers) -> Tensor:
    """Return (P, T) role of each position: 0 other, 1 content, 2 decision."""
    role = torch.zeros(clean.captured.tokens.shape, dtype=torch.int64, device=clean.captured.tokens.device)
    for row, place in enumerate(prompts.tolist()):
        prompt = engine.prompts[place]
        offset = clean.length - len(prompt.token_ids)
        role[row, [position + offset for position in prompt.content_positions]] = 1
        role[row, prompt.decision_position + offset] = 2
    return role


def _edited_positions(clean: CleanPass) -> Tensor:
    """Return (P, T) bool: all but padding and each row's first position."""
    edited = clean.captured.mask.clone()
    edited[torch.arange(len(edited)), edited.long().argmax(1)] = False
    return edited
