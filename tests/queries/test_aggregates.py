"""Questions over aggregates answer as plain Python does from the raw rows; the ranks behind right and wrong hold against all pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import queries
from queries.aggregates import ConceptSpread, separation, write_counts
from queries.design import ROLES, Fired, seen
from tests.queries import synthetic
from tests.queries.random_atlas import RUN, World, insert, world

Row = dict[str, Any]
Feature = tuple[int, int]
EXAMPLES = settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module")
def schema() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty atlas."""
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute(synthetic.SCHEMA.read_text(encoding="utf-8"))
        yield con


@contextmanager
def filled(con: duckdb.DuckDBPyConnection, seed: int, *, paired: bool = False) -> Iterator[tuple[World, Callable[..., list[Row]]]]:
    """Put a random world into the atlas for one example; `paired`: every two neighbours are a minimal pair of a gate."""
    drawn = world(seed)
    con.execute("begin transaction")
    try:
        insert(con, drawn)
        if paired:
            con.execute("update prompt set variant = if(prompt % 2 = 0, 'allow', 'refuse')")
            con.execute(
                "insert into prompt_pair by name select run_id, prompt // 2 as pair, 'minimal' as kind, prompt as prompt_a,"
                " prompt + 1 as prompt_b from prompt where prompt % 2 = 0 and prompt + 1 in (select prompt from prompt)"
            )
        write_counts(con)
        yield drawn, lambda name, **given: queries.ask(con, name, run=RUN, **given).arrow().to_pylist()
    finally:
        con.execute("rollback")


def prompts_of(drawn: World) -> dict[Feature, set[int]]:
    """Return the prompts on which each feature is active, sinks left out."""
    found: dict[Feature, set[int]] = defaultdict(set)
    for row in drawn.active().iter_rows(named=True):
        found[row["layer"], row["feature"]].add(row["prompt"])
    return found


