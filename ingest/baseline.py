"""What the analysed model does unedited: margins, ranks, and the gate on accuracy.

In: a model and prompts. Out: rows of baseline and answer, and accuracy per language with Wilson's interval (METHODS section 2).

    margin = logit(correct) - max over contrasts, float32, as final . (U_correct - U_contrast) at the decision position.

Where a prompt has an answer of several tokens, all of its answers are scored teacher-forced, and its margin is the difference of their
summed log-probabilities (`ingest.ask.sequence`), which for single tokens is the same number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import torch
from torch import Tensor

from atlas.errors import GateError, ModelError
from atlas.stats import wilson
from ingest.ask.sequence import sequence_scores
from ingest.batches import Progress, in_halving_batches, pad_right
from ingest.model import LanguageModel
from ingest.prompts import MARGIN_ROLES, Prompt, PromptSet


@dataclass(frozen=True)
class BaselineConfig:
    """How the unedited model is measured."""

    batch_size: int = 64
    """Prompts a forward pass; halved when memory runs out."""


@dataclass(frozen=True)
class Accuracy:
    """Share of prompts with a positive margin, with its 95 % Wilson interval."""

    language: str
    n_correct: int
    n_prompts: int

    @property
    def value(self) -> float:
        """n_correct / n_prompts."""
        return self.n_correct / self.n_prompts

    @property
    def interval(self) -> tuple[float, float]:
        """95 % score interval (Wilson 1927)."""
        low, high = wilson(self.n_correct, self.n_prompts)
        return float(low), float(high)


def baseline(
    model: LanguageModel, prompts: PromptSet, config: BaselineConfig | None = None, *, progress: Progress | None = None
) -> dict[str, pa.Table]:
    """Measure every prompt; return tables baseline and answer.

    Raises:
        ModelError: NaN or infinite logits, naming the prompt.
    """
    config = config or BaselineConfig()
    rows: list[dict[str, object]] = []
    answers: list[dict[str, object]] = []

    def run(part: slice) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        batch = prompts.prompts[part]
        measured = _measure(model, batch, decision_states(model, batch))
        return _with_sequences(model, batch, *measured, batch_size=part.stop - part.start)

    for batch_rows, batch_answers in in_halving_batches(len(prompts.prompts), config.batch_size, run):
        rows += batch_rows
        answers += batch_answers
        if progress is not None:
            progress(len(rows), len(prompts.prompts))
    return {"baseline": pa.Table.from_pylist(rows), "answer": _answer_table(answers)}


def decision_states(model: LanguageModel, batch: Sequence[Prompt]) -> Tensor:
    """Return the final norm's output at each prompt's decision position, (B, D) in the model's dtype."""
    ids, mask = pad_right([prompt.token_ids for prompt in batch])
    captured = model.capture(ids, mask, layers=(), mlp=False)
    decision = torch.tensor([prompt.decision_position for prompt in batch], device=captured.final.device)
    return captured.final[torch.arange(len(batch), device=decision.device), decision]


def margins(model: LanguageModel, states: Tensor, batch: Sequence[Prompt], *, softcap: bool = True) -> Tensor:
    """Return margins (B) of states (B, D), differentiable; float32, or float64 for a float64 model (METHODS section 2).

    `softcap=False` leaves a family's cap on logits out, for maps that have to be linear.
    """
    return torch.stack([margin(model, state, prompt, softcap=softcap) for state, prompt in zip(states, batch, strict=True)])


def margin(model: LanguageModel, state: Tensor, prompt: Prompt, *, softcap: bool = True) -> Tensor:
    """Return logit(correct) - max over contrasts for one state (D); differences of unembedding rows, not of rounded logits."""
    contrast = [answer.token_id for answer in prompt.answers if answer.role in MARGIN_ROLES]
    state = state if state.dtype == torch.float64 else state.float()
    unembedding, bias, cap = model.unembedding, model.unembedding_bias, model.logit_softcap
    correct_row, contrast_rows = unembedding[prompt.correct.token_id].to(state), unembedding[contrast].to(state)
    if cap is not None and softcap:
        logits = torch.tanh(torch.cat([correct_row[None], contrast_rows]) @ state / cap) * cap
        return logits[0] - logits[1:].max()
    differences = (correct_row - contrast_rows) @ state
    if bias is not None:
        differences = differences + (bias[prompt.correct.token_id] - bias[contrast]).to(state)
    return differences.min()


