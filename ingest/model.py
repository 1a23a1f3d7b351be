"""Load a causal language model and run it with its hook points open.

In: a transformers directory or hub id, texts or token ids. Out: `LanguageModel`, whose `capture` gives MLP inputs and
outputs, attention patterns and norm denominators of a forward pass, with values edited or frozen on the way (METHODS
sections 1, 4, 5). Where a family keeps these stands in `ingest/adapters.py`; how they are reached, in `ingest/taps.py`.

Every tensor is on the model's device in its dtype. B prompts, T positions, D = d_model, V = vocabulary.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from atlas.errors import InputError, ModelError, UsageError
from ingest.adapters import Adapter, Norm, ValueOutput, adapter_for, resolve
from ingest.hashing import hash_files
from ingest.prompts import prepended_token
from ingest.taps import ATTENTION, Captured, Edit, Freeze, Observer, ReadSite, Run, Taps, install

Dtype = Literal["float32", "float64", "bfloat16", "float16"]

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts, left-padded."""

    ids: Tensor
    """(B, T) int64."""
    mask: Tensor
    """(B, T) bool, False at padding."""
    offsets: tuple[tuple[tuple[int, int], ...], ...]
    """Per text and unpadded token: [start, end) characters of the text; (0, 0) for the prepended token."""
    prepended: int | None
    """Id of the token put before each text, None if none was."""

    def row(self, index: int) -> list[int]:
        """Return the unpadded ids of one text."""
        ids: list[int] = self.ids[index][self.mask[index]].tolist()
        return ids


def sink_positions(mask: Tensor) -> Tensor:
    """Return (B,) the first unpadded position of each row, the attention sink left out of statistics."""
    return mask.to(torch.int64).argmax(dim=1)


def without_sink(mask: Tensor) -> Tensor:
    """Return (B, T) bool: unpadded positions except each row's sink."""
    kept = mask.clone()
    kept[torch.arange(len(mask), device=mask.device), sink_positions(mask)] = False
    return kept


