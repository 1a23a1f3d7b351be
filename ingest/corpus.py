"""Corpus pass: what every feature of every layer fires on, from one reading of a corpus.

In: a model, transcoders, corpus files. Out: rows of document, token, feature, feature_language, histogram, context, transcoder_quality.

1. Documents are tokenised and cut into pieces of `context_length` tokens, each behind the prepended token; each piece is a `document`.
2. Chunks of whole documents run through the model once; layer by layer the kept MLP inputs are encoded and compacted on the device.
3. Counts go into dense arrays (`ingest.statistics`), contexts into buffers of fixed size (`ingest.corpus_buffers`): the corpus is read once
   for all layers and all features, and the cost does not depend on how many features are looked at.
4. Pieces of random tokens follow as the pseudo-language `xx` (METHODS section 7): counted apart, in no denominator, no context.
5. After each chunk (at most every `checkpoint_seconds`) the state is saved; the same pass on the same files goes on from there.
Counts and contexts do not depend on batch, block or chunk sizes, except where values are within rounding of each other.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from atlas.errors import InputError
from ingest.activations import cache_inputs, chosen_layers, encode_rows
from ingest.batches import Progress
from ingest.contexts import N_DECILES, context_columns
from ingest.corpus_buffers import POSITION_BITS, BufferSizes, LayerBuffers, Pool, pointers
from ingest.corpus_files import CorpusFiles
from ingest.corpus_state import CorpusState, TokenLog
from ingest.model import LanguageModel
from ingest.quality import Variance, layer_quality
from ingest.rows import ActiveRows, lexicographic_order, rank_in_group
from ingest.statistics import RANDOM_LANGUAGE, ROLES, LayerStatistics, TokenBlock, TokenCounts
from ingest.transcoder import TranscoderSet


@dataclass(frozen=True)
class CorpusConfig:
    """How a corpus is read and what is kept of it."""

    layers: tuple[int, ...] | None = None
    """Layers to encode; None is every layer that has a transcoder."""
    languages: tuple[str, ...] | None = None
    """Languages to keep; None is all that the corpus has."""
    max_tokens: int | None = None
    """Tokens after which reading stops (at the end of a document); None reads everything."""
    context_length: int = 256
    """Tokens of a piece, the prepended one included."""
    random_documents: int = 64
    """Pieces of random tokens, the pseudo-language xx; 0 leaves them out."""
    n_top: int = 20
    """Strongest contexts of a feature."""
    n_reservoir: int = 40
    """Sampled active tokens of a feature, from which deciles are read."""
    per_decile: int = 1
    """Contexts of each decile."""
    n_silent: int = 5
    """Contexts where the feature is silent."""
    pool: int = 256
    """Tokens from which silent contexts are drawn."""
    window: int = 8
    """Tokens to each side of a context."""
    quality: bool = True
    """Whether to decode too and measure the FVU."""
    chunk_tokens: int = 1 << 15
    """Tokens whose MLP inputs are kept at a time; each encoder is read once a chunk."""
    batch_size: int = 16
    """Documents a forward pass; halved when memory runs out."""
    max_elements: int | None = None
    """Dense pre-activations held at a time (numbers); None: what suits the device."""
    cache_device: str | None = None
    """Where MLP inputs wait for their encoder; None is the model's device."""
    checkpoint_seconds: float = 300.0
    """Least time between two checkpoints; 0 saves after every chunk."""
    seed: int = 0

    def identity(self) -> dict[str, object]:
        """Return the settings that results depend on."""
        portions = {"chunk_tokens", "batch_size", "max_elements", "cache_device", "checkpoint_seconds"}
        return {name: value for name, value in asdict(self).items() if name not in portions}


@dataclass(frozen=True)
class Piece:
    """A tokenised piece of a document."""

    language: str
    source: str
    text_hash: str
    token_ids: tuple[int, ...]


@dataclass
class _Chunk:
    pieces: list[Piece] = field(default_factory=list)
    raw_documents: int = 0
    """Raw documents read, from the start of the corpus."""

    @property
    def n_tokens(self) -> int:
        return sum(len(piece.token_ids) for piece in self.pieces)


