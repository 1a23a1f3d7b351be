"""Let the model write on, with or without an edit: greedy, or sampled with random numbers that all strengths share.

In: a prompt's token ids, maybe a `SteeringEdit`. Out: `Continuation`s.

1. The prompt runs once, one identical row per sample; keys and values are kept. Edited positions keep their edited keys and values: what is
   cached was computed with the edit in place.
2. Each new token is the arg max of logits / temperature + Gumbel noise (sampling exactly from the softmax), or of the logits (greedy). The
   noise depends on (seed, sample, step) alone, so that what differs between two strengths comes from the change and not from luck.
3. Where changes in several layers refer to clean activations, a second, unedited run over the same tokens goes along.
A row that has written an end-of-text token is finished; its later tokens are dropped. Steered and unsteered runs share batch and path:
a change that changes nothing gives the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from atlas.errors import ModelError, UsageError
from ingest.ask.steering import SteeringEdit, clean_values
from ingest.ask.text import Progress
from ingest.model import LanguageModel
from ingest.taps import Edit


@dataclass(frozen=True)
class Sampling:
    """How new tokens are chosen."""

    max_new_tokens: int = 20
    temperature: float = 0.0
    """0 is greedy."""
    n_samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 1 <= self.max_new_tokens <= 100_000:
            raise UsageError(f"--max-new-tokens is {self.max_new_tokens}, expected at least 1")
        if not 0.0 <= self.temperature <= 100.0:
            raise UsageError(f"--temperature is {self.temperature}, expected 0 (greedy) to 100")
        if not 1 <= self.n_samples <= 10_000:
            raise UsageError(f"--samples is {self.n_samples}, expected at least 1")
        if self.temperature == 0 and self.n_samples > 1:
            raise UsageError(f"--samples {self.n_samples} would all be the same at temperature 0", hint="Give --temperature, e.g. 0.8.")


@dataclass(frozen=True)
class Continuation:
    """What the model wrote after a prompt."""

    sample: int
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    """Of each token under the run that wrote it (at temperature 1), nats."""
    text: str


def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    sampling: Sampling,
    edit: SteeringEdit | None = None,
    *,
    stage: str = "writing",
    progress: Progress | None = None,
) -> list[Continuation]:
    """Continue a prompt (token ids with the prepended token), one continuation a sample.

    Raises:
        UsageError: prompt and continuation are longer than the model reads.
        ModelError: NaN or infinite logits.
    """
    longest = len(prompt) + sampling.max_new_tokens
    if model.max_positions is not None and longest > model.max_positions:
        raise UsageError(
            f"{len(prompt)} tokens and {sampling.max_new_tokens} new ones are {longest:,}, {model.name} reads {model.max_positions:,}",
            hint=f"--max-new-tokens {max(1, model.max_positions - len(prompt))}",
        )
    stop = stop_tokens(model)
    live, shadow = _Stream(model), _Stream(model) if edit is not None and edit.needs_clean else None
    ids = torch.tensor([list(prompt)] * sampling.n_samples, device=model.device)
    written: list[Tensor] = []
    logprobs: list[Tensor] = []
    finished = torch.zeros(sampling.n_samples, dtype=torch.bool, device=model.device)
    start = 0
    for step in range(sampling.max_new_tokens):
        if progress is not None:
            progress(stage, step, sampling.max_new_tokens)
        clean = None
        if shadow is not None:
            assert edit is not None
            clean = clean_values(edit.transcoders, edit.changes, shadow.read(ids, edit.layers))
        if edit is not None:
            edit.begin(start, clean)
        logits = live.run(ids, edit)  # (n, V)
        token = _choose(logits, sampling, step)
        logprobs.append(torch.log_softmax(logits, dim=1).gather(1, token[:, None])[:, 0])
        written.append(token)
        finished |= torch.isin(token, stop)
        start += ids.shape[1]
        ids = token[:, None]
        if bool(finished.all()):
            break
    if progress is not None:
        progress(stage, sampling.max_new_tokens, sampling.max_new_tokens)
    return _continuations(model, torch.stack(written, dim=1), torch.stack(logprobs, dim=1), stop)


def stop_tokens(model: LanguageModel) -> Tensor:
    """Return the ids that end a text, from the generation config, else from the tokenizer."""
    found: Any = getattr(getattr(model.hf, "generation_config", None), "eos_token_id", None)
    if found is None and model.tokenizer is not None:
        found = model.tokenizer.eos_token_id
    ids = [] if found is None else [found] if isinstance(found, int) else list(found)
    return torch.tensor(ids, dtype=torch.int64, device=model.device)


class _Stream:
    """One run of the model over growing sequences, with its cache of keys and values."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.cache = DynamicCache(config=model.hf.config)
        self.length = 0

    def run(self, ids: Tensor, edit: Edit | None) -> Tensor:
        """Take new columns (n, w) in; return logits (n, V) of the last one."""
        with torch.no_grad(), self.model.editing(edit):
            final = self._decode(ids)[:, -1]
        logits = self.model.logits(final)
        if not bool(torch.isfinite(logits).all()):
            raise ModelError(f"{self.model.name} gave NaN or infinite logits at position {self.length - 1}", hint="change less")
        return logits

    def read(self, ids: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
        """Take new columns in unedited; return what the transcoders of some layers read, (n, w, D)."""
        seen: dict[int, Tensor] = {}

        def look(layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
            if layer in layers:
                seen[layer] = mlp_in
            return mlp_out

        with torch.no_grad(), self.model.editing(look):
            self._decode(ids)
        return seen

    def _decode(self, ids: Tensor) -> Tensor:
        positions = torch.arange(self.length, self.length + ids.shape[1], device=ids.device)[None].expand(len(ids), -1)
        try:
            output = self.model.hf.get_decoder()(input_ids=ids, position_ids=positions, past_key_values=self.cache, use_cache=True)
        except torch.cuda.OutOfMemoryError as error:
            raise ModelError(f"out of memory with {len(ids)} samples", hint="ask for fewer --samples") from error
        self.length += ids.shape[1]
        final: Tensor = output.last_hidden_state
        return final


def _choose(logits: Tensor, sampling: Sampling, step: int) -> Tensor:
    """Return the next token (n,) of each sample."""
    if sampling.temperature == 0:
        return logits.argmax(dim=1)
    noise = torch.stack([_gumbel(logits.shape[1], sampling.seed, sample, step) for sample in range(len(logits))]).to(logits.device)
    return (logits.double() / sampling.temperature + noise).argmax(dim=1)


def _gumbel(n: int, seed: int, sample: int, step: int) -> Tensor:
    """Return standard Gumbel noise (n,), float64, from its own stream of random numbers."""
    name = hashlib.blake2b(f"{seed},{sample},{step}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(name, "big") >> 1)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64).clamp_(min=1e-300)
    return -torch.log(-torch.log(uniform))


def _continuations(model: LanguageModel, tokens: Tensor, logprobs: Tensor, stop: Tensor) -> list[Continuation]:
    out = []
    for sample in range(len(tokens)):
        ended = torch.isin(tokens[sample], stop).nonzero()[:, 0]
        length = int(ended[0]) + 1 if len(ended) else tokens.shape[1]
        ids = tokens[sample, :length].tolist()
        texts = model.token_texts(ids)
        whole = "".join(texts) if model.tokenizer is None else str(model.tokenizer.decode(ids))
        out.append(Continuation(sample, tuple(ids), tuple(texts), tuple(logprobs[sample, :length].tolist()), whole))
    return out