def _measure(model: LanguageModel, batch: Sequence[Prompt], states: Tensor) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    logits = model.logits(states)  # (B, V)
    finite = torch.isfinite(logits).all(dim=1)
    if not bool(finite.all()):
        bad = batch[int((~finite).nonzero()[0, 0])]
        raise ModelError(f"prompt {bad.prompt} ({bad.text!r}) has NaN or infinite logits", hint="load the model with --dtype float32")
    logprob = torch.log_softmax(logits, dim=1)
    entropy = -(logprob.exp() * logprob).sum(1)
    top_logprob, top = logprob.max(1)
    values = margins(model, states, batch)
    texts = model.token_texts([int(token) for token in top])
    rows: list[dict[str, object]] = []
    answers: list[dict[str, object]] = []
    for i, prompt in enumerate(batch):
        rows.append(
            {
                "prompt": prompt.prompt,
                "margin": float(values[i]),
                "correct": bool(values[i] > 0),
                "top1_token_id": int(top[i]),
                "top1_token": texts[i],
                "top1_logprob": float(top_logprob[i]),
                "entropy": float(entropy[i]),
            }
        )
        for ordinal, answer in enumerate(prompt.answers):
            logit = logits[i, answer.token_id]
            answers.append(
                {
                    "prompt": prompt.prompt,
                    "answer": ordinal,
                    "role": answer.role,
                    "text": answer.text,
                    "token_id": answer.token_id,
                    "logit": float(logit),
                    "logprob": float(logprob[i, answer.token_id]),
                    "rank": int((logits[i] > logit).sum()),
                }
            )
    return rows, answers


def _with_sequences(
    model: LanguageModel, batch: Sequence[Prompt], rows: list[dict[str, object]], answers: list[dict[str, object]], *, batch_size: int
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Put teacher-forced scores in place of single-token ones for prompts with an answer of several tokens."""
    chosen = {prompt.prompt: prompt for prompt in batch if prompt.has_sequences}
    if not chosen:
        return rows, answers
    pairs = [(prompt.token_ids, answer.ids) for prompt in chosen.values() for answer in prompt.answers]
    found = iter(sequence_scores(model, pairs, batch_size=batch_size))
    scores = {prompt.prompt: [next(found) for _ in prompt.answers] for prompt in chosen.values()}
    for row in rows:
        if (number := cast(int, row["prompt"])) in chosen:
            totals = [score.total for score in scores[number]]
            others = [total for total, answer in zip(totals, chosen[number].answers, strict=True) if answer.role in MARGIN_ROLES]
            row |= {"margin": totals[0] - max(others), "correct": totals[0] > max(others)}
    for row in answers:
        if (number := cast(int, row["prompt"])) in chosen:
            place = cast(int, row["answer"])
            score, several = scores[number][place], bool(chosen[number].answers[place].token_ids)
            row["logprob"] = score.total
            if several:
                row |= {"logit": None, "rank": None, "token_ids": list(score.token_ids), "token_logprobs": list(score.logprobs)}
    return rows, answers


def _answer_table(answers: Sequence[dict[str, object]]) -> pa.Table:
    """Return the rows of `answer`; the columns of several tokens only where there are some."""
    names = dict.fromkeys(name for row in answers for name in row)
    return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in answers])


def accuracy_by_language(prompts: PromptSet, table: pa.Table, behaviour: str | None = None) -> dict[str, Accuracy]:
    """Count positive margins per language, of one behaviour or of all."""
    correct = dict(zip(table["prompt"].to_pylist(), table["correct"].to_pylist(), strict=True))
    counts: dict[str, list[bool]] = defaultdict(list)
    for prompt in prompts.prompts:
        if behaviour is None or prompt.behaviour == behaviour:
            counts[prompt.language].append(correct[prompt.prompt])
    return {language: Accuracy(language, sum(flags), len(flags)) for language, flags in counts.items()}


def check_gate(prompts: PromptSet, table: pa.Table, gates: Mapping[str, float]) -> dict[tuple[str, str], Accuracy]:
    """Compare each behaviour's accuracy per language with its gate; the share itself is compared, the interval is told.

    Raises:
        GateError: naming every language below its gate.
    """
    measured: dict[tuple[str, str], Accuracy] = {}
    below: list[str] = []
    for behaviour in dict.fromkeys(prompt.behaviour for prompt in prompts.prompts):
        gate = gates.get(behaviour, 0.0)
        for language, accuracy in accuracy_by_language(prompts, table, behaviour).items():
            measured[behaviour, language] = accuracy
            if accuracy.value < gate:
                low, high = accuracy.interval
                below.append(
                    f"{behaviour} in {language}: accuracy {accuracy.value:.2f} (95 % {low:.2f} to {high:.2f}, "
                    f"{accuracy.n_correct} of {accuracy.n_prompts}), gate {gate:.2f}"
                )
    if below:
        raise GateError(
            "The model does not do the behaviour well enough to be analysed:\n    " + "\n    ".join(below),
            hint="leave out the language (--languages), lower the gate in the plan, or use another model",
        )
    return measured
