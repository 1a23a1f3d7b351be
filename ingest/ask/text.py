"""What fires on a text of one's own: every active feature of the whole dictionary at every token.

In: texts, a model, its transcoders. Out: `OwnText`s and `Active`, flat arrays of (text, position, layer, feature, activation).

1. Texts are tokenised as prompts are: one token is prepended, the attention sink at position 0 (METHODS section 1).
2. The model runs once; each layer's encoder runs over all tokens; active entries are kept, by the functions that an ingest uses
   (`ingest.activations`), so that the numbers are those of an ingest of the same texts.
Nothing is capped: a web search over a dictionary stops at some number of results, inference over it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atlas.errors import InputError, UsageError
from ingest.activations import cache_inputs, encode_rows
from ingest.ask.chat import chat_text
from ingest.batches import in_halving_batches, pad_right
from ingest.model import LanguageModel
from ingest.rows import ActiveRows
from ingest.transcoder import Sparse, TranscoderSet

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total); what it raises stops the work."""


@dataclass(frozen=True)
class OwnText:
    """A tokenised text."""

    text: str
    """As the tokenizer got it: with `chat`, the rendered conversation."""
    token_ids: tuple[int, ...]
    """With the prepended token."""
    tokens: tuple[str, ...]
    """Each token's text on its own."""
    offsets: tuple[tuple[int, int] | None, ...]
    """Characters [start, end) of each token; None for the prepended one."""

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Active:
    """R active entries, sorted by text, position, layer, feature; activation > 0, the sink's included."""

    text: NDArray[np.int64]
    """(R,) ordinal of the text."""
    position: NDArray[np.int64]
    layer: NDArray[np.int64]
    feature: NDArray[np.int64]
    activation: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.text)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Active:
        """Keep the entries of a mask or of an index."""
        return Active(self.text[keep], self.position[keep], self.layer[keep], self.feature[keep], self.activation[keep])

    def keys(self) -> list[tuple[int, int]]:
        """Return the distinct (layer, feature), ascending."""
        pairs = np.unique(np.stack([self.layer, self.feature], axis=1), axis=0)
        return [(int(layer), int(feature)) for layer, feature in pairs]


def own_texts(
    model: LanguageModel, texts: Sequence[str], *, prepend: bool = True, chat: bool = False, system: str | None = None
) -> list[OwnText]:
    """Tokenise texts; with `chat` each is a user's message in the tokenizer's own template.

    Raises:
        InputError: no text, no tokenizer, no chat template.
        UsageError: a text that is longer than the model reads.
    """
    if not texts:
        raise InputError("there is no text", hint='for example: atlas ask-text "The opposite of hot is"')
    rendered = [chat_text(model.tokenizer, text, system, name=model.name) for text in texts] if chat else list(texts)
    empty = next((number for number, text in enumerate(rendered) if not text.strip()), None)
    if empty is not None:
        raise InputError(f"text {empty + 1} is empty", hint='for example: atlas ask-text "The opposite of hot is"')
    tokens = model.tokenise(rendered, prepend=prepend)
    out = []
    for number, text in enumerate(rendered):
        ids = tokens.row(number)
        if model.max_positions is not None and len(ids) > model.max_positions:
            raise UsageError(
                f"text {number + 1} has {len(ids):,} tokens, {model.name} reads {model.max_positions:,}",
                hint="shorten it, or give it line by line (--lines)",
            )
        spans = tokens.offsets[number]
        first_is_prepended = len(spans) > 0 and spans[0] == (0, 0) and tokens.prepended is not None and ids[0] == tokens.prepended
        offsets = tuple(None if place == 0 and first_is_prepended else span for place, span in enumerate(spans))
        out.append(OwnText(text, tuple(ids), tuple(model.token_texts(ids)), offsets))
    return out


