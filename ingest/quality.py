"""How well transcoders stand for the MLPs they replace.

In: a model, transcoders, prompts, counts of active features. Out: rows of transcoder_quality, per layer and language, and
layer -1 for all ingested layers at once.

- L0 = active features a token; dead = never active on these tokens; both from counts.
- FVU = sum |m - m^|^2 / sum |m - mean m|^2 over the counted tokens of a language (METHODS section 1).
- KL(model || replaced) in nats and top-1 agreement at the decision position, with the MLP outputs at every position but the sink
  replaced by what the transcoders predict from the *live* MLP inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ingest.batches import in_halving_batches, pad_right
from ingest.model import LanguageModel, without_sink
from ingest.prompts import Prompt, PromptSet
from ingest.rows import ActiveRows
from ingest.statistics import LayerStatistics, TokenBlock, TokenCounts
from ingest.transcoder import Sparse, TranscoderSet

_DECODED_NUMBERS = 1 << 24
"""Predicted numbers held at a time."""
ALL_LAYERS = -1
"""The layer under which figures with every ingested layer replaced stand."""


@dataclass(frozen=True)
class QualityConfig:
    """What the quality check costs."""

    replacement: bool = True
    """Whether to run the model with MLPs replaced (layers + 1 more forward passes)."""
    reconstruction: bool = True
    """Whether to decode and measure the FVU."""
    prompts_per_language: int = 200
    """Prompts of these runs, evenly spaced over each language's."""
    batch_size: int = 64
    """Prompts a forward pass; halved when memory runs out."""


