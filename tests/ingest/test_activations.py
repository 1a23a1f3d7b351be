"""Activations, counts, contexts and quality against direct dense computations with plain transformers."""

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from atlas.errors import InputError, ModelError
from atlas.schema import arrow_schema
from ingest.activations import ActivationConfig, Extraction, activations
from ingest.model import LanguageModel
from ingest.prompts import Prompt, PromptSet
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import plain_copy, random_model, random_prompts, random_transcoders

LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return random_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transcoders")
    random_transcoders(path)
    return path


@pytest.fixture(scope="module")
def transcoders(folder: Path) -> TranscoderSet:
    return TranscoderSet.open(folder)


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    """Two languages and the pseudo-language of random tokens."""
    return random_prompts(n_concepts=4, languages=("en", "fr", "xx"))


@pytest.fixture(scope="module")
def tables(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> dict[str, pa.Table]:
    return activations(model, transcoders, prompts)


Dense = dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(scope="module")
def dense(model: LanguageModel, folder: Path, prompts: PromptSet) -> Dense:
    """(layer, prompt) -> pre-activations (T, F), MLP outputs (T, D), predictions (T, D), one prompt at a time."""
    plain = plain_copy(model)
    found: dict[tuple[str, int], Tensor] = {}
    for layer in LAYERS:
        block = plain.model.layers[layer]
        block.post_attention_layernorm.register_forward_hook(lambda m, i, o, k=layer: found.update({("in", k): o[0]}))
        block.mlp.register_forward_hook(lambda m, i, o, k=layer: found.update({("out", k): o[0]}))
    result: Dense = {}
    for prompt in prompts.prompts:
        plain(torch.tensor([prompt.token_ids]))
        for layer in LAYERS:
            w = load_file(folder / f"layer_{layer}.safetensors")
            pre = found["in", layer] @ w["W_enc"].T + w["b_enc"]
            result[layer, prompt.prompt] = pre, found["out", layer], torch.relu(pre) @ w["W_dec"] + w["b_dec"]
    return result


def test_tables_have_the_columns_of_the_schema(tables: dict[str, pa.Table]) -> None:
    for name, table in tables.items():
        schema = arrow_schema(name)
        for field in table.schema:
            assert field.type == schema.field(field.name).type, (name, field.name)


def test_active_features_equal_a_dense_computation(tables: dict[str, pa.Table], dense: Dense) -> None:
    stored = {(row["layer"], row["feature"], row["prompt"], row["position"]): row["activation"] for row in tables["activation"].to_pylist()}
    assert len(stored) == tables["activation"].num_rows
    n_active = 0
    for (layer, prompt), (pre, _, _) in dense.items():
        for position, feature in (pre > 0).nonzero().tolist():
            value = float(pre[position, feature])
            n_active += 1
            if value > 1e-4:
                assert abs(stored[layer, feature, prompt, position] - value) < 1e-4
    assert abs(len(stored) - n_active) <= sum(int((pre.abs() < 1e-4).sum()) for pre, _, _ in dense.values())
    assert any(position == 0 for _, _, _, position in stored)  # the sink is recorded


def test_activations_are_sorted_by_layer_feature_prompt_position(tables: dict[str, pa.Table]) -> None:
    names = ("layer", "feature", "prompt", "position")
    keys = list(zip(*(tables["activation"][name].to_pylist() for name in names), strict=True))
    assert keys == sorted(keys)


def _by_language(dense: Dense, prompts: PromptSet, layer: int) -> Iterator[tuple[Prompt, np.ndarray]]:
    """Activations (T - 1, F) of each prompt, the sink left out."""
    for prompt in prompts.prompts:
        yield prompt, torch.relu(dense[layer, prompt.prompt][0])[1:].double().numpy()


def test_counts_by_language_equal_brute_force(tables: dict[str, pa.Table], dense: Dense, prompts: PromptSet) -> None:
    rows = {(row["layer"], row["feature"], row["language"]): row for row in tables["feature_language"].to_pylist()}
    for layer in LAYERS:
        for language in prompts.languages:
            own = [(p, a) for p, a in _by_language(dense, prompts, layer) if p.language == language]
            everything = np.concatenate([a for _, a in own])
            for feature in range(everything.shape[1]):
                column = everything[:, feature]
                row = rows.get((layer, feature, language))
                if row is None:
                    assert not column.any()
                    continue
                assert row["n_tokens"] == len(column)
                assert row["n_prompts"] == len(own)
                assert row["n_active"] == (column > 0).sum()
                assert row["n_prompts_active"] == sum(bool((a[:, feature] > 0).any()) for _, a in own)
                assert row["sum_activation"] == pytest.approx(column.sum(), abs=1e-4)
                assert row["sum_squares"] == pytest.approx((column**2).sum(), abs=1e-3)
                assert row["max_activation"] == pytest.approx(column.max(), abs=1e-4)


def test_random_tokens_are_in_no_denominator_of_a_feature(tables: dict[str, pa.Table], dense: Dense, prompts: PromptSet) -> None:
    rows = {(row["layer"], row["feature"]): row for row in tables["feature"].to_pylist()}
    assert len(rows) == 3 * 96
    for layer in LAYERS:
        own = [a for p, a in _by_language(dense, prompts, layer) if p.language != "xx"]
        real = np.concatenate(own)
        for feature in range(real.shape[1]):
            row, column = rows[layer, feature], real[:, feature]
            positive = column[column > 0]
            assert row["n_tokens"] == len(column)
            assert row["n_active"] == len(positive)
            assert row["n_prompts_active"] == sum(bool((a[:, feature] > 0).any()) for a in own)
            assert row["density"] == pytest.approx(len(positive) / len(column))
            if len(positive):
                assert row["mean_activation"] == pytest.approx(positive.mean(), abs=1e-4)
                assert row["sd_activation"] == pytest.approx(positive.std(), abs=1e-3)
                assert row["max_activation"] == pytest.approx(positive.max(), abs=1e-4)
            else:
                assert row["max_activation"] is None


def test_counts_by_role_equal_brute_force(tables: dict[str, pa.Table], dense: Dense, prompts: PromptSet) -> None:
    n_active: dict[tuple[int, int, str, str], int] = defaultdict(int)
    n_tokens: dict[tuple[str, str], int] = defaultdict(int)
    for prompt in prompts.prompts:
        for role in prompt.roles[1:]:
            n_tokens[prompt.language, role] += 1
    for layer in LAYERS:
        for prompt, values in _by_language(dense, prompts, layer):
            for position, feature in zip(*np.nonzero(values), strict=True):
                n_active[layer, int(feature), prompt.language, prompt.roles[position + 1]] += 1
    rows = {
        (row["layer"], row["feature"], row["language"], row["role"]): (row["n_active"], row["n_tokens"])
        for row in tables["feature_role"].to_pylist()
    }
    assert rows == {key: (n, n_tokens[key[2], key[3]]) for key, n in n_active.items()}


def test_histogram_holds_every_positive_value_once(tables: dict[str, pa.Table], dense: Dense, prompts: PromptSet) -> None:
    for layer in LAYERS:
        real = np.concatenate([a for p, a in _by_language(dense, prompts, layer) if p.language != "xx"])
        rows = [row for row in tables["histogram"].to_pylist() if row["layer"] == layer]
        assert sum(row["n"] for row in rows) == (real > 0).sum()
        for row in rows[::7]:
            column = real[:, row["feature"]]
            assert row["n"] == ((column > max(row["low"], 0)) & (column <= row["high"])).sum()


def test_top_contexts_are_the_largest_values_with_their_windows(tables: dict[str, pa.Table], dense: Dense, prompts: PromptSet) -> None:
    of_feature: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in tables["context"].to_pylist():
        if row["kind"] == "top":
            of_feature[row["layer"], row["feature"]].append(row)
    for layer in LAYERS:
        for feature in range(0, 96, 5):
            values = sorted(
                (
                    (float(a[i, feature]), p.prompt, i + 1)
                    for p, a in _by_language(dense, prompts, layer)
                    for i in range(len(a))
                    if a[i, feature] > 0 and p.language != "xx"
                ),
                key=lambda entry: -entry[0],
            )[:20]
            rows = of_feature[layer, feature]
            assert [row["rank"] for row in rows] == list(range(len(values)))
            assert [row["activation"] for row in rows] == pytest.approx([value for value, _, _ in values], abs=1e-4)
            for row in rows:
                pre = dense[layer, row["item"]][0][:, feature]
                assert row["language"] == prompts.prompts[row["item"]].language
                assert (row["window_start"], row["window_end"]) == (
                    max(row["position"] - 8, 0),
                    min(row["position"] + 8, len(pre) - 1),
                )
                window = torch.relu(pre[row["window_start"] : row["window_end"] + 1])
                assert row["window_activations"] == pytest.approx(window.tolist(), abs=1e-4)


def test_quantile_contexts_come_from_their_decile(tables: dict[str, pa.Table], dense: Dense, prompts: PromptSet) -> None:
    positive: dict[tuple[int, int], np.ndarray] = {}
    for layer in LAYERS:
        real = np.concatenate([a for p, a in _by_language(dense, prompts, layer) if p.language != "xx"])
        positive |= {(layer, f): np.sort(real[:, f][real[:, f] > 0]) for f in range(96)}
    rows = [row for row in tables["context"].to_pylist() if row["kind"] == "quantile"]
    assert {row["quantile"] for row in rows} == set(range(10))
    for row in rows:
        values = positive[row["layer"], row["feature"]]
        first, last = (int((values > row["activation"] + shift).sum()) for shift in (1e-5, -1e-5))
        ranks_of_its_ties = range(first, last)
        assert row["quantile"] in {9 - (rank * 10) // len(values) for rank in ranks_of_its_ties}
    order = [(row["layer"], row["feature"], row["rank"], -row["quantile"]) for row in rows]
    assert [entry[2] for entry in sorted(order)] == [entry[2] for entry in sorted(order, key=lambda e: (e[0], e[1], e[3]))]


def test_silent_contexts_are_silent_and_no_sink(tables: dict[str, pa.Table], dense: Dense) -> None:
    rows = [row for row in tables["context"].to_pylist() if row["kind"] == "non_activating"]
    assert {(row["layer"], row["feature"]) for row in rows} >= {(0, 0), (1, 5)}
    for row in rows:
        assert row["position"] > 0
        assert row["language"] != "xx"
        assert float(dense[row["layer"], row["item"]][0][row["position"], row["feature"]]) <= 0
    assert max(row["rank"] for row in rows) == 4


def test_quality_equals_brute_force(
    tables: dict[str, pa.Table], dense: Dense, prompts: PromptSet, model: LanguageModel, folder: Path
) -> None:
    rows = {(row["layer"], row["language"]): row for row in tables["transcoder_quality"].to_pylist()}
    for layer in LAYERS:
        for language in prompts.languages:
            own = [prompt.prompt for prompt in prompts.prompts if prompt.language == language]
            pre = torch.cat([dense[layer, prompt][0][1:] for prompt in own]).double()
            m = torch.cat([dense[layer, prompt][1][1:] for prompt in own]).double()
            predicted = torch.cat([dense[layer, prompt][2][1:] for prompt in own]).double()
            row = rows[layer, language]
            assert row["l0"] == pytest.approx(float((pre > 0).sum() / len(pre)))
            assert row["n_dead"] == int((pre <= 0).all(0).sum())
            assert row["n_tokens"] == len(pre)
            fvu = (m - predicted).pow(2).sum() / (m - m.mean(0)).pow(2).sum()
            assert row["fvu"] == pytest.approx(float(fvu), rel=1e-4)


@pytest.mark.parametrize("replaced", [(0,), (1,), (2,), LAYERS])
def test_replacement_figures_equal_a_hand_written_hook(
    replaced: tuple[int, ...], tables: dict[str, pa.Table], prompts: PromptSet, model: LanguageModel, folder: Path
) -> None:
    plain, changed = plain_copy(model), plain_copy(model)
    for layer in replaced:
        w = load_file(folder / f"layer_{layer}.safetensors")

        def replace_output(_: Any, inputs: tuple[Tensor], output: Tensor, w: dict[str, Tensor] = w) -> Tensor:
            predicted = torch.relu(inputs[0] @ w["W_enc"].T + w["b_enc"]) @ w["W_dec"] + w["b_dec"]
            return torch.cat([output[:, :1], predicted[:, 1:]], dim=1)

        changed.model.layers[layer].mlp.register_forward_hook(replace_output)
    kl: dict[str, list[float]] = defaultdict(list)
    agreement: dict[str, list[bool]] = defaultdict(list)
    for prompt in prompts.prompts:
        ids = torch.tensor([prompt.token_ids])
        p, q = (m(ids).logits[0, -1].double().log_softmax(0) for m in (plain, changed))
        kl[prompt.language].append(float((p.exp() * (p - q)).sum()))
        agreement[prompt.language].append(bool(p.argmax() == q.argmax()))
    rows = {(row["layer"], row["language"]): row for row in tables["transcoder_quality"].to_pylist()}
    for language in prompts.languages:
        row = rows[replaced[0] if len(replaced) == 1 else -1, language]
        assert row["kl"] == pytest.approx(np.mean(kl[language]), abs=1e-4)
        assert row["top1_agreement"] == pytest.approx(np.mean(agreement[language]))


def _rows(table: pa.Table) -> dict[tuple[int, ...], float]:
    names = ("layer", "feature", "prompt", "position")
    keys = zip(*(table[name].to_pylist() for name in names), strict=True)
    return dict(zip(keys, table["activation"].to_pylist(), strict=True))


def test_layers_asked_for_apart_are_the_same_bit_for_bit(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, tables: dict[str, pa.Table]
) -> None:
    extraction = Extraction(model, transcoders, prompts, ActivationConfig(waiting_bytes=1))
    assert len(list(extraction._groups(extraction.layers))) == len(extraction.layers)
    found = dict(extraction.of_layers(extraction.layers))
    for layer in reversed(extraction.layers):
        ((_, alone),) = Extraction(model, transcoders, prompts, ActivationConfig()).of_layers([layer])
        assert alone.keys() == found[layer].keys()
        for name, rows in alone.items():
            assert rows.equals(found[layer][name]), name
            whole = tables[name].filter(pc.equal(tables[name]["layer"], layer))
            assert rows.select(whole.column_names).equals(whole), name


@pytest.mark.parametrize(
    "config",
    [
        ActivationConfig(batch_size=1),
        ActivationConfig(batch_size=5, chunk_tokens=30),
        ActivationConfig(max_elements=96 * 7),
    ],
    ids=["one prompt a batch", "small chunks", "small blocks"],
)
def test_results_do_not_depend_on_batches(
    config: ActivationConfig,
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    tables: dict[str, pa.Table],
    dense: Dense,
) -> None:
    again = activations(model, transcoders, prompts, config)
    before, after = _rows(tables["activation"]), _rows(again["activation"])
    for key in before.keys() ^ after.keys():
        layer, feature, prompt, position = key
        assert abs(float(dense[layer, prompt][0][position, feature])) < 1e-4
    assert max(abs(after[key] - before[key]) for key in before.keys() & after.keys()) < 1e-4
    if before.keys() == after.keys():
        assert again["feature_role"].column("n_active") == tables["feature_role"].column("n_active")
        # Equal tokens after equal prefixes have values that differ by rounding only: which of them comes first is open.
        assert _top_values(again) == pytest.approx(_top_values(tables), abs=1e-4)
        assert _silent_pointers(again) == _silent_pointers(tables)


def _top_values(tables: dict[str, pa.Table]) -> list[float]:
    return [row["activation"] for row in tables["context"].to_pylist() if row["kind"] == "top"]


def _silent_pointers(tables: dict[str, pa.Table]) -> list[tuple[int, ...]]:
    names = ("layer", "feature", "rank", "item", "position")
    rows = [row for row in tables["context"].to_pylist() if row["kind"] == "non_activating"]
    return [tuple(row[name] for name in names) for row in rows]


def test_only_the_wanted_layers_are_extracted(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, tables: dict[str, pa.Table]
) -> None:
    part = activations(model, transcoders, prompts, ActivationConfig(layers=(2,)))
    assert set(part["activation"]["layer"].to_pylist()) == {2}
    assert _rows(part["activation"]) == {key: v for key, v in _rows(tables["activation"]).items() if key[0] == 2}
    with pytest.raises(InputError, match="no layer 7"):
        activations(model, transcoders, prompts, ActivationConfig(layers=(0, 7)))


def test_nan_names_layer_and_prompt(transcoders: TranscoderSet, prompts: PromptSet) -> None:
    model = random_model()
    guilty = prompts.prompts[5]
    token = next(t for t in guilty.token_ids if all(t not in p.token_ids for p in prompts.prompts[:5]))
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[token] = float("nan")
    with pytest.raises(ModelError, match=rf"prompt {guilty.prompt} .*layer 0") as raised:
        activations(model, transcoders, prompts)
    assert raised.value.hint is not None


def test_nan_in_an_encoder_names_the_layer(model: LanguageModel, prompts: PromptSet, tmp_path: Path) -> None:
    broken = random_transcoders(tmp_path / "broken")
    broken.encoder(1)[3, 4] = float("nan")
    with pytest.raises(ModelError, match="encoder of layer 1"):
        activations(model, broken, prompts)


def test_out_of_memory_halves_the_batch_and_says_so(
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
    tables: dict[str, pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    capture = model.capture

    def small_machine(tokens: Tensor, *args: Any, **options: Any) -> Any:
        if len(tokens) > 6:
            raise ModelError("out of memory") from torch.cuda.OutOfMemoryError("6 prompts fit")
        return capture(tokens, *args, **options)

    monkeypatch.setattr(model, "capture", small_machine)
    with caplog.at_level(logging.WARNING):
        again = activations(model, transcoders, prompts, ActivationConfig(batch_size=16))
    assert "out of memory with 16 prompts at once: going on with 8" in caplog.text
    assert "going on with 4" in caplog.text
    assert _rows(again["activation"]).keys() == _rows(tables["activation"]).keys()


def test_out_of_memory_with_one_prompt_is_an_error(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: Any, **options: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("nothing fits")

    monkeypatch.setattr(model, "capture", no_memory)
    with pytest.raises(ModelError, match="single one of the prompts"):
        activations(model, transcoders, prompts)


def test_progress_ends_at_its_total(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> None:
    seen: list[tuple[int, int]] = []
    config = ActivationConfig(chunk_tokens=60)
    activations(model, transcoders, prompts, config, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]
    assert replace(config, batch_size=3) != config


def test_fvu_of_a_cross_layer_set_adds_up_its_sources(model: LanguageModel, prompts: PromptSet) -> None:
    generator = torch.Generator().manual_seed(3)
    weights = {
        layer: {
            "W_enc": torch.randn(40, 32, generator=generator) / 6,
            "b_enc": torch.full((40,), -0.5),
            "b_dec": torch.zeros(32),
            "W_dec": torch.randn(40, 3 - layer, 32, generator=generator) / 6,
        }
        for layer in LAYERS
    }
    clt = TranscoderSet.from_weights(weights, config={"model_kind": "cross_layer_transcoder"})
    assert clt.cross_layer
    rows = {(r["layer"], r["language"]): r for r in activations(model, clt, prompts)["transcoder_quality"].to_pylist()}
    plain = plain_copy(model)
    seen: dict[tuple[str, int], Tensor] = {}
    for layer, block in enumerate(plain.model.layers):
        block.mlp.register_forward_hook(lambda m, i, o, k=layer: seen.update({("in", k): i[0][0], ("out", k): o[0]}))
    m: dict[int, list[Tensor]] = defaultdict(list)
    predicted: dict[int, list[Tensor]] = defaultdict(list)
    for prompt in prompts.prompts:
        if prompt.language == "fr":
            plain(torch.tensor([prompt.token_ids]))
            a = {k: torch.relu(seen["in", k] @ weights[k]["W_enc"].T + weights[k]["b_enc"])[1:] for k in LAYERS}
            for k in LAYERS:
                m[k].append(seen["out", k][1:])
                predicted[k].append(sum((a[s] @ weights[s]["W_dec"][:, k - s] for s in range(k + 1)), torch.zeros(1)))
    for k in LAYERS:
        truth, guess = torch.cat(m[k]).double(), torch.cat(predicted[k]).double()
        fvu = (truth - guess).pow(2).sum() / (truth - truth.mean(0)).pow(2).sum()
        assert rows[k, "fr"]["fvu"] == pytest.approx(float(fvu), rel=1e-4)
    part = activations(model, clt, prompts, ActivationConfig(layers=(1,)))["transcoder_quality"].to_pylist()
    assert {row["fvu"] for row in part} == {None}
