"""Star edges and virtual weights against finite differences, autograd and brute force that imports nothing of the analysis."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen3ForCausalLM

from atlas.errors import InputError, UsageError
from atlas.schema import arrow_schema
from ingest.graphs.edges import edges
from ingest.graphs.selection import EdgeConfig
from ingest.graphs.stars import StarResult, stars
from ingest.graphs.virtual import virtual_weights
from ingest.model import LanguageModel
from ingest.prompts import Prompt, PromptSet
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import plain_copy, random_model, random_prompts, random_transcoders

LAYERS = (0, 1, 2)
CONFIG = EdgeConfig(max_nodes=60, max_edges=300, batch_size=7, bootstrap=30)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    """Double precision: finite differences of 1e-4 resolve first-order effects to seven digits."""
    return random_model(dtype=torch.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transcoders")
    random_transcoders(path)
    return path


@pytest.fixture(scope="module")
def transcoders(folder: Path, model: LanguageModel) -> TranscoderSet:
    opened = TranscoderSet.open(folder, dtype="float64")
    opened.bind(model)
    return opened


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return random_prompts()


@pytest.fixture(scope="module")
def result(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> StarResult:
    return stars(model, transcoders, prompts.prompts, LAYERS, batch_size=7)


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[int, dict[str, Tensor]]:
    return {layer: {name: w.double() for name, w in load_file(folder / f"layer_{layer}.safetensors").items()} for layer in LAYERS}


@pytest.fixture(scope="module")
def tables(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> dict[str, pa.Table]:
    return edges(model, transcoders, prompts, CONFIG)


def _moved_margins(plain: Qwen3ForCausalLM, site: Any, prompt: Prompt, moves: list[tuple[int, Tensor]], sign: float) -> Tensor:
    """Margins (n) of copies of a prompt, each with a vector added at a position of what leaves `site`."""

    def hook(_: Any, __: Any, output: Tensor) -> Tensor:
        output = output.clone()
        for row, (position, vector) in enumerate(moves):
            output[row, position] += sign * vector
        return output

    handle = site.register_forward_hook(hook)
    logits = plain(torch.tensor([prompt.token_ids] * len(moves))).logits[:, -1]
    handle.remove()
    margins: Tensor = logits[:, prompt.answers[0].token_id] - logits[:, [a.token_id for a in prompt.answers[1:]]].amax(1)
    return margins


def _finite_differences(
    model: LanguageModel,
    result: StarResult,
    prompts: PromptSet,
    weights: dict[int, dict[str, Tensor]],
    layer: int,
    site: Callable[[Any], Any],
) -> tuple[np.ndarray, np.ndarray]:
    """For 100 features of a layer: how the margin moves when each is scaled by 1 +- eps at `site`, over 2 eps; and star_total."""
    eps, rows = 1e-4, result.stars
    hf = model.hf  # run as it is: transformers' own norms and softmax would round to float32
    chosen = np.random.default_rng(layer).choice(np.flatnonzero(rows.layer == layer), 100, replace=False)
    by_prompt: dict[int, list[int]] = defaultdict(list)
    for row in chosen:
        by_prompt[int(rows.prompt[row])].append(int(row))
    measured, predicted = [], []
    for prompt, members in by_prompt.items():
        moves = [
            (int(rows.position[row]), eps * float(rows.activation[row]) * weights[layer]["W_dec"][int(rows.feature[row])])
            for row in members
        ]
        place = site(hf.model.layers[layer])
        up, down = (_moved_margins(hf, place, prompts.prompts[prompt], moves, sign) for sign in (1.0, -1.0))
        measured += ((up - down) / (2 * eps)).tolist()
        predicted += rows.total[members].tolist()
    return np.array(measured), np.array(predicted)


@pytest.mark.parametrize("layer", LAYERS)
def test_scaling_100_features_moves_the_margin_by_star_total(
    layer: int,
    model: LanguageModel,
    result: StarResult,
    prompts: PromptSet,
    weights: dict[int, dict[str, Tensor]],
) -> None:
    measured, predicted = _finite_differences(model, result, prompts, weights, layer, lambda block: block.mlp)
    assert np.abs(measured).max() > 0.01
    np.testing.assert_allclose(measured, predicted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_wrong_hook_site_fails_the_scaling_test(
    layer: int,
    model: LanguageModel,
    result: StarResult,
    prompts: PromptSet,
    weights: dict[int, dict[str, Tensor]],
) -> None:
    wrong, predicted = _finite_differences(model, result, prompts, weights, layer, lambda block: block.post_attention_layernorm)
    assert np.abs(wrong - predicted).max() > 0.01


def _rms(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True).add(epsilon).rsqrt()


def _frozen_margin(plain: Qwen3ForCausalLM, prompt: Prompt, added: dict[int, Tensor], skips: dict[int, Tensor] | None = None) -> Tensor:
    """Margin of a hand-written Qwen3 forward with patterns, denominators and MLP outputs held, `added[l]` put on m_l (T, D).

    With `skips` (layer -> W_skip) the skip connection's part of each MLP output is live.
    """
    held: dict[str, Any] = {}
    hooks = [
        block.mlp.register_forward_hook(lambda m, i, o, k=k: held.update({f"mlp{k}": o[0]})) for k, block in enumerate(plain.model.layers)
    ]
    run = plain(torch.tensor([prompt.token_ids]), output_attentions=True, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    residual = plain.model.embed_tokens(torch.tensor(prompt.token_ids))
    clean = residual
    for k, block in enumerate(plain.model.layers):
        attention = block.self_attn
        normed = residual * _rms(clean) * block.input_layernorm.weight
        value = attention.v_proj(normed).view(len(residual), 2, 16).repeat_interleave(2, dim=1)  # (T, H, d)
        mixed = torch.einsum("hqk,khd->qhd", run.attentions[k][0], value).reshape(len(residual), -1)
        clean_value = attention.v_proj(clean * _rms(clean) * block.input_layernorm.weight)
        clean_value = clean_value.view(len(residual), 2, 16).repeat_interleave(2, dim=1)
        clean_mixed = torch.einsum("hqk,khd->qhd", run.attentions[k][0], clean_value).reshape(len(residual), -1)
        clean, residual = clean + attention.o_proj(clean_mixed), residual + attention.o_proj(mixed)
        change = torch.zeros_like(residual)
        if skips is not None:
            change = (residual - clean) * _rms(clean) * block.post_attention_layernorm.weight @ skips[k].T
        clean, residual = clean + held[f"mlp{k}"], residual + held[f"mlp{k}"] + change + added[k]
    final = residual[-1] * _rms(clean[-1]) * plain.model.norm.weight
    logits = plain.lm_head(final)
    margin: Tensor = logits[prompt.answers[0].token_id] - logits[[a.token_id for a in prompt.answers[1:]]].amax()
    return margin


def test_star_edges_equal_autograd(
    model: LanguageModel, result: StarResult, prompts: PromptSet, weights: dict[int, dict[str, Tensor]]
) -> None:
    plain, rows = plain_copy(model), result.stars
    for number in (0, 7, 15):
        prompt = prompts.prompts[number]
        leaves = {k: torch.zeros(len(prompt.token_ids), 32, dtype=torch.float64, requires_grad=True) for k in LAYERS}
        direct = torch.autograd.grad(_frozen_margin(plain, prompt, leaves), list(leaves.values()))
        hooks = [block.mlp.register_forward_hook(lambda m, i, o, leaf=leaves[k]: o + leaf) for k, block in enumerate(plain.model.layers)]
        logits = plain(torch.tensor([prompt.token_ids])).logits[0, -1]
        for hook in hooks:
            hook.remove()
        margin = logits[prompt.answers[0].token_id] - logits[[a.token_id for a in prompt.answers[1:]]].amax()
        total = torch.autograd.grad(margin, list(leaves.values()))
        for row in np.flatnonzero(rows.prompt == number):
            layer, position = int(rows.layer[row]), int(rows.position[row])
            output = float(rows.activation[row]) * weights[layer]["W_dec"][int(rows.feature[row])]
            assert rows.total[row] == pytest.approx(float(total[layer][position] @ output), rel=1e-5, abs=1e-7)
            assert rows.direct[row] == pytest.approx(float(direct[layer][position] @ output), rel=1e-5, abs=1e-7)


def test_frozen_and_live_effects_differ_below_the_last_layer_and_only_there(result: StarResult) -> None:
    early, last = (result.stars.layer == layer for layer in (0, 2))
    assert np.corrcoef(result.stars.total[early], result.stars.direct[early])[0, 1] < 0.95
    # After the last MLP only the final norm's denominator is live in one and held in the other.
    assert not np.allclose(result.stars.total[last], result.stars.direct[last])
    assert (result.stars.position > 0).all()


def test_unexplained_share_equals_brute_force(
    model: LanguageModel, result: StarResult, prompts: PromptSet, weights: dict[int, dict[str, Tensor]]
) -> None:
    plain = plain_copy(model)
    error_sum = feature_sum = 0.0
    seen: dict[str, Tensor] = {}
    for k, block in enumerate(plain.model.layers):
        block.mlp.register_forward_hook(lambda m, i, o, k=k: seen.update({f"in{k}": i[0][0], f"out{k}": o[0]}))
    for prompt in prompts.prompts:
        leaves = {k: torch.zeros(len(prompt.token_ids), 32, dtype=torch.float64, requires_grad=True) for k in LAYERS}
        gradients = torch.autograd.grad(_frozen_margin(plain, prompt, leaves), list(leaves.values()))
        plain(torch.tensor([prompt.token_ids]))
        for k in LAYERS:
            w = weights[k]
            from_features = torch.relu(seen[f"in{k}"] @ w["W_enc"].T + w["b_enc"]) @ w["W_dec"]
            error = seen[f"out{k}"] - from_features - w["b_dec"]
            error_sum += float((gradients[k] * error).sum(1)[1:].abs().sum())
            feature_sum += float((gradients[k] * from_features).sum(1)[1:].abs().sum())
    assert result.unexplained_share == pytest.approx(error_sum / (error_sum + feature_sum), rel=1e-6)


def test_virtual_weights_equal_the_matrix_product_with_norm_gains(
    model: LanguageModel, transcoders: TranscoderSet, weights: dict[int, dict[str, Tensor]]
) -> None:
    for source, target in ((0, 1), (0, 2), (1, 2)):
        gain = model.hf.model.layers[target].post_attention_layernorm.weight
        assert float((gain - 1).abs().max()) > 0.1
        expected = (weights[target]["W_enc"] * gain) @ weights[source]["W_dec"].T
        features = torch.arange(96)
        found = virtual_weights(model, transcoders, source, features, target, features)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        part = virtual_weights(model, transcoders, source, torch.tensor([5, 90]), target, torch.tensor([3]))
        torch.testing.assert_close(part, expected[[3]][:, [5, 90]], rtol=1e-10, atol=1e-12)


@pytest.fixture(scope="module")
def token_values(model: LanguageModel, prompts: PromptSet, weights: dict[int, dict[str, Tensor]]) -> dict[int, dict[int, np.ndarray]]:
    """layer -> prompt -> activations (T, F), from plain transformers; the sink's row is zero."""
    plain = plain_copy(model)
    seen: dict[int, Tensor] = {}
    for k, block in enumerate(plain.model.layers):
        block.mlp.register_forward_hook(lambda m, i, o, k=k: seen.update({k: i[0][0]}))
    found: dict[int, dict[int, np.ndarray]] = {k: {} for k in LAYERS}
    for prompt in prompts.prompts:
        plain(torch.tensor([prompt.token_ids]))
        for k in LAYERS:
            values = torch.relu(seen[k] @ weights[k]["W_enc"].T + weights[k]["b_enc"]).numpy()
            values[0] = 0
            found[k][prompt.prompt] = values
    return found


