"""Detection, fuzzing and intruder detection: how well a label says where its feature fires, one language at a time.

In: a label, the examples of its feature in one language, a judge. Out: `Measured`: balanced accuracy with an interval, and each example
with its verdict. Definitions after Paulo et al. 2024, "Automatically interpreting millions of features in large language models", and
Paulo and Belrose 2025, "Evaluating SAE interpretability without explanations":

- **detection**: does the feature fire in this text? Texts on which it fires, by decile, and as many of the same language on which it
  is silent.
- **fuzzing**: are the marked tokens those on which it fires? Each text on which it fires is shown with its firing tokens marked and
  with as many of its silent tokens marked, so that the text alone gives nothing away.
- **intruder**: which of five texts, with marks, does not belong? Four on which it fires with like strength, one on which it is silent,
  with as many drawn tokens marked. It needs no label and says whether there is anything to label.

balanced accuracy = (sensitivity + specificity) / 2, .5 for a judge that always says the same. Its 95 % interval joins the Wilson
intervals of the two rates (Newcombe 1998, method 10, for half a sum instead of a difference):

    low = b - sqrt((p - l_p)^2 + (q - l_q)^2) / 2,   high = b + sqrt((u_p - p)^2 + (u_q - q)^2) / 2

It speaks of other texts drawn in the same way from the same run, not of other templates or concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atlas.stats import wilson
from ingest.labels.examples import Example, LanguageExamples, marked_places, wrong_places
from ingest.labels.judges import Judge, Label, Shown, Verdict
from ingest.labels.texts import Texts

METHODS = ("intruder", "detection", "fuzzing")
"""In the order in which they are best done: the first needs no label."""


@dataclass(frozen=True)
class Judged:
    """One example with its verdict."""

    example: Example
    truth: bool
    verdict: Verdict


@dataclass(frozen=True)
class Measured:
    """How a label did in one language."""

    language: str
    value: float
    ci_low: float
    ci_high: float
    sensitivity: float
    specificity: float
    auc: float | None
    judged: tuple[Judged, ...]

    @property
    def n_activating(self) -> int:
        """Examples about which the label is right if it is right."""
        return sum(each.truth for each in self.judged)


@dataclass(frozen=True)
class Intruders:
    """How often the intruder was found in one language."""

    language: str
    value: float
    chance: float
    ci_low: float
    ci_high: float
    found: tuple[bool, ...]


def score_label(label: Label, examples: LanguageExamples, method: str, judge: Judge, texts: Texts, seed: int = 0) -> Measured | None:
    """Score a label by detection or fuzzing; None where nothing can be shown of one side.

    Raises:
        JudgeFailure: the judge gave no usable answer.
    """
    shown, truth = (detection_items if method == "detection" else fuzzing_items)(examples, texts, label, seed)
    if not any(truth) or all(truth):
        return None
    verdicts = judge.recognise(label, shown, method)
    judged = tuple(Judged(each.example, real, verdict) for each, real, verdict in zip(shown, truth, verdicts, strict=True))
    return balanced(examples.language, judged)


def detection_items(examples: LanguageExamples, texts: Texts, label: Label, seed: int) -> tuple[list[Shown], list[bool]]:
    """Return the texts of detection in drawn order, and which of them the feature fires on."""
    every = [*examples.activating, *examples.silent]
    order = _generator(seed, label, examples.language).permutation(len(every))
    chosen = [every[int(place)] for place in order]
    return [Shown(example, texts) for example in chosen], [example.activating for example in chosen]


def fuzzing_items(examples: LanguageExamples, texts: Texts, label: Label, seed: int) -> tuple[list[Shown], list[bool]]:
    """Return the marked texts of fuzzing in drawn order, and which are marked where the feature fires."""
    rng = _generator(seed, label, examples.language)
    items = []
    for example in examples.activating:
        right = marked_places(example)
        wrong = wrong_places(example, texts, len(right), rng)
        if wrong:
            items += [(Shown(example, texts, right), True), (Shown(example, texts, wrong), False)]
    order = [items[int(place)] for place in rng.permutation(len(items))]
    return [shown for shown, _ in order], [truth for _, truth in order]


def find_intruders(name: tuple[int, int], examples: LanguageExamples, judge: Judge, texts: Texts, seed: int = 0) -> Intruders | None:
    """Let a judge find the intruders of one feature; None where there are no trials.

    Raises:
        JudgeFailure: the judge gave no usable answer.
    """
    if not examples.trials:
        return None
    rng = np.random.default_rng([seed, *name, *examples.language.encode()])
    shown = []
    for trial in examples.trials:
        firing = [len(marked_places(example)) for example in trial.examples if example.activating]
        n_marks = max(1, round(sum(firing) / len(firing)))
        shown.append(
            [
                Shown(example, texts, marked_places(example) if example.activating else wrong_places(example, texts, n_marks, rng))
                for example in trial.examples
            ]
        )
    said = judge.intruders(shown)
    found = tuple(answer == trial.intruder for answer, trial in zip(said, examples.trials, strict=True))
    low, high = wilson(sum(found), len(found))
    chance = 1 / len(examples.trials[0].examples)
    return Intruders(examples.language, sum(found) / len(found), chance, float(low), float(high), found)


def _generator(seed: int, label: Label, language: str) -> np.random.Generator:
    return np.random.default_rng([seed, label.layer, label.feature, *language.encode()])


def balanced(language: str, judged: Sequence[Judged]) -> Measured:
    """Return balanced accuracy with its interval; there are examples of both kinds."""
    hits = sum(each.verdict.yes for each in judged if each.truth)
    n_yes = sum(each.truth for each in judged)
    rejected = sum(not each.verdict.yes for each in judged if not each.truth)
    n_no = len(judged) - n_yes
    (low_p, low_q), (high_p, high_q) = wilson([hits, rejected], [n_yes, n_no])
    p, q = hits / n_yes, rejected / n_no
    value = (p + q) / 2
    return Measured(
        language,
        value,
        float(value - np.hypot(p - low_p, q - low_q) / 2),
        float(value + np.hypot(high_p - p, high_q - q) / 2),
        p,
        q,
        _auc(judged),
        tuple(judged),
    )


def _auc(judged: Sequence[Judged]) -> float | None:
    """Return the share of (right, wrong) pairs that the probabilities order rightly, ties by half; None without probabilities."""
    if any(each.verdict.probability is None for each in judged):
        return None
    yes = np.array([each.verdict.probability for each in judged if each.truth], float)
    no = np.array([each.verdict.probability for each in judged if not each.truth], float)
    return float(((yes[:, None] > no) + 0.5 * (yes[:, None] == no)).mean())