def active_features(
    model: LanguageModel,
    transcoders: TranscoderSet,
    texts: Sequence[OwnText],
    layers: Sequence[int] | None = None,
    *,
    batch_size: int = 32,
    max_elements: int | None = None,
    unexplained: dict[int, NDArray[np.float64]] | None = None,
    progress: Progress | None = None,
) -> Active:
    """Return every active feature of `layers` (default all of the set) at every token, sinks included.

    `unexplained` is filled with each layer's share of the MLP output that these features leave unexplained, one number a token of all
    texts: ||m - m^||^2 / ||m||^2 (METHODS section 1). Cross-layer sets, whose layers explain each other, leave it empty.

    Raises:
        ModelError: NaN or infinite values, naming layer and text; memory that runs out with a single text.
        InputError: a layer without a transcoder.
    """
    layers = transcoders.layers if layers is None else tuple(layers)
    transcoders.require(layers)
    explains = unexplained is not None and not transcoders.cross_layer
    sequences = [text.token_ids for text in texts]
    names = [f"text {number + 1} ({text.text[:60]!r})" for number, text in enumerate(texts)]
    if progress is not None:
        progress("encoding", 0, len(layers))
    cached = cache_inputs(model, sequences, layers, batch_size=batch_size, cache_device=None, names=names, outputs=explains)
    text_of = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    position_of = np.concatenate([np.arange(len(text)) for text in texts])
    parts: list[Active] = []
    for done, layer in enumerate(layers, 1):
        every = encode_rows(transcoders, layer, cached.mlp_in[layer], max_elements)
        if explains and unexplained is not None:
            unexplained[layer] = _unexplained(transcoders, layer, every, cached.mlp_in[layer], cached.mlp_out[layer])
        rows = every.positive().to("cpu")
        token = rows.token.numpy()
        parts.append(
            Active(
                text_of[token],
                position_of[token],
                np.full(len(token), layer, dtype=np.int64),
                rows.feature.numpy().astype(np.int64),
                rows.value.numpy(),
            )
        )
        if progress is not None:
            progress("encoding", done, len(layers))
    together = Active(*(np.concatenate([getattr(part, name) for part in parts]) for name in Active.__dataclass_fields__))
    return together.select(np.lexsort((together.feature, together.layer, together.position, together.text)))


def _unexplained(
    transcoders: TranscoderSet, layer: int, rows: ActiveRows, mlp_in: torch.Tensor, mlp_out: torch.Tensor
) -> NDArray[np.float64]:
    """Return the share of the square norm of mlp_out (T, D) that the active features leave unexplained, (T,)."""
    active = Sparse(rows.token, rows.feature, rows.value, rows.value)
    error = mlp_out - transcoders.decode_sparse(layer, active, len(mlp_in), mlp_in)
    share = error.double().square().sum(dim=1) / mlp_out.double().square().sum(dim=1).clamp(min=1e-30)
    return np.asarray(share.cpu().numpy())


@dataclass(frozen=True)
class NextToken:
    """A token that may come next."""

    token_id: int
    token: str
    logprob: float
    """Nats."""


def next_tokens(model: LanguageModel, texts: Sequence[OwnText], top: int = 5, *, batch_size: int = 32) -> list[list[NextToken]]:
    """Return the most probable tokens after each text, most probable first."""
    out: list[list[NextToken]] = []

    def run(part: slice) -> torch.Tensor:
        ids, mask = pad_right([text.token_ids for text in texts[part]])
        final = model.capture(ids, mask, layers=(), mlp=False).final
        last = mask.sum(1).to(final.device) - 1
        return torch.log_softmax(model.logits(final[torch.arange(len(last), device=final.device), last]), dim=1)

    for logprobs in in_halving_batches(len(texts), batch_size, run, what="texts"):
        values, ids = logprobs.topk(min(top, logprobs.shape[1]), dim=1)
        for row_values, row_ids in zip(values.tolist(), ids.tolist(), strict=True):
            named = model.token_texts(row_ids)
            out.append([NextToken(*item) for item in zip(row_ids, named, row_values, strict=True)])
    return out