class LanguageModel:
    """A causal language model with open hook points; make one with `load_model` or `from_module`."""

    def __init__(self, hf: Any, tokenizer: Any, adapter: Adapter, *, name: str, source: str, path: Path | None) -> None:
        self.hf = hf.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.adapter = adapter
        self.name = name
        self.source = source
        self.path = path
        self.read_site: ReadSite = "mlp_in"
        """What `mlp_in` means here; set by `TranscoderSet.bind`."""
        config = hf.config.get_text_config()
        self.config = config
        self.n_layers = int(config.num_hidden_layers)
        self.d_model = int(config.hidden_size)
        self.vocab_size = int(hf.get_output_embeddings().weight.shape[0])
        self.logit_softcap: float | None = getattr(config, "final_logit_softcapping", None)
        if hf.config._attn_implementation != ATTENTION:
            hf.set_attn_implementation(ATTENTION)
        if hf.dtype == torch.float64 and getattr(config, "num_experts", 0):
            hf.set_experts_implementation("eager")  # torch's grouped products know no float64
        self.taps: Taps = install(hf, adapter)
        self._layers: Any = resolve(hf, adapter.layers, adapter.family)

    # ---- what it is -------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights and of everything captured."""
        dtype: torch.dtype = self.hf.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """The device of its weights and of everything captured."""
        device: torch.device = self.hf.device
        return device

    @property
    def max_positions(self) -> int | None:
        """The longest sequence its configuration allows."""
        length = getattr(self.config, "max_position_embeddings", None)
        return None if length is None else int(length)

    # ---- its linear parts -------------------------------------------------------------------------------------

    @property
    def unembedding(self) -> Tensor:
        """(V, D) rows that read a logit off the final norm's output."""
        weight: Tensor = self.hf.get_output_embeddings().weight
        return weight

    @property
    def unembedding_bias(self) -> Tensor | None:
        """(V) or None."""
        bias: Tensor | None = getattr(self.hf.get_output_embeddings(), "bias", None)
        return bias

    @property
    def final_norm(self) -> Norm:
        """The linear part of the norm before the unembedding."""
        return self.adapter.linear_norm(resolve(self.hf, self.adapter.final_norm, self.adapter.family))

    def norm(self, layer: int, which: Literal["attention", "attention_post", "mlp", "mlp_post"]) -> Norm | None:
        """Return the linear part of a layer's norm; None where the family has no such norm."""
        path = getattr(self.adapter, f"{which}_norm")
        if path is None:
            return None
        return self.adapter.linear_norm(resolve(self._layers[layer], path, self.adapter.family))

    def value_output(self, layer: int) -> ValueOutput:
        """Return the value and output projections of a layer's attention."""
        return self.adapter.value_output(resolve(self._layers[layer], self.adapter.attention, self.adapter.family), self.config)

    def token_vectors(self, tokens: Tensor) -> Tensor:
        """Return token embeddings (..., D) as they enter the residual stream (scaled where the family scales)."""
        embedding = resolve(self.hf, self.adapter.embedding, self.adapter.family)
        vectors: Tensor = embedding(tokens.to(self.device))
        return vectors

    def logits(self, final: Tensor) -> Tensor:
        """Return logits (..., V) in float32 (float64 for a float64 model) of `Captured.final` (..., D)."""
        bias = self.unembedding_bias
        logits = nn.functional.linear(final, self.unembedding, bias)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.logit_softcap is None:
            return logits
        return torch.tanh(logits / self.logit_softcap) * self.logit_softcap

    # ---- running it -------------------------------------------------------------------------------------------

    def capture(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        *,
        layers: Iterable[int] | None = None,
        mlp: bool = True,
        patterns: bool = False,
        denominators: bool = False,
        gradients: bool = False,
        edit: Edit | None = None,
        freeze: Freeze | None = None,
        observe: Observer | None = None,
    ) -> Captured:
        """Run tokens (B, T) through the decoder and return what passed the hook points.

        mask (B, T) is False at padding (left or right); positions count from each row's first token. `layers` limits
        what is recorded (default all), `mlp=False` records no MLP inputs and outputs, `observe(layer, mlp_in,
        mlp_out)` sees them as they pass. `edit` and `freeze` change the pass (METHODS section 5); with `gradients`
        the records carry a graph, so that `torch.autograd.grad(margin, captured.mlp_out[l])` works.

        Raises ModelError for NaN or infinite values and when memory runs out, UsageError for an overlong prompt.
        """
        tokens = tokens.to(self.device)
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.to(self.device).bool()
        self._check_tokens(tokens)
        run = Run(
            frozenset(range(self.n_layers) if layers is None else layers),
            keep_patterns=patterns,
            keep_denominators=denominators,
            edit=edit,
            freeze=freeze,
            observe=observe,
            gradients=gradients,
            read_site=self.read_site,
            keep_mlp=mlp,
        )
        with torch.set_grad_enabled(gradients), self._running(run):
            final = self._decode(tokens, mask, gradients)
        if not bool(torch.isfinite(final[mask]).all()):
            raise ModelError(
                f"{self.name} gave NaN or infinite values in {_first_bad_layer(run, mask)}",
                hint="load it in float32 (--dtype float32); if it stays, the weights are damaged",
            )
        assert run.embeddings is not None
        return Captured(tokens, mask, final, run.embeddings, run.mlp_in, run.mlp_out, run.patterns, run.denominators)

    @contextmanager
    def editing(self, edit: Edit | None = None, freeze: Freeze | None = None) -> Iterator[None]:
        """Apply an edit to any use of `hf` inside the block (generation, for one); records nothing."""
        with self._running(Run(frozenset(), edit=edit, freeze=freeze, read_site=self.read_site, keep_mlp=False)):
            yield

    @contextmanager
    def _running(self, run: Run) -> Iterator[None]:
        before, self.taps.run = self.taps.run, run
        try:
            yield
        finally:
            self.taps.run = before

    def _decode(self, tokens: Tensor, mask: Tensor, gradients: bool) -> Tensor:
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        inputs: dict[str, Any] = {"input_ids": tokens}
        if gradients:
            # Parameters carry no gradient: the graph begins at the embeddings.
            inputs = {"inputs_embeds": self.hf.get_input_embeddings()(tokens).detach().requires_grad_(True)}
        try:
            output = self.hf.get_decoder()(**inputs, attention_mask=mask.long(), position_ids=positions, use_cache=False)
        except torch.cuda.OutOfMemoryError as error:
            raise ModelError(
                f"out of memory on {self.device} with {len(tokens)} prompts of {tokens.shape[1]} tokens",
                hint="use a smaller --batch-size",
            ) from error
        final: Tensor = output.last_hidden_state
        return final

    def _check_tokens(self, tokens: Tensor) -> None:
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise UsageError(f"tokens have shape {tuple(tokens.shape)}, expected (prompts, positions)")
        if self.max_positions is not None and tokens.shape[1] > self.max_positions:
            raise UsageError(
                f"a prompt has {tokens.shape[1]} tokens, {self.name} reads {self.max_positions}",
                hint="shorten or split the prompt",
            )
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.vocab_size:
            raise UsageError(
                f"token ids run from {low} to {high}, the vocabulary of {self.name} has {self.vocab_size}",
                hint=f"give ids from 0 to {self.vocab_size - 1}",
            )

    # ---- texts ------------------------------------------------------------------------------------------------

    @property
    def prepend_token(self) -> int | None:
        """Return the id put before a text: BOS, else padding (Qwen's <|endoftext|>), else EOS, else None."""
        return None if self.tokenizer is None else prepended_token(self.tokenizer)

    def tokenise(self, texts: Sequence[str], *, prepend: bool = True) -> Tokens:
        """Tokenise texts with character offsets, left-padded, with one token prepended to be the sink.

        Nothing is prepended to a text that begins with a special token already. Raises InputError when the model has
        no tokenizer, or none of the tokens that could be prepended.
        """
        tokenizer = self._tokenizer()
        token = self.prepend_token
        if prepend and token is None:
            raise InputError(
                f"the tokenizer of {self.name} has no BOS, padding or EOS token to put before a text",
                hint="tokenise with prepend=False (--no-prepend): each text's first token is then left out as the sink",
            )
        rows: list[list[int]] = []
        offsets: list[tuple[tuple[int, int], ...]] = []
        for text in texts:
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            ids, spans = list(encoded["input_ids"]), [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
            if prepend and token is not None and not (ids and ids[0] in tokenizer.all_special_ids):
                ids, spans = [token, *ids], [(0, 0), *spans]
            if not ids:
                raise InputError("an empty text has no token", hint="remove it, or prepend a token")
            rows.append(ids)
            offsets.append(tuple(spans))
        ids_, mask = pad_left(rows, value=token or 0)
        return Tokens(ids_, mask, tuple(offsets), token if prepend else None)

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token on its own; `<id>` where there is no tokenizer."""
        if self.tokenizer is None:
            return [f"<{token}>" for token in ids]
        return [str(self.tokenizer.decode([token])) for token in ids]

    def single_token(self, text: str) -> int:
        """Return the id of a text that is one token; InputError names what it was split into."""
        ids = self._tokenizer()(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            pieces = " | ".join(self.token_texts(ids)) if ids else "nothing"
            raise InputError(
                f"{text!r} is {len(ids)} tokens for {self.name}: {pieces}",
                hint="an answer must be a single token: choose another word",
            )
        return int(ids[0])

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise InputError(f"{self.name} has no tokenizer beside it", hint="give token ids (--tokens 0,5,17) instead of text")
        return self.tokenizer

    # ---- its row ----------------------------------------------------------------------------------------------

    def row(self) -> dict[str, object]:
        """Return the row of table `model` (hashes of files are null for a model made in memory)."""
        config_hash: str | None = _hash_text(json.dumps(self.hf.config.to_dict(), sort_keys=True, default=str))
        weights_hash: str | None = None
        tokenizer_hash: str | None = None
        if self.path is not None:
            config_hash = hash_files([self.path / "config.json"])
            weights_hash = hash_files(sorted(self.path.glob("*.safetensors")) or sorted(self.path.glob("*.bin")))
            tokenizer_hash = hash_files(sorted(self.path.glob("tokenizer*")))
        return {
            "model_id": _hash_text(f"{config_hash}{weights_hash}")[:16],
            "name": self.name,
            "source": self.source,
            "revision": getattr(self.hf.config, "_commit_hash", None),
            "architecture": type(self.hf).__name__,
            "dtype": str(self.dtype).removeprefix("torch."),
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "vocab_size": self.vocab_size,
            "n_parameters": sum(parameter.numel() for parameter in self.hf.parameters()),
            "config_hash": config_hash,
            "weights_hash": weights_hash,
            "tokenizer_hash": tokenizer_hash,
        }


def load_model(
    path_or_id: str | Path,
    *,
    dtype: str = "float32",
    device: str | torch.device = "cpu",
    revision: str | None = None,
    local_files_only: bool | None = None,
    name: str | None = None,
    source: str | None = None,
) -> LanguageModel:
    """Load a causal language model from a transformers directory or the hub, with eager attention.

    The family is looked up before any weight is read. `local_files_only` defaults to True for a directory. `source`
    is what tables name as its origin (default: the hub id or the directory's name, never a local path).

    Raises InputError where there is nothing to load, ModelError for a family without an adapter (with how to write
    one), UsageError for an unknown dtype.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}", hint="use --dtype float32")
    path = Path(path_or_id)
    is_directory = path.is_dir()
    if not is_directory and (path.is_absolute() or str(path_or_id).startswith(".")):
        raise InputError(f"no model directory at {path_or_id}", hint="give a directory with config.json, or a hub id")
    options: dict[str, Any] = {"local_files_only": is_directory if local_files_only is None else local_files_only}
    if revision is not None:
        options["revision"] = revision
    where = str(path) if is_directory else str(path_or_id)
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(where, **options)
        adapter = adapter_for(config.model_type)
        hf = AutoModelForCausalLM.from_pretrained(where, config=config, dtype=DTYPES[dtype], attn_implementation=ATTENTION, **options)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load a model from {path_or_id!r}: {error}",
            hint="give a directory saved by transformers (config.json, *.safetensors), or a hub id",
        ) from error
    label = path.resolve().name if is_directory else str(path_or_id)
    return LanguageModel(
        hf.to(device),
        _load_tokenizer(where, path if is_directory else None, options),
        adapter,
        name=name or label,
        source=source or label,
        path=path.resolve() if is_directory else None,
    )


