"""Communities and supernodes on planted graphs, with networkx and hand-counted figures as the other formulation."""

from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load_file, save_file

from atlas.schema import arrow_schema
from ingest.activations import ActivationConfig, activations
from ingest.graphs.communities import (
    CommunityConfig,
    adjusted_rand_index,
    agreement_matrix,
    by_size,
    communities,
    connection_weights,
    jaccard,
    louvain_consensus,
    modularity,
    node_stability,
    shared_tokens,
)
from ingest.graphs.edges import edges
from ingest.graphs.selection import EdgeConfig
from ingest.quality import QualityConfig
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import random_model, random_prompts, random_transcoders


def _planted(sizes: tuple[int, ...], inside: float, outside: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    together = group[:, None] == group[None, :]
    weights = generator.random((len(group), len(group))) * np.where(together, inside, outside)
    weights = np.triu(weights, 1)
    return weights + weights.T, group


def test_planted_groups_are_found_and_numbered_by_size() -> None:
    weights, group = _planted((5, 12, 8), 1.0, 0.05)
    found = louvain_consensus(weights, CommunityConfig())
    assert adjusted_rand_index(found.group, group) == 1.0
    assert np.bincount(found.group).tolist() == [12, 8, 5]
    assert found.stability == pytest.approx(1.0)
    assert (found.node_stability == 1.0).all()


def test_a_graph_without_structure_is_unstable() -> None:
    weights, _ = _planted((40,), 1.0, 1.0)
    found = louvain_consensus(weights, CommunityConfig())
    assert found.stability < 0.7
    assert found.node_stability.min() < 1.0


def test_a_node_between_two_groups_is_the_unstable_one() -> None:
    weights, _ = _planted((8, 8), 1.0, 0.0)
    weights = np.pad(weights, ((0, 1), (0, 1)))
    weights[16, :16] = weights[:16, 16] = 0.5
    found = louvain_consensus(weights, CommunityConfig(n_seeds=30))
    assert found.node_stability[16] <= found.node_stability[:16].min()


def test_modularity_equals_networkx() -> None:
    weights, group = _planted((6, 9), 1.0, 0.4)
    sets = [set(np.flatnonzero(group == number).tolist()) for number in range(2)]
    for resolution in (1.0, 1.7):
        expected = nx.community.modularity(nx.from_numpy_array(weights), sets, resolution=resolution)
        assert modularity(weights, group, resolution) == pytest.approx(expected)


def test_adjusted_rand_index_equals_pair_counting() -> None:
    generator = np.random.default_rng(1)
    for _ in range(5):
        a, b = generator.integers(0, 4, (2, 30))
        pairs = [(i, j) for i in range(30) for j in range(i)]
        same_a = np.array([a[i] == a[j] for i, j in pairs])
        same_b = np.array([b[i] == b[j] for i, j in pairs])
        expected = same_a.sum() * same_b.sum() / len(pairs)
        index = ((same_a & same_b).sum() - expected) / ((same_a.sum() + same_b.sum()) / 2 - expected)
        assert adjusted_rand_index(a, b) == pytest.approx(index)
    assert adjusted_rand_index(np.array([0, 0, 1]), np.array([1, 1, 0])) == 1.0


def test_agreement_and_node_stability_are_shares_of_runs() -> None:
    runs = [np.array([0, 0, 1, 1]), np.array([1, 1, 1, 0]), np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])]
    assert agreement_matrix(runs)[2].tolist() == [0.5, 0.5, 1.0, 0.5]
    # In the second and fourth run nodes 2 and 3 part; the lower-numbered of two equal halves counts as their group.
    assert node_stability(np.array([0, 0, 1, 1]), runs).tolist() == [1.0, 1.0, 0.75, 0.75]
    assert by_size(np.array([7, 3, 3, 9])).tolist() == [1, 0, 0, 2]


def test_connections_add_up_absolute_weights_between_features_only() -> None:
    edge = pa.table({"source": [4, 4, 9, 4], "target": [9, 9, 2, 77], "attribution": pa.array([0.5, -0.25, None, 3.0], pa.float64())})
    weights = connection_weights(np.array([9, 2, 4]), edge, "attribution")
    assert weights.tolist() == [[0, 0, 0.75], [0, 0, 0], [0.75, 0, 0]]


