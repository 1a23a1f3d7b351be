"""Every golden value of the thesis data's NUMBERS.md, by SQL over the imported tables."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

Connection = duckdb.DuckDBPyConnection


def ask(thesis: Connection, sql: str, run: str = "b1_v1") -> list[tuple[Any, ...]]:
    """Run a query in which `$run` stands for the run's id."""
    (identity,) = thesis.execute("select run_id from run_ids where name = ?", [run]).fetchone() or ("",)
    return thesis.execute(sql, {"run": identity}).fetchall()


def test_nodes_and_edges_of_the_graph(thesis: Connection) -> None:
    kinds = ask(thesis, "select kind::varchar, count(*) from edge where run_id = $run group by kind order by kind")
    assert kinds == [("star_total", 276), ("virtual_weight", 575), ("causal", 98)]
    stars = """
        select n.role::varchar, e.target_kind::varchar, count(*)
        from edge e join node n on n.run_id = e.run_id and n.graph = e.graph
             and n.node = case when e.target_kind = 'output' then e.source else e.target end
        where e.run_id = $run and e.kind = 'star_total' group by all order by all
    """
    by_end = {row[:2]: row[2] for row in ask(thesis, stars)}
    assert by_end[("content", "feature")] == 3
    assert ("content", "output") not in by_end
    assert sum(n for (_, end), n in by_end.items() if end == "feature") == 94
    assert sum(n for (_, end), n in by_end.items() if end == "output") == 91 + 91
    roles = ask(thesis, "select role::varchar, count(*) from node where run_id = $run and kind = 'feature' group by role")
    assert dict(roles) == {"decision": 84, None: 7, "content": 3}


def test_output_edges_mirror_each_other_and_the_input_edge_repeats_them(thesis: Connection) -> None:
    sql = """
        with star as (select e.*, s.label as source_label, t.label as target_label
                      from edge e join node s on (s.run_id, s.graph, s.node) = (e.run_id, e.graph, e.source)
                                  join node t on (t.run_id, t.graph, t.node) = (e.run_id, e.graph, e.target)
                      where e.run_id = $run and e.kind = 'star_total')
        select count(*), max(abs(c.weight + i.weight)), max(abs(c.weight - x.weight))
        from star c join star i on i.source = c.source and i.target_label = 'output_incorrect'
                    join star x on x.target = c.source and x.source_label = 'input'
        where c.target_label = 'output_correct'
    """
    assert ask(thesis, sql) == [(91, 0.0, 0.0)]


def test_nodes_by_layer(thesis: Connection) -> None:
    rows = ask(thesis, "select layer, count(*) from node where run_id = $run and kind = 'feature' group by layer order by layer")
    assert rows == list(zip(range(10, 26), [8, 6, 6, 3, 2, 1, 1, 1, 1, 5, 9, 2, 6, 10, 16, 17], strict=True))


def test_language_profile_by_counts_equals_the_published_label(thesis: Connection) -> None:
    by_counts = """
        with counts as (select graph, node, max(n_prompts) filter (language = 'en') as en, max(n_prompts) filter (language = 'fr') as fr
                        from node_language where run_id = $run group by all)
        select case when en >= 4 and fr >= 4 then 'balanced' when en >= 4 and fr <= 1 then 'en_leaning'
                    when fr >= 4 and en <= 1 then 'fr_leaning' else 'insufficient_data' end as profile, count(*)
        from counts group by all
    """
    expected = {"fr_leaning": 44, "balanced": 43, "en_leaning": 5, "insufficient_data": 2}
    assert dict(ask(thesis, by_counts)) == expected
    by_label = """
        select replace(l.text, 'language profile: ', ''), count(distinct (l.layer, l.feature)) from label l
        join feature_score s on (s.layer, s.feature) = (l.layer, l.feature) and s.run_id = $run and s.score = 'language_profile'
        where l.created_at > '2026-03-10' group by all
    """
    assert dict(ask(thesis, by_label)) == expected


def test_communities(thesis: Connection) -> None:
    sql = "select community, count(*) from community where run_id = $run group by all order by all"
    assert [n for _, n in ask(thesis, sql)] == [19, 15, 5, 1, 9, 4, 24, 1, 1, 15]


