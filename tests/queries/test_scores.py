"""Scores find what was planted, their nulls hold where nothing was, and every step works on nothing, on imports and a second time."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pytest
from scipy import sparse, stats

import queries
from queries.design import ROLES, Design, Pairs, concept_shuffles, language_shuffles, read_design, read_pairs, read_roles
from queries.effects import effect_rows, read_outcomes
from queries.iou import Blocks, blocks, comparisons
from queries.scores import _dense_matches, _sparse_matches, entropy, language_profile, monolinguality, read_counts
from tests.queries import synthetic

Connection = duckdb.DuckDBPyConnection


def score(
    con: Connection, name: str, feature: int, column: str = "value", languages: str = "en+fr", parameter_set: str = "default"
) -> list[Any]:
    rows = con.execute(
        f"select {column} from feature_score where run_id = ? and score = ? and feature = ? and languages = ? and parameter_set = ? "
        "order by layer",
        [synthetic.RUN, name, feature, languages, parameter_set],
    ).fetchall()
    return [value for (value,) in rows]


def test_operators_belong_to_their_language(built: Connection) -> None:
    assert score(built, "language_profile", 8) == [-1.0] * 3
    assert score(built, "language_profile", 9) == [1.0] * 3
    for feature, language in ((8, "en"), (9, "fr")):
        assert all(q < 0.05 for q in score(built, "monolinguality", feature, "q_value", language))
        assert all(score(built, "monolinguality", feature, "flag", language))
        assert score(built, "lape", feature) == [0.0] * 3
    assert not any(score(built, "monolinguality", 8, "flag", "fr"))


def test_a_feature_that_always_fires_is_bilingual_by_rate_and_has_no_lift(built: Connection) -> None:
    assert all(score(built, "bilingual_rate", 10, "flag"))
    assert all(score(built, "bilingual_rate", 10, "flag", parameter_set="strict"))
    assert score(built, "translation_lift", 10) == [1.0] * 3
    assert score(built, "translation_lift", 10, "p_value") == [1.0] * 3
    assert [round(np.exp(value), 6) for value in score(built, "lape", 10)] == [2.0] * 3
    assert score(built, "shared_k", 10) == [2.0] * 3


def test_concept_features_have_a_lift_beyond_concepts_dealt_anew(built: Connection) -> None:
    lifts = [value for feature in range(8) for value in score(built, "translation_lift", feature) if value is not None]
    nulls = [value for feature in range(8) for value in score(built, "translation_lift", feature, "null_mean") if value is not None]
    assert len(lifts) > 10
    assert np.median(lifts) > 2 * np.median(nulls)


def test_a_template_artefact_has_no_lift_within_its_template(built: Connection) -> None:
    """It fires on one template of both languages: a lift over all prompts, none over concepts dealt anew within the template."""
    assert all(value > 2 for value in score(built, "translation_lift", 11))
    assert all(p > 0.2 for p in score(built, "translation_lift", 11, "p_value"))
    rows = queries.ask(built, "languages/template_artefacts").arrow().to_pylist()
    assert {row["feature"] for row in rows} == {11}


def test_bridges_are_those_that_were_planted(built: Connection) -> None:
    rows = queries.ask(built, "interventions/causal_bridges").arrow().to_pylist()
    assert {row["feature"] for row in rows if row["is_causal_bridge"]} == {0, 2}
    assert {row["feature"] for row in rows if row["is_bridge"]} == {0, 2}


def test_a_causal_bridge_can_rest_on_stored_control_means(spoiled: Connection) -> None:
    """One feature at a time: its mean effect minus the controls' mean; p is no smaller than the stored p against the controls."""
    own = f"run_id = '{synthetic.RUN}'"
    spoiled.execute(
        f"delete from outcome where {own} and intervention in (select intervention from intervention where control is not null and {own})"
    )
    spoiled.execute(f"delete from intervention where {own} and control is not null and rule = 'zero'")
    spoiled.execute(f"update effect set p_value = 0.01 where {own} and control = 'matched_random'")
    spoiled.execute(f"delete from feature_score where {own} and score in ('bridge', 'causal_bridge')")
    for step in queries.build_steps():
        step.run(spoiled)
    rows = queries.ask(spoiled, "interventions/causal_bridges", run=synthetic.RUN).arrow().to_pylist()
    means = dict(
        spoiled.execute(
            "select (m.layer, m.feature), max(e.mean - e.control_mean) "
            "from effect e join intervention_member m using (run_id, intervention) "
            "join intervention i using (run_id, intervention) where e.run_id = ? and i.rule = 'zero' and i.n_members = 1 "
            "and e.control = 'matched_random' and e.split = 'all' and e.language <> 'all' group by all",
            [synthetic.RUN],
        ).fetchall()
    )
    for row in rows:
        assert row["worst_beyond_control"] == pytest.approx(means[row["layer"], row["feature"]])
        assert row["p_causal"] >= 0.01
    assert {row["feature"] for row in rows if row["is_causal_bridge"]} == {0, 2}


