"""A model whose circuit is known: three features, one a layer, carry the margin; all others write where no answer reads.

The MLPs are the transcoders themselves, so that there is no reconstruction error, and attention writes nothing. Directions 0 to 5 of the
residual stream are the circuit's (0 marks the operand, 1 and 2 pass it on, 5 is read by the correct answer), 8 and beyond are noise.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from ingest.intervene.engine import Engine
from ingest.intervene.rules import FeatureKey
from ingest.model import from_module
from ingest.prompts import Answer, Prompt, PromptPair
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import random_prompts

D_MODEL, N_FEATURES, N_LAYERS, VOCABULARY = 32, 40, 3, 60
PLANTED: tuple[FeatureKey, ...] = ((0, 3), (1, 7), (2, 11))
CORRECT, CONTRAST, OTHER = 50, 51, 52
STEPS = ((0, 1), (1, 2), (2, 5))
"""(direction read, direction written) of each planted feature."""


class TranscoderMLP(nn.Module):
    """An MLP that is a ReLU transcoder."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(x W_enc^T + b_enc) W_dec + b_dec."""
        active = torch.relu(x @ self.tensors["W_enc"].T + self.tensors["b_enc"])
        return active @ self.tensors["W_dec"] + self.tensors["b_dec"]


def planted_prompts(n_concepts: int = 10) -> tuple[list[Prompt], list[PromptPair]]:
    """Return prompts of two languages and two templates (the second held out); the operand is the last token."""
    made = random_prompts(n_concepts=n_concepts, lengths=(5, 5))
    prompts = []
    for prompt in made.prompts:
        held_out = prompt.template == "template1"
        prompts.append(
            dataclasses.replace(
                prompt,
                token_ids=(*(token % 40 for token in prompt.token_ids[:-1]), 1 + prompt.prompt % 40),
                content_positions=(len(prompt.token_ids) - 1,),
                split="test" if held_out else "train",
                held_out="template" if held_out else None,
                answers=(Answer("correct", "a", CORRECT), Answer("contrast", "b", CONTRAST), Answer("distractor", "c", OTHER)),
            )
        )
    return prompts, list(made.pairs)


def planted_engine(folder: Path, *, with_circuit: bool = True, n_concepts: int = 10) -> Engine:
    """Build the model, its transcoders and prompts; without the circuit its features write nothing."""
    generator = torch.Generator().manual_seed(5)
    folder.mkdir(parents=True, exist_ok=True)
    for layer in range(N_LAYERS):
        encoder, decoder = torch.zeros(N_FEATURES, D_MODEL), torch.zeros(N_FEATURES, D_MODEL)
        encoder[:, 8:] = torch.randn(N_FEATURES, D_MODEL - 8, generator=generator) / 3
        decoder[:, 8:] = torch.randn(N_FEATURES, D_MODEL - 8, generator=generator) / 3
        own = PLANTED[layer][1]
        encoder[own], decoder[own] = 0, 0
        encoder[own, STEPS[layer][0]] = 2.0
        decoder[own, STEPS[layer][1]] = 3.0 if with_circuit else 0.0
        tensors = {"W_enc": encoder, "W_dec": decoder, "b_enc": torch.full((N_FEATURES,), -0.4), "b_dec": torch.zeros(D_MODEL)}
        tensors["b_enc"][own] = -0.1
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    (folder / "config.yaml").write_text(
        "model_kind: transcoder_set\nmodel_name: planted\nscan: planted\n"
        "feature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n"
    )
    prompts, _ = planted_prompts(n_concepts)
    return Engine(from_module(_model(folder, generator), name="planted"), TranscoderSet.open(folder), prompts)


def _model(folder: Path, generator: torch.Generator) -> Qwen3ForCausalLM:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=D_MODEL,
        intermediate_size=8,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    module = Qwen3ForCausalLM(config)
    with torch.no_grad():
        embedding = torch.zeros(VOCABULARY, D_MODEL)
        embedding[:, 8:] = torch.randn(VOCABULARY, D_MODEL - 8, generator=generator)
        embedding[1:41, 0] = 3.0
        embedding[:, 5] = torch.where(torch.arange(VOCABULARY) % 2 == 0, 0.3, -0.3)
        module.model.embed_tokens.weight.copy_(embedding)
        unembedding = torch.zeros(VOCABULARY, D_MODEL)
        unembedding[CORRECT, 5] = 1.0
        unembedding[OTHER, 6] = 1.0
        module.lm_head.weight.copy_(unembedding)
    for layer, block in enumerate(module.model.layers):
        block.self_attn.o_proj.weight.data.zero_()
        block.mlp = TranscoderMLP(load_file(folder / f"layer_{layer}.safetensors"))
    return module