def test_tables_have_the_columns_of_the_schema(tables: dict[str, pa.Table]) -> None:
    assert set(tables) == {"graph", "node", "node_language", "edge", "edge_language", "edge_prompt"}
    for name, table in tables.items():
        schema = arrow_schema(name)
        assert set(table.schema.names) <= set(schema.names)
        table.select([n for n in schema.names if n in table.schema.names]).cast(
            pa.schema([schema.field(n) for n in schema.names if n in table.schema.names])
        )


def _feature_nodes(tables: dict[str, pa.Table]) -> dict[tuple[int, int], dict[str, Any]]:
    return {(r["layer"], r["feature"]): r for r in tables["node"].to_pylist() if r["kind"] == "feature"}


def test_nodes_count_prompts_by_language(
    tables: dict[str, pa.Table], prompts: PromptSet, token_values: dict[int, dict[int, np.ndarray]]
) -> None:
    nodes = _feature_nodes(tables)
    assert len(nodes) == 60
    by_language = {(r["node"], r["language"]): r for r in tables["node_language"].to_pylist()}
    for (layer, feature), row in nodes.items():
        peaks = {p.prompt: float(token_values[layer][p.prompt][:, feature].max()) for p in prompts.prompts}
        active = [value for value in peaks.values() if value > 0]
        assert row["n_prompts"] == len(active)
        assert row["frequency"] == pytest.approx(len(active) / 24)
        assert row["mean_activation"] == pytest.approx(np.mean(active), rel=1e-5)
        frequencies = []
        for language in ("en", "fr"):
            own = [peaks[p.prompt] for p in prompts.prompts if p.language == language]
            found = by_language[row["node"], language]
            frequencies.append(sum(v > 0 for v in own) / 12)
            assert found["n_prompts"] == sum(v > 0 for v in own)
            assert found["frequency"] == pytest.approx(frequencies[-1])
        assert row["universal"] == (min(frequencies) >= 0.95)
        assert 0 <= row["selection_frequency"] <= 1


