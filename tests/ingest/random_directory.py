"""A Qwen3 with random weights as a directory that transformers saved, with the embedded tokenizer and random transcoders beside it."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from ingest.tiny.paths import model_path

N_LAYERS, D_MODEL, N_FEATURES = 3, 64, 128


def write_model(folder: Path, *, seed: int = 0) -> Path:
    """Save a model of 3 layers, d_model 64, whose vocabulary is the embedded tokenizer's."""
    vocabulary = json.loads((model_path() / "config.json").read_text())["vocab_size"]
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=D_MODEL,
        intermediate_size=2 * D_MODEL,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(6.0)
    model.save_pretrained(folder)
    for file in model_path().glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


def write_transcoders(folder: Path, *, d_model: int = D_MODEL, layers: int = N_LAYERS, seed: int = 1) -> Path:
    """Save ReLU transcoders in circuit-tracer's layout; a negative bias keeps most features silent."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    for layer in range(layers):
        tensors = {
            "W_enc": torch.randn(N_FEATURES, d_model, generator=generator) / d_model**0.5,
            "W_dec": torch.randn(N_FEATURES, d_model, generator=generator) / d_model**0.5,
            "b_enc": torch.full((N_FEATURES,), -1.0),
            "b_dec": torch.zeros(d_model),
        }
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    (folder / "config.yaml").write_text("feature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n")
    return folder


def break_weights(model: Path, name: str) -> None:
    """Put a NaN into a tensor of a saved model."""
    path = model / "model.safetensors"
    tensors = load_file(path)
    tensors[name].reshape(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})


def write_headers(folder: Path, *, layers: int, d_model: int, width: int) -> Path:
    """Write transcoder files that consist of a true header and of holes: their size is Qwen3-4B's, their place on disk is not."""
    folder.mkdir(parents=True)
    for layer in range(layers):
        header: dict[str, object] = {}
        end = 0
        for key, shape in (("W_dec", (width, d_model)), ("W_enc", (width, d_model)), ("b_dec", (d_model,)), ("b_enc", (width,))):
            begin, end = end, end + 2 * torch.Size(shape).numel()
            header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": (begin, end)}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / f"layer_{layer}.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)
    (folder / "config.yaml").write_text(
        "scan: qwen3-4b/transcoder-hp\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n"
    )
    return folder


def write_config_of_qwen3_4b(folder: Path) -> Path:
    """Write Qwen3-4B's config.json and nothing else."""
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
        tie_word_embeddings=True,
    )
    config.save_pretrained(folder)
    return folder
