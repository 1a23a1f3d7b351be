"""Every active feature at every position of every prompt, and what follows from counting them.

In: a model, its transcoders, a prompt set. Out: rows of activation, feature, feature_language, feature_role, histogram, context and
transcoder_quality.

1. The model runs once over the prompts; MLP inputs and outputs of the wanted layers are kept (METHODS section 1).
2. Layer by layer, so that one encoder at a time suffices, they are encoded; pre-activations are thresholded and compacted on the
   device, and only active entries leave it. A layer is finished, and its rows are handed on, before the next one begins.
3. Counts are scattered into dense arrays (`ingest.statistics`), contexts chosen from the sorted rows (`ingest.contexts`).
4. Quality: L0, FVU and dead features per language; KL and top-1 agreement with this MLP replaced (`ingest.quality`).
Position 0, the attention sink, is recorded in `activation` and left out of everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from atlas.errors import ModelError
from ingest.batches import Progress, in_halving_batches, is_out_of_memory, pad_right
from ingest.contexts import ContextConfig, Contexts, context_table, decile_samples, silent_samples, strongest
from ingest.model import LanguageModel
from ingest.prompts import PromptSet
from ingest.quality import QualityConfig, ReplacedModel, Variance, layer_quality, replaced_quality
from ingest.rows import ActiveRows, Lookup, by_strength, concatenate
from ingest.statistics import RANDOM_LANGUAGE, ROLES, LayerStatistics, TokenBlock, TokenCounts
from ingest.transcoder import TranscoderSet

_CPU_BLOCK, _DEVICE_BLOCK = 1 << 22, 1 << 27
"""Dense pre-activations of a block: 16 MiB stay near a CPU's caches; a GPU wants long matrix products."""


@dataclass(frozen=True)
class ActivationConfig:
    """What is extracted, and in what portions."""

    layers: tuple[int, ...] | None = None
    """Layers to encode; None is every layer that has a transcoder."""
    batch_size: int = 64
    """Prompts a forward pass; halved when memory runs out."""
    max_elements: int | None = None
    """Dense pre-activations held at a time (numbers); tokens an encoder block = this over d_transcoder. None: what suits the device."""
    chunk_tokens: int = 1 << 16
    """Tokens that are encoded together."""
    cache_device: str | None = None
    """Where MLP inputs wait for their encoder; None is the model's device."""
    waiting_bytes: int = 1 << 32
    """MLP inputs and outputs that wait at a time; beyond it the model runs again for the next layers."""
    seed: int = 0
    """Of sampled contexts."""
    contexts: ContextConfig = field(default_factory=ContextConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)


@dataclass(frozen=True)
class CachedInputs:
    """What the transcoders of some layers read and predict on flat tokens (N)."""

    mlp_in: Mapping[int, Tensor]
    """layer -> (N, D)."""
    mlp_out: Mapping[int, Tensor]
    """layer -> (N, D); empty unless asked for."""


