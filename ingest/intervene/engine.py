"""Run many edited passes as batches that start at the edited layer and at the earliest edited position.

In: a model, its transcoders, prompts, and `Edits`. Out: `Outcomes`: margins, log-probabilities, KL and chosen activations per row, before
and after. N rows of a batch, w positions of its window, D = d_model, V = vocabulary (METHODS, section 5).

1. Rows are sorted by (lowest edited layer, window, prompt) and cut into batches; the window is what lies from the earliest edited
   position to the end, rounded up to a power of two.
2. A batch begins with one unedited row per prompt: what "before" means for its neighbours, by the same path and in the same batch.
3. The change at the lowest layer is added to the clean residual stream after it; the later layers run on the window only, with clean keys
   and values in front; edits of later layers see the current activation (clean where MLP outputs are frozen).
4. The final norm and the unembedding run at the decision position.

A no-op's effect is exactly 0: should arithmetic depend on a row's place in the batch, its batch is run a second time without edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atlas.errors import InputError, ModelError, UsageError
from ingest.adapters import resolve
from ingest.batches import Progress
from ingest.intervene.clean import CleanPass, clean_pass, decoder_layers, first
from ingest.intervene.edits import Edits, Integers, LayerEdit, Written, decode, same_length_random, stretched
from ingest.model import LanguageModel
from ingest.prompts import Prompt
from ingest.taps import Freeze
from ingest.transcoder import TranscoderSet

Mode = Literal["free", "frozen_attention", "direct", "constrained_layers"]
MODES: tuple[Mode, ...] = ("free", "frozen_attention", "direct", "constrained_layers")
Role = Literal["decision", "content"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Read:
    """A feature whose activation is read in every row, at the decision or the last content position."""

    layer: int
    feature: int
    role: Role = "decision"


@dataclass(frozen=True)
class Outcomes:
    """What R rows did; before is the unedited pass by the same path."""

    margin_before: Floats
    margin_after: Floats
    kl: Floats
    """KL(before || after), nats."""
    top1_before: Integers
    top1_after: Integers
    logit_before: Floats
    """(R, A) logits of the asked tokens."""
    logit_after: Floats
    logprob_before: Floats
    logprob_after: Floats
    n_edited: Integers
    """Members whose activation really changed."""
    norms: Floats
    """(R, L) Euclidean norm of the change at each layer's MLP output."""
    read_before: Floats
    """(R, n_reads) activations."""
    read_after: Floats
    slope: Floats
    """d margin / d strength at the strengths asked for, mean over them; empty unless asked."""

    @property
    def effect(self) -> Floats:
        """Margin after - before."""
        return self.margin_after - self.margin_before

    @property
    def delta_norm(self) -> Floats:
        """Euclidean norm of the change at the MLP outputs of all layers."""
        total: Floats = np.sqrt(np.square(self.norms, dtype=np.float64).sum(-1)).astype(np.float32)
        return total


