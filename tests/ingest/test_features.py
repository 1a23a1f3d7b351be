"""Feature cards against plain matrix products."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from atlas.schema import arrow_schema
from ingest.activations import ActivationConfig, activations
from ingest.features import FeatureConfig, features
from ingest.model import LanguageModel
from ingest.quality import QualityConfig
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import random_model, random_prompts, random_transcoders

LAYERS = (0, 1, 2)
CONFIG = FeatureConfig(n_tokens=4, n_neighbours=5, span=1)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return random_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transcoders")
    random_transcoders(path, bias=-2.2)
    return path


@pytest.fixture(scope="module")
def weights(folder: Path) -> dict[int, dict[str, Tensor]]:
    return {layer: load_file(folder / f"layer_{layer}.safetensors") for layer in LAYERS}


@pytest.fixture(scope="module")
def measured(model: LanguageModel, folder: Path) -> dict[str, pa.Table]:
    config = ActivationConfig(quality=QualityConfig(replacement=False))
    return activations(model, TranscoderSet.open(folder), random_prompts(), config)


@pytest.fixture(scope="module")
def cards(model: LanguageModel, folder: Path, measured: dict[str, pa.Table]) -> dict[str, pa.Table]:
    return features(model, TranscoderSet.open(folder), measured, CONFIG)


def test_measured_columns_stay_and_the_schema_fits(cards: dict[str, pa.Table], measured: dict[str, pa.Table]) -> None:
    for name in measured["feature"].schema.names:
        assert cards["feature"][name].equals(measured["feature"][name])
    for name, table in cards.items():
        schema = arrow_schema(name)
        assert set(schema.names) - {"run_id"} == set(table.schema.names)
        for field in table.schema:
            assert field.type == schema.field(field.name).type


def test_promoted_tokens_go_through_the_final_gain(
    cards: dict[str, pa.Table], model: LanguageModel, weights: dict[int, dict[str, Tensor]]
) -> None:
    gain, unembedding = model.hf.model.norm.weight, model.hf.lm_head.weight
    assert float((gain - 1).abs().max()) > 0.1
    dead = 0
    for row in cards["feature"].to_pylist():
        if row["n_active"] == 0:
            assert row["promoted_tokens"] is row["suppressed_weights"] is row["promoted_token_ids"] is None
            dead += 1
            continue
        logits = unembedding @ (gain * weights[row["layer"]]["W_dec"][row["feature"]])
        order = logits.argsort(descending=True)
        assert row["promoted_token_ids"] == order[:4].tolist()
        assert row["suppressed_token_ids"] == order.flip(0)[:4].tolist()
        assert row["promoted_tokens"] == [f"<{token}>" for token in row["promoted_token_ids"]]
        assert row["promoted_weights"] == pytest.approx(logits[order[:4]].tolist(), abs=1e-5)
        assert row["suppressed_weights"] == pytest.approx(logits[order.flip(0)[:4]].tolist(), abs=1e-5)
    assert 0 < dead < 288


def test_norms_of_every_feature(cards: dict[str, pa.Table], weights: dict[int, dict[str, Tensor]]) -> None:
    for row in cards["feature"].to_pylist()[::9]:
        own = weights[row["layer"]]
        assert row["encoder_norm"] == pytest.approx(float(own["W_enc"][row["feature"]].norm()), rel=1e-5)
        assert row["decoder_norm"] == pytest.approx(float(own["W_dec"][row["feature"]].norm()), rel=1e-5)


def _neighbours(cards: dict[str, pa.Table], kind: str) -> dict[tuple[int, int], list[dict[str, Any]]]:
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in cards["neighbour"].to_pylist():
        if row["kind"] == kind:
            found[row["layer"], row["feature"]].append(row)
    return found


@pytest.mark.parametrize("max_elements", [1 << 26, 64], ids=["one block", "a row a block"])
def test_decoder_neighbours_are_the_largest_cosines_of_near_layers(
    max_elements: int,
    model: LanguageModel,
    folder: Path,
    measured: dict[str, pa.Table],
    weights: dict[int, dict[str, Tensor]],
) -> None:
    config = FeatureConfig(n_tokens=4, n_neighbours=5, span=1, max_elements=max_elements)
    found = _neighbours(features(model, TranscoderSet.open(folder), measured, config), "decoder_cosine")
    alive = [(r["layer"], r["feature"]) for r in measured["feature"].to_pylist() if r["n_active"]]
    unit = {name: weights[name[0]]["W_dec"][name[1]].double() for name in alive}
    unit = {name: vector / vector.norm() for name, vector in unit.items()}
    assert set(found) == set(alive)
    for name in alive[::11]:
        cosines = {o: float(unit[name] @ unit[o]) for o in alive if o != name and abs(o[0] - name[0]) <= 1}
        best = sorted(cosines, key=lambda other: -cosines[other])[:5]
        rows = found[name]
        assert [(r["neighbour_layer"], r["neighbour_feature"]) for r in rows] == best
        assert [r["rank"] for r in rows] == list(range(5))
        assert [r["similarity"] for r in rows] == pytest.approx([cosines[other] for other in best], abs=1e-5)


def test_coactivation_neighbours_have_the_largest_jaccard(cards: dict[str, pa.Table], measured: dict[str, pa.Table]) -> None:
    tokens: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
    for row in measured["activation"].to_pylist():
        if row["position"] > 0:
            tokens[row["layer"], row["feature"]].add((row["prompt"], row["position"]))
    frequent = {name: own for name, own in tokens.items() if len(own) >= 3}
    found = _neighbours(cards, "coactivation")
    assert set(found) <= set(frequent)
    for name in sorted(frequent)[::5]:
        values = {
            other: len(frequent[name] & own) / len(frequent[name] | own)
            for other, own in frequent.items()
            if other != name and frequent[name] & own
        }
        best = sorted(values.values(), reverse=True)[:5]
        assert [row["similarity"] for row in found[name]] == pytest.approx(best, abs=1e-6)
        for row in found[name]:
            assert row["similarity"] == pytest.approx(values[row["neighbour_layer"], row["neighbour_feature"]], abs=1e-6)


def test_coactivation_is_counted_on_a_sample_of_tokens(model: LanguageModel, folder: Path, measured: dict[str, pa.Table]) -> None:
    few = features(model, TranscoderSet.open(folder), measured, FeatureConfig(max_coactivation_tokens=20))
    kinds = np.array(few["neighbour"]["kind"].to_pylist())
    assert (kinds == "coactivation").any()
    assert torch.tensor(few["neighbour"]["similarity"].to_pylist()).max() <= 1 + 1e-6