@EXAMPLES
@given(seed=SEEDS)
def test_template_artefacts(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        about = {row["prompt"]: row for row in drawn.prompt.iter_rows(named=True)}
        expected = {}
        for key, prompts in prompts_of(drawn).items():
            spoken = Counter(about[p]["language"] for p in prompts)
            templates = Counter(about[p]["template"] for p in prompts)
            first = min(templates, key=lambda name: (-templates[name], name))
            if spoken["en"] >= 2 and spoken["fr"] >= 2 and templates[first] / len(prompts) >= 0.4:
                concepts = len({about[p]["concept"] for p in prompts})
                expected[key] = (first, templates[first] / len(prompts), spoken["en"], spoken["fr"], concepts)
        rows = ask("languages/template_artefacts", share=0.4, support=2)
        found = {
            (row["layer"], row["feature"]): (row["template"], row["share"], row["n_active_a"], row["n_active_b"], row["n_concepts"])
            for row in rows
        }
        assert found == expected
        turned = ask("languages/template_artefacts", share=0.4, support=2, language_a="fr", language_b="en")
        assert {(row["layer"], row["feature"]): (row["n_active_b"], row["n_active_a"]) for row in turned} == {
            key: value[2:4] for key, value in expected.items()
        }


@EXAMPLES
@given(seed=SEEDS)
def test_features_of_a_concept_at_a_role(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed) as (drawn, ask):
        concept = dict(drawn.prompt.filter(drawn.prompt["language"] == "en").select("prompt", "concept").iter_rows())
        inside: Counter[Feature] = Counter()
        outside: Counter[Feature] = Counter()
        at_content = drawn.active().filter((drawn.active()["role"] == "content") & (drawn.active()["language"] == "en"))
        for layer, feature, prompt in at_content.select("layer", "feature", "prompt").unique().iter_rows():
            (inside if concept[prompt] == "c0" else outside)[layer, feature] += 1
        rows = ask("features/of_concept", concept="c0", role="content", language="en", top=1000)
        found = {(row["layer"], row["feature"]): (row["n_in"], row["n_out"]) for row in rows}
        assert found == {key: (n, outside[key]) for key, n in inside.items()}


@EXAMPLES
@given(seed=SEEDS)
def test_minimal_pairs(schema: duckdb.DuckDBPyConnection, seed: int) -> None:
    with filled(schema, seed, paired=True) as (drawn, ask):
        pairs = [(p, p + 1) for p in range(0, len(drawn.prompt) - 1, 2)]
        concept = dict(drawn.prompt.select("prompt", "concept").iter_rows())
        expected = {}
        for key, prompts in prompts_of(drawn).items():
            for variant, side in (("allow", 0), ("refuse", 1)):
                here = [pair for pair in pairs if pair[side] in prompts]
                alone = [pair for pair in here if pair[1 - side] not in prompts]
                if here:
                    expected[(*key, variant)] = (len(alone), len(here) - len(alone), len({concept[pair[side]] for pair in alone}))
        rows = ask("behaviours/minimal_pairs", least=0.0, top=1000)
        found = {(row["layer"], row["feature"], row["variant"]): (row["n_only_here"], row["n_both"], row["n_concepts"]) for row in rows}
        assert found == expected
        assert {row["n_pairs"] for row in rows} <= {len(pairs)}


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    right = np.arange(n) < rng.integers(1, n)
    value = rng.choice([0.0, 0.0, 0.5, 1.0, 2.0], (4, n))  # 0: silent
    feature, prompt = np.nonzero(value)
    order = np.lexsort((value[feature, prompt], feature))
    feature, prompt = feature[order], prompt[order]
    if not len(feature):
        return
    found = separation(feature, value[feature, prompt], right[prompt], int(right.sum()), int((~right).sum()))
    for at, number in enumerate(found["feature"].astype(int).tolist()):
        mine = value[number]
        pairs = [(a > b) + 0.5 * (a == b) for a in mine[right] for b in mine[~right]]
        assert found["auc"][at] == pytest.approx(np.mean(pairs))


def test_concepts_are_counted_once_a_feature() -> None:
    feature = np.array([3, 3, 3, 5, 9, 9])
    concept = np.array([0, 0, 2, 2, 1, 2])
    kind = np.array([0, 1, 1, 0, 2, 1])
    spread = ConceptSpread(feature, concept, kind)
    assert spread.count(np.arange(3)).tolist() == [2, 1, 2]
    assert spread.count(np.array([1])).tolist() == [2, 1]
    assert spread.count(np.array([0, 2])).tolist() == [1, 1, 1]


def test_a_prompt_is_seen_once_with_all_its_roles() -> None:
    sink, content, decision = (ROLES.index(name) for name in ("sink", "content", "decision"))
    fired = Fired(
        feature=np.array([2, 2, 2, 2, 7], dtype=np.int32),
        prompt=np.array([0, 0, 0, 4, 4], dtype=np.int32),
        role=np.array([content, decision, content, decision, -1], dtype=np.int8),
        activation=np.array([1, 3, 2, 5, 0.5], dtype=np.float32),
    )
    rows = seen(fired)
    assert sink == 0
    assert [column.tolist() for column in (rows.feature, rows.prompt, rows.activation)] == [[2, 2, 7], [0, 4, 4], [3.0, 5.0, 0.5]]
    assert rows.roles.tolist() == [1 << content | 1 << decision, 1 << decision, 0]


def test_a_second_publish_adds_nothing(built: duckdb.DuckDBPyConnection) -> None:
    """A step that finds its runs counted leaves them as they are: an incremental publish carries them over."""
    tables = ("feature_behaviour", "feature_cluster", "feature_template", "feature_contrast", "feature_correctness", "feature_verdict")
    before = [built.execute(f"select count(*) from {table}").fetchall() for table in tables]
    built.execute("begin transaction")
    for step in queries.build_steps():
        if step.name in ("raw_counts", "verdicts"):
            step.run(built)
    after = [built.execute(f"select count(*) from {table}").fetchall() for table in tables]
    built.execute("rollback")
    assert after == before
    assert all(rows != [(0,)] for rows in before)
