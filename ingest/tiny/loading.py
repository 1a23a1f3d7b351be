"""Load an embedded model for its own evaluation: checkpoint, tokenizer and transcoders, all float32.

In: a folder with `model/` and `transcoders/`. Out: `Loaded`, which runs prompts with or without an edit of the MLP outputs.
It is kept apart from the atlas's own hooks on purpose: each checks the other.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3ForCausalLM
from transformers.utils import logging

from ingest.tiny.train_transcoders import Transcoders, mlp_inputs_outputs

Edit = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""(layer, MLP input, MLP output), both (B, T, D) -> the output that the model goes on with."""


@dataclass(frozen=True)
class Loaded:
    """A model with its transcoders."""

    model: Qwen3ForCausalLM
    tokenizer: PreTrainedTokenizerFast
    transcoders: Transcoders
    vocabulary: dict[str, int]
    """Text of a token, with the space before it -> token."""

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.transcoders.w_enc.shape[0])

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Tokenise texts of equal length behind `<|endoftext|>`: (B, T) int64."""
        end_of_text = int(self.tokenizer.eos_token_id)
        rows = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return torch.tensor([[end_of_text, *ids] for ids in rows])

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without the prepended one."""
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def word(self, text: str) -> int:
        """Return the token of a word after a space."""
        return self.vocabulary[f" {text}"]

    @torch.no_grad()
    def logits(self, tokens: torch.Tensor, edit: Edit | None = None) -> torch.Tensor:
        """Return the logits (B, V) after the last token, with the MLP outputs edited if asked."""
        handles = []
        if edit is not None:
            for layer, block in enumerate(self.model.model.layers):
                handles.append(block.mlp.register_forward_hook(_hook(edit, layer)))
        try:
            output: torch.Tensor = self.model(input_ids=tokens, logits_to_keep=1).logits[:, -1]
        finally:
            for handle in handles:
                handle.remove()
        return output

    def activations(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the activations of every layer (L, B, T, F)."""
        inputs, _ = mlp_inputs_outputs(self.model, tokens)
        return torch.stack([self.transcoders.encode(layer, inputs[layer]) for layer in range(self.n_layers)])

    def replaced(self, layer: int, mlp_in: torch.Tensor, mlp_out: torch.Tensor) -> torch.Tensor:
        """Stand for the MLP by its transcoder; position 0, which transcoders are not trained on, keeps the MLP (an `Edit`)."""
        rebuilt = self.transcoders.decode(layer, self.transcoders.encode(layer, mlp_in))
        return torch.cat([mlp_out[:, :1], rebuilt[:, 1:]], dim=1)


def load(folder: Path) -> Loaded:
    """Load what lies in `folder`."""
    with without_progress_bars():
        model = Qwen3ForCausalLM.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    files = [folder / "transcoders" / f"layer_{layer}.safetensors" for layer in range(model.config.num_hidden_layers)]
    layers = [load_file(file) for file in files]
    stacked = {name: torch.stack([layer[name].float() for layer in layers]) for name in layers[0]}
    transcoders = Transcoders(w_enc=stacked["W_enc"], b_enc=stacked["b_enc"], w_dec=stacked["W_dec"], b_dec=stacked["b_dec"])
    vocabulary = {tokenizer.decode([token]): token for token in range(len(tokenizer))}
    return Loaded(model=model, tokenizer=tokenizer, transcoders=transcoders, vocabulary=vocabulary)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off stderr: loading takes milliseconds."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _hook(edit: Edit, layer: int) -> Callable[..., torch.Tensor]:
    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return edit(layer, inputs[0], output)

    return hook