def test_communities_of_mc_separate_by_language_and_those_of_b1_do_not(thesis: Connection) -> None:
    sql = """
        with profiles as (
            select c.community, count(*) as n,
                   count(*) filter (f.n_prompts >= 4 and e.n_prompts <= 1) as fr_leaning,
                   count(*) filter (f.n_prompts >= 4 and e.n_prompts >= 4) as balanced
            from community c
            join node_language e on (e.run_id, e.graph, e.node, e.language) = (c.run_id, c.graph, c.node, 'en')
            join node_language f on (f.run_id, f.graph, f.node, f.language) = (c.run_id, c.graph, c.node, 'fr')
            where c.run_id = $run group by all)
        select fr_leaning, balanced, n from profiles where n >= 15 order by n, fr_leaning
    """
    mc = ask(thesis, sql, "mc")
    assert any((french, n) == (16, 19) for french, _, n in mc)
    assert any((balanced, n) == (16, 18) for _, balanced, n in mc)
    b1 = ask(thesis, sql)
    assert max(french / n for french, _, n in b1) < 0.84
    assert all((balanced, n) != (16, 18) for _, balanced, n in b1)


def test_causal_edges(thesis: Connection) -> None:
    sql = """
        select count(*), count(*) filter (weight > 0), count(*) filter (weight < 0), min(weight), max(weight),
               count(*) filter (weight * static_weight > 0)
        from edge where run_id = $run and kind = 'causal'
    """
    assert ask(thesis, sql) == [(98, 60, 38, -1.164144, 1.373396, 96)]


def test_candidates_of_the_causal_test_and_their_sources(thesis: Connection) -> None:
    parameters = "select json_extract(parameters, '$.causal_edges.n_candidates')::int from graph where run_id = $run and graph = 0"
    assert ask(thesis, parameters) == [(345,)]
    sql = """
        with candidates as (
            select e.source, e.target, abs(e.static_weight) * coalesce(s.frequency, 0) * coalesce(t.frequency, 0) as score
            from edge e join node s on (s.run_id, s.graph, s.node) = (e.run_id, e.graph, e.source)
                        join node t on (t.run_id, t.graph, t.node) = (e.run_id, e.graph, e.target)
            where e.run_id = $run and e.kind = 'virtual_weight'
            qualify row_number() over (order by score desc, e.source, e.target) <= ceil(.6 * count(*) over ()))
        select count(*), count(distinct source),
               (select count(*) from edge e semi join candidates c on c.source = e.source and c.target = e.target
                where e.run_id = $run and e.kind = 'causal')
        from candidates
    """
    assert ask(thesis, sql) == [(345, 71, 98)]


def test_circuit(thesis: Connection) -> None:
    circuit = "select n_features, n_edges from circuit where run_id = $run and name = 'circuits_train'"
    assert ask(thesis, circuit) == [(27, 69)]
    kinds = """
        select edge_kind::varchar, count(*) from circuit_member
        where run_id = $run and circuit = 0 and kind = 'edge' group by all order by all
    """
    assert ask(thesis, kinds) == [("causal", 20), ("star_total", 49)]
    paths = """
        select count(*), count(distinct nodes[:-2]), count(distinct target), count(distinct nodes)
        from path where run_id = $run and circuit = 0
    """
    assert ask(thesis, paths) == [(50, 25, 2, 50)]


def test_causal_edges_of_the_circuit_form_seven_components(thesis: Connection) -> None:
    sql = """
        with recursive ends as (
            select layer * 1000000 + feature as a, target_layer * 1000000 + target_feature as b
            from circuit_member where run_id = $run and circuit = 0 and kind = 'edge' and edge_kind = 'causal'),
        neighbours as (select a, b from ends union select b, a from ends union select a, a from ends union select b, b from ends),
        reach as (select a as root, b as node from neighbours
                  union select r.root, n.b from reach r join neighbours n on n.a = r.node)
        select count(distinct component) from (select node, min(root) as component from reach group by node)
    """
    assert ask(thesis, sql) == [(7,)]


def evaluations(thesis: Connection, subject: str) -> dict[str, float]:
    sql = f"select property, value from evaluation where run_id = $run and subject = '{subject}' and property not like 'gate%'"
    return dict(ask(thesis, sql))


