"""What `--set` says: which feature becomes what, in a few spellings.

    L20_F1454=3x              scale: three times its clean activation
    L20_F1454=0               ablate
    L20_F1454=4.5             clamp: this activation
    L20_F1454=+2.5  =-1       add: clean activation plus or minus so much
    L20_F1454=+2sd            add: so many standard deviations of the feature (of its active tokens, in the atlas)
    L1_F2<->L1_F7             swap: each takes the other's clean activation
    L20_F1454                 scale, by the values of --strengths

In: texts. Out: `Change`s, checked against the dictionary. Neuronpedia's and circuit-tracer's names of features work too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from atlas.errors import UsageError
from atlas.ids import feature_name, parse_feature
from ingest.transcoder import TranscoderSet

Kind = Literal["scale", "zero", "clamp", "add", "swap"]
SPELLINGS = "Write L20_F1454=3x (scale), =0 (ablate), =4.5 (clamp), =+2.5 or =+2sd (add), or L1_F2<->L1_F7 (swap)."

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_SCALE = re.compile(rf"^(?P<a>[+-]?{_NUMBER})\s*[x×*]$|^[x×*]\s*(?P<b>[+-]?{_NUMBER})$")
_ADD = re.compile(rf"^(?P<value>[+-]\s*{_NUMBER})\s*(?P<sd>sd)?$")
_CLAMP = re.compile(rf"^{_NUMBER}$")


@dataclass(frozen=True)
class Change:
    """One feature (or two that swap) and the rule for its new value."""

    kind: Kind
    layer: int
    feature: int
    value: float | None = None
    """alpha of scale and add, activation of clamp; None: to come from --strengths."""
    in_sd: bool = False
    """The value of add is in standard deviations."""
    other: tuple[int, int] | None = None
    """(layer, feature) that it swaps with."""

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """(layer, feature) of what is changed."""
        here = (self.layer, self.feature)
        return (here,) if self.other is None else (here, self.other)

    @property
    def name(self) -> str:
        """The change in the spelling of --set."""
        here = feature_name(self.layer, self.feature)
        if self.other is not None:
            return f"{here}<->{feature_name(*self.other)}"
        if self.kind == "zero":
            return f"{here}=0"
        if self.value is None:
            return here
        text = f"{self.value:g}"
        if self.kind == "scale":
            return f"{here}={text}x"
        if self.kind == "add":
            return f"{here}={self.value:+g}{'sd' if self.in_sd else ''}"
        return f"{here}={text}"

    @property
    def does_nothing(self) -> bool:
        """Whether it keeps every activation as it is."""
        return (self.kind == "scale" and self.value == 1.0) or (self.kind == "add" and self.value == 0.0)


def parse_change(text: str) -> Change:
    """Read one --set.

    Raises:
        UsageError: a text that is none, or a feature that swaps with itself.
    """
    left, arrow, right = text.partition("<->")
    if arrow:
        here, other = parse_feature(left), parse_feature(right)
        if here == other:
            raise UsageError(f"{feature_name(*here)} would swap with itself", hint=SPELLINGS)
        return Change("swap", *here, other=other)
    name, equals, value = text.partition("=")
    layer, feature = parse_feature(name)
    value = value.strip()
    if not equals:
        return Change("scale", layer, feature)
    if found := _SCALE.match(value):
        return Change("scale", layer, feature, float(found["a"] or found["b"]))
    if found := _ADD.match(value):
        return Change("add", layer, feature, float(found["value"].replace(" ", "")), in_sd=found["sd"] is not None)
    if _CLAMP.match(value):
        number = float(value)
        return Change("zero", layer, feature, 0.0) if number == 0 else Change("clamp", layer, feature, number)
    raise UsageError(f"--set {text!r} says no value", hint=SPELLINGS)


def parse_changes(texts: Sequence[str]) -> list[Change]:
    """Read all --set of a call.

    Raises:
        UsageError: none, a wrong one, or a feature that is set twice.
    """
    changes = [parse_change(text) for text in texts]
    if not changes:
        raise UsageError("nothing is set", hint=SPELLINGS)
    places = [place for change in changes for place in change.places]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise UsageError(f"{feature_name(*twice)} is set twice", hint="Give each feature one --set.")
    return changes


def check_changes(changes: Sequence[Change], transcoders: TranscoderSet) -> None:
    """Raise UsageError for a layer or a feature that the dictionary does not have."""
    for layer, feature in (place for change in changes for place in change.places):
        if layer not in transcoders.layers:
            known = f"{transcoders.layers[0]} to {transcoders.layers[-1]}"
            raise UsageError(f"{feature_name(layer, feature)}: {transcoders.name} has no layer {layer}", hint=f"It has {known}.")
        if feature >= transcoders.d_transcoder(layer):
            raise UsageError(
                f"{feature_name(layer, feature)}: layer {layer} of {transcoders.name} has {transcoders.d_transcoder(layer):,} features",
                hint=f"They are numbered from 0 to {transcoders.d_transcoder(layer) - 1}.",
            )


def at_strength(changes: Sequence[Change], strength: float | None) -> list[Change]:
    """Return the changes with a strength as the value of each scale, add and clamp; None leaves values as they were written.

    Raises:
        UsageError: no strength where a value is missing, or a strength where no change has a value.
    """
    if strength is None:
        missing = next((change for change in changes if change.kind == "scale" and change.value is None), None)
        if missing is not None:
            raise UsageError(f"--set {missing.name} says no value and there are no --strengths", hint=SPELLINGS)
        return list(changes)
    if all(change.kind in ("swap", "zero") for change in changes):
        raise UsageError("--strengths has nothing to act on: ablations and swaps have no strength", hint=SPELLINGS)
    return [change if change.kind in ("swap", "zero") else replace(change, value=strength) for change in changes]


def in_activation_units(changes: Sequence[Change], sd_of: Callable[[int, int], float | None]) -> list[Change]:
    """Turn additions in standard deviations into additions of activation.

    Raises:
        UsageError: the atlas does not know the feature's standard deviation.
    """
    out = []
    for change in changes:
        if change.kind == "add" and change.in_sd:
            sd = sd_of(change.layer, change.feature)
            if sd is None:
                raise UsageError(
                    f"the standard deviation of {feature_name(change.layer, change.feature)} is not known (no atlas, or silent there)",
                    hint="Add activation instead: =+2.5",
                )
            change = replace(change, value=(change.value or 0.0) * sd, in_sd=False)
        out.append(change)
    return out


def parse_strengths(text: str) -> tuple[float, ...]:
    """Read `0,1,2,4`; raise UsageError for anything else."""
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"--strengths {text!r} are not numbers", hint="Write 0,1,2,4.") from error
    if not values or len(set(values)) != len(values) or not all(abs(value) < 1e6 for value in values):
        raise UsageError(f"--strengths {text!r}: expected different finite numbers", hint="Write 0,1,2,4.")
    return values
