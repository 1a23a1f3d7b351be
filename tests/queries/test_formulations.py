"""Headline answers once more, without SQL: polars, numpy, networkx and plain Python on random atlases."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

import queries
from queries.aggregates import write_counts, write_verdicts
from queries.effects import write_effects
from queries.iou import write_layer_scores
from queries.loader import read_sql
from tests.queries import synthetic
from tests.queries.random_atlas import RUN, World, insert, world

Row = dict[str, Any]
EXAMPLES = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module")
def schema() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty atlas."""
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute(synthetic.SCHEMA.read_text(encoding="utf-8"))
        con.execute(read_sql("build", "parameter_set"))
        yield con


@contextmanager
def filled(con: duckdb.DuckDBPyConnection, seed: int) -> Iterator[tuple[World, Callable[..., list[Row]]]]:
    """Put a random world into the atlas for one example."""
    drawn = world(seed)
    con.execute("begin transaction")
    try:
        insert(con, drawn)
        for stem in ("feature_language", "feature_role"):
            con.execute(read_sql("build", stem))
        write_counts(con)
        write_verdicts(con)
        yield drawn, lambda name, **given: queries.ask(con, name, run=RUN, **given).arrow().to_pylist()
    finally:
        con.execute("rollback")


def wilson(k: int, n: int) -> tuple[float, float]:
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def prompts_active(drawn: World, layer: int, feature: int, language: str) -> set[int]:
    mine = drawn.active().filter((pl.col("layer") == layer) & (pl.col("feature") == feature) & (pl.col("language") == language))
    return set(mine["prompt"].to_list())


def n_prompts(drawn: World, language: str) -> int:
    return len(drawn.prompt.filter(pl.col("language") == language))


@EXAMPLES
@given(seed=SEEDS, rate=st.sampled_from([0.0, 0.1, 0.4]))
def test_bilingual_features(schema: duckdb.DuckDBPyConnection, seed: int, rate: float) -> None:
    with filled(schema, seed) as (drawn, ask):
        found = {(row["layer"], row["feature"]): row["lowest"] for row in ask("languages/bilingual_features", rate=rate)}
        expected = {}
        for layer, feature in itertools.product(range(2), range(6)):
            active = [len(prompts_active(drawn, layer, feature, language)) for language in ("en", "fr")]
            lows = [wilson(k, n_prompts(drawn, language))[0] for k, language in zip(active, ("en", "fr"), strict=True)]
            if min(lows) >= rate and min(active) > 0:
                expected[layer, feature] = min(lows)
        assert found == pytest.approx(expected, abs=1e-6)