def activations(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    config: ActivationConfig | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Extract a prompt set, all layers at once in memory; `progress` counts layers encoded and layers checked.

    Raises:
        ModelError: NaN or infinite values, naming layer and prompt; memory that runs out with a single prompt.
        InputError: layers without a transcoder.
    """
    extraction = Extraction(model, transcoders, prompts, config or ActivationConfig(), progress)
    pieces = [tables for _, tables in extraction.of_layers(extraction.layers)]
    if extraction.config.quality.replacement:
        pieces.append({"transcoder_quality": extraction.all_replaced()})
    names = dict.fromkeys(name for piece in pieces for name in piece)
    return {name: pa.concat_tables([piece[name] for piece in pieces if name in piece]) for name in names}


class Extraction:
    """What the layers of one extraction share; each layer's rows come out as soon as it is encoded.

    Raises:
        InputError: layers without a transcoder.
    """

    def __init__(
        self,
        model: LanguageModel,
        transcoders: TranscoderSet,
        prompts: PromptSet,
        config: ActivationConfig,
        progress: Progress | None = None,
    ) -> None:
        self.model, self.transcoders, self.prompts, self.config = model, transcoders, prompts, config
        self.layers = chosen_layers(transcoders, config.layers)
        transcoders.bind(model, self.layers)
        self.languages = prompts.languages
        self.sequences = [prompt.token_ids for prompt in prompts.prompts]
        self.block = prompt_block(prompts, self.languages)
        self.counts = TokenCounts.empty(len(self.languages))
        self.counts.add(self.block)
        self.replaced = ReplacedModel(model, transcoders, prompts, config.quality)
        self.stages = _Stages(progress)

    def of_layers(self, layers: Sequence[int]) -> Iterator[tuple[int, dict[str, pa.Table]]]:
        """Yield (layer, tables) of some layers: activation, feature, feature_language, feature_role, histogram, context, quality.

        The numbers do not depend on which layers are asked for together. Peak memory is one layer's rows beside the MLP inputs that
        wait for their encoder; a cross-layer set keeps the rows of all its layers.

        Raises:
            ModelError: NaN or infinite values, naming layer and prompt; memory that runs out with a single prompt.
        """
        self.stages.expect(len(layers) * (2 if self.config.quality.replacement else 1))
        for layer, rows, variance in self._together(layers) if self.transcoders.cross_layer else self._apart(layers):
            n_features = self.transcoders.d_transcoder(layer)
            statistics = _statistics(rows, self.block, n_features, self.languages)
            tables = _layer_tables(rows, self.block, statistics, layer, n_features, self.counts, self.languages, self.config)
            del rows
            replaced = None
            if self.config.quality.replacement:
                replaced = self.replaced.figures((layer,))
                self.stages.step()
            tables["transcoder_quality"] = layer_quality(layer, self.languages, statistics, self.counts, variance, replaced)
            yield layer, tables

    def all_replaced(self) -> pa.Table:
        """Return transcoder_quality with every ingested layer replaced at once."""
        self.stages.expect(1)
        table = replaced_quality(self.languages, self.counts, self.replaced.figures(self.layers))
        self.stages.step()
        return table

    def _apart(self, layers: Sequence[int]) -> Iterator[tuple[int, ActiveRows, Variance]]:
        """Run the model once for as many layers as may wait, then encode them one by one."""
        for group, device in self._groups(layers):
            waiting = [(start, part, self._inputs(chunk, group, device)) for start, part, chunk in self._chunks()]
            for layer in group:
                variance = Variance(len(self.languages), self.model.d_model)
                found, offsets = [], []
                for start, part, cached in waiting:
                    rows = encode_rows(self.transcoders, layer, cached.mlp_in[layer], self.config.max_elements)
                    if self.config.quality.reconstruction:
                        variance.add(self.transcoders, layer, {layer: rows}, cached.mlp_in[layer], cached.mlp_out[layer], part)
                    found.append(rows.positive().to("cpu"))
                    offsets.append(start)
                    del rows
                self.stages.step()
                yield layer, concatenate(found, offsets), variance

    def _together(self, layers: Sequence[int]) -> Iterator[tuple[int, ActiveRows, Variance]]:
        """Encode all layers of each chunk: what a layer of a cross-layer set predicts needs the rows of those before it."""
        variance = {layer: Variance(len(self.languages), self.model.d_model) for layer in self.layers}
        found: dict[int, list[ActiveRows]] = {layer: [] for layer in layers}
        offsets: list[int] = []
        for start, part, chunk in self._chunks():
            cached = self._inputs(chunk, self.layers, self.config.cache_device)
            rows: dict[int, ActiveRows] = {}
            for layer in self.layers:
                rows[layer] = encode_rows(self.transcoders, layer, cached.mlp_in[layer], self.config.max_elements)
                if self.config.quality.reconstruction:
                    variance[layer].add(self.transcoders, layer, rows, cached.mlp_in[layer], cached.mlp_out[layer], part)
                if layer in found:
                    found[layer].append(rows[layer].positive().to("cpu"))
            offsets.append(start)
        for layer in layers:
            self.stages.step()
            yield layer, concatenate(found.pop(layer), offsets), variance[layer]

    def _chunks(self) -> Iterator[tuple[int, TokenBlock, slice]]:
        """Yield (first token, tokens, prompts) of each chunk."""
        start = 0
        for chunk in _chunks(self.sequences, self.config.chunk_tokens):
            end = start + sum(map(len, self.sequences[chunk]))
            yield start, TokenBlock(*(getattr(self.block, name)[start:end] for name in ("item", "position", "language", "role"))), chunk
            start = end

    def _inputs(self, chunk: slice, layers: Sequence[int], device: str | None) -> CachedInputs:
        return cache_inputs(
            self.model,
            self.sequences[chunk],
            layers,
            batch_size=self.config.batch_size,
            cache_device=device,
            names=[f"prompt {prompt.prompt} ({prompt.text!r})" for prompt in self.prompts.prompts[chunk]],
            outputs=self.config.quality.reconstruction,
        )

    def _groups(self, layers: Sequence[int]) -> Iterator[tuple[Sequence[int], str | None]]:
        """Yield the layers that run together and where their MLP inputs wait: on the device while they fit the budget, else on the host."""
        numbers = len(self.block) * self.model.d_model * (2 if self.config.quality.reconstruction else 1)
        a_layer = max(1, numbers * torch.empty(0, dtype=self.model.dtype).element_size())
        at_once = max(1, self.config.waiting_bytes // a_layer)
        device = self.config.cache_device or (None if a_layer <= self.config.waiting_bytes else "cpu")
        for start in range(0, len(layers), at_once):
            yield layers[start : start + at_once], device


def chosen_layers(transcoders: TranscoderSet, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the wanted layers, ascending and checked; all of the set for None."""
    if layers is None:
        return transcoders.layers
    transcoders.require(layers)
    return tuple(sorted(set(layers)))


def prompt_block(prompts: PromptSet, languages: Sequence[str]) -> TokenBlock:
    """Return the flat tokens of a prompt set, in prompt order."""
    lengths = torch.tensor([len(prompt.token_ids) for prompt in prompts.prompts])
    language = torch.tensor([languages.index(prompt.language) for prompt in prompts.prompts])
    return TokenBlock(
        item=torch.repeat_interleave(torch.tensor([prompt.prompt for prompt in prompts.prompts]), lengths),
        position=torch.cat([torch.arange(int(length)) for length in lengths]),
        language=torch.repeat_interleave(language, lengths),
        role=torch.tensor([ROLES.index(role) for prompt in prompts.prompts for role in prompt.roles]),
    )


def cache_inputs(
    model: LanguageModel,
    sequences: Sequence[Sequence[int]],
    layers: Sequence[int],
    *,
    batch_size: int,
    cache_device: str | None,
    names: Sequence[str],
    outputs: bool,
) -> CachedInputs:
    """Run the model over token sequences and keep what the transcoders read (and predict), flat, without padding.

    Raises:
        ModelError: NaN or infinite values, with the layer and the first of `names` that has them.
    """
    device = torch.device(cache_device) if cache_device else model.device

    def run(part: slice) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        ids, mask = pad_right(sequences[part])
        try:
            captured = model.capture(ids, mask, layers=layers)
        except ModelError as error:
            if is_out_of_memory(error):
                raise
            raise _naming_the_prompt(model, sequences[part], names[part], error) from error
        mask = captured.mask
        read = {layer: captured.mlp_in[layer][mask].to(device) for layer in layers}
        written = {layer: captured.mlp_out[layer][mask].to(device) for layer in layers} if outputs else {}
        for layer in layers:
            if not bool(torch.isfinite(read[layer]).all()):
                bad = int((~torch.isfinite(read[layer]).all(dim=1)).nonzero()[0, 0])
                lengths = torch.tensor([len(row) for row in sequences[part]]).cumsum(0)
                name = names[part][int(torch.searchsorted(lengths, bad, right=True))]
                raise ModelError(
                    f"{name} has NaN or infinite values in the MLP input of layer {layer}",
                    hint="load the model with --dtype float32",
                )
        return read, written

    batches = list(in_halving_batches(len(sequences), batch_size, run))
    return CachedInputs(
        {layer: torch.cat([read[layer] for read, _ in batches]) for layer in layers},
        {layer: torch.cat([written[layer] for _, written in batches]) for layer in layers} if outputs else {},
    )


def _naming_the_prompt(model: LanguageModel, sequences: Sequence[Sequence[int]], names: Sequence[str], error: ModelError) -> ModelError:
    """Run the prompts of a failed batch one by one to find whose values are not finite."""
    for row, name in zip(sequences, names, strict=True):
        try:
            model.capture(*pad_right([row]))
        except ModelError as single:
            return ModelError(f"{name}: {single.message}", hint=error.hint)
    return error


def encode_rows(transcoders: TranscoderSet, layer: int, x: Tensor, max_elements: int | None = None) -> ActiveRows:
    """Return the active features (value not 0) of x (N, D), encoded block by block and compacted on the device.

    Raises:
        ModelError: encoder weights or activations that are NaN or infinite, naming the layer.
    """
    if max_elements is None:
        max_elements = _CPU_BLOCK if transcoders.device.type == "cpu" else _DEVICE_BLOCK
    low, high = torch.aminmax(transcoders.encoder(layer))
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise ModelError(
            f"the encoder of layer {layer} of {transcoders.name} has NaN or infinite weights",
            hint="download the file again, or leave the layer out (--layers)",
        )

    def run(part: slice) -> tuple[int, ActiveRows]:
        sparse = transcoders.encode_sparse(layer, x[part], max_elements=max_elements)
        if not bool(torch.isfinite(sparse.value).all()):
            raise ModelError(
                f"activations of layer {layer} of {transcoders.name} overflow {transcoders.dtype}",
                hint="compute in float32 (--dtype float32)",
            )
        return part.start, ActiveRows(sparse.token, sparse.feature, sparse.value.float())

    tokens_at_once = max(max_elements // transcoders.d_transcoder(layer), 1)
    blocks = list(in_halving_batches(len(x), tokens_at_once, run, what="tokens"))
    return concatenate([rows for _, rows in blocks], [start for start, _ in blocks])


def _chunks(sequences: Sequence[Sequence[int]], chunk_tokens: int) -> Iterator[slice]:
    """Yield slices of sequences of at most `chunk_tokens` tokens (at least one sequence each)."""
    start, used = 0, 0
    for index, row in enumerate(sequences):
        if used and used + len(row) > chunk_tokens:
            yield slice(start, index)
            start, used = index, 0
        used += len(row)
    if start < len(sequences):
        yield slice(start, len(sequences))


def _statistics(rows: ActiveRows, block: TokenBlock, n_features: int, languages: Sequence[str]) -> LayerStatistics:
    statistics = LayerStatistics(n_features, len(languages), "cpu", with_roles=True)
    statistics.add(rows, block, real=torch.tensor([language != RANDOM_LANGUAGE for language in languages]))
    return statistics


def _layer_tables(
    rows: ActiveRows,
    block: TokenBlock,
    statistics: LayerStatistics,
    layer: int,
    n_features: int,
    counts: TokenCounts,
    languages: Sequence[str],
    config: ActivationConfig,
) -> dict[str, pa.Table]:
    real = torch.tensor([language != RANDOM_LANGUAGE for language in languages])
    eligible = block.counted & real[block.language]
    counted = rows.select(eligible[rows.token])
    ranked, rank = by_strength(counted)
    lookup = Lookup(rows, len(block), n_features)
    pool = eligible.nonzero()[:, 0]
    chosen: list[Contexts] = [
        strongest(ranked, rank, config.contexts.n_top),
        decile_samples(ranked, rank, config.contexts.per_decile, config.seed),
        silent_samples(lookup, torch.unique_consecutive(ranked.feature), pool, config.contexts.n_silent, config.seed),
    ]
    return {
        "activation": activation_table(rows, block, layer),
        "feature": pa.table(statistics.feature_columns(layer, counts, languages)),
        "feature_language": statistics.language_table(layer, counts, languages),
        "feature_role": statistics.role_table(layer, counts, languages),
        "histogram": statistics.histogram_table(layer),
        "context": context_table(
            chosen,
            lookup,
            block,
            layer=layer,
            languages=languages,
            source="prompt",
            window=config.contexts.window,
        ),
    }


def activation_table(rows: ActiveRows, block: TokenBlock, layer: int) -> pa.Table:
    """Return `activation` of a layer, sorted by feature, prompt, position; sinks included."""
    order = torch.argsort(rows.feature, stable=True)
    token = rows.token[order]
    return pa.table(
        {
            "layer": pa.array(np.full(len(rows), layer, np.int16)),
            "feature": pa.array(rows.feature[order].numpy().astype(np.int32)),
            "prompt": pa.array(block.item[token].numpy().astype(np.int32)),
            "position": pa.array(block.position[token].numpy().astype(np.int16)),
            "activation": pa.array(rows.value[order].numpy()),
        }
    )


class _Stages:
    """Counts steps for a progress bar: layers encoded, layers checked with their MLP replaced."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.total = self.done = 0

    def expect(self, steps: int) -> None:
        self.total += steps

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
