"""Who scores labels: what a judge is shown and what it says; judges that follow a rule or ask a local model.

In: a label, texts with or without marked tokens. Out: verdicts. A judge that asks a server stands in `endpoint`.

- `RuleJudge` (rule): a label with a rule is right about a text where the rule holds for a token of it, and about marks where it holds for
  most of the marked tokens; an intruder is the text whose marked tokens are least like the others'. No label or no rule: never.
- `LocalJudge` (logprob): a local model reads a question and two answers; the one with the higher teacher-forced log-probability is its
  verdict, their difference its probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from atlas.errors import AtlasError
from ingest.labels.examples import Example
from ingest.labels.rule import Rule
from ingest.labels.texts import Texts

if TYPE_CHECKING:
    from ingest.model import LanguageModel

VERSIONS = {"detection": "detection-1", "fuzzing": "fuzzing-1", "intruder": "intruder-1"}
"""Versions of the questions below and of how examples are drawn; stored with every score."""
OPEN, CLOSE = "«", "»"


class JudgeFailure(AtlasError):
    """A judge gave no usable answer for one feature; the others go on. `attempts` says how often it was asked."""

    def __init__(self, message: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts


@dataclass(frozen=True)
class Label:
    """What is scored."""

    label_id: str
    layer: int
    feature: int
    text: str
    rule: Rule | None = None


@dataclass(frozen=True)
class Shown:
    """An example as a judge sees it."""

    example: Example
    texts: Texts
    marks: tuple[int, ...] | None = None
    """Marked places of its span; None shows the text alone."""

    @property
    def tokens(self) -> list[str]:
        """Texts of its tokens, the sink left out as empty."""
        span = self.example.span
        return ["" if self.texts.position[at] == 0 else self.texts.vocabulary[self.texts.token[at]] for at in range(span.start, span.stop)]

    @property
    def text(self) -> str:
        """The text, with neighbouring marked tokens in one pair of « »."""
        marked = set(self.marks or ())
        pieces = []
        for place, token in enumerate(self.tokens):
            if place in marked and place - 1 not in marked:
                token = token[: len(token) - len(token.lstrip())] + OPEN + token.lstrip()
            pieces.append(token + (CLOSE if place in marked and place + 1 not in marked else ""))
        return "".join(pieces).strip()


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one shown example."""

    yes: bool
    """The label is right about it."""
    probability: float | None = None


class Judge(Protocol):
    """Says whether a label is right about texts, or which text does not belong."""

    kind: str
    """rule, logprob or chat."""
    name: str | None
    """Model that judges; None for a rule."""

    def recognise(self, label: Label, shown: Sequence[Shown], method: str) -> list[Verdict]:
        """Say for each text whether the label fits; raises JudgeFailure."""

    def intruders(self, trials: Sequence[Sequence[Shown]]) -> list[int]:
        """Say for each trial which place holds the intruder; raises JudgeFailure."""


class RuleJudge:
    """Scores labels that say in a rule where they hold."""

    kind = "rule"
    name: str | None = None

    def recognise(self, label: Label, shown: Sequence[Shown], method: str) -> list[Verdict]:
        """Say where the rule holds: for any token, or for at least half of the marked ones."""
        return [Verdict(label.rule is not None and _holds(label.rule, each)) for each in shown]

    def intruders(self, trials: Sequence[Sequence[Shown]]) -> list[int]:
        """Choose the text whose marked tokens are least like those of the others."""
        return [_least_like([{each.tokens[place].strip().lower() for place in each.marks or ()} for each in trial]) for trial in trials]


def _holds(rule: Rule, shown: Shown) -> bool:
    held = rule.holds_in(shown.texts, shown.example.span)
    if shown.marks is None:
        return bool(held.any())
    return bool(shown.marks) and 2 * sum(bool(held[place]) for place in shown.marks) >= len(shown.marks)


def _least_like(marked: Sequence[set[str]]) -> int:
    """Return the place of the set with the smallest mean Jaccard to the others; the first of equal ones."""

    def likeness(place: int) -> float:
        own = marked[place]
        return sum(len(own & other) / max(len(own | other), 1) for at, other in enumerate(marked) if at != place)

    return min(range(len(marked)), key=likeness)


DETECTION = "A feature fires on: {label}\nText: {text}\nDoes the feature fire on a word of this text?\nAnswer:"
FUZZING = "A feature fires on: {label}\nText: {text}\nDoes the feature fire on the words in « »?\nAnswer:"
INTRUDER = "A feature fires on the words in « » of all texts but one.\n{texts}\nThe text that does not belong is number"
QUESTIONS = {"detection": DETECTION, "fuzzing": FUZZING}
YES, NO = " yes", " no"


class LocalJudge:
    """A local model, asked by log-probability; its chat template is used where it has one."""

    kind = "logprob"

    def __init__(self, model: LanguageModel, *, batch_size: int = 16) -> None:
        self.model = model
        self.name: str | None = model.name
        self.batch_size = batch_size

    def recognise(self, label: Label, shown: Sequence[Shown], method: str) -> list[Verdict]:
        """Compare the log-probabilities of yes and no after a question for each text."""
        prompts = [QUESTIONS[method].format(label=label.text, text=each.text) for each in shown]
        verdicts = []
        for yes, no in self._answers(prompts, (YES, NO)):
            verdicts.append(Verdict(yes > no, 1 / (1 + math.exp(min(no - yes, 700.0)))))
        return verdicts

    def intruders(self, trials: Sequence[Sequence[Shown]]) -> list[int]:
        """Choose the most probable number."""
        chosen = []
        for trial in trials:
            listed = "\n".join(f"{number}. {each.text}" for number, each in enumerate(trial, 1))
            numbers = [f" {number}" for number in range(1, len(trial) + 1)]
            scores = next(iter(self._answers([INTRUDER.format(texts=listed)], numbers)))
            chosen.append(max(range(len(scores)), key=lambda place: scores[place]))
        return chosen

    def _answers(self, prompts: Sequence[str], answers: Sequence[str]) -> list[tuple[float, ...]]:
        """Return the log-probability of each answer after each prompt, nats; raises JudgeFailure for a prompt that is too long."""
        from ingest.ask.sequence import answer_ids, sequence_scores

        ids = [self._ids(prompt) for prompt in prompts]
        ends = [answer_ids(self.model, answer) for answer in answers]
        longest = max(map(len, ids)) + max(map(len, ends))
        limit = self.model.max_positions
        if limit is not None and longest > limit:
            raise JudgeFailure(f"a question of {longest} tokens is longer than the {limit} that {self.model.name} reads")
        scores = sequence_scores(self.model, [(row, end) for row in ids for end in ends], batch_size=self.batch_size)
        totals = [score.total for score in scores]
        starts = range(0, len(totals) + 1, len(ends))
        return [tuple(totals[start:end]) for start, end in pairwise(starts)]

    def _ids(self, prompt: str) -> list[int]:
        """Tokenise a question, in the chat template where the model has one."""
        from ingest.ask.chat import chat_text

        tokenizer = self.model.tokenizer
        if getattr(tokenizer, "chat_template", None):
            prompt = chat_text(tokenizer, prompt, name=self.model.name)
        tokens = self.model.tokenise([prompt])
        return [int(token) for token in tokens.ids[0][tokens.mask[0]]]