class Engine:
    """Edited passes over one list of prompts; clean passes are kept for as many prompts as fit the budget."""

    def __init__(
        self,
        model: LanguageModel,
        transcoders: TranscoderSet,
        prompts: Sequence[Prompt],
        *,
        rows_at_once: int = 1024,
        prompts_at_once: int | None = None,
        cache: bool = True,
        memory: int = 1 << 31,
    ) -> None:
        """Bind model and transcoders.

        Args:
            model: the analysed model.
            transcoders: of any of its layers.
            prompts: ordinals in edits are places in this list.
            rows_at_once: rows of a batch; results do not depend on it beyond rounding.
            prompts_at_once: prompts of a clean pass; by default as many as fit `memory` bytes.
            cache: False runs every position, for checks.
            memory: bytes for clean passes.
        """
        if not prompts:
            raise UsageError("There are no prompts to intervene on.")
        if rows_at_once < 1:
            raise UsageError(f"rows_at_once is {rows_at_once}, expected at least 1.")
        transcoders.bind(model)
        self.model, self.transcoders, self.prompts = model, transcoders, tuple(prompts)
        self.rows_at_once, self.cache = rows_at_once, cache
        self.lengths = np.array([len(prompt.token_ids) for prompt in prompts], dtype=np.int64)
        self._chunk = prompts_at_once or _prompts_that_fit(model, int(self.lengths.max()), memory)
        self._clean: dict[tuple[int, bool], CleanPass] = {}
        self._layers = decoder_layers(model)
        self._margin = _margin_tokens(self.prompts)
        self._directions: dict[tuple[int, int, int], Tensor] = {}

    # ---- clean passes -----------------------------------------------------------------------------------------

    def chunks(self) -> Iterable[Integers]:
        """Yield the ordinals of each clean pass, in order."""
        for start in range(0, len(self.prompts), self._chunk):
            yield np.arange(start, min(start + self._chunk, len(self.prompts)))

    def clean(self, chunk: int, *, frozen: bool = False) -> CleanPass:
        """Return the clean pass of a chunk; one chunk is kept at a time unless all fit in one."""
        for held in (frozen, True):
            if (chunk, held) in self._clean:
                return self._clean[chunk, held]
        self._clean.clear()
        ordinals = range(chunk * self._chunk, min((chunk + 1) * self._chunk, len(self.prompts)))
        result = clean_pass(self.model, [self.prompts[p].token_ids for p in ordinals], frozen=frozen)
        self._clean[chunk, frozen] = result
        return result

    # ---- edited passes ----------------------------------------------------------------------------------------

    def run(
        self,
        edits: Edits,
        *,
        mode: Mode = "free",
        frozen_layers: Sequence[int] = (),
        tokens: Integers | None = None,
        reads: Sequence[Read] = (),
        strengths: Sequence[float] = (),
        noop: NDArray[np.bool_] | None = None,
        progress: Progress | None = None,
    ) -> Outcomes:
        """Run all rows.

        Args:
            edits: R rows.
            mode: what recomputes after the edit.
            frozen_layers: layers of `constrained_layers` whose MLP outputs stay clean.
            tokens: (R, A) token ids whose logits are wanted, -1 for none.
            reads: features whose activations are wanted.
            strengths: points of the way from a (0) to a' (1) at which d margin / d strength is taken, for integrated gradients.
            noop: (R,) rows whose effect must be exactly 0; by default those whose members all keep their activation.
            progress: called with (rows done, rows).

        Raises:
            UsageError: unknown mode, layer, feature, position.
            ModelError: NaN or infinity.
        """
        self._check(edits, mode, frozen_layers)
        tokens = np.full((len(edits), 0), -1, dtype=np.int64) if tokens is None else tokens
        noop = _keeps_everything(edits) if noop is None else noop
        frozen = mode != "free"
        order, batches = self._batches(edits)
        parts: list[Outcomes] = []
        done = 0
        picked = edits.split([rows for *_, rows in batches])
        for (chunk, layer, window, rows), own in zip(batches, picked, strict=True):
            clean = self.clean(chunk, frozen=frozen)
            batch = _Batch(self, clean, chunk * self._chunk, own, tokens[rows], layer, window, mode, frozenset(frozen_layers))
            outcome = batch.outcomes(reads, paired=False)
            if (noop[rows] & (outcome.effect != 0)).any():
                outcome = batch.outcomes(reads, paired=True)
            if strengths:
                outcome = replace(outcome, slope=batch.slope(strengths))
            parts.append(outcome)
            done += len(rows)
            if progress is not None:
                progress(done, len(edits))
        return _joined(parts, order)

    def _batches(self, edits: Edits) -> tuple[Integers, list[tuple[int, int, int, Integers]]]:
        layer = edits.lowest_layers(none=min(self.transcoders.layers))
        start = edits.first_positions(none=self.lengths[edits.prompt] - 1)
        chunk = edits.prompt // self._chunk
        window = 2 ** np.ceil(np.log2(self.lengths[edits.prompt] - start)).astype(np.int64)
        longest = np.array([self.lengths[ordinals].max() for ordinals in self.chunks()])
        window = np.minimum(window, longest[chunk]) if self.cache else longest[chunk]
        order = np.lexsort((edits.prompt, window, layer, chunk))
        keys = np.stack([chunk, layer, window], axis=1)[order]
        breaks = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
        batches = []
        for group in np.split(order, breaks):
            for begin in range(0, len(group), self.rows_at_once):
                rows = group[begin : begin + self.rows_at_once]
                batches.append((int(chunk[rows[0]]), int(layer[rows[0]]), int(window[rows[0]]), rows))
        return order, batches

    def _check(self, edits: Edits, mode: Mode, frozen_layers: Sequence[int]) -> None:
        if mode not in MODES:
            raise UsageError(f"Unknown mode {mode!r}.", hint=f"One of: {', '.join(MODES)}.")
        if len(edits) == 0 or (len(edits.row) == 0 and len(edits.vector_row) == 0):
            raise UsageError("An intervention edits nothing: its set of features is empty.", hint="Name at least one feature.")
        edited = distinct(edits.layer)
        for layer in (*edited, *distinct(edits.vector_layer), *frozen_layers):
            if not 0 <= layer < self.model.n_layers:
                raise UsageError(f"Layer {layer} is out of range: {self.model.name} has layers 0 to {self.model.n_layers - 1}.")
        self.transcoders.require(edited)
        size = np.zeros(self.model.n_layers, dtype=np.int64)
        size[edited] = [self.transcoders.d_transcoder(layer) for layer in edited]
        unknown = np.flatnonzero((edits.feature < 0) | (edits.feature >= size[edits.layer]))
        if len(unknown):
            check_features(self.transcoders, int(edits.layer[unknown[0]]), edits.feature[unknown[:1]])
        lengths = self.lengths[edits.prompt]
        for positions, rows in ((edits.position, edits.row), (edits.vector_position, edits.vector_row)):
            bad = (positions < 0) | (positions >= lengths[rows])
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                raise UsageError(
                    f"Position {int(positions[at])} is outside prompt {int(edits.prompt[rows[at]])} of {int(lengths[rows[at]])} tokens."
                )
        if np.isinf(edits.value).any():
            raise InputError("A target activation is infinite.")

    def direction(self, seed: int, layer: int, column_from_end: int) -> Tensor:
        """Return a random unit vector (D,) that depends on its arguments only."""
        key = (seed, layer, column_from_end)
        if key not in self._directions:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + layer * 1_009 + column_from_end)
            vector = torch.randn(self.model.d_model, generator=generator, dtype=torch.float64)
            self._directions[key] = (vector / vector.norm()).to(self.model.device, self.model.dtype)
        return self._directions[key]

    def margins(self, logits: Tensor, prompts: Integers) -> Tensor:
        """Return logit(correct) - max over contrasts, (N,), of logits (N, V)."""
        correct, contrasts = self._margin[0][prompts], self._margin[1][prompts]
        rows = torch.arange(len(prompts), device=logits.device)
        others = torch.from_numpy(contrasts).to(logits.device)
        values = logits.gather(1, others.clamp(min=0)).masked_fill(others < 0, -torch.inf)
        return logits[rows, torch.from_numpy(correct).to(logits.device)] - values.max(1).values


