"""Models: every family's hook points against plain transformers, edits, frozen values, texts, and errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from atlas.errors import InputError, ModelError, UsageError
from ingest.adapters import Adapter, registered
from ingest.model import from_module, load_model, pad_left, sink_positions, without_sink
from ingest.taps import Captured, freeze_for
from tests.ingest.families import FAMILIES, LAYERS, TOKENS, VOCABULARY, WIDTH, at, random_hf


def seen_by_hooks(hf: Any, family: str, tokens: Tensor) -> tuple[list[Tensor], list[Tensor], Any]:
    """Return MLP inputs, MLP outputs and the output of a plain transformers run."""
    place = FAMILIES[family]
    mlp_in: list[Tensor] = []
    mlp_out: list[Tensor] = []
    for layer in at(hf, place.layers):
        at(layer, place.mlp_norm).register_forward_hook(lambda _m, _i, out: mlp_in.append(out))
        at(layer, place.mlp_out).register_forward_hook(lambda _m, _i, out: mlp_out.append(out))
    with torch.no_grad():
        output = hf(tokens, output_attentions=True)
    return mlp_in, mlp_out, output


@pytest.mark.parametrize("family", FAMILIES)
def test_families_record_what_plain_transformers_computes(family: str) -> None:
    tokens = torch.tensor([TOKENS, TOKENS[::-1]])
    mlp_in, mlp_out, plain = seen_by_hooks(random_hf(family, dtype=torch.float32), family, tokens)
    model = from_module(random_hf(family, dtype=torch.float32))
    captured = model.capture(tokens, patterns=True)
    for layer in range(LAYERS):
        torch.testing.assert_close(captured.mlp_in[layer], mlp_in[layer], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(captured.mlp_out[layer], mlp_out[layer], atol=5e-6, rtol=1e-5)
        torch.testing.assert_close(captured.patterns[layer], plain.attentions[layer], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(model.logits(captured.final), plain.logits, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_left_padding_changes_nothing(family: str) -> None:
    model = from_module(random_hf(family))
    ids, mask = pad_left([TOKENS, TOKENS[:3]], value=1)
    together = model.capture(ids, mask)
    alone = model.capture(torch.tensor([TOKENS[:3]]))
    for layer in range(LAYERS):
        torch.testing.assert_close(together.mlp_in[layer][1][mask[1]], alone.mlp_in[layer][0], atol=1e-10, rtol=0)
    assert sink_positions(mask).tolist() == [0, 3]
    assert without_sink(mask).sum(1).tolist() == [5, 2]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["frozen_attention", "direct", "constrained_layers"])
def test_a_frozen_pass_without_edit_is_exactly_the_clean_one(family: str, mode: Any) -> None:
    model = from_module(random_hf(family, dtype=torch.float32))
    tokens = torch.tensor([TOKENS])
    clean = model.capture(tokens, patterns=True, denominators=True)
    again = model.capture(tokens, freeze=freeze_for(mode, clean, layers=[1]))
    assert torch.equal(again.final, clean.final)


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "gpt2"])
def test_an_edit_of_the_mlp_output_moves_the_logits_by_its_gradient(family: str) -> None:
    model = from_module(random_hf(family))
    tokens = torch.tensor([TOKENS])
    direction = torch.randn(WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    captured = model.capture(tokens, gradients=True)
    margin = model.logits(captured.final[:, -1])[0, 3]
    gradients = torch.autograd.grad(margin, [captured.mlp_out[layer] for layer in range(LAYERS)])

    def margin_after(layer: int, step: float) -> float:
        def edit(at_layer: int, _x: Tensor, m: Tensor) -> Tensor:
            if at_layer != layer:
                return m
            m = m.clone()
            m[0, 2] += step * direction
            return m

        return float(model.logits(model.capture(tokens, edit=edit).final[:, -1])[0, 3])

    for layer in range(LAYERS):
        difference = (margin_after(layer, 1e-5) - margin_after(layer, -1e-5)) / 2e-5
        assert difference == pytest.approx(float(gradients[layer][0, 2] @ direction), rel=1e-5, abs=1e-8)


def test_frozen_rows_serve_many_edits_of_one_prompt() -> None:
    model = from_module(random_hf("qwen3"))
    clean = model.capture(torch.tensor([TOKENS, TOKENS[::-1]]), patterns=True, denominators=True)
    freeze = freeze_for("direct", clean, rows=torch.tensor([1, 1, 0]))

    def edit(layer: int, _x: Tensor, m: Tensor) -> Tensor:
        return m + (torch.tensor([0.0, 1.0, 0.0])[:, None, None] if layer == 1 else 0.0)

    edited = model.capture(torch.tensor([TOKENS[::-1], TOKENS[::-1], TOKENS]), edit=edit, freeze=freeze)
    torch.testing.assert_close(edited.final[0], clean.final[1])
    torch.testing.assert_close(edited.final[2], clean.final[0])
    assert not torch.allclose(edited.final[1], clean.final[1], atol=1e-3)


def test_constrained_layers_hold_only_their_mlps() -> None:
    model = from_module(random_hf("qwen3"))
    tokens = torch.tensor([TOKENS])
    clean = model.capture(tokens, patterns=True, denominators=True)

    def edit(layer: int, _x: Tensor, m: Tensor) -> Tensor:
        return m + 0.5 if layer == 0 else m

    held = model.capture(tokens, edit=edit, freeze=freeze_for("constrained_layers", clean, layers=[1]))
    assert torch.equal(held.mlp_out[1], clean.mlp_out[1])
    assert not torch.allclose(held.mlp_out[2], clean.mlp_out[2])


def test_capture_can_stream_and_keep_nothing() -> None:
    model = from_module(random_hf("llama"))
    seen: list[int] = []
    captured = model.capture(torch.tensor([TOKENS]), layers=[0, 2], mlp=False, observe=lambda layer, x, m: seen.append(layer))
    assert seen == [0, 2]
    assert not captured.mlp_in
    assert not captured.mlp_out


@pytest.mark.parametrize(("site", "path"), [("residual", None), ("mlp_normalised", "norm")])
def test_other_read_sites(site: Any, path: str | None) -> None:
    model = from_module(random_hf("gemma2"))
    tokens = torch.tensor([TOKENS])
    gained = model.capture(tokens).mlp_in[1]
    model.read_site = site
    captured = model.capture(tokens, denominators=True)
    norm = model.norm(1, "mlp")
    assert norm is not None
    r = captured.denominators[("pre_feedforward_layernorm", 1)]
    expected = norm.forward(captured.mlp_in[1], r) if path is None else captured.mlp_in[1] * norm.gain
    torch.testing.assert_close(expected, gained)


def test_float64_is_float64_in_the_norms() -> None:
    """transformers norms in float32 whatever the model's dtype: an identity to 1e-12 would fail at 1e-7."""
    model = from_module(random_hf("qwen3"))
    captured = model.capture(torch.tensor([TOKENS]), denominators=True)
    norm = model.norm(0, "attention")
    assert norm is not None
    exact = (captured.embeddings.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
    torch.testing.assert_close(captured.denominators[("input_layernorm", 0)], exact, rtol=1e-14, atol=0)


def test_nan_is_named_with_its_layer() -> None:
    hf = random_hf("llama")
    hf.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="MLP output of layer 1"):
        from_module(hf).capture(torch.tensor([TOKENS]))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [([[0, VOCABULARY]], "vocabulary"), ([[0] * 65], "65 tokens"), ([[]], "shape")],
)
def test_tokens_that_cannot_run_are_refused(tokens: list[list[int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_module(random_hf("llama")).capture(torch.tensor(tokens, dtype=torch.int64))


def test_an_unknown_family_is_refused_with_the_adapter_to_write(tmp_path: Path) -> None:
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    torch.manual_seed(0)
    MistralForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no adapter for model family 'mistral'") as refused:
        load_model(tmp_path)
    assert refused.value.hint is not None
    assert 10 < len(refused.value.hint.splitlines()) < 30
    with registered(Adapter("mistral")):
        captured: Captured = load_model(tmp_path).capture(torch.tensor([TOKENS]))
    assert captured.mlp_in[1].shape == (1, len(TOKENS), WIDTH)


def test_an_adapter_that_names_a_missing_module_is_named() -> None:
    with pytest.raises(ModelError, match="LlamaDecoderLayer has no 'ln_2'"):
        from_module(random_hf("llama"), adapter=Adapter("llama", mlp_norm="ln_2"))


@pytest.mark.parametrize(("where", "message"), [("./nothing", "no model directory"), (None, "cannot load a model")])
def test_a_missing_model_is_named(tmp_path: Path, where: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(where or tmp_path)


def test_a_directory_without_tokenizer_runs_on_token_ids(tmp_path: Path) -> None:
    random_hf("qwen3", dtype=torch.float32).save_pretrained(tmp_path)
    model = load_model(tmp_path, dtype="float64")
    assert model.tokenizer is None
    assert model.dtype == torch.float64
    assert model.token_texts([3]) == ["<3>"]
    with pytest.raises(InputError, match="no tokenizer"):
        model.tokenise(["a"])
    row = model.row()
    assert row["architecture"] == "Qwen3ForCausalLM"
    assert row["source"] == tmp_path.name
    assert len(str(row["weights_hash"])) == 64


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({"<s>": 0, "hot": 1, "cold": 2, "chaud": 3, "<unk>": 4}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **special)


def test_texts_get_a_sink_token_left_padding_and_offsets() -> None:
    model = from_module(random_hf("qwen3"), tokenizer(eos_token="<s>"))
    tokens = model.tokenise(["hot cold", "chaud"])
    assert tokens.ids.tolist() == [[0, 1, 2], [0, 0, 3]]
    assert tokens.mask.tolist() == [[True] * 3, [False, True, True]]
    assert tokens.offsets[0] == ((0, 0), (0, 3), (4, 8))
    assert tokens.row(1) == [0, 3]
    assert model.single_token("cold") == 2
    with pytest.raises(InputError, match=r"2 tokens for in memory: hot \| cold"):
        model.single_token("hot cold")


def test_a_tokenizer_without_any_special_token_is_named() -> None:
    model = from_module(random_hf("qwen3"), tokenizer())
    with pytest.raises(InputError, match="no BOS, padding or EOS"):
        model.tokenise(["hot"])
    assert model.tokenise(["hot"], prepend=False).ids.tolist() == [[1]]


def test_generation_under_an_edit() -> None:
    model = from_module(random_hf("qwen3", dtype=torch.float32))
    unembedding = model.unembedding

    def push(layer: int, _x: Tensor, m: Tensor) -> Tensor:
        return m + 1e3 * unembedding[7] if layer == LAYERS - 1 else m

    prompt = {"input_ids": torch.tensor([TOKENS]), "attention_mask": torch.ones(1, len(TOKENS), dtype=torch.int64)}
    settings = {"max_new_tokens": 2, "min_new_tokens": 2, "do_sample": False, "pad_token_id": 0}
    plain = model.hf.generate(**prompt, **settings)[0, -2:].tolist()
    with model.editing(push):
        pushed = model.hf.generate(**prompt, **settings)[0, -2:].tolist()
    assert model.hf.generate(**prompt, **settings)[0, -2:].tolist() == plain
    best = int((unembedding[7] * model.final_norm.gain @ unembedding.T).argmax())
    assert pushed == [best, best]
