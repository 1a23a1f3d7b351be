"""The edit behind `atlas steer`: chosen features get absolute values, at chosen positions, in any pass of the model.

In: changes, the position rule, clean activations. Out: `SteeringEdit`, to be given to `LanguageModel.capture` or `.editing`.

1. a' follows from the clean run on the same tokens (METHODS section 5): alpha x clean, clean + alpha, an absolute value, or the clean
   value of the feature it swaps with.
2. a is the current activation in the edited run, from the feature's own encoder row.
3. (a' - a) W_dec is added to the MLP output, so that the reconstruction error stays; a cross-layer feature writes to all its targets.

Where all changed features are of one layer, nothing before them is edited at their own position's input except through earlier positions'
keys and values of lower layers, which are clean too: the clean and the current activation are the same number, and no clean run is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atlas.errors import UsageError
from ingest.ask.change import Change
from ingest.transcoder import TranscoderSet

POSITION_RULES = ("all", "prompt", "decision", "last", "new")
"""all: every position but the sink; prompt: those of the prompt; decision: the prompt's last; last: the decision position and every new
token, the one that is read from; new: new tokens only. Or positions: 3 or 3,5,7 (-1 is the prompt's last)."""

Place = tuple[int, int]
"""(layer, feature)."""


@dataclass(frozen=True)
class Where:
    """Which positions are edited, for a prompt of a given length."""

    rule: str
    positions: tuple[int, ...] = ()
    """Of rule `explicit`."""

    @classmethod
    def parse(cls, text: str, n_prompt: int) -> Where:
        """Read a rule or positions.

        Raises:
            UsageError: neither, or a position outside of the prompt.
        """
        text = text.strip()
        if text in POSITION_RULES:
            return cls(text)
        try:
            given = [int(part) for part in text.split(",")]
        except ValueError as error:
            raise UsageError(f"positions are {text!r}", hint=f"One of {', '.join(POSITION_RULES)}, or numbers: 3,5,-1.") from error
        outside = [position for position in given if not -n_prompt <= position < n_prompt]
        if outside:
            raise UsageError(f"position {outside[0]} lies outside of the prompt, which has {n_prompt} tokens")
        return cls("explicit", tuple(sorted({position % n_prompt for position in given})))

    def covers(self, position: int, n_prompt: int) -> bool:
        """Say whether a position (0 is the sink) is edited."""
        if self.rule == "explicit":
            return position in self.positions
        if position == 0:
            return False
        return {
            "all": True,
            "prompt": position < n_prompt,
            "decision": position == n_prompt - 1,
            "last": position >= n_prompt - 1,
            "new": position >= n_prompt,
        }[self.rule]


@dataclass
class SteeringEdit:
    """An `Edit` (see `ingest.taps`): called with each layer's MLP input and output of the pass under way, (B, w, D)."""

    transcoders: TranscoderSet
    changes: Sequence[Change]
    """In activation units; every value settled."""
    where: Where
    n_prompt: int
    start: int = 0
    """Position of the first column of the pass under way; set before each pass that goes on from cached keys and values."""
    clean: Mapping[Place, Tensor] | None = None
    """(layer, feature) -> (B or 1, w) activations of the clean run on the same tokens; None: the current ones, right for one layer."""
    n_edited: int = 0
    """(row, position, feature) values of the pass under way that really changed."""
    _pending: dict[int, Tensor] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers with a changed feature, ascending."""
        return tuple(sorted({layer for change in self.changes for layer, _ in change.places}))

    @property
    def needs_clean(self) -> bool:
        """Whether clean and current activations can differ: changes in several layers, of which one refers to a clean value."""
        return len(self.layers) > 1 and any(change.kind in ("scale", "add", "swap") for change in self.changes)

    @property
    def does_nothing(self) -> bool:
        """Whether every change keeps every activation."""
        return all(change.does_nothing for change in self.changes)

    def begin(self, start: int, clean: Mapping[Place, Tensor] | None = None) -> SteeringEdit:
        """Get ready for a pass whose first column is position `start`."""
        self.start, self.clean, self.n_edited = start, clean, 0
        self._pending.clear()
        return self

    def __call__(self, layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        """Return the MLP output of a layer with the change of its features added."""
        if self.does_nothing:
            return mlp_out
        own = [place for change in self.changes for place in change.places if place[0] == layer]
        columns = [c for c in range(mlp_in.shape[1]) if self.where.covers(self.start + c, self.n_prompt)]
        if own and columns:
            self._write(layer, own, mlp_in[:, columns], columns, mlp_out)
        delta = self._pending.pop(layer, None)
        return mlp_out if delta is None else mlp_out + delta

    def _write(self, layer: int, own: Sequence[Place], x: Tensor, columns: Sequence[int], mlp_out: Tensor) -> None:
        features = torch.tensor([feature for _, feature in own])
        current = self.transcoders.encode_rows(layer, x, features)  # (B, c, n)
        now = {place: current[..., i] for i, place in enumerate(own)}
        before = now if self.clean is None else {place: self.clean[place][:, columns] for place in self.clean}
        wanted = torch.stack([self._target(place, before).expand_as(now[place]) for place in own], dim=-1)
        change = wanted - current
        self.n_edited += int((change != 0).sum())
        for target in self.transcoders.writes_to(layer):
            rows = self.transcoders.decoder_rows(layer, features, target=target)  # (n, D)
            delta = self._pending.setdefault(target, torch.zeros_like(mlp_out))
            delta[:, columns] += (change @ rows).to(mlp_out.dtype)

    def target_values(self, place: Place) -> Tensor:
        """Return a' (B, w) of a feature at every position of the clean run that `begin` was given."""
        assert self.clean is not None
        return self._target(place, self.clean)

    def _target(self, place: Place, clean: Mapping[Place, Tensor]) -> Tensor:
        """Return a' of one feature, from the clean activations of all that it refers to."""
        change = next(change for change in self.changes if place in change.places)
        value = float(change.value or 0.0)
        match change.kind:
            case "zero" | "clamp":
                return torch.full_like(clean[place], value)
            case "scale":
                return clean[place] * value
            case "add":
                return clean[place] + value
            case "swap":
                assert change.other is not None
                here = (change.layer, change.feature)
                return clean[change.other if place == here else here]


def clean_values(transcoders: TranscoderSet, changes: Sequence[Change], mlp_in: Mapping[int, Tensor]) -> dict[Place, Tensor]:
    """Return the activations (B, w) of changed features in a clean pass, from what their encoders read (B, w, D)."""
    by_layer: dict[int, list[int]] = {}
    for layer, feature in (place for change in changes for place in change.places):
        by_layer.setdefault(layer, []).append(feature)
    values: dict[Place, Tensor] = {}
    for layer, features in by_layer.items():
        encoded = transcoders.encode_rows(layer, mlp_in[layer], torch.tensor(features))
        values |= {(layer, feature): encoded[..., i] for i, feature in enumerate(features)}
    return values