def test_isolated_nodes_are_groups_of_their_own() -> None:
    weights, _ = _planted((5, 5), 1.0, 0.0)
    weights = np.pad(weights, ((0, 2), (0, 2)))
    found = louvain_consensus(weights, CommunityConfig())
    assert np.bincount(found.group).tolist() == [5, 5, 1, 1]
    assert np.bincount(louvain_consensus(np.zeros((3, 3)), CommunityConfig()).group).tolist() == [1, 1, 1]


def test_jaccard_of_a_draw_equals_counting_repeated_tokens() -> None:
    generator = np.random.default_rng(2)
    active = generator.random((4, 12)) < 0.4
    cluster, times = np.repeat(np.arange(4), 3), np.array([2, 0, 1, 3])
    repeated = np.repeat(active, times[cluster], axis=1)
    found = jaccard(shared_tokens(active, cluster), times.astype(float))
    for i in range(4):
        for j in range(4):
            either = (repeated[i] | repeated[j]).sum()
            assert found[i, j] == pytest.approx((repeated[i] & repeated[j]).sum() / either if either else 0.0)


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, pa.Table]]:
    """A graph in which features 0 to 3 of layer 0 are copies of feature 0: they write, fire and connect alike."""
    folder: Path = tmp_path_factory.mktemp("transcoders")
    random_transcoders(folder)
    path = folder / "layer_0.safetensors"
    tensors = load_file(path)
    for name in ("W_enc", "W_dec", "b_enc"):
        tensors[name][:4] = tensors[name][0].clone()
    tensors["b_enc"][:4] = 0.5
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    model, transcoders, prompts = random_model(), TranscoderSet.open(folder), random_prompts()
    graphs = edges(model, transcoders, prompts, EdgeConfig(max_nodes=60, bootstrap=2))
    config = ActivationConfig(quality=QualityConfig(replacement=False))
    activation = activations(model, transcoders, prompts, config)["activation"]
    found = communities(graphs, transcoders, prompts, activation, CommunityConfig(supernode_similarity=0.6))
    again = communities(graphs, transcoders, prompts, activation, CommunityConfig(supernode_similarity=0.6))
    return {"graphs": graphs, "found": found, "again": again, "plain": communities(graphs)}


def test_every_feature_node_is_in_one_community_and_one_supernode(divided: dict[str, dict[str, pa.Table]]) -> None:
    nodes = [r["node"] for r in divided["graphs"]["node"].to_pylist() if r["kind"] == "feature"]
    found = divided["found"]
    assert found["community"]["node"].to_pylist() == nodes
    assert found["supernode"]["node"].to_pylist() == nodes
    for row in found["partition"].to_pylist():
        groups = found[row["kind"]].to_pylist()
        assert row["n_groups"] == len({group[row["kind"]] for group in groups})
        assert row["partition"] == groups[0]["partition"]
        assert row["stability"] <= 1
    for name, table in found.items():
        columns = {field.name: field.type for field in arrow_schema(name) if field.name != "run_id"}
        assert {field.name: field.type for field in table.schema} == columns


def test_copies_of_a_feature_are_one_supernode(divided: dict[str, dict[str, pa.Table]]) -> None:
    features = {r["node"]: (r["layer"], r["feature"]) for r in divided["graphs"]["node"].to_pylist() if r["kind"] == "feature"}
    of = {features[row["node"]]: row for row in divided["found"]["supernode"].to_pylist()}
    copies = [of[0, number] for number in range(4) if (0, number) in of]
    assert len(copies) == 4
    assert len({row["supernode"] for row in copies}) == 1
    assert all(row["stability"] == 1.0 for row in copies)
    assert copies[0]["name"].endswith(" more")


def test_equal_seeds_give_equal_divisions(divided: dict[str, dict[str, pa.Table]]) -> None:
    for name, table in divided["found"].items():
        assert table.equals(divided["again"][name])


def test_without_transcoders_there_are_communities_only(divided: dict[str, dict[str, pa.Table]]) -> None:
    assert divided["plain"]["community"].equals(divided["found"]["community"])
    assert divided["plain"]["supernode"].num_rows == 0