def test_necessity_and_sufficiency(thesis: Connection) -> None:
    found = evaluations(thesis, "circuits_train")
    assert found["disruption_rate"] == 0.375
    assert found["necessity"] == pytest.approx(0.178, abs=5e-4)
    assert (found["s1_sign_preserved_rate"], found["s1_mean_retention"]) == (0.6771, 0.263)
    assert (found["s15_sign_preserved_rate"], found["s15_mean_retention"]) == (0.5417, 0.1569)
    assert (found["s2_transfer_rate"], found["s2_mean_shift"]) == (0.75, 0.3711)
    degenerate = evaluations(thesis, "circuits_train_degenerate_k20")
    assert (degenerate["s2_transfer_rate"], degenerate["s2_mean_shift"]) == (0.5, 0.0508)


def test_transfer_of_six_in_eight_is_weak_evidence(thesis: Connection) -> None:
    sql = """
        select value * n_prompts, round(p_value, 3), control_mean from evaluation
        where run_id = $run and circuit = 0 and property = 's2_transfer_rate'
    """
    assert ask(thesis, sql) == [(6.0, 0.145, None)]


def test_ablating_the_circuit_raises_the_margin_and_is_sound(thesis: Connection) -> None:
    sql = """
        select i.hook, i.sound, i.n_members, e.mean, e.n_prompts, e.n_clusters
        from effect e join intervention i using (run_id, intervention)
        where run_id = $run and i.name = 'ablation of circuit circuits_train'
    """
    assert ask(thesis, sql) == [("mlp_out", True, 27, 0.1779, 96, 8)]


@pytest.mark.parametrize(("score", "ratio"), [("iou", 1.253), ("iou_decision", 1.126), ("iou_content", 1.220)])
def test_iou_of_middle_against_early_layers(thesis: Connection, score: str, ratio: float) -> None:
    sql = f"""
        select avg(value) filter (layer between 12 and 20) / avg(value) filter (layer between 10 and 11)
        from layer_score where run_id = $run and score = '{score}' and parameter_set = 'thesis'
    """
    ((found,),) = ask(thesis, sql)
    assert found == pytest.approx(ratio, abs=5e-4)


@pytest.mark.parametrize(("run", "n_bridges", "n_features", "n_tested"), [("mc", 32, 53, 5), ("b1_v1", 33, 49, 26)])
def test_bridge_features(thesis: Connection, run: str, n_bridges: int, n_features: int, n_tested: int) -> None:
    from_outcomes = """
        with means as (
            select i.intervention, avg(o.effect) filter (p.language = 'en') as en, avg(o.effect) filter (p.language = 'fr') as fr
            from intervention i join outcome o using (run_id, intervention) join prompt p using (run_id, prompt)
            where run_id = $run and i.rule = 'zero' and i.n_members = 1 group by all)
        select count(*) filter (en < 0 and fr < 0), count(*) from means
    """
    assert ask(thesis, from_outcomes, run) == [(n_bridges, n_features)]
    from_scores = """
        select count(*) filter (flag), count(*), count(*) filter (q_value < .05)
        from feature_score where run_id = $run and score = 'bridge'
    """
    assert ask(thesis, from_scores, run) == [(n_bridges, n_features, n_tested)]


def test_bridges_belong_to_layers_not_to_features(thesis: Connection) -> None:
    sql = """
        select count(*) filter (n > 1), count(*) filter (n > 1 and n_bridges not in (0, n))
        from (select layer, count(*) as n, count(*) filter (flag) as n_bridges from feature_score
              where run_id = $run and score = 'bridge' group by layer)
    """
    ((n_layers, n_mixed),) = ask(thesis, sql, "mc")
    assert n_layers > 5
    assert n_mixed == 0


@pytest.mark.parametrize(("run", "n", "share", "mean"), [("mc", 2280, 0.5877, -0.1657), ("b1_v1", 4368, 0.6447, -0.3721)])
def test_patching(thesis: Connection, run: str, n: int, share: float, mean: float) -> None:
    sql = """
        select count(*), round(avg((o.effect < 0)::int), 4), round(avg(o.effect::double), 4)
        from outcome o join intervention i using (run_id, intervention) where run_id = $run and i.rule = 'patch'
    """
    assert ask(thesis, sql, run) == [(n, share, mean)]


def test_patching_joins_prompts_of_two_languages_with_one_concept(thesis: Connection) -> None:
    sql = """
        select count(*), count(*) filter (t.concept = s.concept and t.template = s.template), any_value(s.language), any_value(t.language)
        from outcome o join intervention i using (run_id, intervention)
        join prompt t on (t.run_id, t.prompt) = (o.run_id, o.prompt) join prompt s on (s.run_id, s.prompt) = (o.run_id, o.source_prompt)
        where o.run_id = $run and i.rule = 'patch'
    """
    assert ask(thesis, sql) == [(4368, 4368, "en", "fr")]