class _Batch:
    """One batch: rows that share the lowest edited layer and the window."""

    def __init__(
        self,
        engine: Engine,
        clean: CleanPass,
        first_prompt: int,
        edits: Edits,
        tokens: Integers,
        layer: int,
        window: int,
        mode: Mode,
        frozen_layers: frozenset[int],
    ) -> None:
        self.engine, self.clean, self.edits, self.layer, self.window, self.mode = engine, clean, edits, layer, window, mode
        self.device = engine.model.device
        self.tokens = tokens
        unique, self.before_of = np.unique(edits.prompt, return_inverse=True)
        self.n_before = len(unique)
        self.prompts = np.concatenate([unique, edits.prompt])
        self.rows = torch.from_numpy(self.prompts - first_prompt).to(self.device)
        every = frozenset(range(engine.model.n_layers))
        self.held = {"free": frozenset[int](), "frozen_attention": frozenset[int](), "direct": every, "constrained_layers": frozen_layers}[
            mode
        ]
        self.layer_edits = {layer: self._layer_edit(layer) for layer in distinct(edits.layer)}
        self.length: Tensor | None = None
        if edits.length is not None:
            free = np.full((self.n_before, edits.length.shape[1]), np.nan)
            self.length = torch.from_numpy(np.concatenate([free, edits.length])).to(self.device, torch.float32)

    def _layer_edit(self, layer: int) -> LayerEdit:
        member = np.flatnonzero(self.edits.layer == layer)
        rows = torch.from_numpy(self.edits.row[member]).to(self.device)
        position = torch.from_numpy(self.edits.position[member]).to(self.device)
        columns = self.clean.column(self.rows[rows + self.n_before], position) - (self.clean.length - self.window)
        features = torch.from_numpy(self.edits.feature[member]).to(self.device)
        targets = torch.from_numpy(self.edits.value[member]).to(self.device, self.engine.model.dtype)
        return LayerEdit(self.engine.transcoders, layer, rows + self.n_before, columns, features, targets)

    def outcomes(self, reads: Sequence[Read], *, paired: bool) -> Outcomes:
        """Run the batch and measure; `paired` takes "before" from a second, unedited run of the same shape."""
        with torch.no_grad():
            logits, read, n_edited, squares = self._forward(reads)
            if paired:
                base, base_read, _, _ = self._forward(reads, edited=False)
            else:
                base, base_read = logits, read
            after = torch.arange(self.n_before, len(self.rows), device=self.device)
            before = after if paired else torch.from_numpy(self.before_of).to(self.device)
            return self._measure(base[before], logits[after], base_read[before], read[after], n_edited[after], squares[after])

    def slope(self, strengths: Sequence[float]) -> Floats:
        """Return the mean over strengths of d margin / d strength, (R,)."""
        total = torch.zeros(len(self.edits), dtype=torch.float64)
        for strength in strengths:
            with torch.enable_grad():
                scale = torch.full(
                    (len(self.rows),), float(strength), device=self.device, dtype=self.engine.model.dtype, requires_grad=True
                )
                logits = self._forward((), scale=scale)[0]
                (gradient,) = torch.autograd.grad(self.engine.margins(logits, self.prompts).sum(), scale)
            total += gradient[self.n_before :].double().cpu()
        return (total / len(strengths)).numpy().astype(np.float32)

    def _forward(self, reads: Sequence[Read], *, edited: bool = True, scale: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (N, V), read activations (N, n), members changed (N,), squared norm of the change by layer (N, L)."""
        engine, clean = self.engine, self.clean
        state = _Pass(self, reads, edited, scale)
        start = clean.residual[self.layer + 1][:, -self.window :].index_select(0, self.rows)
        clean_in = clean.captured.mlp_in[self.layer][:, -self.window :].index_select(0, self.rows)
        clean_out = clean.captured.mlp_out[self.layer][:, -self.window :].index_select(0, self.rows)
        state.observe(self.layer, clean_in)
        hidden = start + state.change(self.layer, clean_in, clean_out)
        final_norm = resolve(engine.model.hf, engine.model.adapter.final_norm, engine.model.adapter.family)
        with engine.model.editing(state.edit, self._freeze()):
            for layer in range(self.layer + 1, engine.model.n_layers):
                hidden = first(engine._layers[layer](hidden, **clean.layer_inputs(layer, self.rows, self.window)))
            final = final_norm(hidden[:, -1:])[:, 0]
        if not bool(torch.isfinite(final).all()):
            raise ModelError(
                f"{engine.model.name} gave NaN or infinite values in an edited pass from layer {self.layer}",
                hint="use a smaller strength, or float32 (--dtype float32)",
            )
        return engine.model.logits(final), state.read, state.n_edited, state.squares

    def _freeze(self) -> Freeze | None:
        if self.mode == "free":
            return None
        transcoders = self.engine.transcoders
        every = len(self.held) == self.engine.model.n_layers
        skip = transcoders.skip if transcoders.has_skip else None
        return Freeze(self.clean.last_positions(self.window), denominators=every, mlp_layers=self.held, skip=skip, rows=self.rows)

    def _measure(
        self, before: Tensor, after: Tensor, read_before: Tensor, read_after: Tensor, n_edited: Tensor, squares: Tensor
    ) -> Outcomes:
        log_before, log_after = before.log_softmax(-1), after.log_softmax(-1)
        asked = torch.from_numpy(self.tokens).to(self.device)

        def picked(values: Tensor) -> Floats:
            return values.gather(1, asked.clamp(min=0)).masked_fill(asked < 0, torch.nan).float().cpu().numpy()

        return Outcomes(
            _numpy(self.engine.margins(before, self.edits.prompt)),
            _numpy(self.engine.margins(after, self.edits.prompt)),
            _numpy((log_before.exp() * (log_before - log_after)).sum(-1).clamp(min=0)),
            before.argmax(-1).cpu().numpy(),
            after.argmax(-1).cpu().numpy(),
            picked(before),
            picked(after),
            picked(log_before),
            picked(log_after),
            n_edited.cpu().numpy(),
            _numpy(squares.sqrt()),
            _numpy(read_before),
            _numpy(read_after),
            np.zeros(0, dtype=np.float32),
        )


class _Pass:
    """The state of one forward pass: what was written so far, what was read."""

    def __init__(self, batch: _Batch, reads: Sequence[Read], edited: bool, scale: Tensor | None) -> None:
        self.batch, self.edited, self.scale = batch, edited, scale
        self.written: dict[int, Written] = {}
        n, device = len(batch.rows), batch.device
        self.read = torch.zeros(n, len(reads), device=device, dtype=batch.engine.model.dtype)
        self.n_edited = torch.zeros(n, dtype=torch.int64, device=device)
        self.squares = torch.zeros(n, batch.engine.model.n_layers, device=device, dtype=batch.engine.model.dtype)
        self.owed = torch.zeros(n, device=device, dtype=torch.float64)
        if batch.length is not None:
            self.owed += torch.nan_to_num(batch.length[:, : batch.layer]).double().square().sum(1)
        self.reads: dict[int, list[tuple[int, Read]]] = {}
        for place, read in enumerate(reads):
            self.reads.setdefault(read.layer, []).append((place, read))

    def edit(self, layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        """Edit and read a layer after the lowest one; an `Edit` of `LanguageModel.editing`."""
        self.observe(layer, mlp_in)
        return mlp_out + self.change(layer, mlp_in, mlp_out)

    def observe(self, layer: int, mlp_in: Tensor) -> None:
        """Encode the features that are read in this layer."""
        for role in ("decision", "content"):
            asked = [(place, read.feature) for place, read in self.reads.get(layer, []) if read.role == role]
            if asked:
                places, features = (torch.tensor(column, device=mlp_in.device) for column in zip(*asked, strict=True))
                x = mlp_in[:, -1] if role == "decision" else mlp_in[torch.arange(len(mlp_in), device=mlp_in.device), self._content()]
                self.read[:, places] = self.batch.engine.transcoders.encode_rows(layer, x, features)

    def _content(self) -> Tensor:
        prompts = self.batch.engine.prompts
        offsets = [len(prompts[p].token_ids) - prompts[p].content_positions[-1] for p in self.batch.prompts.tolist()]
        if max(offsets) > self.batch.window:
            raise UsageError("Content positions cannot be read: the window begins after them.", hint="Edit at or before content positions.")
        return self.batch.window - torch.tensor(offsets, device=self.batch.device)

    def change(self, layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        """Return the change (N, w, D) of this layer's MLP output; zeros where nothing is edited."""
        out = torch.zeros_like(mlp_out)
        if not self.edited:
            return out
        batch = self.batch
        transcoders = batch.engine.transcoders
        edit = batch.layer_edits.get(layer)
        if edit is not None:
            self.written[layer] = edit.write(self._activation_change(layer, edit, mlp_in))
        sources = transcoders.sources_of(layer) if transcoders.cross_layer and layer in transcoders.layers else (layer,)
        for source in sources:
            if source in self.written:
                written = self.written[source]
                change = self._redirected(layer, written, decode(transcoders, written, source, layer))
                out = out.index_put((written.rows, written.columns), change, accumulate=True)
        if len(batch.edits.vector_row):
            out = out + self._vector_change(layer, mlp_in, mlp_out)
        if batch.length is not None:
            out, self.owed = stretched(out, batch.length[:, layer], self.owed)
        self.squares[:, layer] = out.detach().pow(2).sum((1, 2))
        return out

    def _activation_change(self, layer: int, edit: LayerEdit, mlp_in: Tensor) -> Tensor:
        """Return a' - a (M,); a is current, or clean where this layer's MLP output is frozen."""
        batch = self.batch
        clean_in = batch.clean.captured.mlp_in[layer][:, -batch.window :].index_select(0, batch.rows)
        current = edit.current(clean_in if layer in batch.held else mlp_in)
        target = edit.targets
        if self.scale is not None:
            clean = edit.current(clean_in)
            target = clean + self.scale[edit.rows[edit.slot]] * (target - clean)
        change = torch.where(torch.isnan(edit.targets), torch.zeros_like(current), target - current)
        self.n_edited = self.n_edited.index_add(0, edit.rows[edit.slot], (change.detach() != 0).long())
        return change

    def _redirected(self, layer: int, written: Written, change: Tensor) -> Tensor:
        direction = self.batch.edits.direction
        if direction is None or (direction < 0).all():
            return change
        rows = written.rows - self.batch.n_before
        seeds = torch.from_numpy(direction).to(change.device)[rows]
        return same_length_random(change, seeds, layer, self.batch.window - written.columns, self.batch.engine.direction)

    def _vector_change(self, layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        batch, edits = self.batch, self.batch.edits
        out = torch.zeros_like(mlp_out)
        chosen = np.flatnonzero(edits.vector_layer == layer)
        if not len(chosen) or edits.vector_target is None:
            return out
        rows = torch.from_numpy(edits.vector_row[chosen]).to(batch.device) + batch.n_before
        position = torch.from_numpy(edits.vector_position[chosen]).to(batch.device)
        columns = batch.clean.column(batch.rows[rows], position) - (batch.clean.length - batch.window)
        current = mlp_out[rows, columns]
        if edits.vector_kind == "error":
            current = current - batch.engine.transcoders.reconstruct(layer, mlp_in[rows, columns])
        change = edits.vector_target[torch.from_numpy(chosen)].to(current) - current
        if self.scale is not None:
            change = change * self.scale[rows][:, None]
        return out.index_put((rows, columns), change, accumulate=True)


def distinct(values: Integers) -> list[int]:
    """Return distinct layers, ascending: by counting, since members come in millions and layers do not."""
    low = int(values.min(initial=0))
    return [int(value) for value in np.flatnonzero(np.bincount(values - low)) + low] if len(values) else []


def check_features(transcoders: TranscoderSet, layer: int, features: Integers) -> None:
    """Raise UsageError that names a feature which a layer does not have."""
    transcoders.require([layer])
    size = transcoders.d_transcoder(layer)
    bad = features[(features < 0) | (features >= size)]
    if len(bad):
        raise UsageError(f"Layer {layer} of {transcoders.name} has no feature {int(bad[0])}: it has 0 to {size - 1}.")


def _keeps_everything(edits: Edits) -> NDArray[np.bool_]:
    keeps = np.ones(len(edits), dtype=bool)
    keeps[edits.row[~np.isnan(edits.value)]] = False
    keeps[edits.vector_row] = False
    return keeps


def _margin_tokens(prompts: Sequence[Prompt]) -> tuple[Integers, Integers]:
    correct = np.array([prompt.correct.token_id for prompt in prompts], dtype=np.int64)
    width = max(len(prompt.contrasts) for prompt in prompts)
    if min(len(prompt.contrasts) for prompt in prompts) == 0:
        bare = next(prompt.text for prompt in prompts if not prompt.contrasts)
        raise InputError(f"The prompt {bare!r} has no contrast answer, so it has no margin.")
    contrasts = np.full((len(prompts), width), -1, dtype=np.int64)
    for row, prompt in enumerate(prompts):
        contrasts[row, : len(prompt.contrasts)] = [answer.token_id for answer in prompt.contrasts]
    return correct, contrasts


def _prompts_that_fit(model: LanguageModel, length: int, memory: int) -> int:
    size = torch.empty(0, dtype=model.dtype).element_size()
    per_prompt = length * model.n_layers * model.d_model * 6 * size  # residual, mlp in and out, keys and values, one spare
    return max(1, memory // per_prompt)


def _joined(parts: list[Outcomes], order: Integers) -> Outcomes:
    """Join batches and put their rows back into the order they were asked in."""
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    columns = {}
    for name in Outcomes.__dataclass_fields__:
        joined = np.concatenate([getattr(part, name) for part in parts])
        columns[name] = joined[back] if len(joined) else joined
    return Outcomes(**columns)


def _numpy(values: Tensor) -> Floats:
    return values.detach().float().cpu().numpy()
