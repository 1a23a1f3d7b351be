"""How probable an answer of several tokens is: teacher-forced, per token and in all.

In: prompts and answers as token ids. Out: `Score`s.

    log p(answer | prompt) = sum over t of log p(answer[t] | prompt, answer[:t])

in nats, each term read off one pass over prompt and answer together. For an answer of one token it is that token's log-probability at the
decision position, and the difference of two such answers is the difference of their logits: the margin of METHODS section 2 is the special
case of `margin` for single tokens. A sum favours the shorter answer; `mean` is beside it for those who want another question answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from atlas.errors import InputError
from ingest.batches import Progress, in_halving_batches, pad_right
from ingest.model import LanguageModel
from ingest.taps import Edit


@dataclass(frozen=True)
class Score:
    """An answer after a prompt."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of each token given the prompt and the tokens before it, nats."""

    @property
    def total(self) -> float:
        """Log-probability of the whole answer, nats."""
        return sum(self.logprobs)

    @property
    def mean(self) -> float:
        """Per token, nats."""
        return self.total / len(self.logprobs)


def sequence_scores(
    model: LanguageModel,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int = 32,
    edit: Edit | None = None,
    progress: Progress | None = None,
) -> list[Score]:
    """Score (prompt, answer) pairs of token ids, each prompt with its prepended token.

    `edit` changes the pass (METHODS section 5); its positions count from the prompt's first token.

    Raises:
        InputError: an empty prompt or answer.
        UsageError: a pair that is longer than the model reads.
        ModelError: NaN or infinite values.
    """
    if any(not prompt or not answer for prompt, answer in pairs):
        raise InputError("an answer without a token cannot be scored", hint="give answers with at least one character")
    scores: list[Score] = []

    def run(part: slice) -> list[Score]:
        batch = pairs[part]
        ids, mask = pad_right([[*prompt, *answer] for prompt, answer in batch])
        final = model.capture(ids, mask, layers=(), mlp=False, edit=edit).final
        rows = torch.cat([torch.full((len(answer),), row) for row, (_, answer) in enumerate(batch)])
        read = torch.cat([torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1) for prompt, answer in batch])
        wanted = torch.tensor([token for _, answer in batch for token in answer], device=final.device)
        logits = model.logits(final[rows.to(final.device), read.to(final.device)])  # (sum of answer lengths, V)
        logprobs = torch.log_softmax(logits, dim=1)[torch.arange(len(wanted), device=final.device), wanted].tolist()
        out, start = [], 0
        for _, answer in batch:
            out.append(Score(tuple(answer), tuple(logprobs[start : start + len(answer)])))
            start += len(answer)
        return out

    for batch_scores in in_halving_batches(len(pairs), batch_size, run):
        scores += batch_scores
        if progress is not None:
            progress(len(scores), len(pairs))
    return scores


def answer_ids(model: LanguageModel, answer: str) -> tuple[int, ...]:
    """Tokenise an answer on its own, with what stands before it (a leading space, as a rule); nothing is prepended.

    Prompt and answer are tokenised apart: no token reaches over the border, which is where the model begins to write.

    Raises:
        InputError: an empty answer, a model without tokenizer.
    """
    if model.tokenizer is None:
        raise InputError(f"{model.name} has no tokenizer beside it", hint="an answer needs one")
    ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError("an answer is empty", hint='write it with its leading space: --answer " cold"')
    return tuple(int(token) for token in ids)


def margin(scores: Sequence[Score]) -> float | None:
    """Return log p(first) - max over the others, nats; None where there is no other."""
    return None if len(scores) < 2 else scores[0].total - max(score.total for score in scores[1:])