@EXAMPLES
@given(seed=SEEDS)
def test_language_profile(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        found = {(row["layer"], row["profile"]): row["n_features"] for row in ask("languages/language_profile", leaning=2, other=0)}
        expected: dict[tuple[int, str], int] = defaultdict(int)
        for layer, feature in itertools.product(range(2), range(6)):
            en, fr = (len(prompts_active(drawn, layer, feature, language)) for language in ("en", "fr"))
            if en + fr == 0:
                continue
            profile = "insufficient"
            if en >= 2 and fr >= 2:
                profile = "balanced"
            elif en >= 2 and fr == 0:
                profile = "en_leaning"
            elif fr >= 2 and en == 0:
                profile = "fr_leaning"
            expected[layer, profile] += 1
            expected[-1, profile] += 1
        assert found == expected


@EXAMPLES
@given(seed=SEEDS)
def test_l0(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        found = {(row["layer"], row["language"], row["role"]): row["l0"] for row in ask("features/l0")}
        tokens = drawn.token.join(drawn.prompt.select(pl.col("prompt").alias("item"), "language"), on="item").filter(
            pl.col("role") != "sink"
        )
        active = drawn.active()
        expected = {}
        for key, group in active.group_by("layer", "language", "role"):
            there = tokens.filter((pl.col("language") == key[1]) & (pl.col("role") == key[2]))
            expected[key] = len(group) / len(there)
        for layer, language in active.select("layer").unique().join(tokens.select("language").unique(), how="cross").iter_rows():
            n = len(active.filter((pl.col("layer") == layer) & (pl.col("language") == language)))
            expected[layer, language, "all"] = n / len(tokens.filter(pl.col("language") == language))
        assert found == pytest.approx(expected)


@EXAMPLES
@given(seed=SEEDS)
def test_right_from_wrong(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        found = {(row["layer"], row["feature"]): row["auc"] for row in ask("features/right_from_wrong", support=1)}
        right = drawn.baseline.filter("correct")["prompt"].to_list()
        wrong = drawn.baseline.filter(~pl.col("correct"))["prompt"].to_list()
        expected = {}
        for key, group in drawn.active().group_by("layer", "feature"):
            strongest = dict(group.group_by("prompt").agg(pl.col("activation").max()).iter_rows())
            pairs = [(strongest.get(a, 0.0), strongest.get(b, 0.0)) for a in right for b in wrong]
            if pairs:
                expected[key] = float(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))
        assert found == pytest.approx(expected)


@EXAMPLES
@given(seed=SEEDS)
def test_top_prompts_and_features_of_a_prompt(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        active = drawn.active()
        mine = active.filter((pl.col("layer") == 1) & (pl.col("feature") == 2))
        expected = (
            mine.group_by("prompt").agg(pl.col("activation").max(), pl.len()).sort(["activation", "prompt"], descending=[True, False])
        )
        found = [(row["prompt"], row["activation"], row["n_positions"]) for row in ask("features/top_prompts", layer=1, feature=2, top=500)]
        assert found == [(p, pytest.approx(a), n) for p, a, n in expected.iter_rows()]
        here = active.filter(pl.col("prompt") == 0).group_by("layer", "feature").agg(pl.col("activation").max())
        of_prompt = {(row["layer"], row["feature"]): row["activation"] for row in ask("features/of_prompt", prompt=0)}
        assert of_prompt == pytest.approx({(layer, feature): value for layer, feature, value in here.iter_rows()})


@EXAMPLES
@given(seed=SEEDS)
def test_coactive_features(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        places: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
        for row in drawn.active().iter_rows(named=True):
            places[row["layer"], row["feature"]].add((row["prompt"], row["position"]))
        mine = places[0, 1]
        expected = {key: len(mine & other) / len(mine | other) for key, other in places.items() if key != (0, 1) and mine & other}
        found = ask("features/coactive", layer=0, feature=1)
        assert {(row["other_layer"], row["other_feature"]): row["jaccard"] for row in found} == pytest.approx(expected)


@EXAMPLES
@given(seed=SEEDS)
def test_concept_specific_features(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        concept = dict(drawn.prompt.select("prompt", "concept").iter_rows())
        expected = {}
        for layer, feature in itertools.product(range(2), range(6)):
            best = {}
            for language in ("en", "fr"):
                active = prompts_active(drawn, layer, feature, language)
                counts = {name: sum(concept[p] == name for p in active) for name in sorted({concept[p] for p in active})}
                passing = {name: n / len(active) for name, n in counts.items() if n / len(active) >= 0.5 and n >= 1}
                if passing:
                    best[language] = max(passing.items(), key=lambda item: item[1])
            if len(best) == 2 and best["en"][0] == best["fr"][0]:
                expected[layer, feature] = (best["en"][0], best["en"][1], best["fr"][1])
        found = ask("languages/concept_specific", purity=0.5, support=1)
        assert {(row["layer"], row["feature"]): (row["cluster"], row["purity_a"], row["purity_b"]) for row in found} == expected


@EXAMPLES
@given(seed=SEEDS)
def test_components(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        graph = nx.Graph()
        causal = drawn.edge.filter((pl.col("kind") == "causal") & pl.col("accepted"))
        graph.add_edges_from(causal.select("source", "target").iter_rows())
        expected = {min(nodes): (len(nodes), graph.subgraph(nodes).number_of_edges()) for nodes in nx.connected_components(graph)}
        found = {row["component"]: (row["n_nodes"], row["n_edges"]) for row in ask("graphs/components")}
        assert found == expected


@EXAMPLES
@given(seed=SEEDS)
def test_longest_chains(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        graph = nx.DiGraph()
        causal = drawn.edge.filter((pl.col("kind") == "causal") & pl.col("accepted"))
        graph.add_edges_from(causal.select("source", "target").iter_rows())
        label = dict(drawn.node.select("label", "node").iter_rows())
        depth: dict[int, int] = {}
        for node in nx.topological_sort(graph):
            depth[node] = max((depth[before] + 1 for before in graph.predecessors(node)), default=0)
        found = ask("graphs/longest_chains")
        assert {row["node"]: row["n_edges"] for row in found} == {node: n for node, n in depth.items() if n}
        for row in found:
            nodes = [label[name] for name in row["chain"].split(" > ")]
            assert len(nodes) == row["n_edges"] + 1
            assert nodes[-1] == row["node"]
            assert all(graph.has_edge(a, b) for a, b in itertools.pairwise(nodes))


@EXAMPLES
@given(seed=SEEDS)
def test_size_by_top_k(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        causal = {
            (a, b): abs(w)
            for a, b, w in drawn.edge.filter((pl.col("kind") == "causal") & pl.col("accepted"))
            .select("source", "target", "weight")
            .iter_rows()
        }
        star = {a: abs(w) for a, w in drawn.edge.filter(pl.col("kind") == "star_total").select("source", "weight").iter_rows()}
        chains = []
        nodes = sorted({node for pair in causal for node in pair})
        for length in (2, 3, 4):
            for chain in itertools.permutations(nodes, length):
                if all(pair in causal for pair in itertools.pairwise(chain)) and chain[0] in star and chain[-1] in star:
                    score = star[chain[0]] * np.prod([causal[pair] for pair in itertools.pairwise(chain)]) * star[chain[-1]]
                    chains.append((float(score), chain))
        chains.sort(reverse=True)
        for row in ask("graphs/size_by_top_k", step=3, top=9):
            taken = chains[: row["k"]]
            assert row["n_all"] == len(chains)
            assert row["n_features"] == len({node for _, chain in taken for node in chain})
            assert row["n_edges"] == len({pair for _, chain in taken for pair in itertools.pairwise(chain)})
            assert row["weakest_score"] == pytest.approx(taken[-1][0])


@EXAMPLES
@given(seed=SEEDS)
def test_communities(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        counts = {(node, language): n for node, language, n in drawn.node_language.select("node", "language", "n_prompts").iter_rows()}
        expected: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for node, community in drawn.community.select("node", "community").iter_rows():
            en, fr = counts.get((node, "en"), 0), counts.get((node, "fr"), 0)
            kind = 0 if en >= 4 and fr >= 4 else 1 if en >= 4 and fr <= 1 else 2 if fr >= 4 and en <= 1 else 3
            expected[community][kind] += 1
        found = ask("languages/communities")
        names = ("n_balanced", "n_leaning_a", "n_leaning_b", "n_insufficient")
        assert {row["community"]: [row[name] for name in names] for row in found} == expected


@EXAMPLES
@given(seed=SEEDS)
def test_variance_shares(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        effects = (
            drawn.outcome.join(drawn.intervention, on="intervention")
            .filter(pl.col("control").is_null())
            .join(drawn.member, on="intervention")
        )
        total = float(((effects["effect"] - effects["effect"].mean()) ** 2).sum())

        def between(*by: str) -> float:
            means = effects.with_columns(pl.col("effect").mean().over(by).alias("group_mean"))["group_mean"]
            return float(((means - effects["effect"].mean()) ** 2).sum()) / total

        found = {row["part"]: row["share"] for row in ask("interventions/variance_shares")}
        assert found["layer"] == pytest.approx(between("layer"), abs=1e-9)
        assert found["prompt"] == pytest.approx(between("prompt"), abs=1e-9)
        assert found["prompt_and_layer"] == pytest.approx(between("prompt", "layer"), abs=1e-9)
        assert found["feature_within_cell"] == pytest.approx(1 - between("prompt", "layer"), abs=1e-9)


@EXAMPLES
@given(seed=SEEDS)
def test_effects_with_interval_and_controls(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        write_effects(schema)
        outcome = drawn.outcome.join(drawn.prompt.select("prompt", "language", "concept"), on="prompt")
        subjects = drawn.intervention.filter(pl.col("control").is_null())["intervention"].to_list()
        found = {(row["intervention"], row["language"]): row for row in ask("interventions/effects")}
        for subject, language in itertools.product(subjects, ("all", "en", "fr")):
            here = outcome if language == "all" else outcome.filter(pl.col("language") == language)
            mine = here.filter(pl.col("intervention") == subject)
            row = found[subject, language]
            assert row["mean"] == pytest.approx(mine["effect"].mean(), abs=1e-9)
            low, high = _cluster_t(mine["effect"].to_numpy(), mine["concept"].to_list())
            if low is not None:
                assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), abs=1e-9)
            controls = drawn.intervention.filter(pl.col("control_of") == subject)["intervention"].to_list()
            draws = [
                here.filter((pl.col("intervention") == control) & pl.col("prompt").is_in(mine["prompt"].to_list()))["effect"].mean()
                for control in controls
            ]
            draws = [draw for draw in draws if draw is not None]
            assert row["control_mean"] == pytest.approx(np.mean(draws), abs=1e-9)
            smaller = min(sum(draw <= row["mean"] for draw in draws), sum(draw >= row["mean"] for draw in draws))
            assert row["p_value"] == pytest.approx(min(1.0, 2 * (1 + smaller) / (1 + len(draws))))


def _cluster_t(values: np.ndarray[Any, Any], clusters: list[str]) -> tuple[float | None, float | None]:
    """Cluster t of the mean over rows, residuals summed by cluster, G - 1 degrees of freedom; nothing below 3 clusters."""
    names = sorted(set(clusters))
    if len(names) < 3:
        return None, None
    residual = values - values.mean()
    sums = np.array([residual[[cluster == name for cluster in clusters]].sum() for name in names])
    error = np.sqrt(len(names) / (len(names) - 1) * (sums**2).sum()) / len(values)
    half = stats.t.ppf(0.975, len(names) - 1) * error
    return float(values.mean() - half), float(values.mean() + half)


@EXAMPLES
@given(seed=SEEDS)
def test_overlap_of_translations(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        write_layer_scores(schema)
        sets: dict[tuple[int, int], set[int]] = defaultdict(set)
        for row in drawn.active().iter_rows(named=True):
            sets[row["layer"], row["prompt"]].add(row["feature"])
        prompts = drawn.prompt.select("prompt", "language", "concept", "template").rows(named=True)
        english = [row for row in prompts if row["language"] == "en"]
        french = [row for row in prompts if row["language"] == "fr"]
        for row in ask("languages/iou_by_layer"):
            layer = row["layer"]

            def overlap(a: Row, b: Row, layer: int = layer) -> float | None:
                one, other = sets[layer, a["prompt"]], sets[layer, b["prompt"]]
                return len(one & other) / len(one | other) if one | other else None

            same = [overlap(a, b) for a in english for b in french if (a["concept"], a["template"]) == (b["concept"], b["template"])]
            paired_en = [a for a in english if any((a["concept"], a["template"]) == (b["concept"], b["template"]) for b in french)]
            paired_fr = [b for b in french if any((a["concept"], a["template"]) == (b["concept"], b["template"]) for a in english)]
            other = [overlap(a, b) for a in paired_en for b in paired_fr if a["template"] == b["template"] and a["concept"] != b["concept"]]
            halves = [
                overlap(a, b)
                for a, b in itertools.combinations(prompts, 2)
                if a["language"] == b["language"] and a["concept"] == b["concept"] and a["template"] != b["template"]
            ]
            for name, values in (("same_concept", same), ("other_concept", other), ("split_half", halves)):
                known = [value for value in values if value is not None]
                assert row[name] == (pytest.approx(np.mean(known)) if known else None)


@EXAMPLES
@given(seed=SEEDS)
def test_baseline(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        scored = drawn.baseline.join(drawn.prompt, on="prompt")
        for row in ask("behaviours/baseline"):
            mine = scored
            for name in ("language", "split"):
                if row[name] != "all":
                    mine = mine.filter(pl.col(name) == row[name])
            assert (row["n_prompts"], row["n_correct"]) == (len(mine), int(mine["correct"].sum()))
            assert (row["low"], row["high"]) == pytest.approx(wilson(row["n_correct"], row["n_prompts"]), abs=1e-5)
            assert row["mean_margin"] == pytest.approx(mine["margin"].mean(), abs=1e-6)
