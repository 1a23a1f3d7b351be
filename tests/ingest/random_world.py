"""Small random-weight models, transcoders and prompt sets, for tests that check formulas and not behaviour."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from ingest.model import LanguageModel, from_module
from ingest.prompts import Answer, Prompt, PromptPair, PromptSet
from ingest.transcoder import TranscoderSet

VOCABULARY = 60


def random_model(*, n_layers: int = 3, d_model: int = 32, seed: int = 0, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Return a Qwen3 with random weights, grouped queries and norm gains that differ from 1."""
    torch.set_num_threads(1)  # faster than two at this size
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    module = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.5 * torch.randn_like(parameter))
            else:
                parameter.mul_(8.0)
    return from_module(module.to(dtype), name="random")


def random_transcoders(
    folder: Path,
    *,
    n_layers: int = 3,
    d_model: int = 32,
    n_features: int = 96,
    seed: int = 1,
    dtype: str = "float32",
    skip: bool = False,
    bias: float = -1.0,
) -> TranscoderSet:
    """Write ReLU transcoders in circuit-tracer's layout and open them; a negative bias keeps most features silent."""
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for layer in range(n_layers):
        tensors = {
            "W_enc": torch.randn(n_features, d_model, generator=generator) / d_model**0.5,
            "W_dec": torch.randn(n_features, d_model, generator=generator) / d_model**0.5,
            "b_enc": bias + 0.3 * torch.randn(n_features, generator=generator),
            "b_dec": 0.1 * torch.randn(d_model, generator=generator),
        }
        if skip:
            tensors["W_skip"] = 0.2 * torch.randn(d_model, d_model, generator=generator)
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    (folder / "config.yaml").write_text(
        "model_kind: transcoder_set\nmodel_name: random\nscan: random\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n"
    )
    return TranscoderSet.open(folder, dtype=dtype)


def random_prompts(
    *, n_concepts: int = 6, languages: Sequence[str] = ("en", "fr"), lengths: Sequence[int] = (6, 8), seed: int = 2
) -> PromptSet:
    """Return prompts of random tokens: one of each concept, language and length; the operand is the token before the last."""
    generator = torch.Generator().manual_seed(seed)
    prompts: list[Prompt] = []
    pairs: list[PromptPair] = []
    for concept in range(n_concepts):
        for template, length in enumerate(lengths):
            for language in languages:
                body = torch.randint(1, VOCABULARY, (length - 1,), generator=generator).tolist()
                answers = torch.randperm(VOCABULARY, generator=generator)[:3].tolist()
                token_ids = (0, *body)
                prompts.append(
                    Prompt(
                        prompt=len(prompts),
                        behaviour="random",
                        prompt_hash=f"{len(prompts):016x}",
                        language=language,
                        concept=f"concept{concept}",
                        cluster=f"concept{concept}",
                        template=f"template{template}",
                        split="train",
                        held_out=None,
                        text=" ".join(f"<{token}>" for token in body),
                        operand=f"<{body[-2]}>",
                        variant=None,
                        token_ids=token_ids,
                        tokens=tuple(f"<{token}>" for token in token_ids),
                        roles=("sink", *["template"] * (length - 3), "content", "decision"),
                        offsets=(None, *((0, 0) for _ in body)),
                        content_positions=(length - 2,),
                        answers=(
                            Answer("correct", f"<{answers[0]}>", answers[0]),
                            Answer("contrast", f"<{answers[1]}>", answers[1]),
                            Answer("distractor", f"<{answers[2]}>", answers[2]),
                        ),
                    )
                )
            if len(languages) > 1:
                pairs.append(PromptPair("translation", len(prompts) - 2, len(prompts) - 1))
    return PromptSet((), tuple(prompts), tuple(pairs))


def plain_copy(model: LanguageModel) -> Qwen3ForCausalLM:
    """Return the same weights in an untouched transformers model: the brute-force side of a test."""
    config = Qwen3Config(**{**model.hf.config.to_dict(), "attn_implementation": "eager"})
    copy = Qwen3ForCausalLM._from_config(config, attn_implementation="eager").to(model.dtype)
    copy.load_state_dict(model.hf.state_dict())
    return copy.eval().requires_grad_(False)


def plain_margin(model: Qwen3ForCausalLM, prompt: Prompt) -> float:
    """Return the margin from the model's own logits."""
    logits = model(torch.tensor([prompt.token_ids])).logits[0, -1]
    return float(logits[prompt.answers[0].token_id] - max(logits[answer.token_id] for answer in prompt.answers[1:]))
