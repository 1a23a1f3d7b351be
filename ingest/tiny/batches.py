"""Token batches for the embedded model: sentences behind `<|endoftext|>`, some with another sentence in front.

In: sentences and a tokenizer. Out: tensors of tokens, and of the loss weight of each token as a target.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from ingest.tiny.corpus import Sentence
from ingest.tiny.tokenizer import token_ids


@dataclass(frozen=True)
class Encoded:
    """A sentence as tokens, without the prepended one."""

    ids: tuple[int, ...]
    answer: int
    """Index of the answer in `ids`; the full stop comes after it."""


@dataclass(frozen=True)
class Batch:
    """Right-padded tokens and the weight of each as a target."""

    tokens: torch.Tensor  # (B, T) int64
    weights: torch.Tensor  # (B, T) float32, 0 at padding and at the prepended token


def encode(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sentence]) -> list[Encoded]:
    """Tokenise sentences; each answer is one token, the last but one."""
    encoded = [tuple(token_ids(tokenizer, sentence.text)) for sentence in sentences]
    return [Encoded(ids=ids, answer=len(ids) - 2) for ids in encoded]


def collate(rows: Sequence[tuple[tuple[int, ...], int]], *, end_of_text: int, other_weight: float) -> Batch:
    """Put `<|endoftext|>` before each row of (tokens, index of the answer) and pad on the right."""
    width = 1 + max(len(ids) for ids, _ in rows)
    tokens = torch.full((len(rows), width), end_of_text)  # (B, T)
    weights = torch.zeros(len(rows), width)  # (B, T)
    for row, (ids, answer) in enumerate(rows):
        tokens[row, 1 : 1 + len(ids)] = torch.tensor(ids)
        weights[row, 1 : 1 + len(ids)] = other_weight
        weights[row, 1 + answer] = 1.0
    return Batch(tokens=tokens, weights=weights)


def training_batches(
    encoded: Sequence[Encoded],
    *,
    newline: int,
    end_of_text: int,
    size: int,
    context_rate: float,
    other_weight: float,
    seed: int,
) -> Iterator[Batch]:
    """Yield batches for ever: epochs in random order; in a share of the batches another sentence and a newline stand before."""
    drawing = random.Random(f"batches {seed}")
    queue: list[Encoded] = []
    while True:
        if len(queue) < size:
            fresh = list(encoded)
            drawing.shuffle(fresh)
            queue = fresh + queue
        chosen = [queue.pop() for _ in range(size)]
        rows = [(row.ids, row.answer) for row in chosen]
        if drawing.random() < context_rate:
            rows = [behind(drawing.choice(encoded), row, newline) for row in chosen]
        yield collate(rows, end_of_text=end_of_text, other_weight=other_weight)


def behind(context: Encoded, row: Encoded, newline: int) -> tuple[tuple[int, ...], int]:
    """Put another sentence and a newline before a sentence."""
    shift = len(context.ids) + 1
    return (*context.ids, newline, *row.ids), shift + row.answer