def test_bridge_p_values_are_the_larger_of_two_one_sided_t_tests(built: Connection) -> None:
    effects = built.execute(
        "select m.layer, p.language, p.prompt, p.concept, o.effect::double from outcome o join intervention i using (run_id, intervention) "
        "join intervention_member m using (run_id, intervention) join prompt p using (run_id, prompt) "
        "where o.run_id = ? and i.rule = 'zero' and i.n_members = 1 and i.control is null and m.feature = 2 order by all",
        [synthetic.RUN],
    ).fetchall()
    for layer, found in enumerate(score(built, "bridge", 2, "p_value", parameter_set="per_prompt")):
        by_language = [[row[4] for row in effects if row[0] == layer and row[1] == language] for language in ("en", "fr")]
        assert found == pytest.approx(max(stats.ttest_1samp(values, 0, alternative="less").pvalue for values in by_language))
    for layer, found in enumerate(score(built, "bridge", 2, "p_value")):
        p_values = []
        for language in ("en", "fr"):
            mine = [row for row in effects if row[0] == layer and row[1] == language]
            means = [np.mean([row[4] for row in mine if row[3] == concept]) for concept in synthetic.CONCEPTS]
            p_values.append(stats.ttest_1samp(means, 0, alternative="less").pvalue)
        assert found == pytest.approx(max(p_values))


def test_overlap_of_translations_beats_other_concepts_and_its_null(built: Connection) -> None:
    for row in queries.ask(built, "languages/iou_by_layer", score="iou_content").arrow().to_pylist():
        assert row["same_concept"] > row["null_high"] > row["null_low"]
        assert row["other_concept"] < row["antonym_partner"] < row["same_concept"]
        assert row["p_value"] == pytest.approx(0.001)


def test_q_values_are_benjamini_hochberg_within_run_score_and_parameter_set(built: Connection) -> None:
    rows = built.execute(
        "select p_value, q_value from feature_score where run_id = ? and score = 'lape' and parameter_set = 'default' "
        "and p_value is not null",
        [synthetic.RUN],
    ).fetchall()
    p_values, q_values = np.array(rows).T
    assert np.allclose(q_values, stats.false_discovery_control(p_values))


def test_formulas_on_small_numbers() -> None:
    assert entropy(np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 0.0]])).tolist()[:2] == pytest.approx([np.log(2), 0.0])
    assert np.isnan(entropy(np.array([0.0, 0.0])))
    assert monolinguality(np.array([[3.0, 1.0, 2.0]]), 0).tolist() == [1.5]
    present = np.array([[1, 1, 0], [0, 1, 0]])
    everything = Blocks((np.arange(3),), (np.arange(3),))
    iou = everything.overlaps(sparse.csr_matrix(present)).reshape(3, 3)
    assert iou[0, 1] == 0.5
    assert iou[0, 0] == 1.0
    assert np.isnan(iou[2, 2])


