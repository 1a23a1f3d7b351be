"""Texts on which a feature fires and texts of the same language on which it is silent, one language at a time.

In: the tokens of a run and the active tokens of a feature (or its stored contexts). Out: `LanguageExamples`, what labels are scored on.

1. The unit is a text: a prompt, or a document, never two windows of one. Its strength is the feature's largest activation in it.
2. Texts on which the feature fires are cut into deciles by strength within the language (9 is strongest), and `per_decile` of each are
   drawn, so that weak activations count as much as strong ones (Paulo et al. 2024, "Automatically interpreting millions of features").
3. As many texts of the same language on which it is silent are drawn, so that a label cannot score by knowing the language.
4. A part of the texts (WRITING_PART) is kept for writing labels, so that none is scored on what it was written from.
5. A trial of intruder detection is `TRIAL_TEXTS` texts of one stratum of strength and one silent text, at a drawn place.
A run over a corpus keeps no raw activations: its stored contexts are taken, with their deciles over all languages.
Draws depend on seed, feature and language alone, not on which other features are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingest.labels.texts import PSEUDO_LANGUAGE, Integers, Texts

TRIAL_TEXTS = 4
"""Texts on which the feature fires in a trial of intruder detection."""
WRITING_PART = 4
"""Every so many-th text (by a hash of its number) is kept for writing labels; scores are measured on the others."""
MARK_FROM = 0.3
"""Tokens are marked from this share of the text's largest activation on."""


@dataclass(frozen=True)
class ExampleConfig:
    """How many texts a label is scored on, in each language."""

    per_decile: int = 2
    """Texts of each decile of strength."""
    window: int = 16
    """Tokens to each side of the one that fires."""
    min_texts: int = 5
    """Texts on which the feature fires, and as many on which it is silent, below which a language is not scored."""
    n_trials: int = 10
    """Trials of intruder detection."""
    seed: int = 0
    """Of all draws."""
    writing: bool = False
    """Take the texts that labels are written from instead of those they are scored on."""


@dataclass(frozen=True)
class Example:
    """A window of a text, with what the feature does in it."""

    item: int
    """Prompt or document."""
    position: int
    """The strongest token, or a drawn one where the feature is silent."""
    span: slice
    """Its tokens, as indices into `Texts`."""
    values: tuple[float, ...]
    """Activation at each token of the span; the sink's is left out as 0."""
    quantile: int | None = None
    """Decile of strength within the language; None where silent."""

    @property
    def activating(self) -> bool:
        """Whether the feature fires in it."""
        return any(value > 0 for value in self.values)


@dataclass(frozen=True)
class Trial:
    """Texts on which a feature fires, with one among them on which it does not."""

    examples: tuple[Example, ...]
    intruder: int
    """Its place."""


@dataclass(frozen=True)
class LanguageExamples:
    """What a feature is scored on in one language."""

    language: str
    activating: tuple[Example, ...]
    silent: tuple[Example, ...]
    trials: tuple[Trial, ...]


def feature_examples(
    texts: Texts, at: Integers, value: npt.NDArray[np.float64], name: tuple[int, int], config: ExampleConfig
) -> list[LanguageExamples]:
    """Draw the examples of one feature in each language with enough of them.

    `at` (R): indices into `texts` of its active counted tokens; `value` (R): its activations there; `name`: (layer, feature).
    """
    dense: dict[int, float] = dict(zip(at.tolist(), value.tolist(), strict=True))
    firing = np.unique(texts.item[at])
    kept = in_part(texts.item, config.writing)
    value, at = value[kept[at]], at[kept[at]]
    found = []
    for code, language in enumerate(texts.languages):
        if language == PSEUDO_LANGUAGE:
            continue
        rng = np.random.default_rng([config.seed, *name, *language.encode()])
        own = texts.language[at] == code
        strongest = _strongest_tokens(texts, at[own], value[own])
        silent = _silent_tokens(texts, kept & (texts.language == code), firing, rng)
        # A label is written from texts on which the feature fires; a score needs the others too.
        if len(strongest) < config.min_texts or (len(silent) < config.min_texts and not config.writing):
            continue
        deciles = np.arange(len(strongest)) * 10 // len(strongest)
        chosen = np.concatenate([rng.permutation(np.flatnonzero(deciles == decile))[: config.per_decile] for decile in range(9, -1, -1)])

        def example(token: int, quantile: int | None, dense: dict[int, float] = dense) -> Example:
            span = texts.window(int(texts.item[token]), int(texts.position[token]), config.window)
            values = tuple(dense.get(place, 0.0) for place in range(span.start, span.stop))
            return Example(int(texts.item[token]), int(texts.position[token]), span, values, quantile)

        activating = tuple(example(int(strongest[place]), int(deciles[place])) for place in chosen)
        others = tuple(example(int(token), None) for token in silent[: len(activating)])
        pools = [[example(int(strongest[place]), int(deciles[place])) for place in part] for part in _strata(len(strongest), rng)]
        spare = [example(int(token), None) for token in silent[: config.n_trials]]
        found.append(LanguageExamples(language, activating, others, make_trials(pools, spare, config.n_trials, rng)))
    return found