def from_module(hf: Any, tokenizer: Any = None, *, name: str = "in memory", adapter: Adapter | None = None) -> LanguageModel:
    """Wrap a transformers model that is in memory already (random weights, a model in training)."""
    return LanguageModel(hf, tokenizer, adapter or adapter_for(hf.config.model_type), name=name, source=name, path=None)


def pad_left(rows: Sequence[Sequence[int]], value: int = 0) -> tuple[Tensor, Tensor]:
    """Return (B, T) int64 ids padded on the left with `value`, and the (B, T) bool mask."""
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), value, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, length - len(row) :] = torch.tensor(row, dtype=torch.int64)
        mask[index, length - len(row) :] = True
    return ids, mask


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _load_tokenizer(where: str, path: Path | None, options: dict[str, Any]) -> Any:
    """Return the tokenizer beside a model; None for a directory that has none."""
    if path is not None and not any(path.glob("tokenizer*")) and not (path / "vocab.json").exists():
        return None
    tokenizer = AutoTokenizer.from_pretrained(where, **options)
    if not tokenizer.is_fast:
        raise InputError(f"the tokenizer of {where!r} gives no character offsets", hint="save it as tokenizer.json (a fast tokenizer)")
    return tokenizer


def _first_bad_layer(run: Run, mask: Tensor) -> str:
    for layer in sorted(run.mlp_out):
        if not bool(torch.isfinite(run.mlp_in[layer][mask]).all()):
            return f"the MLP input of layer {layer}"
        if not bool(torch.isfinite(run.mlp_out[layer][mask]).all()):
            return f"the MLP output of layer {layer}"
    return "the final residual stream"