class Variance:
    """Sums for the FVU of one layer, per language, in float64."""

    def __init__(self, n_languages: int, d_model: int) -> None:
        self.n = torch.zeros(n_languages, dtype=torch.float64)
        self.residual = torch.zeros(n_languages, dtype=torch.float64)
        self.squares = torch.zeros(n_languages, dtype=torch.float64)
        self.total = torch.zeros(n_languages, d_model, dtype=torch.float64)

    def add(
        self,
        transcoders: TranscoderSet,
        layer: int,
        rows: Mapping[int, ActiveRows],
        mlp_in: Tensor,
        mlp_out: Tensor,
        block: TokenBlock,
    ) -> None:
        """Decode active rows of tokens (N) and compare with mlp_out (N, D) where a token is counted.

        `rows` holds those of the layer and, for a cross-layer set, of earlier ones; where a source is missing nothing is added.
        """
        sources = transcoders.sources_of(layer)
        if not set(sources) <= set(rows):
            return
        n_tokens = len(mlp_in)
        at_once = max(_DECODED_NUMBERS // transcoders.d_model, 1)
        # A chunk has many more active entries than features: whole decoders are read, once, after the encoder is done with.
        decoders = {source: transcoders.decoder(source, layer) for source in sources if _dense(transcoders, source, rows[source])}
        for start in range(0, n_tokens, at_once):
            part = slice(start, min(start + at_once, n_tokens))
            x = mlp_in[part].to(transcoders.device, transcoders.dtype)
            predicted = transcoders.decoder_bias(layer) + transcoders.skip(layer, x)
            for source in sources:
                own = _of_tokens(rows[source], part)
                predicted = predicted + written(transcoders, source, layer, own, len(x), decoders.get(source))
            self._add(mlp_out[part].to(predicted), predicted, block.language[part].cpu(), block.counted[part].cpu())

    def _add(self, m: Tensor, predicted: Tensor, language: Tensor, counted: Tensor) -> None:
        keep = counted.to(m.device)
        m, predicted, language = m[keep].double(), predicted[keep].double(), language[counted]
        self.n.index_add_(0, language, torch.ones(len(language), dtype=torch.float64))
        self.residual.index_add_(0, language, (m - predicted).pow(2).sum(1).cpu())
        self.squares.index_add_(0, language, m.pow(2).sum(1).cpu())
        self.total.index_add_(0, language, m.cpu())

    def fvu(self) -> list[float | None]:
        """Return the FVU per language, None without variance."""
        spread = self.squares - self.total.pow(2).sum(1) / self.n.clamp(min=1)
        return [
            float(residual / variance) if n > 0 and variance > 0 else None
            for n, residual, variance in zip(self.n, self.residual, spread, strict=True)
        ]


def _dense(transcoders: TranscoderSet, layer: int, rows: ActiveRows) -> bool:
    """Tell whether so many decoder rows are needed that the whole matrix is cheaper."""
    return len(rows) > transcoders.d_transcoder(layer) // 4


def _of_tokens(rows: ActiveRows, part: slice) -> ActiveRows:
    """Return the rows of a slice of tokens, counted from its start."""
    bounds = torch.tensor([part.start, part.stop], device=rows.token.device)
    low, high = torch.searchsorted(rows.token, bounds).tolist()
    return ActiveRows(rows.token[low:high] - part.start, rows.feature[low:high], rows.value[low:high])


def written(transcoders: TranscoderSet, source: int, target: int, rows: ActiveRows, n_tokens: int, decoder: Tensor | None = None) -> Tensor:
    """Return what active rows of a layer add to the MLP output of `target`, (N, D); `decoder` (F, D) where it is at hand."""
    if decoder is None:
        scaled = transcoders.decoder_rows(source, rows.feature, target=target) * rows.value[:, None].to(transcoders.dtype)
        out = torch.zeros(n_tokens, transcoders.d_model, dtype=scaled.dtype, device=scaled.device)
        return out.index_add_(0, rows.token, scaled)
    offsets = torch.searchsorted(rows.token, torch.arange(n_tokens, device=rows.token.device))
    weights = rows.value.to(decoder.dtype)
    return torch.nn.functional.embedding_bag(rows.feature, decoder, offsets, mode="sum", per_sample_weights=weights)


class Replacement:
    """An edit that puts transcoder predictions in the place of MLP outputs; one per forward pass.

    Encoders see the live MLP inputs; features of a cross-layer set that are read at an earlier layer are remembered.
    """

    def __init__(self, transcoders: TranscoderSet, layers: Iterable[int], replaced: Tensor) -> None:
        self.transcoders = transcoders
        self.layers = frozenset(layers)
        self.replaced = replaced
        """(B, T) bool: positions to replace."""
        self._active: dict[int, Sparse] = {}

    def __call__(self, layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        """Return mlp_out (B, T, D) with the chosen positions predicted."""
        if layer not in self.transcoders.layers:
            return mlp_out
        x = mlp_in[self.replaced]
        if self.layers.intersection(self.transcoders.writes_to(layer)):
            self._active[layer] = self.transcoders.encode_sparse(layer, x)
        if layer not in self.layers:
            return mlp_out
        out = mlp_out.clone()
        out[self.replaced] = predict(self.transcoders, layer, self._active, x).to(mlp_out)
        return out


def predict(transcoders: TranscoderSet, layer: int, active: Mapping[int, Sparse], x: Tensor) -> Tensor:
    """Return the prediction (N, D) of a layer's MLP output from active features of it and, cross-layer, of earlier ones."""
    if not transcoders.cross_layer:
        return transcoders.decode_sparse(layer, active[layer], len(x), x)
    out = torch.zeros(len(x), transcoders.d_model, dtype=transcoders.dtype, device=transcoders.device)
    for source in transcoders.sources_of(layer):
        rows = transcoders.decoder_rows(source, active[source].feature, target=layer)
        out.index_add_(0, active[source].token, rows * active[source].value[:, None])
    return out + transcoders.decoder_bias(layer) + transcoders.skip(layer, x)


def layer_quality(
    layer: int,
    languages: Sequence[str],
    statistics: LayerStatistics,
    counts: TokenCounts,
    variance: Variance,
    replaced: Mapping[str, Mapping[str, float | None]] | None,
) -> pa.Table:
    """Return transcoder_quality of one layer; `replaced` gives kl and top1_agreement by language where its MLP was replaced."""
    fvu = variance.fvu()
    rows: list[dict[str, object]] = []
    for i, language in enumerate(languages):
        n_tokens = int(counts.tokens[i])
        row: dict[str, object] = {
            "layer": layer,
            "language": language,
            "n_tokens": n_tokens,
            "l0": float(statistics.n_active[i].sum()) / n_tokens if n_tokens else None,
            "fvu": fvu[i],
            "n_dead": int((statistics.n_active[i] == 0).sum()),
        }
        rows.append(row | dict((replaced or {}).get(language, {"kl": None, "top1_agreement": None})))
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def replaced_quality(languages: Sequence[str], counts: TokenCounts, replaced: Mapping[str, Mapping[str, float | None]]) -> pa.Table:
    """Return transcoder_quality under layer -1: all ingested layers replaced at once."""
    rows = [
        {"layer": ALL_LAYERS, "language": language, "n_tokens": int(counts.tokens[i]), **replaced[language]}
        for i, language in enumerate(languages)
        if language in replaced
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        ("layer", pa.int16()),
        ("language", pa.string()),
        ("n_tokens", pa.int64()),
        ("l0", pa.float64()),
        ("fvu", pa.float64()),
        ("n_dead", pa.int32()),
        ("kl", pa.float64()),
        ("top1_agreement", pa.float64()),
    ]
)


def evenly_spaced(prompts: Sequence[Prompt], per_language: int) -> list[Prompt]:
    """Return up to `per_language` prompts of each language, spread over the set."""
    chosen: list[Prompt] = []
    for language in dict.fromkeys(prompt.language for prompt in prompts):
        own = [prompt for prompt in prompts if prompt.language == language]
        index = np.unique(np.linspace(0, len(own) - 1, min(per_language, len(own))).round().astype(int))
        chosen += [own[i] for i in index]
    return chosen


class ReplacedModel:
    """KL and top-1 agreement of the model with MLPs replaced, on up to `prompts_per_language` prompts of each language."""

    def __init__(self, model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, config: QualityConfig) -> None:
        self.model, self.transcoders, self.config, self.languages = model, transcoders, config, prompts.languages
        self.chosen = evenly_spaced(prompts.prompts, config.prompts_per_language)

    @cached_property
    def clean(self) -> Tensor:
        """Log-probabilities (P, V) of the unedited model at the decision positions, on the CPU."""
        return torch.cat(_log_probabilities(self.model, self.chosen, None, self.config.batch_size))

    def figures(self, layers: Sequence[int]) -> dict[str, dict[str, float | None]]:
        """Return language -> kl and top1_agreement with the MLPs of these layers replaced."""

        def edit_for(mask: Tensor) -> Replacement:
            return Replacement(self.transcoders, layers, without_sink(mask))

        changed = torch.cat(_log_probabilities(self.model, self.chosen, edit_for, self.config.batch_size))
        kl = (self.clean.exp() * (self.clean - changed)).sum(1)
        agrees = self.clean.argmax(1) == changed.argmax(1)
        figures: dict[str, dict[str, float | None]] = {}
        for language in self.languages:
            own = torch.tensor([prompt.language == language for prompt in self.chosen])
            figures[language] = {"kl": float(kl[own].mean()), "top1_agreement": float(agrees[own].float().mean())}
        return figures


def _log_probabilities(
    model: LanguageModel, prompts: Sequence[Prompt], edit_for: Callable[[Tensor], Replacement] | None, batch_size: int
) -> list[Tensor]:
    """Return log-probabilities (B, V) at the decision positions, batch by batch, on the CPU."""

    def run(part: slice) -> Tensor:
        batch = prompts[part]
        ids, mask = pad_right([prompt.token_ids for prompt in batch])
        edit = None if edit_for is None else edit_for(mask.to(model.device))
        captured = model.capture(ids, mask, layers=(), mlp=False, edit=edit)
        decision = torch.tensor([prompt.decision_position for prompt in batch], device=model.device)
        logits = model.logits(captured.final[torch.arange(len(batch), device=model.device), decision])
        return torch.log_softmax(logits, dim=1).cpu()

    return list(in_halving_batches(len(prompts), batch_size, run))
