"""Transcoders: formulas of METHODS section 1 against plain tensor code, files, slices, residency, and errors by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from atlas.errors import InputError, UsageError
from ingest.model import from_module
from ingest.residency import Residency
from ingest.transcoder import TranscoderSet
from tests.ingest.families import LAYERS, WIDTH, random_hf, random_weights

KINDS = ["relu", "skip", "jump_relu", "topk"]
N_FEATURES = 40


def save(folder: Path, weights: dict[int, dict[str, Tensor]], config: dict[str, object]) -> Path:
    """Write a set as circuit-tracer lays it out."""
    folder.mkdir(exist_ok=True)
    for layer, tensors in weights.items():
        if config.get("model_kind") == "cross_layer_transcoder":
            encoder = {f"{name}_{layer}": tensors[name].contiguous() for name in ("W_enc", "b_enc", "b_dec")}
            save_file(encoder, str(folder / f"W_enc_{layer}.safetensors"))
            save_file({f"W_dec_{layer}": tensors["W_dec"].contiguous()}, str(folder / f"W_dec_{layer}.safetensors"))
        else:
            save_file(tensors, str(folder / f"layer_{layer}.safetensors"))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def activations(kind: str, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """Compute activations from the formulas, with nothing of ingest."""
    pre = x @ tensors["W_enc"].T + tensors["b_enc"]
    if kind == "jump_relu":
        return torch.where(pre > tensors["activation_function.threshold"], pre, 0.0)
    if kind == "topk":
        least = pre.sort(-1, descending=True).values[..., 5:6]
        return torch.where(pre >= least, pre, 0.0)
    return pre.clamp(min=0)


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_encode_and_decode_follow_the_formulas(tmp_path: Path, kind: str) -> None:
    weights, config = random_weights(kind)
    opened = TranscoderSet.open(save(tmp_path, weights, config), dtype="float64")
    x = inputs(7)
    for layer, tensors in weights.items():
        a = activations(kind, tensors, x)
        expected = a @ tensors["W_dec"] + tensors["b_dec"]
        if kind == "skip":
            expected = expected + x @ tensors["W_skip"].T
        torch.testing.assert_close(opened.encode(layer, x), a)
        torch.testing.assert_close(opened.decode(layer, a, x), expected)
        torch.testing.assert_close(opened.reconstruct(layer, x.view(1, 7, WIDTH))[0], expected)
        torch.testing.assert_close(opened.reconstruct_all({layer: x})[layer], expected)
    if kind == "jump_relu":
        assert bool((opened.encode(0, x) < 0).any()), "the case of negative activations is not covered"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_elements", [1, 90, 1 << 20])
def test_sparse_encoding_is_the_dense_one_whatever_fits_at_once(kind: str, max_elements: int) -> None:
    weights, config = random_weights(kind)
    opened = TranscoderSet.from_weights(weights, config=config, dtype="float64")
    x = inputs(9)
    dense = opened.encode(1, x)
    sparse = opened.encode_sparse(1, x, max_elements=max_elements)
    token, feature = dense.nonzero(as_tuple=True)
    assert torch.equal(sparse.token, token)
    assert torch.equal(sparse.feature, feature)
    torch.testing.assert_close(sparse.value, dense[token, feature])
    torch.testing.assert_close(sparse.pre, opened.pre_activations(1, x)[token, feature])


def test_encoding_nothing_gives_nothing() -> None:
    weights, config = random_weights()
    sparse = TranscoderSet.from_weights(weights, config=config, dtype="float64").encode_sparse(0, inputs(0))
    assert len(sparse.token) == len(sparse.value) == 0


@pytest.mark.parametrize("from_file", [True, False])
def test_a_cross_layer_set_writes_to_all_later_layers(tmp_path: Path, from_file: bool) -> None:
    weights, config = random_weights("cross_layer")
    if from_file:
        opened = TranscoderSet.open(save(tmp_path, weights, config), dtype="float64")
    else:
        opened = TranscoderSet.from_weights(weights, config=config, dtype="float64")
    x = {layer: inputs(5) + layer for layer in range(LAYERS)}
    made = opened.reconstruct_all(x)
    for target in range(LAYERS):
        expected = weights[target]["b_dec"].expand(5, WIDTH)
        for source in range(target + 1):
            a = activations("relu", weights[source], x[source])
            expected = expected + a @ weights[source]["W_dec"][:, target - source]
        torch.testing.assert_close(made[target], expected)
    assert opened.writes_to(1) == (1, 2)
    assert opened.sources_of(1) == (0, 1)
    features = torch.tensor([4, 4, 0])
    assert torch.equal(opened.decoder_rows(0, features, target=2), weights[0]["W_dec"][features, 2])
    torch.testing.assert_close(opened.decoder_norms(0), weights[0]["W_dec"].flatten(1).norm(dim=1))
    with pytest.raises(UsageError, match="do not write to layer 0"):
        opened.decoder_rows(1, features, target=0)
    with pytest.raises(UsageError, match="cross-layer"):
        opened.reconstruct(0, inputs(1))


def test_rows_come_by_slices_and_load_no_matrix(tmp_path: Path) -> None:
    weights, config = random_weights(dtype=torch.bfloat16)
    opened = TranscoderSet.open(save(tmp_path, weights, config))
    features = torch.tensor([39, 3, 3, 0])
    assert torch.equal(opened.decoder_rows(2, features), weights[2]["W_dec"][features].float())
    assert torch.equal(opened.encoder_rows(2, features), weights[2]["W_enc"][features].float())
    assert opened.encoder_rows(2, torch.tensor([], dtype=torch.int64)).shape[0] == 0
    assert opened.residency.reads == 0
    assert opened.rows("m")[2]["dtype"] == "bfloat16"
    opened.encode(2, inputs(1).float())
    assert torch.equal(opened.encoder_rows(2, features), weights[2]["W_enc"][features].float())
    assert opened.residency.reads == 1


def test_the_memory_budget_lets_the_least_recently_used_matrix_go(tmp_path: Path) -> None:
    weights, config = random_weights(dtype=torch.float32)
    matrix = N_FEATURES * WIDTH * 4
    opened = TranscoderSet.open(save(tmp_path, weights, config), memory_budget=2 * matrix + 10)
    assert opened.layer_bytes(0) == matrix
    for layer in (0, 1, 0, 2, 0):
        opened.encoder(layer)
    assert opened.residency.reads == 3
    assert opened.residency.used == 2 * matrix
    opened.encoder(1)
    assert opened.residency.reads == 4


def test_a_matrix_beyond_the_budget_is_read_each_time() -> None:
    residency = Residency(10)
    assert torch.equal(residency.get("a", lambda: torch.ones(4)), torch.ones(4))
    residency.get("a", lambda: torch.ones(4))
    assert (residency.reads, residency.used) == (2, 0)


def damage_shape(weights: dict[int, dict[str, Tensor]]) -> None:
    weights[1]["W_dec"] = weights[1]["W_dec"].T.contiguous()


def damage_bias(weights: dict[int, dict[str, Tensor]]) -> None:
    weights[2]["b_dec"] = torch.zeros(WIDTH + 1)


def damage_width(weights: dict[int, dict[str, Tensor]]) -> None:
    weights[1] = {
        "W_enc": torch.zeros(8, 5),
        "W_dec": torch.zeros(8, 5),
        "b_enc": torch.zeros(8),
        "b_dec": torch.zeros(5),
    }


def damage_dtype(weights: dict[int, dict[str, Tensor]]) -> None:
    weights[0]["W_enc"] = torch.zeros(N_FEATURES, WIDTH, dtype=torch.int8)


def damage_names(weights: dict[int, dict[str, Tensor]]) -> None:
    weights[0]["encoder"] = weights[0].pop("W_enc")


def damage_threshold(weights: dict[int, dict[str, Tensor]]) -> None:
    weights[0]["activation_function.threshold"] = torch.zeros(N_FEATURES)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_shape, r"layer_1.safetensors: W_dec has shape \(24, 40\), expected \(40, 24\)"),
        (damage_bias, r"layer_2.safetensors: b_dec has shape \(25,\), expected \(24,\)"),
        (damage_width, "layer 1 has d_model 5, layer 0 has 24"),
        (damage_dtype, "W_enc has dtype I8"),
        (damage_names, "no tensor 'W_enc'"),
        (damage_threshold, r"layers \[1, 2\] .* have no activation_function.threshold"),
    ],
)
def test_a_wrong_file_is_named_when_the_set_is_opened(tmp_path: Path, damage: Any, message: str) -> None:
    weights, config = random_weights()
    damage(weights)
    with pytest.raises(InputError, match=message):
        TranscoderSet.open(save(tmp_path, weights, config))


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    weights, config = random_weights()
    save(tmp_path, weights, config)
    (tmp_path / "layer_1.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match=r"layer_1\.safetensors cannot be read"):
        TranscoderSet.open(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"feature_input_hook": "hook_mystery"}, "names the hook 'hook_mystery'"),
        ({"activation": "gelu"}, "names the activation 'gelu'"),
        ({"activation": "topk"}, "neither config.yaml nor its layers say k"),
        ({"activation": "jump_relu"}, "its layers have no threshold"),
        ({"model_kind": "cross_layer_transcoder"}, "cross-layer set without any layer"),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, config: dict[str, object], message: str) -> None:
    weights, _ = random_weights()
    save(tmp_path, weights, {})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=message):
        TranscoderSet.open(tmp_path)


def test_an_incomplete_cross_layer_set_is_named(tmp_path: Path) -> None:
    weights, config = random_weights("cross_layer")
    save(tmp_path, weights, config)
    (tmp_path / "W_dec_1.safetensors").unlink()
    with pytest.raises(InputError, match="without W_dec_1"):
        TranscoderSet.open(tmp_path)


@pytest.mark.parametrize("where", ["/nowhere/at/all", "./nowhere"])
def test_a_missing_folder_is_named(where: str) -> None:
    with pytest.raises(InputError, match="no transcoder folder"):
        TranscoderSet.open(where)


def test_k_can_stand_in_the_layers(tmp_path: Path) -> None:
    weights, config = random_weights("topk")
    for tensors in weights.values():
        tensors["k"] = torch.tensor(6)
    opened = TranscoderSet.open(save(tmp_path, weights, {"scan": config["scan"]}), dtype="float64")
    assert opened.activation == "topk"
    assert int((opened.encode(0, inputs(4)) != 0).sum()) == 24


def test_a_set_of_another_model_is_refused() -> None:
    model = from_module(random_hf("qwen3"))
    weights, config = random_weights()
    narrow = {
        0: {
            "W_enc": torch.zeros(8, 5),
            "W_dec": torch.zeros(8, 5),
            "b_enc": torch.zeros(8),
            "b_dec": torch.zeros(5),
        }
    }
    with pytest.raises(InputError, match="d_model 5, the model in memory has 24"):
        TranscoderSet.from_weights(narrow).bind(model)
    with pytest.raises(InputError, match=r"have layers \[3\]"):
        TranscoderSet.from_weights(weights | {3: weights[0]}, config=config).bind(model)
    del weights[1]
    with pytest.raises(InputError, match="no layer 1; they have 0 to 2"):
        TranscoderSet.from_weights(weights, config=config).bind(model, [0, 1])


def test_a_set_that_predicts_before_a_post_norm_is_refused_there() -> None:
    weights, config = random_weights()
    opened = TranscoderSet.from_weights(weights, config=config | {"feature_output_hook": "mlp.hook_out"})
    opened.bind(from_module(random_hf("qwen3")))
    with pytest.raises(InputError, match="before the norm that gemma2"):
        opened.bind(from_module(random_hf("gemma2")))


def test_skip_needs_its_input() -> None:
    weights, config = random_weights("skip")
    opened = TranscoderSet.from_weights(weights, config=config, dtype="float64")
    with pytest.raises(UsageError, match="its input x is needed"):
        opened.decode(0, torch.zeros(1, N_FEATURES, dtype=torch.float64))


def test_the_row_of_a_published_set_names_neuronpedia(tmp_path: Path) -> None:
    weights, _ = random_weights()
    opened = TranscoderSet.open(save(tmp_path, weights, {"scan": "qwen3-4b/transcoder-hp"}))
    row = opened.rows("model")[2]
    assert row["transcoder_set"] == "qwen3-4b/transcoder-hp"
    assert row["neuronpedia"] == "qwen3-4b/2-transcoder-hp"
    assert row["gain_folded"] is False
    assert len(str(row["file_hash"])) == 64