def corpus_pass(
    model: LanguageModel,
    transcoders: TranscoderSet,
    files: CorpusFiles,
    config: CorpusConfig | None = None,
    *,
    state: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, pa.Table]:
    """Read a corpus once and return its tables.

    Args:
        model: a model with a tokenizer.
        transcoders: its transcoders.
        files: the corpus.
        config: settings.
        state: folder for checkpoints; an earlier pass with the same settings goes on. None keeps everything in memory.
        progress: called with (tokens done, tokens wanted); wanted is 0 where the corpus's length is not known.

    Raises:
        InputError: unreadable corpus, no document in the wanted languages, a state folder of another pass.
        ModelError: NaN or infinite values, naming layer and document; memory that runs out with a single document.
    """
    work = _Pass(model, transcoders, files, config or CorpusConfig())
    log = TokenLog(None if state is None else state / "tokens.bin")
    try:
        _read_everything(work, files, work.saved_in(state, files), log, progress)
        pieces = [work.layer_tables(layer) for layer in work.layers]
        tables = {name: pa.concat_tables([piece[name] for piece in pieces]) for name in pieces[0]}
        return tables | {"document": work.document_table(), "token": work.token_table([tables["context"]], log)}
    finally:
        log.close()


def corpus_layers(
    model: LanguageModel,
    transcoders: TranscoderSet,
    files: CorpusFiles,
    config: CorpusConfig,
    *,
    state: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, dict[str, pa.Table]]]:
    """Read a corpus once for the layers of the config and yield (layer, tables): feature, feature_language, histogram, context, quality.

    A layer's numbers do not depend on which layers are asked for together. Arguments and errors are those of `corpus_pass`.
    """
    work = _Pass(model, transcoders, files, config)
    log = TokenLog(None if state is None else state / "tokens.bin")
    try:
        _read_everything(work, files, work.saved_in(state, files), log, progress)
    finally:
        log.close()
    for layer in work.layers:
        yield layer, work.layer_tables(layer)


def corpus_documents(
    model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles, config: CorpusConfig, contexts: Iterable[pa.Table], log: Path
) -> dict[str, pa.Table]:
    """Return `document`, and `token` as far as windows of `contexts` show it; tokenises the corpus again, runs no model.

    `contexts`: columns item, window_start and window_end of each layer. `log`: file for the token ids, written anew.
    """
    work, tokens = _Pass(model, transcoders, files, replace(config, layers=())), TokenLog(log)
    try:
        tokens.cut(0)
        for chunk in _chunks(model, files, work.languages, config, 0, 0):
            work.note(chunk.pieces, tokens)
        for part in _random_chunks(model, config):
            work.note(part, tokens)
        return {"document": work.document_table(), "token": work.token_table(contexts, tokens)}
    finally:
        tokens.close()


def _read_everything(work: _Pass, files: CorpusFiles, saved: CorpusState | None, log: TokenLog, progress: Progress | None) -> None:
    """Go on from the newest checkpoint to the end of the corpus, then run the random tokens."""
    config = work.config
    raw_done = saved.resume(work, log) if saved is not None else 0
    last_saved = time.monotonic()
    for chunk in _chunks(work.model, files, work.languages, config, raw_done, work.n_tokens):
        work.add(chunk.pieces, log)
        if saved is not None and time.monotonic() - last_saved >= config.checkpoint_seconds:
            saved.save(work, log, chunk.raw_documents)
            last_saved = time.monotonic()
        if progress is not None:
            progress(work.n_tokens, config.max_tokens or 0)
    if not work.documents:
        raise InputError(f"the corpus has no document in {', '.join(work.languages)}", hint="choose other languages, or none to keep all")
    for part in _random_chunks(work.model, config):
        work.add(part, log)


def _check(config: CorpusConfig, model: LanguageModel) -> None:
    longest = min(model.max_positions or 1 << 15, (1 << 15) - 1)
    if not 2 <= config.context_length <= longest:
        raise InputError(
            f"context_length is {config.context_length}, {model.name} reads 2 to {longest} tokens", hint="choose a length between"
        )


def _languages(files: CorpusFiles, config: CorpusConfig) -> tuple[str, ...]:
    found = config.languages if config.languages is not None else files.languages()
    real = tuple(language for language in found if language != RANDOM_LANGUAGE)
    return (*real, RANDOM_LANGUAGE) if config.random_documents else real


