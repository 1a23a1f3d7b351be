"""Train the embedded model's transcoders: per layer, ReLU features that read the MLP's input and write its output.

In: a trained model and its corpus. Out: per layer `W_enc`, `W_dec` (F, D), `b_enc` (F), `b_dec` (D), float32, and on disk
(bfloat16) the layout that circuit-tracer reads.

1. MLP inputs and outputs of every layer at all positions of the training sentences, a quarter of them behind another
   sentence; position 0, the prepended token, is left out (it is an attention sink).
2. Outputs are scaled to unit variance per dimension (mean over dimensions), so that one penalty serves all layers; the
   scale is put back into the decoder at the end.
3. Adam on squared error + penalty x sum over features of tanh(activation x decoder norm) (Circuit Tracing 2025, section on
   training; it counts features instead of adding up activations, so it does not shrink them as L1 does).
4. With the encoder fixed, the decoder is the ridge solution.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from ingest.tiny import batches, corpus
from ingest.tiny.corpus import Variant
from ingest.tiny.tokenizer import token_ids


@dataclass(frozen=True)
class TranscoderRecipe:
    """What the transcoders depend on beside the model."""

    features: int = 512
    steps: int = 900
    batch_size: int = 1024
    learning_rate: float = 3e-3
    penalty: float = 0.5
    penalty_warmup: int = 300
    ridge: float = 1e-3
    context_rate: float = 0.25


@dataclass(frozen=True)
class Transcoders:
    """All layers, stacked."""

    w_enc: torch.Tensor  # (L, F, D)
    b_enc: torch.Tensor  # (L, F)
    w_dec: torch.Tensor  # (L, F, D)
    b_dec: torch.Tensor  # (L, D)

    def encode(self, layer: int, mlp_in: torch.Tensor) -> torch.Tensor:
        """Return activations (..., F) of MLP inputs (..., D)."""
        return torch.relu(mlp_in @ self.w_enc[layer].T + self.b_enc[layer])

    def decode(self, layer: int, activations: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction (..., D) of activations (..., F)."""
        return activations @ self.w_dec[layer] + self.b_dec[layer]


