"""Train the embedded model: a small Qwen3 on the generated corpus, from random weights, on one core in minutes.

In: a variant (`bilingual`, or `control` without translations), a seed and a recipe. Out: a folder with `model/` (checkpoint
and tokenizer), `transcoders/`, `metrics.json` and `SHA256SUMS`, laid out as the shipped `data/<name>`.

1. Corpus and tokenizer (`corpus.py`, `tokenizer.py`).
2. AdamW on the next token; the answer weighs 1, every other token 0.2 (`batches.py`).
3. Weights are rounded to float16, which is how they are stored; from here on they are what a user loads.
4. Transcoders on the rounded model (`train_transcoders.py`), metrics (`evaluate.py`), hashes (`paths.py`).
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from ingest.tiny import batches, corpus, paths
from ingest.tiny.corpus import Variant
from ingest.tiny.evaluate import evaluate
from ingest.tiny.loading import without_progress_bars
from ingest.tiny.tokenizer import corpus_tokenizer, token_ids
from ingest.tiny.train_transcoders import TranscoderRecipe, save_transcoders, train_transcoders

Progress = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all)."""

RECORDED_LOSSES = 60
"""How many first losses `metrics.json` keeps for the quick check of the recipe."""


@dataclass(frozen=True)
class Recipe:
    """Everything the weights depend on, with the corpus, the seed and the arithmetic of the machine."""

    steps: int = 1300
    batch_size: int = 128
    learning_rate: float = 6e-3
    warmup: int = 60
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.1
    clip: float = 1.0
    context_rate: float = 0.25
    other_weight: float = 0.2
    hidden_size: int = 64
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    head_dim: int = 16
    intermediate_size: int = 256
    initializer_range: float = 0.05


def build_model(vocabulary: int, recipe: Recipe, *, seed: int) -> Qwen3ForCausalLM:
    """Return a Qwen3 with random weights drawn from `seed`, float32; the caller's generator is left as it was."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        head_dim=recipe.head_dim,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=recipe.initializer_range,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).float()


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Return the rate of a step: linear warm-up, then a cosine to zero."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    share = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def train_steps(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, variant: Variant, recipe: Recipe, *, seed: int
) -> Iterator[float]:
    """Take `recipe.steps` steps, yielding the weighted loss (nats) of each; a caller may stop early."""
    stream = batches.training_batches(
        batches.encode(tokenizer, corpus.epoch(variant)),
        newline=token_ids(tokenizer, "\n")[0],
        end_of_text=int(tokenizer.eos_token_id),
        size=recipe.batch_size,
        context_rate=recipe.context_rate,
        other_weight=recipe.other_weight,
        seed=seed,
    )
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    gains = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, recipe)
        loss = weighted_loss(model, next(stream))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        yield float(loss.detach())
    model.eval()


def weighted_loss(model: Qwen3ForCausalLM, batch: batches.Batch) -> torch.Tensor:
    """Return the mean cross-entropy of the next token, weighted by target (nats, scalar)."""
    logits = model(input_ids=batch.tokens[:, :-1], use_cache=False).logits  # (B, T - 1, V)
    targets, weights = batch.tokens[:, 1:], batch.weights[:, 1:]  # (B, T - 1)
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def round_to_half(model: Qwen3ForCausalLM) -> None:
    """Round all weights to float16 values, in place; the model stays float32 and equals what its files load to."""
    model.half().float()


def save_model(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write checkpoint and tokenizer: weights as float16, to be loaded as float32 (`dtype` of `config.json`)."""
    with without_progress_bars():
        model.half().save_pretrained(folder)
    model.float()
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(folder)


def train(
    out_dir: Path | str,
    *,
    steps: int | None = None,
    seed: int | None = None,
    variant: Variant = "bilingual",
    progress: Progress | None = None,
) -> Path:
    """Train model and transcoders and write them with metrics and hashes; return the folder.

    Args:
        out_dir: made if absent; files of an earlier training in it are replaced.
        steps: steps of the model, 1,300 if not given; the learning rate falls to zero over them.
        seed: of weights, batches and transcoders; that of the shipped files if not given.
        variant: `control` leaves the translation sentences out.
        progress: called after each step with (stage, done, total).

    Raises:
        UsageError: for an unknown variant.
    """
    seed = shipped_seed(variant) if seed is None else seed
    recipe = Recipe() if steps is None else replace(Recipe(), steps=steps)
    transcoder_recipe = TranscoderRecipe()
    folder = Path(out_dir)
    tokenizer = corpus_tokenizer()
    model = build_model(len(tokenizer), recipe, seed=seed)
    losses: list[float] = []
    for loss in train_steps(model, tokenizer, variant, recipe, seed=seed):
        losses.append(loss)
        if progress:
            progress("model", len(losses), recipe.steps)
    round_to_half(model)
    save_model(model, tokenizer, folder / "model")
    transcoders = train_transcoders(model, tokenizer, variant, transcoder_recipe, seed=seed, progress=progress)
    save_transcoders(transcoders, folder / "transcoders", name=variant)
    record = {
        "variant": variant,
        "seed": seed,
        "recipe": asdict(recipe),
        "transcoder_recipe": asdict(transcoder_recipe),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "torch": torch.__version__.split("+")[0],
        "first_losses": [round(loss, 6) for loss in losses[:RECORDED_LOSSES]],
        "last_loss": round(sum(losses[-50:]) / len(losses[-50:]), 6),
        "metrics": evaluate(folder),
    }
    (folder / "metrics.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors writes files that only their owner may read
    paths.write_sums(folder)
    return folder


def shipped_seed(variant: Variant) -> int:
    """Return the seed of the shipped model of this variant."""
    return int(json.loads((paths.root(variant) / "metrics.json").read_text(encoding="utf-8"))["seed"])


def main() -> None:
    """Train from the command line: `python -m ingest.tiny.train OUT --seed 3 --variant control`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--variant", choices=["bilingual", "control"], default="bilingual")
    parser.add_argument("--steps", type=int, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    def report(stage: str, done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            sys.stderr.write(f"{stage} {done}/{total}\n")

    train(arguments.out_dir, steps=arguments.steps, seed=arguments.seed, variant=arguments.variant, progress=report)


if __name__ == "__main__":
    main()
