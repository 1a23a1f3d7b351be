"""The shipped files: whole, small, in the promised layout, and as good as `metrics.json` says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3ForCausalLM

from atlas.errors import DamagedError, UsageError
from ingest.tiny import corpus, paths
from ingest.tiny.evaluate import evaluate, margins
from ingest.tiny.loading import Loaded


def recorded(name: str) -> dict[str, Any]:
    """Return `metrics.json` of a shipped model."""
    record: dict[str, Any] = json.loads((paths.root(name) / "metrics.json").read_text(encoding="utf-8"))
    return record


def flat(tree: Any, prefix: str = "") -> dict[str, float]:
    """Return path -> number of nested dictionaries and lists."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {key: value for name, branch in items for key, value in flat(branch, f"{prefix}/{name}").items()}
    return {prefix.lstrip("/"): float(tree)}


@pytest.mark.parametrize("name", paths.NAMES)
def test_the_shipped_files_have_their_hashes(name: str) -> None:
    paths.verify(paths.root(name))


def test_both_models_take_at_most_8_megabytes() -> None:
    assert sum(path.stat().st_size for path in paths.DATA.rglob("*") if path.is_file()) <= 8_000_000


def test_a_changed_missing_or_additional_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    paths.write_sums(tmp_path)
    paths.verify(tmp_path)
    (tmp_path / "b.txt").write_text("c")
    with pytest.raises(DamagedError, match=r"b\.txt differs"):
        paths.verify(tmp_path)
    (tmp_path / "b.txt").unlink()
    with pytest.raises(DamagedError, match=r"b\.txt is missing"):
        paths.verify(tmp_path)
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "c.txt").write_text("c")
    with pytest.raises(DamagedError, match=r"c\.txt has no hash"):
        paths.verify(tmp_path)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'monolingual'") as caught:
        paths.model_path("monolingual")
    assert "bilingual, control" in str(caught.value)


@pytest.mark.parametrize("name", paths.NAMES)
def test_the_model_is_a_plain_float32_qwen3_with_gains_that_differ_from_1(name: str) -> None:
    model = Qwen3ForCausalLM.from_pretrained(paths.model_path(name))
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.head_dim) == (6, 64, 16)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    for layer in model.model.layers:
        assert float((layer.post_attention_layernorm.weight.detach() - 1).abs().max()) > 0.05
    assert sum(weight.numel() for weight in model.parameters()) == recorded(name)["parameters"]


@pytest.mark.parametrize("name", paths.NAMES)
def test_transcoders_lie_in_the_layout_that_circuit_tracer_reads(name: str) -> None:
    folder = paths.transcoder_path(name)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["model_kind"] == "transcoder_set"
    assert (config["feature_input_hook"], config["feature_output_hook"]) == ("mlp.hook_in", "mlp.hook_out")
    assert {path.name for path in folder.iterdir()} == {"config.yaml", *(f"layer_{n}.safetensors" for n in range(6))}
    shapes = {"W_enc": (512, 64), "W_dec": (512, 64), "b_enc": (512,), "b_dec": (64,)}
    for layer in range(6):
        tensors = load_file(folder / f"layer_{layer}.safetensors")
        assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == shapes
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_margins_equal_those_of_plain_transformers(bilingual: Loaded) -> None:
    """Written out again without the package's loading: tokenizer, prepended token, logits, difference."""
    folder = paths.model_path()
    model, tokenizer = Qwen3ForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    prompts = [prompt for prompt in corpus.antonym_prompts("fr") if prompt.template == "opposite_for"][:8]
    ours = margins(bilingual, bilingual.logits(bilingual.tokens([prompt.text for prompt in prompts])), prompts)
    for prompt, margin in zip(prompts, ours, strict=True):
        ids = tokenizer("<|endoftext|>" + prompt.text, return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1]
        words = [tokenizer(f" {word}").input_ids for word in (prompt.answer, *prompt.contrasts)]
        answer, *contrasts = [float(logits[token]) for (token,) in words]
        assert answer - max(contrasts) == pytest.approx(float(margin), abs=1e-5)


def test_features_equal_a_dense_computation(bilingual: Loaded) -> None:
    tokens = bilingual.tokens(["The opposite of the word hot is"])
    caught: dict[int, torch.Tensor] = {}
    for index, layer in enumerate(bilingual.model.model.layers):
        layer.post_attention_layernorm.register_forward_hook(
            lambda _module, _inputs, output, index=index: caught.__setitem__(index, output)
        )
    ours = bilingual.activations(tokens)  # (L, B, T, F)
    for layer in range(6):
        raw = load_file(paths.transcoder_path() / f"layer_{layer}.safetensors")
        direct = (caught[layer] @ raw["W_enc"].float().T + raw["b_enc"].float()).clamp(min=0)
        torch.testing.assert_close(ours[layer], direct, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "parts"), [("bilingual", None), ("control", ("accuracy", "overlap", "injection"))])
def test_every_recorded_metric_is_what_the_shipped_files_give(name: str, parts: tuple[str, ...] | None) -> None:
    """Another machine's last bits may tip single cases: one in a hundred, and one feature that is active once or never."""
    metrics = recorded(name)["metrics"]
    expected = flat({part: metrics[part] for part in parts or metrics})
    measured = flat(evaluate(paths.root(name), parts=parts))
    assert measured.keys() == expected.keys()
    for key, value in expected.items():
        bound = 1 if "/dead/" in key else max(0.01, 0.01 * abs(value))
        assert measured[key] == pytest.approx(value, abs=bound), key


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_bilingual_model_knows_antonyms_in_templates_it_never_read(language: str) -> None:
    metrics = recorded("bilingual")["metrics"]
    assert metrics["accuracy"][f"{language} template=test pair=train"]["accuracy"] >= 0.95
    assert metrics["accuracy_replaced"][f"{language} template=test pair=train"]["accuracy"] >= 0.9


@pytest.mark.parametrize("name", paths.NAMES)
def test_transcoders_are_sparse_and_faithful(name: str) -> None:
    for language, row in recorded(name)["metrics"]["transcoders"].items():
        assert max(row["fvu"]) <= 0.1, language
        assert sum(row["l0"]) / 6 <= 15, language


def test_translations_are_what_makes_features_shared() -> None:
    """Same concept over other concept at the decision, averaged over layers: far above 1, and about 1 in the control."""
    ratios = {}
    for name in paths.NAMES:
        row = recorded(name)["metrics"]["overlap"]["test"]["decision"]
        ratios[name] = sum(row["same"]) / sum(row["other"])
    assert ratios["bilingual"] >= 1.5
    assert ratios["control"] <= 1.2


def test_injection_works_in_the_bilingual_model_and_not_in_the_control() -> None:
    success = {name: recorded(name)["metrics"]["injection"]["test"]["success"] for name in paths.NAMES}
    assert success["bilingual"] >= success["control"] + 0.2