@torch.no_grad()
def collect(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, variant: Variant, *, context_rate: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return MLP inputs and outputs of the training sentences, each (L, N, D) float32, without position 0."""
    drawing = random.Random(f"activations {seed}")
    newline, end_of_text = token_ids(tokenizer, "\n")[0], int(tokenizer.eos_token_id)
    encoded = batches.encode(tokenizer, corpus.training_sentences(variant))
    by_length: dict[int, list[list[int]]] = {}
    for row in encoded:
        ids = row.ids
        if drawing.random() < context_rate:
            ids, _ = batches.behind(drawing.choice(encoded), row, newline)
        by_length.setdefault(len(ids), []).append([end_of_text, *ids])
    gathered = [mlp_inputs_outputs(model, torch.tensor(rows)) for rows in by_length.values()]
    joined = (torch.cat([part[side][:, :, 1:].flatten(1, 2) for part in gathered], dim=1) for side in (0, 1))
    inputs, outputs = joined
    return inputs, outputs


@torch.no_grad()
def mlp_inputs_outputs(model: Qwen3ForCausalLM, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what each layer's MLP reads and writes, each (L, B, T, D), for unpadded `tokens` (B, T)."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def record(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.append((inputs[0], output))

    handles = [layer.mlp.register_forward_hook(record) for layer in model.model.layers]
    try:
        model(input_ids=tokens)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([pair[0] for pair in seen]), torch.stack([pair[1] for pair in seen])


def train_transcoders(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    variant: Variant,
    recipe: TranscoderRecipe,
    *,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Transcoders:
    """Train all layers side by side and return them in the model's own units, rounded to bfloat16 values (float32)."""
    inputs, outputs = collect(model, tokenizer, variant, context_rate=recipe.context_rate, seed=seed)  # (L, N, D)
    centre = outputs.mean(dim=1)  # (L, D)
    scale = (outputs - centre[:, None]).pow(2).mean(dim=(1, 2)).sqrt()  # (L,)
    targets = outputs / scale[:, None, None]  # (L, N, D)
    generator = torch.Generator().manual_seed(seed)
    layers, n_tokens, width = inputs.shape
    directions = torch.randn(layers, recipe.features, width, generator=generator)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    w_enc = (directions / inputs.pow(2).mean(dim=(1, 2)).sqrt()[:, None, None] * 0.5).requires_grad_()
    w_dec = (directions.clone() * 0.5).requires_grad_()
    b_enc = torch.zeros(layers, recipe.features, requires_grad=True)
    b_dec = (centre / scale[:, None]).clone().requires_grad_()
    weights = [w_enc, w_dec, b_enc, b_dec]
    optimizer = torch.optim.Adam(weights, lr=recipe.learning_rate, betas=(0.9, 0.99))
    for step in range(recipe.steps):
        rate = min(1.0, 5 * (1 - step / recipe.steps))  # the last fifth falls to zero
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        rows = torch.randint(n_tokens, (recipe.batch_size,), generator=generator)
        x, target = inputs[:, rows], targets[:, rows]  # (L, B, D)
        activations = torch.relu(torch.baddbmm(b_enc[:, None], x, w_enc.transpose(1, 2)))  # (L, B, F)
        error = torch.baddbmm(b_dec[:, None], activations, w_dec) - target  # (L, B, D)
        counted = torch.tanh(activations * w_dec.norm(dim=-1)[:, None]).sum(dim=-1)  # (L, B)
        penalty = recipe.penalty * min(1.0, (step + 1) / recipe.penalty_warmup)
        loss = (error.pow(2).sum(dim=-1) + penalty * counted).mean(dim=1).sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        if progress:
            progress("transcoders", step + 1, recipe.steps)
    with torch.no_grad():
        encoders = [weight.detach().bfloat16().float() for weight in (w_enc, b_enc)]
        refitted = [
            ridge_decoder(torch.relu(inputs[layer] @ encoders[0][layer].T + encoders[1][layer]), outputs[layer], recipe.ridge)
            for layer in range(layers)
        ]
    decoders = [torch.stack([pair[side] for pair in refitted]).bfloat16().float() for side in (0, 1)]
    return Transcoders(w_enc=encoders[0], b_enc=encoders[1], w_dec=decoders[0], b_dec=decoders[1])


def ridge_decoder(activations: torch.Tensor, outputs: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Solve for W_dec (F, D) and b_dec (D) given activations (N, F) and outputs (N, D), in float64.

    Minimises |activations W_dec + b_dec - outputs|^2 + ridge x mean squared activation x N x |W_dec|^2; the bias is free.
    """
    a, m = activations.double(), outputs.double()
    mean_a, mean_m = a.mean(dim=0), m.mean(dim=0)
    centred = a - mean_a
    gram = centred.T @ centred
    strength = ridge * gram.diagonal().mean()
    w_dec = torch.linalg.solve(gram + strength * torch.eye(gram.shape[0], dtype=gram.dtype), centred.T @ (m - mean_m))
    return w_dec.float(), (mean_m - mean_a @ w_dec).float()


def save_transcoders(transcoders: Transcoders, folder: Path, *, name: str) -> None:
    """Write `layer_{l}.safetensors` (bfloat16) and `config.yaml` as circuit-tracer reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for layer in range(transcoders.w_enc.shape[0]):
        tensors = {
            "W_enc": transcoders.w_enc[layer],
            "W_dec": transcoders.w_dec[layer],
            "b_enc": transcoders.b_enc[layer],
            "b_dec": transcoders.b_dec[layer],
        }
        stored = {key: tensor.bfloat16().contiguous() for key, tensor in tensors.items()}
        save_file(stored, folder / f"layer_{layer}.safetensors", metadata={"format": "pt"})
    config = {
        "model_kind": "transcoder_set",
        "model_name": f"embedded:{name}",
        "scan": f"embedded/{name}",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