def _strongest_tokens(texts: Texts, at: Integers, value: npt.NDArray[np.float64]) -> Integers:
    """Return the strongest active token of each text, weakest text first; ties go to the earlier token and text."""
    order = np.lexsort((at, -value, texts.item[at]))
    items, first = np.unique(texts.item[at[order]], return_index=True)
    best = order[first]
    weakest_first: Integers = at[best][np.lexsort((items, value[best]))]
    return weakest_first


def in_part(item: Integers, writing: bool) -> npt.NDArray[np.bool_]:
    """Say which items belong to the part for writing labels, or to the other."""
    mixed = (item.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
    is_writing: npt.NDArray[np.bool_] = mixed % np.uint64(WRITING_PART) == 0
    return is_writing if writing else ~is_writing


def _silent_tokens(texts: Texts, among: npt.NDArray[np.bool_], firing: Integers, rng: np.random.Generator) -> Integers:
    """Return one drawn token of each text `among` those of a language without an active token, in drawn order."""
    tokens = np.flatnonzero(texts.counted & among & ~np.isin(texts.item, firing))
    shuffled = rng.permutation(tokens)
    _, first = np.unique(texts.item[shuffled], return_index=True)
    drawn: Integers = shuffled[rng.permutation(first)]
    return drawn


def _strata(n: int, rng: np.random.Generator) -> list[list[int]]:
    """Cut ranks 0 … n - 1 into up to ten strata of at least TRIAL_TEXTS, each in drawn order."""
    count = max(1, min(10, n // TRIAL_TEXTS))
    return [[int(place) for place in rng.permutation(part)] for part in np.array_split(np.arange(n), count)]


def make_trials(pools: Sequence[Sequence[Example]], silent: Sequence[Example], n: int, rng: np.random.Generator) -> tuple[Trial, ...]:
    """Make up to n trials: each takes its texts from one pool in turn and an intruder of its own."""
    usable = [pool for pool in pools if len(pool) >= TRIAL_TEXTS]
    trials = []
    for number in range(min(n, len(silent)) if usable else 0):
        pool = usable[number % len(usable)]
        texts = [pool[int(place)] for place in rng.choice(len(pool), TRIAL_TEXTS, replace=False)]
        intruder = int(rng.integers(TRIAL_TEXTS + 1))
        trials.append(Trial((*texts[:intruder], silent[number], *texts[intruder:]), intruder))
    return tuple(trials)


def context_examples(context: pa.Table, texts: Texts, name: tuple[int, int], config: ExampleConfig) -> list[LanguageExamples]:
    """Take the examples of one feature from its rows of `context`: samples of deciles, and silent ones, one a text."""
    found = []
    for language in sorted(set(context["language"].to_pylist()) - {PSEUDO_LANGUAGE}):
        own = context.filter(pc.equal(context["language"], language)).to_pylist()
        rng = np.random.default_rng([config.seed, *name, *language.encode()])
        made: dict[str, dict[int, Example]] = {"quantile": {}, "top": {}, "non_activating": {}}
        for row in own:
            example = _context_example(row, texts, config)
            kept = in_part(np.array([row["item"]], np.int64), config.writing)[0]
            if kept and example is not None and example.activating == (row["kind"] != "non_activating"):
                made[row["kind"]].setdefault(row["item"], example)
        sampled = list(made["quantile"].values())
        activating = [*sampled, *(example for item, example in made["top"].items() if item not in made["quantile"])][
            : 10 * config.per_decile
        ]
        silent = list(made["non_activating"].values())
        if len(activating) < config.min_texts or (len(silent) < config.min_texts and not config.writing):
            continue
        trials = make_trials([activating], silent, config.n_trials, rng)
        found.append(LanguageExamples(language, tuple(activating), tuple(silent[: len(activating)]), trials))
    return found


def _context_example(row: dict[str, object], texts: Texts, config: ExampleConfig) -> Example | None:
    """Turn a row of `context` into an example; None where its document is not kept."""
    item, position, start = int(str(row["item"])), int(str(row["position"])), int(str(row["window_start"]))
    low = int(texts.index(np.array([item]), np.array([start]))[0])
    values = row["window_activations"]
    if low < 0 or not isinstance(values, list):
        return None
    # A sink is shown with its text, but what a feature does there counts nowhere.
    numbers = tuple(0.0 if start + place == 0 else max(float(value), 0.0) for place, value in enumerate(values))
    return Example(item, position, slice(low, low + len(numbers)), numbers, row["quantile"])  # type: ignore[arg-type]


def marked_places(example: Example) -> tuple[int, ...]:
    """Return which tokens of an example's span fire: those from MARK_FROM of its largest activation on."""
    highest = max(example.values, default=0.0)
    return tuple(place for place, value in enumerate(example.values) if value > 0 and value >= MARK_FROM * highest)


def wrong_places(example: Example, texts: Texts, n: int, rng: np.random.Generator) -> tuple[int, ...]:
    """Draw n tokens of an example's span on which the feature is silent, no sinks; fewer where there are fewer."""
    free = [place for place, value in enumerate(example.values) if value == 0 and texts.position[example.span.start + place] > 0]
    return tuple(sorted(int(place) for place in rng.permutation(free)[:n]))