@pytest.mark.parametrize("density", [0.01, 0.3])
def test_overlaps_in_blocks_are_those_of_sets(density: float) -> None:
    """Blocks of different shapes, a prompt in several, rare and frequent features."""
    rng = np.random.default_rng(5)
    present = rng.random((400, 30)) < density
    present[:5] = True
    rows = (np.array([0, 3, 7]), np.arange(10, 30), np.array([3, 4]))
    columns = (np.array([1, 2]), np.arange(10, 30), np.array([29]))
    made = Blocks(rows, columns)
    found = made.overlaps(sparse.csr_matrix(present.astype(float)))
    for block in range(3):
        for a in rows[block]:
            for b in columns[block]:
                place = made.places(np.array([block]), np.array([a]), np.array([b]))[0]
                both, either = (present[:, a] & present[:, b]).sum(), (present[:, a] | present[:, b]).sum()
                assert found[place] == both / either


@pytest.mark.parametrize("density", [0.02, 0.5])
def test_matches_under_deals_are_counted_alike_for_rare_and_frequent_features(density: float) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.random((2, 20, 50)) < density
    shuffle = np.array([rng.permutation(50) for _ in range(30)])
    expected = np.array([[(one & other[deal]).sum() for deal in shuffle] for one, other in zip(x, y, strict=True)])
    assert (_dense_matches(x, y, shuffle) == expected).all()
    assert (_sparse_matches(x, y, shuffle) == expected).all()


def test_roles_are_those_of_the_schema(built: Connection) -> None:
    (names,) = built.execute("select enum_range(null::token_role)").fetchone() or ()
    assert tuple(names) == ROLES
    roles = read_roles(built, synthetic.RUN)
    rows = built.execute(
        "select item, position, role::varchar from token where run_id = ? and source = 'prompt'", [synthetic.RUN]
    ).fetchall()
    assert rows
    assert all(ROLES[roles[item, position]] == role for item, position, role in rows)


def design(n_concepts: int, templates: int = 2, lengths: int = 1) -> tuple[Design, Pairs]:
    """A complete design of two languages."""
    rows = [(c, t, language) for c in range(n_concepts) for t in range(templates) for language in ("en", "fr")]
    concept = np.array([row[0] for row in rows])
    template = np.array([row[1] for row in rows])
    made = Design(
        prompt=np.arange(len(rows)),
        language=np.array([row[2] for row in rows]),
        concept=concept,
        cluster=concept // 2,
        setting=template,
        template=template,
        partner=concept ^ 1,
        n_tokens=5 + concept % lengths,
    )
    english = np.flatnonzero(made.language == "en")
    return made, Pairs(("en", "fr"), english, english + 1)


def test_concepts_are_dealt_within_template_and_length_and_stay_together() -> None:
    made, pairs = design(12, templates=3, lengths=2)
    shuffles = concept_shuffles(made, pairs, 50, 0)
    for shuffle in shuffles:
        assert sorted(shuffle) == list(range(len(pairs.a)))
        assert (made.template[pairs.b[shuffle]] == made.template[pairs.a]).all()
        assert (made.n_tokens[pairs.b[shuffle]] == made.n_tokens[pairs.b]).all()
        dealt = {(int(a), int(b)) for a, b in zip(made.concept[pairs.a], made.concept[pairs.b[shuffle]], strict=True)}
        assert len(dealt) == 12
    assert len({tuple(shuffle) for shuffle in shuffles}) > 40


def test_languages_are_dealt_by_cluster() -> None:
    made, _ = design(6)
    deals = language_shuffles(made, 200, 0)
    for deal in deals[:20]:
        for cluster in range(3):
            here = made.cluster == cluster
            swapped = deal[here] != (made.language[here] == "fr")
            assert swapped.all() or not swapped.any()
    assert 0.4 < np.mean([deal[0] for deal in deals]) < 0.6