def test_accuracy_of_the_base_model(thesis: Connection) -> None:
    sql = """
        select p.language, count(*) filter (b.correct), count(*) from baseline b join prompt p using (run_id, prompt)
        where run_id = $run group by all order by all
    """
    assert ask(thesis, sql) == [("en", 48, 48), ("fr", 30, 48)]


def test_instruct_baseline_is_kept_apart_with_its_model(thesis: Connection) -> None:
    sql = """
        select language, value, n_prompts, model, dtype from evaluation
        where run_id = $run and property = 'gate_n_sign_correct' order by language
    """
    instruct = "Qwen/Qwen3-4B-Instruct-2507"
    assert ask(thesis, sql) == [("en", 48.0, 48, instruct, "float32"), ("fr", 35.0, 48, instruct, "float32")]
    metrics = evaluations(thesis, "multilingual_circuits_b1")
    assert metrics["baseline_mean_logprob_diff_normalized"] == pytest.approx(3.736, abs=5e-4)
    assert metrics["baseline_passed"] == 0.0
    analysed = "select m.name, m.dtype from run r join model m using (model_id) where run_id = $run"
    assert ask(thesis, analysed) == [("Qwen/Qwen3-4B", "bfloat16")]


def test_the_base_model_fails_the_gate_that_the_file_says_was_passed(thesis: Connection) -> None:
    sql = """
        select x, supports, (select avg(correct::int) from baseline b join prompt p using (run_id, prompt)
                             where b.run_id = $run and p.language = 'fr')
        from evaluation where run_id = $run and property = 'gate_fr_sign_acc'
    """
    ((threshold, said, measured),) = ask(thesis, sql)
    assert said
    assert measured == 0.625 < threshold == 0.65


@pytest.mark.parametrize(("run", "share"), [("mc", 0.0125), ("b1_v1", 0.0167)])
def test_share_of_variance_between_features_of_a_layer(thesis: Connection, run: str, share: float) -> None:
    sql = """
        with effects as (
            select o.prompt, m.layer, o.effect::double as effect
            from outcome o join intervention i using (run_id, intervention) join intervention_member m using (run_id, intervention)
            where run_id = $run and i.rule = 'zero' and not i.sound),
        centred as (select effect, effect - avg(effect) over (partition by prompt, layer) as within,
                           count(*) over (partition by prompt, layer) as n from effects)
        select avg(within ** 2) filter (n > 1) / var_pop(effect) from centred
    """
    ((found,),) = ask(thesis, sql, run)
    assert found == pytest.approx(share, abs=5e-5)


def test_unsound_interventions_are_told_from_sound_ones(thesis: Connection) -> None:
    sql = """
        select i.rule::varchar, i.hook, i.keeps_error, i.sound, count(*) from intervention i where run_id = $run group by all order by all
    """
    assert ask(thesis, sql) == [
        ("patch", "mlp_in", False, False, 91),
        ("zero", "mlp_in", False, False, 49),
        ("zero", "mlp_out", True, True, 2),
    ]


def test_fillers_of_the_arrays_are_dropped(thesis: Connection) -> None:
    sql = "select count(*), min(activation) > 0, count(distinct layer), count(distinct prompt) from activation where run_id = $run"
    assert ask(thesis, sql, "grammar_agreement") == [(23861, True, 10, 80)]
    per_cell = """
        select min(n), max(n) from (select count(*) as n from activation where run_id = $run group by layer, prompt)
    """
    ((least, most),) = ask(thesis, per_cell, "grammar_agreement")
    assert 10 <= least < most <= 50


def test_statistics_of_imported_features_equal_their_activations(thesis: Connection) -> None:
    sql = """
        select count(*), count(*) filter (f.n_active <> a.n or abs(f.mean_activation - a.mean) > 1e-5 or f.max_activation <> a.top)
        from feature f join (select layer, feature, count(*) as n, avg(activation) as mean, max(activation) as top
                             from activation where run_id = $run group by all) a using (layer, feature)
        where f.run_id = $run
    """
    assert ask(thesis, sql, "grammar_agreement") == [(4675, 0)]