def test_universal_features_are_kept_and_marked(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> None:
    everything = edges(model, transcoders, prompts, EdgeConfig(max_nodes=1000, universal_frequency=0.9, bootstrap=2))
    universal = [row for row in everything["node"].to_pylist() if row["universal"]]
    assert universal
    assert all(row["kept"] and row["frequency"] >= 0.9 for row in universal)


def test_nodes_are_the_most_influential_in_any_language(tables: dict[str, pa.Table], result: StarResult, prompts: PromptSet) -> None:
    totals: dict[tuple[int, int], dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for layer, feature, prompt, value in zip(
        result.stars.layer, result.stars.feature, result.stars.prompt, result.stars.total, strict=True
    ):
        totals[int(layer), int(feature)][int(prompt)] += float(value)
    influence = {}
    for name, values in totals.items():
        means = []
        for language in ("en", "fr"):
            own = [p.prompt for p in prompts.prompts if p.language == language]
            means.append(sum(abs(values.get(p, 0.0)) for p in own) / len(own))
        influence[name] = max(means)
    frequent = [
        name
        for name, values in totals.items()
        if max(sum(p.prompt in values for p in prompts.prompts if p.language == own) for own in ("en", "fr")) / 12 >= CONFIG.min_frequency
    ]
    best = sorted(frequent, key=lambda name: -influence[name])[:60]
    assert list(_feature_nodes(tables)) == best


def test_star_edges_are_means_over_the_prompts_where_the_source_is_active(
    tables: dict[str, pa.Table], result: StarResult, prompts: PromptSet
) -> None:
    nodes = {row["node"]: name for name, row in _feature_nodes(tables).items()}
    stored: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for row in tables["edge_prompt"].to_pylist():
        stored[row["kind"], row["source"]][row["prompt"]] = row["weight"]
    s = result.stars
    by_language = {(r["kind"], r["source"], r["language"]): r for r in tables["edge_language"].to_pylist() if r["kind"] != "virtual_weight"}
    for row in tables["edge"].to_pylist():
        if row["kind"] == "virtual_weight" or row["source"] not in nodes:
            continue
        layer, feature = nodes[row["source"]]
        values = s.total if row["kind"] == "star_total" else s.direct
        expected: dict[int, float] = defaultdict(float)
        for i in np.flatnonzero((s.layer == layer) & (s.feature == feature)):
            expected[int(s.prompt[i])] += float(values[i])
        assert stored[row["kind"], row["source"]] == pytest.approx(expected)
        numbers = np.array(list(expected.values()))
        assert row["weight"] == pytest.approx(numbers.mean())
        assert row["n_prompts"] == len(numbers)
        assert row["frequency"] == pytest.approx((numbers != 0).sum() / 24)
        if len(numbers) > 1:
            assert row["sd"] == pytest.approx(numbers.std(ddof=1))
        assert row["sign_stability"] == pytest.approx((np.sign(numbers) == np.sign(numbers.mean())).mean())
        for language in ("en", "fr"):
            own = [v for p, v in expected.items() if prompts.prompts[p].language == language]
            found = by_language.get((row["kind"], row["source"], language))
            assert (found is None) == (not own)
            if found is not None:
                assert found["weight"] == pytest.approx(np.mean(own))


def test_virtual_edges_hold_static_weight_and_expected_attributions(
    tables: dict[str, pa.Table],
    model: LanguageModel,
    prompts: PromptSet,
    weights: dict[int, dict[str, Tensor]],
    token_values: dict[int, dict[int, np.ndarray]],
) -> None:
    rows = [r for r in tables["edge"].to_pylist() if r["kind"] == "virtual_weight" and r["source_layer"] is not None]
    assert len(rows) == 300
    assert {(r["source_layer"], r["target_layer"]) for r in rows} == {(0, 1), (0, 2), (1, 2)}
    by_language = {
        (r["source"], r["target"], r["language"]): r["attribution"]
        for r in tables["edge_language"].to_pylist()
        if r["kind"] == "virtual_weight"
    }
    for row in rows[::7]:
        gain = model.hf.model.layers[row["target_layer"]].post_attention_layernorm.weight
        read = weights[row["target_layer"]]["W_enc"][row["target_feature"]] * gain
        v = float(read @ weights[row["source_layer"]]["W_dec"][row["source_feature"]])
        a_i, a_j = (
            {p: values[1:, feature] for p, values in token_values[layer].items()}
            for layer, feature in (
                (row["source_layer"], row["source_feature"]),
                (row["target_layer"], row["target_feature"]),
            )
        )
        i, j = (np.concatenate(list(a.values())) for a in (a_i, a_j))
        assert row["weight"] == row["static_weight"] == pytest.approx(v)
        assert row["attribution"] == pytest.approx((i * (j > 0)).mean() * v)
        assert row["target_weighted"] == pytest.approx((i * j).mean() / j.mean() * v)
        assert row["n_prompts"] == sum(bool(((a_i[p] > 0) & (a_j[p] > 0)).any()) for p in a_i)
        for language in ("en", "fr"):
            own = [p.prompt for p in prompts.prompts if p.language == language]
            i_own, j_own = (np.concatenate([a[p] for p in own]) for a in (a_i, a_j))
            found = by_language.get((row["source"], row["target"], language), 0.0)
            assert found == pytest.approx((i_own * (j_own > 0)).mean() * v)


def test_the_strongest_virtual_edges_are_kept(
    tables: dict[str, pa.Table],
    model: LanguageModel,
    transcoders: TranscoderSet,
    prompts: PromptSet,
) -> None:
    few = edges(model, transcoders, prompts, EdgeConfig(max_nodes=60, max_edges=10, bootstrap=30))

    def strength(found: dict[str, pa.Table]) -> dict[tuple[int, int], float]:
        best: dict[tuple[int, int], float] = defaultdict(float)
        features = {row["node"] for row in found["node"].to_pylist() if row["kind"] == "feature"}
        for row in found["edge_language"].to_pylist():
            if row["kind"] == "virtual_weight" and row["source"] in features:
                name = (row["source"], row["target"])
                best[name] = max(best[name], abs(row["attribution"]))
        return best

    ranked = sorted(strength(tables).items(), key=lambda item: -item[1])
    assert set(strength(few)) == {name for name, _ in ranked[:10]}
    kept = [r["selection_frequency"] for r in few["edge"].to_pylist() if r["kind"] == "virtual_weight" and r["source_layer"] is not None]
    assert 0 < min(kept) < 1


def test_input_edges_are_the_embeddings_path(
    tables: dict[str, pa.Table],
    model: LanguageModel,
    prompts: PromptSet,
    weights: dict[int, dict[str, Tensor]],
    token_values: dict[int, dict[int, np.ndarray]],
) -> None:
    roles = {row["node"]: row["role"] for row in tables["node"].to_pylist() if row["kind"] == "input"}
    assert set(roles.values()) == {"template", "content", "decision"}
    embeddings = model.hf.model.embed_tokens.weight
    rows = [r for r in tables["edge"].to_pylist() if r["kind"] == "virtual_weight" and r["source"] in roles]
    assert rows
    for row in rows[::5]:
        layer, feature = row["target_layer"], row["target_feature"]
        read = weights[layer]["W_enc"][feature] * model.hf.model.layers[layer].post_attention_layernorm.weight
        per_prompt: dict[int, float] = defaultdict(float)
        for prompt in prompts.prompts:
            for position, role in enumerate(prompt.roles):
                if role == roles[row["source"]] and token_values[layer][prompt.prompt][position, feature] > 0:
                    per_prompt[prompt.prompt] += float(embeddings[prompt.token_ids[position]] @ read)
        assert row["n_prompts"] == len(per_prompt)
        assert row["weight"] == pytest.approx(np.mean(list(per_prompt.values())))
        assert row["attribution"] == pytest.approx(sum(per_prompt.values()) / (12 * 5 + 12 * 7))


def test_positions_and_roles_divide_the_graph(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, token_values: dict[int, dict[int, np.ndarray]]
) -> None:
    config = EdgeConfig(position_rule="decision", max_nodes=1000, min_frequency=0.0, bootstrap=1)
    for row in edges(model, transcoders, prompts, config)["node"].to_pylist():
        if row["kind"] == "feature":
            values = [token_values[row["layer"]][p.prompt][-1, row["feature"]] for p in prompts.prompts]
            assert row["n_prompts"] == sum(v > 0 for v in values)
    config = EdgeConfig(by_role=True, max_nodes=80, bootstrap=1)
    found = edges(model, transcoders, prompts, config)
    nodes = {row["node"]: row for row in found["node"].to_pylist()}
    assert {row["role"] for row in nodes.values() if row["kind"] == "feature"} == {"template", "content", "decision"}
    for row in found["edge"].to_pylist():
        if row["kind"] == "virtual_weight":
            assert nodes[row["source"]]["role"] == nodes[row["target"]]["role"]


def test_equal_seeds_give_equal_tables(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, tables: dict[str, pa.Table]
) -> None:
    again = edges(model, transcoders, prompts, CONFIG, first_graph=4)
    for name in tables:
        for column in tables[name].schema.names:
            if column != "graph":
                assert again[name][column].equals(tables[name][column]), (name, column)
    assert set(again["edge"]["graph"].to_pylist()) == {4}


def test_star_totals_do_not_depend_on_batch_size(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, result: StarResult
) -> None:
    one_by_one = stars(model, transcoders, prompts.prompts, LAYERS, batch_size=1)
    np.testing.assert_allclose(one_by_one.stars.total, result.stars.total, atol=1e-10)
    np.testing.assert_allclose(one_by_one.stars.direct, result.stars.direct, atol=1e-10)


def test_bad_settings_say_what_to_do(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> None:
    with pytest.raises(InputError, match="no prompt in the splits test"):
        edges(model, transcoders, prompts, EdgeConfig(splits=("test",)))
    with pytest.raises(InputError, match="no feature of behaviour random"):
        edges(model, transcoders, prompts, EdgeConfig(min_influence=1e9))
    with pytest.raises(UsageError, match="min_frequency is 2"):
        edges(model, transcoders, prompts, EdgeConfig(min_frequency=2))


def test_a_skip_connection_stays_live_in_star_direct(model: LanguageModel, prompts: PromptSet, tmp_path: Path) -> None:
    random_transcoders(tmp_path, skip=True)
    with_skip = TranscoderSet.open(tmp_path, dtype="float64")
    with_skip.bind(model)
    rows = stars(model, with_skip, prompts.prompts[:3], LAYERS).stars
    stored = {k: {name: w.double() for name, w in load_file(tmp_path / f"layer_{k}.safetensors").items()} for k in LAYERS}
    skips = {k: stored[k]["W_skip"] for k in LAYERS}
    for number, prompt in enumerate(prompts.prompts[:3]):
        leaves = {k: torch.zeros(len(prompt.token_ids), 32, dtype=torch.float64, requires_grad=True) for k in LAYERS}
        gradients = torch.autograd.grad(_frozen_margin(plain_copy(model), prompt, leaves, skips), list(leaves.values()))
        for row in np.flatnonzero(rows.prompt == number)[::3]:
            layer = int(rows.layer[row])
            output = float(rows.activation[row]) * stored[layer]["W_dec"][int(rows.feature[row])]
            expected = float(gradients[layer][int(rows.position[row])] @ output)
            assert rows.direct[row] == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_a_cross_layer_feature_adds_up_over_the_layers_it_writes_to(model: LanguageModel, prompts: PromptSet) -> None:
    generator = torch.Generator().manual_seed(4)
    weights = {
        layer: {
            "W_enc": torch.randn(40, 32, generator=generator) / 6,
            "b_enc": torch.full((40,), -0.5),
            "b_dec": torch.zeros(32),
            "W_dec": torch.randn(40, 3 - layer, 32, generator=generator) / 6,
        }
        for layer in LAYERS
    }
    clt = TranscoderSet.from_weights(weights, config={"model_kind": "cross_layer_transcoder"}, dtype="float64")
    clt.bind(model)
    prompt, eps = prompts.prompts[1], 1e-4
    rows = stars(model, clt, [prompt], LAYERS).stars
    early = np.flatnonzero(rows.layer == 0)[::4]

    def margins(sign: float) -> Tensor:
        def hook(target: int) -> Callable[[Any, Any, Tensor], Tensor]:
            def move(_: Any, __: Any, output: Tensor) -> Tensor:
                output = output.clone()
                for copy, row in enumerate(early):
                    vector = weights[0]["W_dec"][int(rows.feature[row]), target].double()
                    output[copy, int(rows.position[row])] += sign * eps * float(rows.activation[row]) * vector
                return output

            return move

        handles = [model.hf.model.layers[k].mlp.register_forward_hook(hook(k)) for k in LAYERS]
        logits = model.hf(torch.tensor([prompt.token_ids] * len(early))).logits[:, -1]
        for handle in handles:
            handle.remove()
        found: Tensor = logits[:, prompt.answers[0].token_id] - logits[:, [a.token_id for a in prompt.answers[1:]]].amax(1)
        return found

    measured = ((margins(1.0) - margins(-1.0)) / (2 * eps)).numpy()
    np.testing.assert_allclose(measured, rows.total[early], atol=1e-6, rtol=1e-5)
    later, gain = 2, model.hf.model.layers[2].post_attention_layernorm.weight
    written = weights[0]["W_dec"][:, :2].double().sum(1)
    expected = (weights[2]["W_enc"].double() * gain) @ written.T
    features = torch.arange(40)
    torch.testing.assert_close(virtual_weights(model, clt, 0, features, later, features), expected, rtol=1e-10, atol=1e-12)