def test_comparisons_leave_the_partner_out_of_other_concepts() -> None:
    made, pairs = design(6)
    found = {item.baseline: item for item in comparisons(made, pairs, *blocks(made, pairs)[1:])}
    assert len(found["same_concept"].a) == 12
    assert len(found["antonym_partner"].a) == 12
    assert len(found["other_concept"].a) == 2 * 6 * 4
    other = found["other_concept"]
    assert (made.concept[other.a] // 2 != made.concept[other.b] // 2).all()
    assert len(found["split_half"].a) == 12


def test_partners_are_found_from_operand_and_answer(built: Connection) -> None:
    made = read_design(built, synthetic.RUN)
    names = dict(zip(made.concept.tolist(), made.partner.tolist(), strict=True))
    with_partner = {concept: partner for concept, partner in names.items() if partner >= 0}
    assert len(with_partner) == 8
    assert all(with_partner[partner] == concept for concept, partner in with_partner.items())
    assert {pair.name for pair in read_pairs(built, synthetic.RUN, made)} == {"en+fr"}


def test_language_profile_needs_support(built: Connection) -> None:
    counts = read_counts(built, synthetic.RUN, 1)
    value, flag = language_profile(counts, 0, 1, 4, 1)
    assert set(np.unique(value[~np.isnan(value)])) == {-1.0, 0.0, 1.0}
    assert (flag == (value == 0)).all()


def test_lape_is_uniform_where_languages_do_not_matter() -> None:
    """Noise features of many seeds: p-values of the language null are not smaller than chance gives."""
    con = duckdb.connect(config={"threads": 1})
    synthetic.build(con, seed=7)
    rows = con.execute(
        "select p_value from feature_score where score = 'lape' and feature between 15 and 29 and parameter_set = 'default'"
    ).fetchall()
    p_values = np.array([p for (p,) in rows if p is not None])
    assert len(p_values) > 50
    assert (p_values <= 0.05).mean() < 0.12
    assert (p_values <= 0.2).mean() < 0.35


def test_controls_give_no_p_value_from_few_distinct_sets(spoiled: Connection) -> None:
    outcomes = read_outcomes(spoiled, synthetic.RUN)
    none = np.zeros(0, dtype=np.int64)
    assert {row.get("p_value") for row in effect_rows(outcomes, none)} == {None}
    spoiled.execute("update intervention set distinct_sets = 1000 where control is not null")
    p_values = [
        row.get("p_value") for row in effect_rows(read_outcomes(spoiled, synthetic.RUN), none) if row["control"] == "matched_random"
    ]
    assert min(p for p in p_values if p is not None) == pytest.approx(2 / 21)


def test_a_second_build_changes_nothing(spoiled: Connection) -> None:
    tables = ("feature_language", "feature_role", "feature_score", "layer_score", "effect", "parameter_set")
    before = [spoiled.execute(f"select count(*) from {table}").fetchall() for table in tables]
    for step in queries.build_steps():
        step.run(spoiled)
    assert [spoiled.execute(f"select count(*) from {table}").fetchall() for table in tables] == before


def test_counts_are_built_where_a_run_brought_none(spoiled: Connection) -> None:
    before = [spoiled.execute(f"select * exclude (sum_activation) from {table} order by all").fetchall() for table in COUNTED]
    for table in COUNTED:
        spoiled.execute(f"delete from {table}")
    for step in queries.build_steps():
        step.run(spoiled)
    after = [spoiled.execute(f"select * exclude (sum_activation) from {table} order by all").fetchall() for table in COUNTED]
    assert [len(rows) for rows in after] == [len(rows) for rows in before]
    assert after[1] == before[1]


COUNTED = ("feature_language", "feature_role")


def test_steps_work_on_activations_without_tokens(spoiled: Connection) -> None:
    for table in ("feature_language", "feature_role", "feature_score", "layer_score", "token", "answer"):
        spoiled.execute(f"delete from {table}")
    for step in queries.build_steps():
        step.run(spoiled)
    assert spoiled.execute("select count(*) from feature_score where score = 'lape' and p_value is not null").fetchall()[0][0] > 0
    assert spoiled.execute("select distinct baseline from layer_score").fetchall() != []
