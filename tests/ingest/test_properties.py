"""Properties and type tests: against brute force, on a model whose circuit is known, and where they cannot be measured."""

from __future__ import annotations

import dataclasses
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

import ingest.tiny
from ingest import properties, type_tests
from ingest.intervene import battery
from ingest.intervene.activity import activity
from ingest.intervene.battery import InterventionConfig, Scene, make_scene
from ingest.intervene.engine import Engine
from ingest.interventions import choose_prompts
from ingest.model import load_model
from ingest.prompts import Answer, Prompt, PromptPair, build_prompt_set, load_behaviour
from ingest.properties import directionality, persistence, property_rows
from ingest.transcoder import TranscoderSet
from tests.ingest.planted import PLANTED, planted_engine, planted_prompts
from tests.ingest.random_world import random_model, random_prompts, random_transcoders

CONFIG = InterventionConfig(ablated_features=15, top_features=3, control_draws=20, transfer_concepts=4)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    engine = planted_engine(tmp_path_factory.mktemp("planted"))
    return make_scene(engine, activity(engine), CONFIG, "all", count())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Random weights; the last third of the concepts shares its answer with the first."""
    made = random_prompts(n_concepts=9, lengths=(6, 6))
    prompts = [
        dataclasses.replace(
            p,
            split="test" if p.template == "template1" else "train",
            held_out="template" if p.template == "template1" else None,
            answers=(Answer("correct", "x", 3 + int(p.concept[-1]) % 6), *p.answers[1:]),
        )
        for p in made.prompts
    ]
    engine = Engine(random_model(), random_transcoders(tmp_path_factory.mktemp("transcoders")), prompts)
    return make_scene(engine, activity(engine), CONFIG, "all", count())


def by_type(rows: list[dict[str, object]]) -> dict[object, dict[str, object]]:
    return {row["computation_type"]: row for row in rows}


def test_directionality_of_the_planted_readout_is_one(planted: Scene) -> None:
    decision = make_scene(planted.engine, planted.clean, CONFIG, "decision", count())
    singles = battery.ablate_each(decision)
    (row,) = directionality(decision, singles, PLANTED[2:])
    assert row["value"] == 1.0
    assert row["control_mean"] < 0.8
    # One feature among fewer than a hundred that could stand in its place: the comparison, and no p-value.
    assert (row["p_value"], row["supports"]) == (None, None)
    # The first two are saturated by the norm: more of them lowers the margin, and so does none. The sign that was predicted fails.
    (saturated,) = directionality(decision, singles, PLANTED[:2])
    assert saturated["value"] == 0.0
    assert saturated["supports"] is False


def test_directionality_equals_a_direct_count(scene: Scene) -> None:
    singles = battery.ablate_each(scene)
    features = battery.strongest(scene, scene.train, 10)
    (row,) = directionality(scene, singles, features)
    right = []
    for layer, feature in features:
        here = (scene.clean.layer[scene.entries] == layer) & (scene.clean.feature[scene.entries] == feature)
        train = here & np.isin(scene.clean.prompt[scene.entries], scene.train)
        sign = np.sign(scene.star[train].sum())
        for i in np.flatnonzero((singles.layer == layer) & (singles.feature == feature)):
            if scene.engine.prompts[int(singles.prompt[i])].split == "test":
                right.append(-sign * singles.outcomes.effect[i] > 0)
    assert row["value"] == pytest.approx(np.mean(right))
    assert row["n_prompts"] == len(right)
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_persistence_is_a_rank_correlation_of_mean_effects(scene: Scene) -> None:
    singles = battery.ablate_each(scene)
    features = battery.strongest(scene, scene.train, 15)
    rows = {f"{row['property']} {row['language']}": row for row in persistence(scene, singles, features)}
    assert set(rows) == {"persistence all", "persistence_jaccard all", "persistence en+fr", "persistence_jaccard en+fr"}
    split = np.array([prompt.split for prompt in scene.engine.prompts])
    means = []
    for layer, feature in features:
        own = (singles.layer == layer) & (singles.feature == feature)
        sides = [singles.outcomes.effect[own & (split[singles.prompt] == name)].astype(float) for name in ("train", "test")]
        if all(len(side) for side in sides):
            means.append([side.mean() for side in sides])
    expected = scipy.stats.spearmanr(*np.array(means).T).statistic
    assert rows["persistence all"]["value"] == pytest.approx(expected)
    sets = [
        set(battery.strongest(scene, np.flatnonzero(split == name), CONFIG.ablated_features)) for name in ("train", "test")
    ]  # fmt: skip
    assert rows["persistence_jaccard all"]["value"] == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))


def test_persistence_of_unrelated_effects_is_not_significant(scene: Scene) -> None:
    singles = battery.ablate_each(scene)
    features = battery.strongest(scene, scene.train, 15)
    generator = np.random.default_rng(0)
    noise = dataclasses.replace(
        singles.outcomes, margin_after=singles.outcomes.margin_before + generator.normal(size=len(singles.prompt)).astype(np.float32)
    )
    shuffled = dataclasses.replace(singles, outcomes=noise)
    rows = {f"{row['property']} {row['language']}": row for row in persistence(scene, shuffled, features)}
    assert rows["persistence all"]["p_value"] > 0.01


def test_patching_a_layer_gives_its_mlp_output_of_the_source(planted: Scene) -> None:
    # Without attention and reconstruction error the final residual is what it was, with the source's MLP output of that layer.
    pairs = [(0, 7), (2, 5)]
    got = type_tests.patch_everything(planted, pairs, (2,), "all")
    model = planted.engine.model
    for row, (target, source) in enumerate(pairs):
        own, other = (model.capture(torch.tensor([planted.engine.prompts[p].token_ids])) for p in (target, source))
        hidden = own.embeddings[0, -1] + own.mlp_out[0][0, -1] + own.mlp_out[1][0, -1] + other.mlp_out[2][0, -1]
        logits = model.logits(model.hf.model.norm(hidden[None]))
        assert got.margin_after[row] == pytest.approx(float(planted.engine.margins(logits, np.array([target]))[0]), abs=1e-4)


def test_all_rows_of_a_behaviour(scene: Scene) -> None:
    pairs = [PromptPair("translation", i, i + 1) for i in range(0, len(scene.engine.prompts), 2)]
    rows = property_rows(scene, pairs, "random", CONFIG)
    assert all(row["behaviour"] == "random" for row in rows)
    types = by_type([row for row in rows if row["subject"] == "type"])
    assert set(types) == {"hidden_state_transfer", "candidate_set_filtering", "abstract_mapping", "gated_decision"}
    assert all(isinstance(row["note"], str) and row["note"] for row in types.values())
    named = {str(row["property"]) for row in rows}
    assert {"directionality", "persistence", "persistence_jaccard", "type_test"} <= named
    for row in rows:
        if row.get("ci_low") is not None and row.get("value") is not None:
            assert row["ci_low"] <= row["value"] <= row["ci_high"]


def patched_logits(scene: Scene, own: Prompt, other: Prompt) -> list[torch.Tensor]:
    """Logits before and after every feature at the content position takes the other prompt's value, by hand."""
    model, transcoders = scene.engine.model, scene.engine.transcoders
    tokens = torch.tensor([own.token_ids])
    position, there = own.content_positions[0], other.content_positions[0]
    before, theirs = model.capture(tokens), model.capture(torch.tensor([other.token_ids]))

    def edit(layer: int, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        wanted = transcoders.encode(layer, theirs.mlp_in[layer][0, there])
        listed = (wanted > 0) | (transcoders.encode(layer, before.mlp_in[layer][0, position]) > 0)
        live = transcoders.encode(layer, x[0, position])
        changed = out.clone()
        changed[0, position] += torch.where(listed, wanted - live, torch.zeros_like(live)) @ transcoders.decoder(layer)
        return changed

    return [model.logits(captured.final[0, -1]) for captured in (before, model.capture(tokens, edit=edit))]


def test_rises_equal_the_logits_of_a_patched_pass(scene: Scene) -> None:
    pairs = type_tests._sources(scene, same_answer=False)[:6]
    got = type_tests.patch_everything(scene, pairs, scene.engine.transcoders.layers, "content")
    rises = type_tests._rises(scene, pairs, got)
    for row, (target, source) in enumerate(pairs):
        own, other = scene.engine.prompts[target], scene.engine.prompts[source]
        before, after = (float(x[other.correct.token_id] - x[own.correct.token_id]) for x in patched_logits(scene, own, other))
        assert rises[row] == pytest.approx(after - before, abs=2e-4)


def test_pairs_of_the_same_answer_differ_in_surface(scene: Scene) -> None:
    for target, source in type_tests._sources(scene, same_answer=True):
        a, b = scene.engine.prompts[target], scene.engine.prompts[source]
        assert a.correct.token_id == b.correct.token_id
        assert (a.template, a.operand) != (b.template, b.operand)
        assert a.split == "test"
    for target, source in type_tests._sources(scene, same_answer=False):
        a, b = scene.engine.prompts[target], scene.engine.prompts[source]
        assert a.correct.token_id != b.correct.token_id
        assert (a.template, a.language) == (b.template, b.language)
        assert a.cluster != b.cluster


def test_a_gate_flips_minimal_pairs_both_ways(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Operands of even clusters carry the mark that the planted circuit turns into one answer; the other variant carries none."""
    engine = planted_engine(tmp_path_factory.mktemp("gate"))
    made, _ = planted_prompts()
    prompts, pairs = [], []
    for place, prompt in enumerate(made):
        marked = place % 2 == 0
        texts = (("a", 50), ("b", 53)) if marked else (("b", 53), ("a", 50))
        answers = (Answer("correct", *texts[0]), Answer("contrast", *texts[1]))
        token = prompt.token_ids[-1] if marked else 45
        prompts.append(
            dataclasses.replace(
                prompt, language="en", variant="allow" if marked else "refuse", token_ids=(*prompt.token_ids[:-1], token), answers=answers
            )
        )
        if not marked:
            pairs.append(PromptPair("minimal", place - 1, place))
    with torch.no_grad():
        # Token 53 is the answer by default, unless the circuit writes direction 5.
        engine.model.hf.lm_head.weight[53, 6] = 1.0
        engine.model.hf.model.embed_tokens.weight[:, 6] = 2.0
        engine.model.hf.model.embed_tokens.weight[45, 0] = 0.0
    gated = Engine(engine.model, engine.transcoders, prompts)
    scene = make_scene(gated, activity(gated), CONFIG, "all", count())
    logits = [gated.model.logits(gated.model.capture(torch.tensor([p.token_ids])).final[:, -1]) for p in prompts]
    baseline = gated.margins(torch.cat(logits), np.arange(len(prompts)))
    assert float((baseline > 0).float().mean()) == 1.0
    row = type_tests.gated_decision(scene, pairs, CONFIG)
    assert row["value"] == 1.0
    assert "2 direction(s)" in str(row["note"])
    assert row["supports"] is True


def test_what_cannot_be_measured_says_why(planted: Scene) -> None:
    # Every prompt of the planted model has the same answer, and there is no pair.
    rows = by_type(type_tests.type_rows(planted, [], CONFIG))
    assert rows["hidden_state_transfer"]["supports"] is None
    assert "another answer" in str(rows["hidden_state_transfer"]["note"])
    assert rows["abstract_mapping"]["supports"] is None
    alone = [p for p in planted_prompts()[0] if p.language == "en"]
    engine = Engine(planted.engine.model, planted.engine.transcoders, alone)
    scene = make_scene(engine, activity(engine), CONFIG, "all", count())
    (row,) = properties.replaceability(scene, CONFIG)
    assert "fewer than two languages" in row["note"]


@pytest.mark.parametrize("variant", ["bilingual", "control"])
def test_injection_transfers_on_the_bilingual_model_and_not_on_its_negative_control(variant: str) -> None:
    folder = Path(ingest.tiny.__file__).parent / "data" / variant
    model, transcoders = load_model(folder / "model"), TranscoderSet.open(folder / "transcoders")
    prompts = build_prompt_set([load_behaviour("antonyms")], model.tokenizer, languages=("en", "fr"), max_concepts=16)
    config = InterventionConfig(control_draws=20, transfer_concepts=5)
    engine = Engine(model, transcoders, choose_prompts(prompts.prompts, 130, 0))
    rows = properties.replaceability(make_scene(engine, activity(engine), config, "all", count()), config)
    assert len(rows) == 4
    for row in rows:
        if variant == "bilingual":
            assert row["ci_low"] > row["control_high"]
        elif row["property"] == "replaceability_share":
            assert row["value"] <= 0.1
        else:
            assert row["value"] < 5.0  # the bilingual model's rises are about 20


@pytest.fixture(scope="module")
def bilingual_agreement() -> Scene:
    folder = Path(ingest.tiny.__file__).parent / "data" / "bilingual"
    model, transcoders = load_model(folder / "model"), TranscoderSet.open(folder / "transcoders")
    prompts = build_prompt_set([load_behaviour("agreement")], model.tokenizer, languages=("en", "fr"), max_concepts=9)
    engine = Engine(model, transcoders, prompts.prompts)
    config = dataclasses.replace(CONFIG, top_features=10)
    return make_scene(engine, activity(engine), config, "all", count())


def test_answers_that_hang_on_the_variant_are_paired_over_variants(bilingual_agreement: Scene) -> None:
    prompts = bilingual_agreement.engine.prompts
    pairs = type_tests._sources(bilingual_agreement, same_answer=False)
    assert {prompts[i].variant for i, _ in pairs} == {"singular", "plural"}
    for i, j in pairs:
        assert prompts[i].split != "train"
        assert prompts[i].correct.token_id != prompts[j].correct.token_id
        assert (prompts[i].template, prompts[i].language) == (prompts[j].template, prompts[j].language)
        assert prompts[i].cluster != prompts[j].cluster
    concepts = [concept for concept in battery.concept_sets(bilingual_agreement) if concept is not None]
    rows, expected, other = battery._injection_rows(bilingual_agreement, "en", "fr", concepts[:3])
    for (target, source), (token, theirs, _) in zip(rows.tolist(), expected.tolist(), strict=True):
        assert prompts[target].language == "fr"
        assert token != prompts[target].correct.token_id
        assert theirs == prompts[source].correct.token_id
    assert len(rows) > 0
    assert (other[:, 0] == -1).all()  # two answers, so that no third concept has one of its own


def test_the_prompts_of_a_row_are_named(bilingual_agreement: Scene) -> None:
    scene = bilingual_agreement
    held_out = battery.test_prompts(scene)
    assert battery.split_of(scene, held_out) == "held_out"
    assert battery.split_of(scene, scene.train) == "train"
    assert battery.split_of(scene, np.concatenate([held_out, scene.train])) == "all"
    row = type_tests.candidate_set_filtering(scene)
    assert row["split"] == "held_out"
    assert "of the behaviour" in row["note"]  # no held-out prompt is of a concept with train prompts


def test_rows_are_spread_over_languages_and_directions(bilingual_agreement: Scene) -> None:
    prompts = bilingual_agreement.engine.prompts
    pairs = [(i, i + 1) for i in range(len(prompts) - 1)]
    few = type_tests._spread(bilingual_agreement, pairs, 16)
    assert len(few) == 16
    kinds = [(prompts[i].language, prompts[i].variant) for i, _ in few]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(set(kinds), 4)


def test_other_tokens_are_the_strongest_that_are_no_answers(bilingual_agreement: Scene) -> None:
    engine, prompts = bilingual_agreement.engine, bilingual_agreement.engine.prompts
    candidates, others, _ = type_tests._candidates(bilingual_agreement, np.array([0, 5]))
    for row, place in enumerate((0, 5)):
        answers = {answer.token_id for answer in prompts[place].answers}
        logits = engine.model.hf(torch.tensor([prompts[place].token_ids])).logits[0, -1]
        strongest = [token for token in logits.argsort(descending=True).tolist() if token not in answers]
        assert others[row].tolist() == strongest[:5]
        assert set(candidates[row][candidates[row] >= 0].tolist()) == {prompts[place].correct.token_id} | {
            answer.token_id for answer in prompts[place].contrasts
        }
