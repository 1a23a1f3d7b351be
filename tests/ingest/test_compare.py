"""Comparing runs: itself, a permuted copy, noise, half the width, splits and merges; against brute force on random data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse

from atlas.errors import InputError, UsageError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.shards import RunWriter
from ingest.compare import CompareConfig, Related, SharedTokens, Side, Thresholds, compare, keep, nearest, nearest_sets, relate
from ingest.labels.source import LabelSource
from ingest.transcoder import TranscoderSet

EXACT = Thresholds(0.5, 0.7, 0.999)
D = 12


def units(rng: np.random.Generator, n: int) -> np.ndarray:
    made = rng.normal(size=(n, D))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


def related(a: np.ndarray, b: np.ndarray, thresholds: Thresholds = EXACT, block: int = 1 << 26) -> Related:
    return relate(nearest(torch.from_numpy(a), torch.from_numpy(b), block), thresholds)


def test_itself_is_the_identity_and_a_permuted_copy_the_permutation() -> None:
    rng = np.random.default_rng(0)
    a = units(rng, 60)
    same = related(a, a)
    assert set(same.relation) == {"identical"}
    assert same.a.tolist() == same.b.tolist() == list(range(60))
    order = rng.permutation(60)
    moved = related(a, a[order])
    assert set(moved.relation) == {"identical"}
    assert order[moved.b].tolist() == moved.a.tolist()


def test_noise_makes_matches_of_identities_and_strangers_are_gone_and_new() -> None:
    rng = np.random.default_rng(1)
    a = units(rng, 40)
    noisy = a + 0.05 * rng.normal(size=a.shape)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    found = related(a, noisy)
    assert set(found.relation) == {"matched"}
    assert found.a.tolist() == found.b.tolist()
    basis = np.eye(D)
    strangers = related(basis[:5], basis[5:9])
    assert sorted(strangers.relation) == ["gone"] * 5 + ["new"] * 4


def test_half_the_width_keeps_its_half() -> None:
    rng = np.random.default_rng(2)
    a = units(rng, 50)
    found = related(a, a[::2])
    identical = found.relation == "identical"
    assert (found.a[identical] == 2 * found.b[identical]).all()
    assert identical.sum() == 25
    rest = found.a[(found.relation != "identical") & (found.relation != "split")]
    assert sorted(rest) == list(range(1, 50, 2)), "the others stand once each, as gone, merged or weak"
    assert set(found.relation) <= {"identical", "gone", "merged", "weak"}


def test_splits_merges_and_weak_pairs_are_told_apart() -> None:
    e = np.eye(D)

    def between(x: int, y: int, cosine: float) -> np.ndarray:
        return np.asarray(cosine * e[x] + np.sqrt(1 - cosine**2) * e[y])

    a = np.stack([e[0], e[1], between(2, 3, 0.8), between(2, 4, 0.75), e[5]])
    b = np.stack([between(0, 6, 0.9), between(0, 7, 0.8), e[2], between(5, 8, 0.6), e[9]])
    found = related(a, b)
    rows = {(int(x), int(y)): str(name) for x, y, name in zip(found.a, found.b, found.relation, strict=True)}
    assert rows == {
        (0, 0): "split",
        (0, 1): "split",
        (1, -1): "gone",
        (2, 2): "merged",
        (3, 2): "merged",
        (4, 3): "weak",
        (-1, 4): "new",
    }


@pytest.mark.parametrize("seed", range(6))
def test_relations_are_those_of_the_definitions_on_random_dictionaries(seed: int) -> None:
    """Every feature is in a row; each relation holds by brute force; blocks do not matter."""
    rng = np.random.default_rng(seed)
    a = units(rng, int(rng.integers(1, 40)))
    b = np.concatenate(
        [units(rng, int(rng.integers(0, 30))), a[rng.random(len(a)) < 0.3], a[:3] + 0.1 * rng.normal(size=(min(3, len(a)), D))]
    )
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    found = related(a, b)
    blocked = related(a, b, block=7)
    assert [found.a.tolist(), found.b.tolist(), found.relation.tolist()] == [
        blocked.a.tolist(),
        blocked.b.tolist(),
        blocked.relation.tolist(),
    ]
    cosine = a @ b.T
    to_b, to_a = cosine.argmax(axis=1), cosine.argmax(axis=0)
    near_a, near_b = cosine.max(axis=1) >= 0.5, cosine.max(axis=0) >= 0.5
    assert set(found.a) - {-1} == set(range(len(a)))
    assert set(found.b) - {-1} == set(range(len(b)))
    assert len({(x, y) for x, y in zip(found.a, found.b, strict=True)}) == len(found.a)
    for x, y, relation, similarity in zip(found.a, found.b, found.relation, found.similarity, strict=True):
        if relation in ("gone", "new"):
            assert np.isnan(similarity)
            assert not (near_a[x] if relation == "gone" else near_b[y])
            continue
        assert similarity == pytest.approx(min(cosine[x, y], 1.0))
        mutual = to_b[x] == y and to_a[y] == x
        n_split = sum(near_b[other] and to_a[other] == x for other in range(len(b)))
        n_merged = sum(near_a[other] and to_b[other] == y for other in range(len(a)))
        if mutual and similarity >= 0.999:
            expected = "identical"
        elif n_split >= 2 and to_a[y] == x:
            expected = "split"
        elif n_merged >= 2 and to_b[x] == y:
            expected = "merged"
        else:
            expected = "matched" if mutual and similarity >= 0.7 else "weak"
        assert relation == expected


@pytest.mark.parametrize("seed", range(4))
def test_nearest_sets_are_those_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.uniform(0.5, 2, (17, 40)) * (rng.random((17, 40)) < 0.3)
    b = np.concatenate([a[::-1], rng.uniform(0.5, 2, (9, 40)) * (rng.random((9, 40)) < 0.3), 2 * a[:2]])
    found = nearest_sets(sparse.csr_matrix(a), sparse.csr_matrix(b), block=5)
    jaccard = np.array([[((x > 0) & (y > 0)).sum() / max(((x > 0) | (y > 0)).sum(), 1) for y in b] for x in a])
    assert found.value_a == pytest.approx(jaccard.max(axis=1))
    assert found.value_b == pytest.approx(jaccard.max(axis=0))
    assert found.index_a[:17].tolist() == list(range(16, -1, -1)), "of equal sets the one with equal activations"
    assert found.index_b[:17].tolist() == list(range(16, -1, -1))


class World:
    """An atlas with a run over the embedded dictionary, and one over a permuted copy of it."""

    def __init__(self, folder: Path) -> None:
        from ingest.sources import resolve_source

        embedded = resolve_source("embedded:bilingual", "transcoders").path
        self.order = np.random.default_rng(3).permutation(512)
        permuted = folder / "permuted"
        shutil.copytree(embedded, permuted)
        for path in permuted.glob("layer_*.safetensors"):
            weights = load_file(path)
            moved = {
                name: value[torch.from_numpy(self.order)].contiguous() if value.shape[0] == 512 else value
                for name, value in weights.items()
            }
            save_file(moved, path)
        rng = np.random.default_rng(4)
        rows = [
            (feature, prompt, position) for feature in range(512) for prompt in range(30) for position in range(5) if rng.random() < 0.04
        ]
        values = rng.uniform(0.5, 2, len(rows))
        inverse = np.argsort(self.order)
        self.first = self._side(folder / "a.atlas", embedded, rows, values, np.arange(512), 0)
        self.second = self._side(folder / "b.atlas", permuted, rows, values, inverse, 7)

    def _side(self, folder: Path, dictionary: Path, rows: list[tuple[int, int, int]], values: Any, place: np.ndarray, shift: int) -> Side:
        """Write a run in which feature f of the original stands at place[f], and prompt p has number p + shift."""
        activation = [
            {"layer": 0, "feature": int(place[f]), "prompt": p + shift, "position": t, "activation": float(v)}
            for (f, p, t), v in zip(rows, values, strict=True)
        ]
        counts = np.bincount([row["feature"] for row in activation if row["position"]], minlength=512)
        feature = [{"layer": 0, "feature": f, "n_active": int(counts[f])} for f in range(512)]
        about = {"behaviour": "b", "language": "en", "concept": "c", "template": "t", "split": "train", "text": "t", "n_tokens": 5}
        prompt = [{**about, "prompt": p + shift, "prompt_hash": f"{p:016d}"} for p in range(30)]
        store = Atlas.create(folder)
        tables = {"activation": activation, "feature": feature, "prompt": prompt}
        with RunWriter(store, {"side": shift}, run_id({"side": shift})) as writer:
            writer.commit("all", {name: pa.Table.from_pylist(some) for name, some in tables.items()})
            writer.finish({"kind": "ingest", "name": "side", "transcoder_set": dictionary.name}, shards=["all"])
        return Side(LabelSource.open(store, None), TranscoderSet.open(dictionary))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    torch.set_num_threads(1)
    return World(tmp_path_factory.mktemp("compare"))


def test_a_run_beside_itself_is_the_identity_by_both_measures(world: World) -> None:
    found = compare(world.first, world.first).to_pylist()
    assert {row["relation"] for row in found} == {"identical"}
    assert all(row["feature_a"] == row["feature_b"] and row["cosine"] > 0.999 and row["jaccard"] == 1.0 for row in found)
    assert {row["measure"] for row in found} == {"decoder", "coactivation"}


def test_a_permuted_copy_of_the_dictionary_gives_the_permutation_by_both_measures(world: World) -> None:
    found = compare(world.first, world.second, CompareConfig(max_elements=4096)).to_pylist()
    assert {row["relation"] for row in found} == {"identical"}
    for row in found:
        assert world.order[row["feature_b"]] == row["feature_a"]
    fired = {row["feature_a"] for row in found if row["measure"] == "decoder"}
    table = world.first.source.features
    weights = torch.linalg.vector_norm(world.first.transcoders.decoder_rows(0, torch.arange(512)), dim=1)  # type: ignore[union-attr]
    expected = {row["feature"] for row in table.to_pylist() if row["n_active"] > 0 and float(weights[row["feature"]]) > 0}
    assert fired == expected


def test_without_a_dictionary_features_are_matched_by_where_they_fire(world: World) -> None:
    found = compare(Side(world.first.source, None), world.second).to_pylist()
    assert {row["measure"] for row in found} == {"coactivation"}
    assert all(row["cosine"] is None for row in found)


def test_runs_with_nothing_in_common_are_refused(world: World) -> None:
    nothing = CompareConfig(coactivation=None)
    with pytest.raises(UsageError, match="cannot be compared"):
        compare(Side(world.first.source, None), world.second, nothing)
    with pytest.raises(UsageError, match="no layer in common"):
        compare(world.first, world.second, CompareConfig(layers=(5,)))


def test_a_dictionary_that_is_not_the_runs_is_named(world: World) -> None:
    feature = world.first.source.features
    wide = LabelSource(world.first.source.atlas, world.first.source.run)
    more = pa.Table.from_pylist([{"layer": 0, "feature": 900, "n_active": 1}], schema=feature.schema)
    wide.features = pa.concat_tables([feature, more])
    with pytest.raises(InputError, match=r"has 512 features in layer 0, run .* feature 900"):
        compare(Side(wide, world.first.transcoders), world.second)


def test_texts_are_the_same_where_hash_and_length_are(world: World) -> None:
    shared = SharedTokens.of(world.first.source, world.second.source)
    assert shared is not None
    assert shared.n_texts == 30
    assert all(shared.number[0][prompt] == shared.number[1][prompt + 7] for prompt in range(30))


def test_a_comparison_can_be_kept_and_is_the_same_again(world: World) -> None:
    found = compare(world.first, world.second)
    store = world.first.source.atlas
    first = keep(store, found, world.first, world.second, CompareConfig())
    assert keep(store, found, world.first, world.second, CompareConfig()) == first
    kept = LabelSource.open(store, first)
    assert kept.table("feature_match").num_rows == found.num_rows
    assert kept.run.row["kind"] == "compare"