def _fingerprint(model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles, layers: Sequence[int], config: CorpusConfig) -> str:
    """Hash what a checkpoint belongs to: the model's weights, the set, the files' names and sizes, the settings."""
    identity = {
        "model": model.row()["model_id"],
        "transcoders": [transcoders.name, str(transcoders.dtype), [transcoders.d_transcoder(layer) for layer in layers]],
        "files": [(file.name, file.stat().st_size) for file in files.files()],
        "columns": [files.text_column, files.language_column, files.language],
        "layers": list(layers),
        "config": config.identity(),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


# ---------------------------------------------------------------------------------------------- documents to tokens


def _chunks(
    model: LanguageModel,
    files: CorpusFiles,
    languages: Sequence[str],
    config: CorpusConfig,
    raw_done: int,
    n_tokens: int,
) -> Iterator[_Chunk]:
    """Yield chunks of whole documents after the first `raw_done`, until `max_tokens` are reached."""
    chunk = _Chunk(raw_documents=raw_done)
    for document in files.documents(skip=raw_done):
        if config.max_tokens is not None and n_tokens >= config.max_tokens:
            break
        chunk.raw_documents += 1
        if document.language in languages and document.language != RANDOM_LANGUAGE:
            own = list(pieces_of(model, document.text, document.language, document.source, config.context_length))
            chunk.pieces += own
            n_tokens += sum(len(piece.token_ids) for piece in own)
        if chunk.n_tokens >= config.chunk_tokens:
            yield chunk
            chunk = _Chunk(raw_documents=chunk.raw_documents)
    if chunk.pieces:
        yield chunk


def pieces_of(model: LanguageModel, text: str, language: str, source: str, context_length: int) -> Iterator[Piece]:
    """Tokenise a document and cut it into pieces behind the prepended token."""
    tokens = model.tokenise([text], prepend=False) if text else None
    if tokens is None:
        return
    ids, offsets, prepended = tokens.row(0), tokens.offsets[0], model.prepend_token
    head = () if prepended is None else (prepended,)
    step = context_length - len(head)
    for start in range(0, len(ids), step):
        spans = offsets[start : start + step]
        own = text[spans[0][0] : spans[-1][1]]
        suffix = f":{start // step}" if len(ids) > step else ""
        text_hash = hashlib.sha256(own.encode()).hexdigest()[:16]
        yield Piece(language, source + suffix, text_hash, (*head, *ids[start : start + step]))


def _random_chunks(model: LanguageModel, config: CorpusConfig) -> Iterator[list[Piece]]:
    """Yield pieces of tokens drawn uniformly from the vocabulary."""
    generator = np.random.default_rng(config.seed)
    head = () if model.prepend_token is None else (model.prepend_token,)
    pieces: list[Piece] = []
    for number in range(config.random_documents):
        drawn = generator.integers(0, model.vocab_size, config.context_length - len(head)).tolist()
        ids = (*head, *drawn)
        text_hash = hashlib.sha256(repr(ids).encode()).hexdigest()[:16]
        pieces.append(Piece(RANDOM_LANGUAGE, f"random#{number}", text_hash, ids))
        if len(pieces) * config.context_length >= config.chunk_tokens:
            yield pieces
            pieces = []
    if pieces:
        yield pieces


# ---------------------------------------------------------------------------------------------- the pass


class _Pass:
    """Everything a pass has gathered so far."""

    def __init__(self, model: LanguageModel, transcoders: TranscoderSet, files: CorpusFiles, config: CorpusConfig) -> None:
        _check(config, model)
        layers = chosen_layers(transcoders, config.layers)
        transcoders.bind(model, layers)
        languages = _languages(files, config)
        self.model, self.transcoders, self.layers, self.config = model, transcoders, layers, config
        self.languages = languages
        self.real = torch.tensor([language != RANDOM_LANGUAGE for language in languages])
        device = transcoders.device
        sizes = BufferSizes(config.n_top, config.n_reservoir, config.pool, config.window)
        self.counts = TokenCounts.empty(len(languages))
        self.statistics: dict[int, LayerStatistics] = {}
        self.buffers: dict[int, LayerBuffers] = {}
        self.variance: dict[int, Variance] = {}
        for layer in layers:
            n_features = transcoders.d_transcoder(layer)
            self.statistics[layer] = LayerStatistics(n_features, len(languages), device, with_roles=False)
            self.buffers[layer] = LayerBuffers(n_features, sizes, config.seed, device)
            self.variance[layer] = Variance(len(languages), model.d_model)
        self.pool = Pool(config.pool, config.seed + 2, device)
        self.documents: list[tuple[str, str, int, str]] = []
        """(language, source, tokens, text hash) of each document."""

    def saved_in(self, state: Path | None, files: CorpusFiles) -> CorpusState | None:
        """Return the checkpoints of this pass in a folder."""
        return None if state is None else CorpusState(state, _fingerprint(self.model, self.transcoders, files, self.layers, self.config))

    @property
    def n_tokens(self) -> int:
        """Tokens read, prepended ones included."""
        return sum(document[2] for document in self.documents)

    def add(self, pieces: Sequence[Piece], log: TokenLog) -> None:
        """Run a chunk of whole documents."""
        if not pieces:
            return
        device = self.transcoders.device
        block = self._block(pieces).to(device)
        sequences = [piece.token_ids for piece in pieces]
        names = [f"document {piece.source}" for piece in pieces]
        cached = cache_inputs(
            self.model,
            sequences,
            self.layers,
            batch_size=self.config.batch_size,
            cache_device=self.config.cache_device,
            names=names,
            outputs=self.config.quality,
        )
        self.counts.add(block)
        eligible = block.counted & self.real.to(device)[block.language]
        offered = eligible.nonzero()[:, 0]
        entered = offered[self.pool.offer(pointers(block)[offered])]
        found: dict[int, ActiveRows] = {}
        for layer in self.layers:
            found[layer] = encode_rows(self.transcoders, layer, cached.mlp_in[layer], self.config.max_elements)
            if self.config.quality:
                mlp_in, mlp_out = cached.mlp_in[layer], cached.mlp_out[layer]
                self.variance[layer].add(self.transcoders, layer, found, mlp_in, mlp_out, block)
            rows = found[layer].positive()
            self.statistics[layer].add(rows, block, real=self.real.to(device))
            self.buffers[layer].add(rows, block, eligible, entered, self.pool)
            if not self.transcoders.cross_layer:
                del found[layer]
        self.note(pieces, log)

    def note(self, pieces: Sequence[Piece], log: TokenLog) -> None:
        """Remember a chunk's documents and tokens."""
        log.append([piece.token_ids for piece in pieces])
        self.documents += [(piece.language, piece.source, len(piece.token_ids), piece.text_hash) for piece in pieces]

    def _block(self, pieces: Sequence[Piece]) -> TokenBlock:
        lengths = torch.tensor([len(piece.token_ids) for piece in pieces])
        language = torch.tensor([self.languages.index(piece.language) for piece in pieces])
        position = torch.cat([torch.arange(int(length)) for length in lengths])
        role = torch.where(position == 0, ROLES.index("sink"), ROLES.index("other"))
        first = len(self.documents)
        item = torch.repeat_interleave(torch.arange(first, first + len(pieces)), lengths)
        return TokenBlock(item, position, torch.repeat_interleave(language, lengths), role)

    # ------------------------------------------------------------------ rows of schema.sql

    def layer_tables(self, layer: int) -> dict[str, pa.Table]:
        """Return the tables of one layer."""
        statistics = self.statistics[layer]
        return {
            "feature": pa.table(statistics.feature_columns(layer, self.counts, self.languages)),
            "feature_language": statistics.language_table(layer, self.counts, self.languages),
            "histogram": statistics.histogram_table(layer),
            "context": self._contexts(layer),
            "transcoder_quality": layer_quality(layer, self.languages, statistics, self.counts, self.variance[layer], None),
        }

    def _contexts(self, layer: int) -> pa.Table:
        buffers = self.buffers[layer]
        tables = []
        for kind, buffer in (("top", buffers.top), ("quantile", buffers.reservoir)):
            feature, slot = (buffer.pointer >= 0).nonzero(as_tuple=True)
            value, pointer = buffer.value[feature, slot], buffer.pointer[feature, slot]
            rank, quantile = slot, None
            if kind == "quantile":
                chosen, decile = self._deciles(feature, value, buffer.key[feature, slot])
                feature, slot, value, pointer, quantile = feature[chosen], slot[chosen], value[chosen], pointer[chosen], decile
                rank = rank_in_group(feature)
            tables.append(self._context_table(layer, kind, feature, rank, pointer, value, quantile, buffer.windows[feature, slot]))
        alive = (buffers.top.pointer[:, 0] >= 0).nonzero()[:, 0]
        feature, rank, pointer, windows = buffers.silent(alive, self.pool, self.config.n_silent)
        silence = torch.zeros(len(feature), device=windows.device)
        tables.append(self._context_table(layer, "non_activating", feature, rank, pointer, silence, None, windows))
        return pa.concat_tables(tables)

    def _deciles(self, feature: Tensor, value: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Cut each feature's reservoir into deciles; return the index of the drawn entries, strongest first, and their decile."""
        order = lexicographic_order(feature, -value, draw)
        ranked = feature[order]
        _, inverse, counts = torch.unique_consecutive(ranked, return_inverse=True, return_counts=True)
        decile = N_DECILES - 1 - (rank_in_group(ranked) * N_DECILES) // counts[inverse]
        group = ranked * N_DECILES + (N_DECILES - 1 - decile)
        within = lexicographic_order(group, draw[order])
        within = within[rank_in_group(group[within]) < self.config.per_decile]
        return order[within], decile[within]

    def _context_table(
        self,
        layer: int,
        kind: str,
        feature: Tensor,
        rank: Tensor,
        pointer: Tensor,
        value: Tensor,
        quantile: Tensor | None,
        windows: Tensor,
    ) -> pa.Table:
        item = (pointer >> POSITION_BITS).cpu().numpy()
        position = (pointer & ((1 << POSITION_BITS) - 1)).cpu().numpy()
        lengths = np.array([document[2] for document in self.documents], np.int64)
        language = np.array([self.languages.index(document[0]) for document in self.documents], np.int32)
        around = position[:, None] + np.arange(-self.config.window, self.config.window + 1)
        return context_columns(
            layer=layer,
            feature=feature.cpu().numpy(),
            kind=kind,
            rank=rank.cpu().numpy(),
            source="document",
            item=item,
            position=position,
            language=pa.DictionaryArray.from_arrays(pa.array(language[item]), pa.array(list(self.languages))),
            activation=value.cpu().numpy(),
            quantile=None if quantile is None else quantile.cpu().numpy(),
            inside=(around >= 0) & (around < lengths[item][:, None]),
            window_values=windows.cpu().numpy(),
        )

    def document_table(self) -> pa.Table:
        """Return table `document`."""
        language, source, n_tokens, text_hash = zip(*self.documents, strict=True)
        return pa.table(
            {
                "document": pa.array(np.arange(len(self.documents), dtype=np.int32)),
                "language": pa.array(language, pa.string()),
                "source": pa.array(source, pa.string()),
                "n_tokens": pa.array(n_tokens, pa.int32()),
                "text_hash": pa.array(text_hash, pa.string()),
            }
        )

    def token_table(self, contexts: Iterable[pa.Table], log: TokenLog) -> pa.Table:
        """Return the tokens that some context's window shows."""
        lengths = np.array([document[2] for document in self.documents], np.int64)
        first = np.concatenate([[0], np.cumsum(lengths)])
        edges = np.zeros(first[-1] + 1, np.int32)
        for context in contexts:
            item, start, end = (context[name].to_numpy().astype(np.int64) for name in ("item", "window_start", "window_end"))
            np.add.at(edges, first[item] + start, 1)
            np.add.at(edges, first[item] + end + 1, -1)
        shown = np.flatnonzero(np.cumsum(edges[:-1]) > 0)
        document = np.searchsorted(first, shown, side="right") - 1
        ids = log.read(shown)
        unique, inverse = np.unique(ids, return_inverse=True)
        texts = pa.array(self.model.token_texts(unique.tolist()), pa.string())
        position = shown - first[document]
        roles = pa.DictionaryArray.from_arrays(pa.array((position > 0).astype(np.int32)), pa.array(["sink", "other"]))
        return pa.table(
            {
                "source": pa.array(["document"] * len(shown), pa.string()),
                "item": pa.array(document.astype(np.int32)),
                "position": pa.array(position.astype(np.int16)),
                "token_id": pa.array(ids.astype(np.int32)),
                "token": texts.take(pa.array(inverse)),
                "role": roles.dictionary_decode(),
            }
        )
