"""Circuits: exact paths, replacement against brute force, discovery on a model whose circuit is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import count

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from atlas.errors import InputError, UsageError
from atlas.schema import arrow_schema
from ingest.causal_edges import CausalConfig, causal_edges, causal_tables
from ingest.circuit.discovery import greedy, pruned, stratified_rankings
from ingest.circuit.evaluate import evaluate_circuits, universe_of
from ingest.circuit.metrics import Curve, curves, faithfulness_values, ratio, sizes_of
from ingest.circuit.paths import top_chains
from ingest.circuit.replacement import ERROR_MODES, REFERENCES, Replacement, counterfactuals
from ingest.circuits import CircuitConfig, circuits
from ingest.graphs.edges import edges as build_edges
from ingest.graphs.selection import EdgeConfig
from ingest.intervene.activity import activity
from ingest.intervene.battery import InterventionConfig, Scene, make_scene
from ingest.intervene.engine import Engine
from ingest.prompts import PromptSet
from tests.ingest.planted import PLANTED, planted_engine, planted_prompts
from tests.ingest.random_world import random_model, random_prompts, random_transcoders

SMALL = CircuitConfig(
    reference="zero", random_circuits=20, circuit_prompts=16, target=0.9, interventions=InterventionConfig(control_draws=20)
)


# ---- paths ------------------------------------------------------------------------------------------------------


def brute_force_chains(edges: Sequence[tuple[int, int, float]]) -> list[tuple[float, tuple[int, ...]]]:
    total: dict[int, float] = {}
    for _, target, weight in edges:
        total[target] = total.get(target, 0.0) + abs(weight)
    targets = {target for _, target, _ in edges}
    found: list[tuple[float, tuple[int, ...]]] = []

    def walk(node: int, nodes: tuple[int, ...], score: float) -> None:
        following = [(t, w) for s, t, w in edges if s == node]
        if not following:
            found.append((score, nodes))
        for target, weight in following:
            walk(target, (*nodes, target), score * abs(weight) / total[target])

    for start in {source for source, _, _ in edges} - targets:
        walk(start, (start,), 1.0)
    return sorted(found, key=lambda item: (-item[0], item[1]))


@pytest.mark.parametrize("seed", range(12))
def test_exact_paths_equal_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    layer = {node: float(generator.integers(5)) for node in range(14)}
    edges = [(a, b, float(generator.normal())) for a in range(14) for b in range(14) if layer[a] < layer[b] and generator.random() < 0.5]
    expected = brute_force_chains(edges)
    for k in (1, 5, 10_000):
        got = top_chains(edges, layer, k)
        assert [chain.score for chain in got] == pytest.approx([score for score, _ in expected[:k]])
        assert len({chain.nodes for chain in got}) == len(got)
    assert {chain.nodes for chain in top_chains(edges, layer, 10_000)} == {nodes for _, nodes in expected}
    for chain in top_chains(edges, layer, 5):
        assert chain.score == pytest.approx(np.prod(chain.shares))


def test_paths_refuse_what_is_no_layered_graph() -> None:
    with pytest.raises(InputError, match="does not go to a later layer"):
        top_chains([(0, 1, 1.0)], {0: 1.0, 1: 1.0}, 3)
    with pytest.raises(InputError, match="stands twice"):
        top_chains([(0, 1, 1.0), (0, 1, 2.0)], {0: 0.0, 1: 1.0}, 3)
    with pytest.raises(UsageError, match="0 chains"):
        top_chains([], {}, 0)
    assert top_chains([], {}, 3) == []


# ---- replacement ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    transcoders = random_transcoders(tmp_path_factory.mktemp("transcoders"), skip=True)
    return Engine(random_model(), transcoders, random_prompts(n_concepts=5, lengths=(6, 8)).prompts)


def by_hand(engine: Engine, place: int, members: set[tuple[int, int]], reference: str, error: str, complement: bool) -> float:
    """The margin of a circuit on one prompt, dense, one position at a time."""
    model, transcoders = engine.model, engine.transcoders
    prompt = engine.prompts[place]
    tokens = torch.tensor([prompt.token_ids])
    clean = model.capture(tokens)

    def role(p: int, position: int) -> int:
        item = engine.prompts[p]
        return 2 if position == item.decision_position else 1 if position in item.content_positions else 0

    collected: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for p, item in enumerate(engine.prompts):
        captured = model.capture(torch.tensor([item.token_ids]))
        for layer in transcoders.layers:
            for position in range(1, len(item.token_ids)):
                x, m = captured.mlp_in[layer][0, position], captured.mlp_out[layer][0, position]
                a = transcoders.encode(layer, x)
                collected.setdefault((layer, role(p, position)), []).append((a, m - transcoders.decode(layer, a, x)))
    partner = int(counterfactuals(engine, np.array([place]))[0])
    other = model.capture(torch.tensor([engine.prompts[partner].token_ids])) if partner >= 0 else None

    def edit(layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        out = mlp_out.clone()
        for position in range(1, len(prompt.token_ids)):
            x = mlp_in[0, position]
            live = transcoders.encode(layer, x)
            if reference == "zero":
                fixed = torch.zeros_like(live)
            elif reference == "mean":
                fixed = torch.stack([a for a, _ in collected[layer, role(place, position)]]).mean(0)
            else:
                assert other is not None
                fixed = transcoders.encode(layer, other.mlp_in[layer][0, position])
            own = torch.tensor([((layer, f) in members) != complement for f in range(len(live))])
            x_clean = clean.mlp_in[layer][0, position]
            wrong = {
                "clean": lambda layer=layer, position=position, x_clean=x_clean: (
                    clean.mlp_out[layer][0, position] - transcoders.decode(layer, transcoders.encode(layer, x_clean), x_clean)
                ),
                "live": lambda position=position, live=live, x=x: mlp_out[0, position] - transcoders.decode(layer, live, x),
                "mean": lambda position=position: torch.stack([e for _, e in collected[layer, role(place, position)]]).mean(0),
            }[error]()
            out[0, position] = wrong + transcoders.decode(layer, torch.where(own, live, fixed), x)
        return out

    final = model.capture(tokens, edit=edit).final[:, -1]
    return float(engine.margins(model.logits(final), np.array([place]))[0])


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("error", ERROR_MODES)
@pytest.mark.parametrize("complement", [False, True])
def test_circuit_margins_equal_a_dense_computation(engine: Engine, reference: str, error: str, complement: bool) -> None:
    members = {(layer, feature) for layer in range(3) for feature in range(0, 96, 3 + layer)}
    everyone = np.arange(len(engine.prompts))
    replacement = Replacement(engine, everyone, reference=reference, error=error)  # type: ignore[arg-type]
    got = replacement.margins([frozenset(members), frozenset()], complement=complement)
    for column in (0, 3):
        place = int(replacement.prompts[column])
        assert got[0, column] == pytest.approx(by_hand(engine, place, members, reference, error, complement), abs=2e-4)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("error", ERROR_MODES)
def test_everything_is_one_and_nothing_is_zero(engine: Engine, reference: str, error: str) -> None:
    replacement = Replacement(engine, np.arange(len(engine.prompts)), reference=reference, error=error)  # type: ignore[arg-type]
    empty, whole = replacement.empty(), replacement.whole()
    every = frozenset((layer, f) for layer in range(3) for f in range(96))
    values = faithfulness_values(replacement.margins([every, frozenset()]), empty, whole)
    assert values == pytest.approx([1.0, 0.0], abs=1e-3)
    assert faithfulness_values(replacement.margins([every], complement=True), empty, whole) == pytest.approx([0.0], abs=1e-3)
    if error != "mean":
        clean = [float(engine.margins(engine.model.logits(engine.model.capture(torch.tensor([engine.prompts[p].token_ids])).final[:, -1]),
                                      np.array([p]))[0]) for p in replacement.prompts.tolist()]  # fmt: skip
        assert whole == pytest.approx(np.array(clean), abs=1e-3)


def test_circuits_in_one_batch_equal_circuits_alone(engine: Engine) -> None:
    replacement = Replacement(engine, np.arange(len(engine.prompts)))
    generator = np.random.default_rng(0)
    sets = [frozenset((int(generator.integers(3)), int(generator.integers(96))) for _ in range(20)) for _ in range(6)]
    together = replacement.margins(sets)
    alone = np.concatenate([replacement.margins([members], rows_at_once=7) for members in sets])
    assert together == pytest.approx(alone, abs=1e-4)


def test_circuits_do_not_depend_on_padding_or_threads(engine: Engine) -> None:
    """Prompts of 6 and 8 tokens: together the short ones are padded, alone they are not."""
    members = [frozenset((layer, feature) for layer in range(3) for feature in range(0, 96, 4)), frozenset({(0, 1), (2, 5)})]
    everyone = np.arange(len(engine.prompts))
    short = np.array([p for p in everyone if len(engine.prompts[p].token_ids) == min(engine.lengths)])
    assert 0 < len(short) < len(everyone)
    for complement in (False, True):
        together = Replacement(engine, everyone).margins(members, complement=complement)
        alone = Replacement(engine, short, reference_prompts=everyone).margins(members, complement=complement)
        assert together[:, short] == pytest.approx(alone, abs=1e-4)
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert Replacement(engine, everyone).margins(members, complement=complement) == pytest.approx(together, abs=1e-4)
        finally:
            torch.set_num_threads(threads)


def test_bad_circuits_are_named(engine: Engine) -> None:
    replacement = Replacement(engine, np.arange(4), layers=(0, 1))
    with pytest.raises(UsageError, match="layer 2, whose MLP is not replaced"):
        replacement.margins([frozenset({(2, 0)})])
    with pytest.raises(UsageError, match="no feature 96"):
        replacement.margins([frozenset({(1, 96)})])
    with pytest.raises(UsageError, match="Unknown reference"):
        Replacement(engine, np.arange(4), reference="median")  # type: ignore[arg-type]


# ---- figures ----------------------------------------------------------------------------------------------------


def test_ratio_is_null_where_the_denominator_may_be_zero() -> None:
    generator = np.random.default_rng(1)
    clusters = [f"c{i % 8}" for i in range(40)]
    empty, noise = np.zeros(40), generator.normal(size=40)
    assert ratio(noise, empty, noise, clusters).value is None
    whole = 5 + 0.1 * noise
    half = ratio(whole / 2, empty, whole, clusters)
    assert half.value == pytest.approx(0.5)
    assert half.low == pytest.approx(0.5, abs=1e-6)
    noisy = ratio(whole / 2 + noise, empty, whole, clusters)
    assert noisy.low is not None and noisy.high is not None and noisy.low < noisy.value < noisy.high  # type: ignore[operator]  # noqa: PT018


def test_cpr_and_cmd_of_known_curves() -> None:
    perfect = Curve((0.0, 0.5, 1.0), (1.0, 1.0, 1.0))
    assert (perfect.cpr, perfect.cmd) == (1.0, 0.0)
    straight = Curve((0.0, 0.25, 1.0), (0.0, 0.25, 1.0))
    assert (straight.cpr, straight.cmd) == pytest.approx((0.5, 0.5))
    assert sizes_of((0.001, 0.5, 0.999), 100) == [1, 50, 99]


def test_stratified_rankings_keep_layer_and_decile_at_each_place() -> None:
    generator = np.random.default_rng(2)
    features = [(int(generator.integers(3)), f) for f in range(200)]
    frequency = {feature: float(generator.random()) for feature in features}
    edges = np.sort(list(frequency.values()))
    for ranking in stratified_rankings(frequency, features, 5, seed=0):
        assert sorted(ranking) == sorted(features)
        assert ranking != features
        for given, drawn in zip(features, ranking, strict=True):
            assert given[0] == drawn[0]
            ranks = [np.searchsorted(edges, frequency[f], side="right") / 200 for f in (given, drawn)]
            assert abs(ranks[0] - ranks[1]) <= 0.1001


# ---- a model whose circuit is known -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    engine = planted_engine(tmp_path_factory.mktemp("planted"))
    return make_scene(engine, activity(engine), InterventionConfig(), "all", count())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    engine = planted_engine(tmp_path_factory.mktemp("bare"), with_circuit=False)
    return make_scene(engine, activity(engine), InterventionConfig(), "all", count())


def precision_and_recall(found: Iterable[tuple[int, int]]) -> tuple[float, float]:
    """Share of what was found that was planted, and share of what was planted that was found."""
    right = set(found) & set(PLANTED)
    return len(right) / len(set(found)), len(right) / len(PLANTED)


def test_discovery_recovers_the_planted_circuit(planted: Scene) -> None:
    replacement = Replacement(planted.engine, planted.train, reference="zero")
    empty, whole = replacement.empty(), replacement.whole()
    ranking = universe_of(planted, planted.train).ranking("attribution")
    found, value = pruned(replacement, ranking, 0.9, empty, whole)
    assert value >= 0.9
    assert precision_and_recall(found) == (1.0, 1.0)
    small, small_value = greedy(replacement, frozenset(ranking[:30]), 0.9, empty, whole)
    assert precision_and_recall(ranking[:30]) == (0.1, 1.0)
    assert precision_and_recall(small) == (1.0, 1.0)
    assert small_value >= 0.9


def test_figures_of_the_planted_circuit_beat_its_random_circuits(planted: Scene) -> None:
    config = dataclasses.replace(SMALL, random_circuits=100)
    figures = evaluate_circuits(planted, config)
    found = {item.name: item for item in figures.circuits}
    assert set(found["greedy"].members) == set(PLANTED)
    wanted = {"of": "greedy", "language": "all", "reference": "zero", "error_mode": "clean"}
    greedy_rows = [row for row in figures.rows if all(row.get(key) == value for key, value in wanted.items())]
    rows = {row["property"]: row for row in greedy_rows if row.get("x") is None}
    assert rows["faithfulness"]["value"] == pytest.approx(1.0, abs=0.1)
    assert rows["completeness"]["value"] == pytest.approx(0.0, abs=0.1)
    assert rows["necessity"]["value"] == pytest.approx(1.0, abs=0.1)
    assert rows["sufficiency_linear"]["value"] == pytest.approx(1.0, abs=0.1)
    assert rows["faithfulness"]["p_value"] <= 0.02
    assert rows["faithfulness"]["control_mean"] < 0.3
    curve = {row["property"]: row for row in figures.rows if row.get("of") == "ranking by attribution" and row.get("x") is None}
    assert curve["cpr"]["value"] > curve["cpr"]["control_high"]
    assert curve["cmd"]["value"] < curve["cmd"]["control_low"]
    for name, end in (("faithfulness", 1.0), ("completeness", 0.0)):
        points = [row for row in figures.rows if row.get("of") == "ranking by attribution" and row["property"] == name]
        points = [row for row in points if row.get("x") is not None]
        assert points[0]["value"] == 1 - end
        enough = [row for row in points if row["x"] * 120 >= 2.5]  # the three planted features are among the first
        assert [row["value"] for row in enough] == pytest.approx([end] * len(enough), abs=0.1)
        # At three features; a random order has the planted feature in its own place one time in four (its stratum holds four).
        assert abs(enough[0]["value"] - enough[0]["control_mean"]) > 0.2
        assert enough[0]["n_controls"] == 100


def test_discovery_reads_train_prompts_alone(planted: Scene) -> None:
    """Held-out prompts that ask for the contrast instead change no circuit, and every figure is of held-out prompts."""
    figures = evaluate_circuits(planted, SMALL)
    assert {row["split"] for row in figures.rows} == {"held_out"}
    turned = []
    for prompt in planted.engine.prompts:
        correct, contrast, *rest = prompt.answers
        swapped = (dataclasses.replace(contrast, role="correct"), dataclasses.replace(correct, role="contrast"), *rest)
        turned.append(prompt if prompt.split == "train" else dataclasses.replace(prompt, answers=swapped))
    engine = Engine(planted.engine.model, planted.engine.transcoders, turned)
    other = evaluate_circuits(make_scene(engine, activity(engine), InterventionConfig(), "all", count()), SMALL)
    assert [(item.name, item.members, item.order) for item in other.circuits] == [
        (item.name, item.members, item.order) for item in figures.circuits
    ]


def test_a_model_without_the_circuit_gives_none(bare: Scene) -> None:
    figures = evaluate_circuits(bare, SMALL)
    assert figures.circuits == ()
    assert "no circuit" in figures.rows[0]["note"]


def test_causal_edges_recover_the_planted_chain(planted: Scene) -> None:
    generator = np.random.default_rng(0)
    noise = [
        (int(layer), int(feature)) for layer in range(3) for feature in generator.choice([f for f in range(40) if f not in (3, 7, 11)], 6)
    ]
    features = sorted({*PLANTED, *noise})
    pairs = [(s, t) for s in features for t in [*(f for f in features if f[0] > s[0]), None]]
    got = causal_edges(planted.engine, planted.clean, pairs, planted.train, CausalConfig(tau=0.0))
    true = {(PLANTED[0], PLANTED[1]), (PLANTED[1], PLANTED[2]), (PLANTED[0], PLANTED[2]), *((feature, None) for feature in PLANTED)}
    accepted = {pair for pair, yes in zip(got.pairs, got.accepted, strict=True) if yes}
    assert true <= accepted  # recall 1
    mean = dict(zip(got.pairs, got.mean.tolist(), strict=True))
    assert all(mean[pair] > 0 for pair in true)
    # A noise feature moves the planted ones through the norm's denominator alone: far less than the chain does.
    strongest = sorted((pair for pair in got.pairs if pair[1] in {PLANTED[1], PLANTED[2], None}), key=lambda pair: -abs(mean[pair]))
    assert set(strongest[: len(true)]) == true  # precision 1 among edges into the chain


def test_causal_edges_of_a_model_without_the_chain(bare: Scene) -> None:
    pairs = [(PLANTED[0], PLANTED[1]), (PLANTED[1], PLANTED[2]), (PLANTED[0], PLANTED[2]), (PLANTED[2], None)]
    got = causal_edges(bare.engine, bare.clean, pairs, bare.train)
    assert not got.accepted.any()
    assert np.abs(got.mean).max() < 1e-5


def test_causal_weights_equal_a_hand_written_ablation(engine: Engine) -> None:
    clean = activity(engine)
    at = int(np.flatnonzero((clean.layer == 0) & clean.at_decision())[0])
    source, target = (0, int(clean.feature[at])), (2, 5)
    everyone = np.arange(len(engine.prompts))
    got = causal_edges(engine, clean, [(source, target), (source, None)], everyone)
    for place, prompt in enumerate(engine.prompts):

        def ablate(layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
            if layer != 0:
                return mlp_out
            active = engine.transcoders.encode(0, mlp_in)[..., source[1]].clone()
            active[:, 0] = 0
            return mlp_out - active[..., None] * engine.transcoders.decoder(0)[source[1]]

        tokens = torch.tensor([prompt.token_ids])
        values = [
            engine.transcoders.encode(2, c.mlp_in[2][0, -1])[5]
            for c in (engine.model.capture(tokens), engine.model.capture(tokens, edit=ablate))
        ]
        assert got.weights[0, place] == pytest.approx(float(values[0] - values[1]), abs=1e-4)
        assert got.active[0, place] == bool(
            (clean.values(np.zeros(8, int), np.full(8, place), np.arange(8), np.full(8, source[1])) > 0).any()
        )


def test_causal_tables_keep_rejected_edges_and_every_prompt(planted: Scene) -> None:
    pairs = [(PLANTED[0], PLANTED[1]), ((0, 5), PLANTED[1]), (PLANTED[2], None)]
    got = causal_edges(planted.engine, planted.clean, pairs, planted.train)
    tables = causal_tables(planted.engine, got, 4, {PLANTED[0]: 0, PLANTED[1]: 1, PLANTED[2]: 2, (0, 5): 3}, 9)
    for name, rows in tables.items():
        assert rows.schema.equals(arrow_schema(name))
    edges = pl.DataFrame(pl.from_arrow(tables["edge"]))
    assert edges["target"].to_list() == [1, 1, 9]
    assert tables["edge_prompt"].num_rows == 3 * len(planted.train)
    prompts = pl.DataFrame(pl.from_arrow(tables["edge_prompt"])).filter(pl.col("conditional"))
    means = prompts.group_by("source", "target").agg(pl.col("weight").mean())
    for source, target, weight in edges.select("source", "target", "weight").iter_rows():
        stored = means.filter((pl.col("source") == source) & (pl.col("target") == target))["weight"]
        assert weight == pytest.approx(stored.item() if len(stored) else 0.0, abs=1e-6)


def test_bad_candidates_are_named(planted: Scene) -> None:
    with pytest.raises(UsageError, match="not in a later layer"):
        causal_edges(planted.engine, planted.clean, [((1, 0), (1, 2))], planted.train)
    with pytest.raises(InputError, match="no candidate"):
        causal_edges(planted.engine, planted.clean, [], planted.train)
    with pytest.raises(InputError, match="concepts are too few for a test of causal edges"):
        causal_edges(planted.engine, planted.clean, [(PLANTED[0], PLANTED[1])], planted.train[:2])
    with pytest.raises(UsageError, match="target faithfulness is 1"):
        pruned(Replacement(planted.engine, planted.train), [PLANTED[0]], 1.5, np.zeros(1), np.ones(1))


def test_curves_begin_at_zero_and_end_at_one(planted: Scene) -> None:
    replacement = Replacement(planted.engine, planted.train, reference="zero")
    ranking = universe_of(planted, planted.train).ranking("attribution")
    (curve,) = curves(replacement, [ranking], (0.1, 0.5), replacement.empty(), replacement.whole())
    assert curve.values[0] == 0.0
    assert curve.values[-1] == 1.0
    assert curve.values[1] == pytest.approx(1.0, abs=0.1)
    (without,) = curves(replacement, [ranking], (0.1, 0.5), replacement.empty(), replacement.whole(), complement=True)
    assert (without.values[0], without.values[-1]) == (1.0, 0.0)
    assert without.values[1] == pytest.approx(0.0, abs=0.1)


# ---- the stage --------------------------------------------------------------------------------------------------


def test_the_stage_writes_rows_of_the_schema(planted: Scene) -> None:
    prompts, pairs = planted_prompts()
    made = PromptSet((), tuple(prompts), tuple(pairs))
    graphs = build_edges(planted.engine.model, planted.engine.transcoders, made, EdgeConfig(max_nodes=20))
    tables: dict[str, pa.Table] = circuits(planted.engine.model, planted.engine.transcoders, made, graphs, SMALL)
    assert set(tables) == {"edge", "edge_language", "edge_prompt", "path", "circuit", "circuit_member", "evaluation"}
    for name, rows in tables.items():
        assert rows.schema.equals(arrow_schema(name)), name
        assert rows.num_rows > 0, name
    found = pl.DataFrame(pl.from_arrow(tables["circuit"]))
    members = pl.DataFrame(pl.from_arrow(tables["circuit_member"]))
    counts = members.filter(pl.col("kind") == "feature").group_by("circuit").len()
    joined = found.join(counts, on="circuit", how="left")
    assert (joined["n_features"] == joined["len"].fill_null(0)).all()
    evaluation = pl.DataFrame(pl.from_arrow(tables["evaluation"]))
    assert evaluation["evaluation"].is_unique().all()
    assert evaluation.filter(pl.col("subject") == "type")["computation_type"].n_unique() == 4
    assert set(evaluation["circuit"].drop_nulls()) <= set(found["circuit"])
    causal = pl.DataFrame(pl.from_arrow(tables["path"])).filter(pl.col("kind") == "causal")
    assert causal.height > 0
    assert causal["score"].is_sorted(descending=True)


def test_the_stage_needs_a_graph(planted: Scene) -> None:
    prompts, pairs = planted_prompts()
    made = PromptSet((), tuple(prompts), tuple(pairs))
    empty = {name: arrow_schema(name).empty_table() for name in ("graph", "node", "edge")}
    with pytest.raises(InputError, match="no graph over a prompt set"):
        circuits(planted.engine.model, planted.engine.transcoders, made, empty, SMALL)
