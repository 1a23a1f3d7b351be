"""Interventions against hand-written hooks on plain transformers, against the reference's three modes, and against their own promises."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from atlas.errors import InputError, ModelError, UsageError
from atlas.schema import arrow_schema
from ingest.controls import Places, Pool
from ingest.intervene import battery, variants
from ingest.intervene.activity import activity, slopes
from ingest.intervene.battery import make_scene, shared_features
from ingest.intervene.edits import Edits
from ingest.intervene.effects import effect_table
from ingest.intervene.engine import MODES, Engine, Read
from ingest.intervene.measure import Job, noise_floor, run_jobs
from ingest.intervene.rules import Intervention, build_edits
from ingest.interventions import InterventionConfig, choose_prompts, run_battery
from ingest.model import LanguageModel, load_model
from ingest.prompts import Answer, Prompt, PromptSet
from ingest.stages import supernodes_of
from ingest.transcoder import TranscoderSet
from tests.ingest.random_world import plain_copy, plain_margin, random_model, random_prompts, random_transcoders

LAYERS = 3


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return random_model(n_layers=LAYERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transcoders")
    random_transcoders(path, n_layers=LAYERS)
    return path


@pytest.fixture(scope="module")
def transcoders(folder: Path) -> TranscoderSet:
    return TranscoderSet.open(folder)


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    """Concepts 0 to 3 are of the train split in template 0; everything in template 1 is held out."""
    made = random_prompts(n_concepts=6)
    changed = [
        dataclasses.replace(
            p, split="test" if p.template == "template1" else "train", held_out="template" if p.template == "template1" else None
        )
        for p in made.prompts
    ]
    return dataclasses.replace(made, prompts=tuple(changed))


@pytest.fixture(scope="module")
def engine(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> Engine:
    return Engine(model, transcoders, prompts.prompts)


def edits_of(rows: list[tuple[int, list[tuple[int, int, int, float]]]]) -> Edits:
    """Build edits from (prompt, [(layer, position, feature, value)])."""
    members = [(row, *member) for row, (_, listed) in enumerate(rows) for member in listed]
    columns = [np.array(column) for column in zip(*members, strict=True)]
    return Edits(np.array([prompt for prompt, _ in rows]), columns[0], columns[1], columns[2], columns[3], columns[4].astype(float))


def by_hooks(model: LanguageModel, folder: Path, prompt: Prompt, members: list[tuple[int, int, int, float]]) -> float:
    """The margin of a plain transformers model whose MLP outputs are edited by hooks: the obvious way."""
    plain = plain_copy(model)
    for layer, block in enumerate(plain.model.layers):
        weights = load_file(folder / f"layer_{layer}.safetensors")
        own = [member for member in members if member[0] == layer]

        block.mlp.register_forward_hook(edit_hook(weights, own))
    return plain_margin(plain, prompt)


def edit_hook(weights: dict[str, torch.Tensor], own: list[tuple[int, int, int, float]]) -> Callable[..., torch.Tensor]:
    """Add (a' - a) W_dec to an MLP's output, a from its current input."""

    def hook(_module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        for _, position, feature, value in own:
            current = torch.relu(inputs[0][0, position] @ weights["W_enc"][feature] + weights["b_enc"][feature])
            changed[0, position] += (value - current) * weights["W_dec"][feature]
        return changed

    return hook


def random_rows(engine: Engine, n: int, *, seed: int, members: int = 1) -> list[tuple[int, list[tuple[int, int, int, float]]]]:
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        prompt = int(generator.integers(len(engine.prompts)))
        listed = {
            (int(generator.integers(LAYERS)), int(generator.integers(1, engine.lengths[prompt])), int(generator.integers(96)))
            for _ in range(members)
        }
        rows.append((prompt, [(*key, float(generator.choice([0.0, 1.5, 3.0]))) for key in sorted(listed)]))
    return rows


# ---- the engine -------------------------------------------------------------------------------------------------


def test_ablation_equals_a_hand_written_forward_pass(engine: Engine, model: LanguageModel, folder: Path) -> None:
    rows = random_rows(engine, 12, seed=1)
    got = engine.run(edits_of(rows))
    for row, (prompt, members) in enumerate(rows):
        item = engine.prompts[prompt]
        assert got.margin_before[row] == pytest.approx(plain_margin(plain_copy(model), item), abs=1e-4)
        assert got.margin_after[row] == pytest.approx(by_hooks(model, folder, item, members), abs=1e-4)


def test_a_pass_begins_at_the_lowest_edited_layer_and_the_earliest_edited_position(engine: Engine) -> None:
    edits = edits_of([(0, [(2, 3, 5, 0.0), (1, 4, 6, 0.0)]), (1, [(2, 1, 5, 0.0)]), (2, [(0, 2, 5, 0.0)])])
    assert edits.lowest_layers(none=0).tolist() == [1, 2, 0]  # it was 0 for all: every pass ran every layer
    assert edits.first_positions(none=np.array([5, 5, 5])).tolist() == [3, 1, 2]
    _, batches = engine._batches(edits)
    assert sorted(layer for _, layer, *_ in batches) == [0, 1, 2]


def test_several_layers_at_once_use_current_activations(engine: Engine, model: LanguageModel, folder: Path) -> None:
    rows = random_rows(engine, 6, seed=2, members=12)
    got = engine.run(edits_of(rows))
    expected = [by_hooks(model, folder, engine.prompts[prompt], members) for prompt, members in rows]
    assert got.margin_after == pytest.approx(np.array(expected), abs=1e-4)
    assert np.abs(got.effect).max() > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_no_op_is_exactly_zero(engine: Engine, mode: str) -> None:
    rows = [(prompt, [(*member[:3], np.nan) for member in members]) for prompt, members in random_rows(engine, 40, seed=3, members=3)]
    busy = random_rows(engine, 40, seed=4, members=3)
    got = engine.run(edits_of([row for pair in zip(rows, busy, strict=True) for row in pair]), mode=mode, frozen_layers=(1,))  # type: ignore[arg-type]
    assert (got.effect[::2] == 0).all()
    assert (got.kl[::2] == 0).all()
    assert (got.n_edited[::2] == 0).all()
    assert np.abs(got.effect[1::2]).max() > 0.01


@pytest.mark.parametrize("mode", MODES)
def test_results_do_not_depend_on_batches_or_cached_positions(
    model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet, mode: str
) -> None:
    base = Engine(model, transcoders, prompts.prompts)
    edits = edits_of(random_rows(base, 60, seed=5, members=4))
    expected = base.run(edits, mode=mode, frozen_layers=(0, 2))  # type: ignore[arg-type]
    for options in ({"rows_at_once": 7}, {"cache": False}, {"prompts_at_once": 5}, {"rows_at_once": 1, "cache": False}):
        other = Engine(model, transcoders, prompts.prompts, **options).run(edits, mode=mode, frozen_layers=(0, 2))  # type: ignore[arg-type]
        assert other.margin_after == pytest.approx(expected.margin_after, abs=1e-4)
        assert other.kl == pytest.approx(expected.kl, abs=1e-4)
        assert (other.n_edited == expected.n_edited).all()


def test_padding_and_neighbours_in_the_batch_change_nothing(model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> None:
    short = next(p for p in prompts.prompts if len(p.token_ids) == 6)
    members = [(0, 3, 5, 2.0), (2, 5, 7, 0.0)]
    alone = Engine(model, transcoders, [short]).run(edits_of([(0, members)]))
    padded = Engine(model, transcoders, prompts.prompts).run(edits_of([(short.prompt, members)] * 3))
    assert padded.margin_after == pytest.approx(np.repeat(alone.margin_after, 3), abs=1e-4)


def test_two_threads_equal_one(engine: Engine) -> None:
    edits = edits_of(random_rows(engine, 50, seed=6, members=3))
    one = engine.run(edits)
    torch.set_num_threads(2)
    try:
        two = engine.run(edits)
    finally:
        torch.set_num_threads(1)
    assert two.margin_after == pytest.approx(one.margin_after, abs=1e-4)


def test_direct_interventions_match_the_linear_prediction(engine: Engine) -> None:
    rows = random_rows(engine, 10, seed=9)
    clean = activity(engine)
    tokens = np.tile(np.arange(60), (10, 1))
    scaled = {
        factor: [(prompt, [(*member[:3], member[3] * factor + 4.0) for member in members]) for prompt, members in rows]
        for factor in (0, 1, 2)
    }
    logits = {
        factor: engine.run(edits_of(edited), mode="direct", tokens=tokens).logit_after.astype(float) for factor, edited in scaled.items()
    }
    free = engine.run(edits_of(scaled[2]), tokens=tokens).logit_after.astype(float)
    # Everything frozen, logits are affine in the target value; recomputed, they are not.
    assert logits[2] - logits[1] == pytest.approx(logits[1] - logits[0], abs=2e-4)
    assert np.abs(logits[2] - logits[0]).max() > 0.1
    assert np.abs(free - logits[2]).max() > 0.1
    for row, (prompt, members) in enumerate(rows):
        layer, position, feature, _ = members[0]
        if position == engine.prompts[prompt].decision_position and layer == LAYERS - 1:
            change = 4.0 - float(clean.values(*(np.array([x]) for x in (layer, prompt, position, feature)))[0])
            captured = engine.model.capture(torch.tensor([engine.prompts[prompt].token_ids]), denominators=True)
            r = captured.denominators["final", LAYERS][0, -1]
            read = engine.model.final_norm.forward(engine.transcoders.decoder(layer)[feature] * change, r)
            before = engine.model.logits(captured.final[0, -1])
            assert logits[0][row] == pytest.approx((before + engine.model.unembedding @ read).numpy(), abs=2e-4)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_finite_differences_equal_star_total_in_every_layer(tmp_path: Path, layer: int) -> None:
    model = random_model(n_layers=LAYERS, dtype=torch.float64)
    transcoders = random_transcoders(tmp_path, n_layers=LAYERS, dtype="float64")
    engine = Engine(model, transcoders, random_prompts(n_concepts=3).prompts)
    clean = activity(engine)
    at = np.random.default_rng(layer).permutation(np.flatnonzero(clean.layer == layer))[:100]
    where = (clean.layer[at], clean.prompt[at], clean.position[at], clean.feature[at])
    star = slopes(engine, *where) * clean.value[at]
    step = 1e-2  # margins are stored in float32
    rows = np.arange(len(at))
    up, down = (
        engine.run(Edits(where[1], rows, where[0], where[2], where[3], clean.value[at] * factor)).margin_after.astype(np.float64)
        for factor in (1 + step, 1 - step)
    )
    agree = np.abs((up - down) / (2 * step) - star) <= 1e-3 + 0.02 * np.abs(star)
    assert agree.mean() >= 0.97
    assert np.abs(star).max() > 0.01


def test_integrated_gradients_add_up_to_the_effect(engine: Engine) -> None:
    edits = edits_of(random_rows(engine, 12, seed=8, members=3))
    steps = [(i + 0.5) / 64 for i in range(64)]
    got = engine.run(edits, strengths=steps)
    # The margin's maximum over contrasts has kinks, where the midpoint rule is off by a step.
    assert np.median(np.abs(got.slope - got.effect)) < 2e-3
    assert got.slope == pytest.approx(got.effect, abs=0.1)


def test_read_activations_equal_a_dense_encoding(engine: Engine, transcoders: TranscoderSet) -> None:
    reads = [Read(2, 7), Read(1, 4, "content"), Read(2, 9, "content")]
    prompt = 1
    item = engine.prompts[prompt]
    got = engine.run(edits_of([(prompt, [(0, item.content_positions[0], 3, 5.0)])]), reads=reads)

    def edit(layer: int, mlp_in: torch.Tensor, mlp_out: torch.Tensor) -> torch.Tensor:
        if layer != 0:
            return mlp_out
        out = mlp_out.clone()
        position = item.content_positions[0]
        change = 5.0 - transcoders.encode(0, mlp_in[:, position])[:, 3]
        out[:, position] += change[:, None] * transcoders.decoder(0)[3]
        return out

    edited = engine.model.capture(torch.tensor([item.token_ids]), edit=edit)
    clean = engine.model.capture(torch.tensor([item.token_ids]))
    for place, read in enumerate(reads):
        position = item.decision_position if read.role == "decision" else item.content_positions[-1]
        for captured, values in ((clean, got.read_before), (edited, got.read_after)):
            expected = float(transcoders.encode(read.layer, captured.mlp_in[read.layer][0, position])[read.feature])
            assert values[0, place] == pytest.approx(expected, abs=1e-4)


def reference_prompt(tokens: list[int]) -> Prompt:
    template = random_prompts(n_concepts=1).prompts[0]
    return dataclasses.replace(
        template, prompt=0, token_ids=tuple(tokens), content_positions=(2,), answers=(Answer("correct", "a", 3), Answer("contrast", "b", 7))
    )


@pytest.mark.parametrize(("mode", "name"), [("direct", "direct"), ("frozen_attention", "frozen_attn"), ("free", "free")])
def test_modes_equal_the_reference(shared_data: Path, mode: str, name: str) -> None:
    folder = shared_data / "attribution_reference"
    if not folder.is_dir():
        pytest.skip("the shared data folder has no attribution_reference")
    saved = np.load(folder / "prompt1.npz")
    members = [
        (layer, position, feature, value)
        for layer, position, feature, value in json.loads((folder / "prompt1_interventions.json").read_text())
    ]
    engine = Engine(
        load_model(folder / "model"), TranscoderSet.open(folder / "transcoders"), [reference_prompt(saved["input_tokens"].tolist())]
    )
    got = engine.run(edits_of([(0, members)]), mode=mode, tokens=np.arange(200)[None])  # type: ignore[arg-type]
    assert got.logit_after[0] == pytest.approx(saved[f"iv_logits_{name}"], abs=1e-4)
    others = {"direct", "frozen_attn", "free"} - {name}
    # Stale activations or a wrong mode are wrong by far more than this tolerance.
    assert all(np.abs(got.logit_after[0] - saved[f"iv_logits_{other}"]).max() > 1e-2 for other in others)


# ---- rules ------------------------------------------------------------------------------------------------------


def build(engine: Engine, work: Intervention, prompts: list[int], sources: list[int] | None = None) -> Edits:
    return build_edits(engine, activity(engine), work, np.array(prompts), np.array(sources or [-1] * len(prompts)))


def test_rules_give_absolute_targets(engine: Engine) -> None:
    clean = activity(engine)
    at = int(np.flatnonzero(clean.at_decision())[0])
    layer, prompt, feature, value = int(clean.layer[at]), int(clean.prompt[at]), int(clean.feature[at]), float(clean.value[at])
    sets = {None: ((layer, feature),)}

    def target(rule: str, **options: object) -> float:
        return float(build(engine, Intervention("x", rule, sets, **options), [prompt]).value[0])  # type: ignore[arg-type]

    assert target("zero") == 0
    assert np.isnan(target("no_op"))
    assert target("scale", strength=2.0) == pytest.approx(2 * value)
    assert target("add", strength=3.0, values={(layer, feature): 0.5}) == pytest.approx(value + 1.5)
    assert target("mean", values={(layer, feature): 0.25}) == 0.25
    other = next(p for p in range(len(engine.prompts)) if p != prompt)
    patched = build(engine, Intervention("x", "patch", sets), [other], [prompt])
    assert patched.value[0] == pytest.approx(value)
    assert patched.position[0] == engine.prompts[other].decision_position


def test_swap_sets_the_source_and_zeros_the_rest_of_the_union(engine: Engine) -> None:
    clean = activity(engine)
    own = clean.feature[clean.at_decision() & (clean.prompt == 0) & (clean.layer == 1)].tolist()
    source = next(i for i, p in enumerate(engine.prompts) if p.concept != engine.prompts[0].concept)
    there = clean.feature[clean.at_decision() & (clean.prompt == source) & (clean.layer == 1)].tolist()[:2]
    sets = {engine.prompts[0].concept: tuple((1, f) for f in own), engine.prompts[source].concept: tuple((1, f) for f in there)}
    edits = build(engine, Intervention("x", "swap", sets), [0], [source])
    assert set(edits.feature.tolist()) == set(own) | set(there)
    taken = np.isin(edits.feature, there)
    assert (edits.value[taken] > 0).all()
    expected = clean.values(
        edits.layer, np.full(len(edits.layer), source), np.full(len(edits.layer), engine.prompts[source].decision_position), edits.feature
    )
    assert edits.value[taken] == pytest.approx(expected[taken])
    assert (edits.value[~taken] == 0).all()


def test_positions_correspond_by_role(engine: Engine) -> None:
    long = next(i for i, p in enumerate(engine.prompts) if len(p.token_ids) == 8)
    short = next(i for i, p in enumerate(engine.prompts) if len(p.token_ids) == 6)
    work = Intervention("x", "patch", {None: ((0, 1),)}, positions="all")
    edits = build(engine, work, [long], [short])
    assert edits.position.tolist() == list(range(1, 8))
    content = build(engine, dataclasses.replace(work, positions="content"), [long], [short])
    assert content.position.tolist() == list(engine.prompts[long].content_positions)


@pytest.mark.parametrize("rule", ["error_only", "whole_mlp", "random_direction"])
def test_controls_equal_their_definition(engine: Engine, transcoders: TranscoderSet, rule: str) -> None:
    prompt, source, layer = 0, 3, 1
    work = Intervention("x", rule, {None: ((layer, 5), (layer, 6))}, base_rule="patch", seed=7)  # type: ignore[arg-type]
    edits = build(engine, work, [prompt], [source])
    got = engine.run(edits)
    item, other = engine.prompts[prompt], engine.prompts[source]
    clean, there = (engine.model.capture(torch.tensor([p.token_ids])) for p in (item, other))
    if rule == "random_direction":
        features = engine.run(dataclasses.replace(edits, direction=None))
        assert got.delta_norm == pytest.approx(features.delta_norm, rel=1e-4)
        assert got.margin_after[0] != pytest.approx(features.margin_after[0], abs=1e-5) or features.delta_norm[0] == 0
        return
    change = there.mlp_out[layer][0, -1] - clean.mlp_out[layer][0, -1]
    if rule == "error_only":
        change -= transcoders.reconstruct(layer, there.mlp_in[layer][0, -1:])[0]
        change += transcoders.reconstruct(layer, clean.mlp_in[layer][0, -1:])[0]
    edited = engine.model.capture(
        torch.tensor([item.token_ids]),
        edit=lambda number, _x, out: torch.cat([out[:, :-1], out[:, -1:] + change], 1) if number == layer else out,
    )
    logits = engine.model.logits(edited.final[:, -1])
    assert got.margin_after[0] == pytest.approx(float(engine.margins(logits, np.array([prompt]))[0]), abs=1e-4)


def test_noise_floor_is_small_and_measured(engine: Engine) -> None:
    noise = noise_floor(engine, np.arange(6), [0])
    assert 0 <= noise < 1e-4


@pytest.mark.parametrize("mode", ["free", "frozen_attention", "direct"])
def test_a_change_takes_over_a_length_and_keeps_its_direction(engine: Engine, transcoders: TranscoderSet, mode: str) -> None:
    everyone = np.arange(len(engine.prompts))
    rows = random_rows(engine, 1, seed=9, members=8)[0][1]
    members = [[(layer, min(t, int(engine.lengths[p]) - 1), f, value) for layer, t, f, value in rows] for p in everyone]
    plain = edits_of(list(zip(everyone.tolist(), members, strict=True)))
    own = engine.run(plain, mode=mode)  # type: ignore[arg-type]
    assert own.delta_norm == pytest.approx(np.sqrt((own.norms.astype(np.float64) ** 2).sum(1)), rel=1e-5)
    length = np.where(own.norms > 0, 2.0, np.nan)
    length[::2] = np.nan
    got = engine.run(dataclasses.replace(plain, length=length), mode=mode)  # type: ignore[arg-type]
    assert got.margin_after[::2] == pytest.approx(own.margin_after[::2], abs=1e-4)
    moved = own.norms[1::2] > 0
    assert moved.any()
    assert got.norms[1::2][moved] == pytest.approx(2.0, rel=1e-4)
    # One layer, by hand: the same change at twice its length is an edit to twice the distance.
    layer, position, feature, _ = rows[0]
    once = edits_of([(0, [(layer, min(position, int(engine.lengths[0]) - 1), feature, 3.0)])])
    first = engine.run(once, mode=mode)  # type: ignore[arg-type]
    x = engine.model.capture(torch.tensor([engine.prompts[0].token_ids])).mlp_in[layer][0, once.position[0]]
    current = float(transcoders.encode(layer, x)[feature])
    double = dataclasses.replace(once, value=np.array([current + 2 * (3.0 - current)]))
    stretched = engine.run(dataclasses.replace(once, length=2 * first.norms.astype(np.float64)), mode=mode)  # type: ignore[arg-type]
    assert stretched.margin_after == pytest.approx(engine.run(double, mode=mode).margin_after, abs=1e-4)  # type: ignore[arg-type]


def test_a_length_that_a_layer_cannot_take_is_owed_to_the_next(engine: Engine) -> None:
    prompt = 0
    at = int(engine.lengths[prompt]) - 1
    only_last = edits_of([(prompt, [(2, at, 5, 3.0), (2, at, 6, 2.0)])])
    length = np.array([[3.0, np.nan, 4.0]])
    assert engine.run(dataclasses.replace(only_last, length=length)).norms[0] == pytest.approx([0.0, 0.0, 5.0], rel=1e-4)
    still = edits_of([(prompt, [(0, at, 7, np.nan), (2, at, 5, 3.0)])])
    got = engine.run(dataclasses.replace(still, length=length))
    assert got.norms[0] == pytest.approx([0.0, 0.0, 5.0], rel=1e-4)


def test_a_control_as_long_as_its_intervention_is_measured_after_it(engine: Engine) -> None:
    clean = activity(engine)
    scene = make_scene(engine, clean, InterventionConfig(control_draws=8), "all", count())
    where = np.arange(4)
    features = battery.strongest(scene, scene.train, 3, signed=True)
    work = Intervention("x", "zero", {None: features}, positions="all")
    jobs = battery.with_controls(scene, work, where, np.full(4, -1), kinds=("random_direction", battery.RESCALED))
    measured = run_jobs(engine, clean, jobs, integrated_steps=0)
    own = measured[0].outcomes.delta_norm
    by_kind = {kind: [item for item in measured if item.job.control == kind] for kind in {item.job.control for item in measured}}
    raw, rescaled = by_kind["matched_random"], by_kind["matched_random_rescaled"]
    assert [item.job.work.sets for item in raw] == [item.job.work.sets for item in rescaled]
    for item in (*rescaled, *by_kind["same_norm_direction"]):
        moved = item.outcomes.delta_norm > 0
        assert moved.any()
        assert item.outcomes.delta_norm[moved] == pytest.approx(own[moved], rel=1e-3)
    assert not np.allclose([item.outcomes.delta_norm for item in raw], own, rtol=0.05)
    with pytest.raises(UsageError, match="is not measured with it"):
        run_jobs(engine, clean, [job for job in jobs if job.control == "matched_random_rescaled"])


def test_concepts_without_a_control_are_left_out_of_the_comparison_and_counted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = activity(engine)
    scene = make_scene(engine, clean, InterventionConfig(control_draws=6, top_features=3), "all", count())
    sets: dict[str | None, tuple[tuple[int, int], ...]] = {
        f"concept{i}": battery.strongest(scene, np.flatnonzero([p.concept == f"concept{i}" for p in engine.prompts]), 3) for i in range(4)
    }
    pools = Places.pools

    def none_of_concept_1(self: Places, features: Sequence[tuple[int, int]], *rest: object, **named: object) -> dict[tuple[int, int], Pool]:
        found = pools(self, features, *rest, **named)  # type: ignore[arg-type]
        return {key: Pool(key, ()) for key in found} if tuple(features) == sets["concept1"] else found

    monkeypatch.setattr(Places, "pools", none_of_concept_1)
    where = np.array([i for i, p in enumerate(engine.prompts) if p.concept in sets])
    work = Intervention("x", "zero", sets, positions="all")
    jobs = battery.with_controls(scene, work, where, np.full(len(where), -1), kinds=("random_direction",))
    measured = run_jobs(engine, clean, jobs, integrated_steps=0)
    without = np.array([engine.prompts[p].concept == "concept1" for p in where])
    for item in measured:
        ran = where[~without] if item.job.control == "matched_random" else where
        assert item.job.prompts.tolist() == ran.tolist()
    (drawn, *_) = [job for job in jobs if job.control == "matched_random"]
    assert drawn.work.parameters["concepts_without_control"] == ["concept1"]
    rows = {
        row["control"]: row
        for row in effect_table(engine.prompts, measured).to_pylist()
        if (row["language"], row["split"]) == ("all", "all")
    }
    effect = measured[0].effect
    assert rows["none"]["n_prompts"] == len(where)
    assert rows["none"]["mean"] == pytest.approx(effect.mean())
    assert rows["matched_random"]["n_left_out"] == int(without.sum())
    assert rows["matched_random"]["n_prompts"] == int((~without).sum())
    assert rows["matched_random"]["mean"] == pytest.approx(effect[~without].mean())
    draws = np.array([item.effect.mean() for item in measured if item.job.control == "matched_random"])
    assert rows["matched_random"]["control_mean"] == pytest.approx(draws.mean())
    assert rows["same_norm_direction"]["n_left_out"] == 0
    # A swap takes from one concept and puts into another: both must have controls.
    swap = dataclasses.replace(work, rule="swap")
    sources = np.roll(where, 2)
    (main, drawn, *_) = battery.with_controls(scene, swap, where, sources)
    concepts = [(engine.prompts[p].concept, engine.prompts[s].concept) for p, s in zip(drawn.prompts, drawn.sources, strict=True)]
    assert 0 < len(concepts) < len(main.prompts)
    assert not any("concept1" in pair for pair in concepts)


def test_lengths_of_controls_stand_beside_the_comparison(tables: dict[str, pa.Table]) -> None:
    outcomes = pl.DataFrame(pl.from_arrow(tables["outcome"]))
    things = pl.DataFrame(pl.from_arrow(tables["intervention"]))
    effects = pl.DataFrame(pl.from_arrow(tables["effect"])).filter((pl.col("language") == "all") & (pl.col("split") == "all"))
    seen = 0
    for row in effects.filter(pl.col("control").is_in(["matched_random", "matched_random_rescaled"])).iter_rows(named=True):
        own = outcomes.filter(pl.col("intervention") == row["intervention"]).select("prompt", "source_prompt", "delta_norm")
        drawn = things.filter((pl.col("control_of") == row["intervention"]) & (pl.col("control").cast(pl.String) == row["control"]))
        ratios = []
        for number in drawn["intervention"]:
            both = outcomes.filter(pl.col("intervention") == number).join(own, on=["prompt", "source_prompt"])
            ratios.append(both["delta_norm"].to_numpy().mean() / both["delta_norm_right"].to_numpy().mean())
        if ratios:
            seen += 1
            assert row["length_ratio"] == pytest.approx(np.mean(ratios), rel=1e-4)
            assert row["n_in_caliper"] == sum(abs(ratio - 1) <= 0.2 for ratio in ratios)
    assert seen >= 4
    rescaled = effects.filter(pl.col("control") == "matched_random_rescaled")
    assert rescaled.height > 0


def test_single_feature_jobs_and_predictions(engine: Engine) -> None:
    clean = activity(engine)
    at = int(np.flatnonzero(clean.at_decision())[0])
    work = Intervention("x", "zero", {None: ((int(clean.layer[at]), int(clean.feature[at])),)})
    everyone = np.arange(len(engine.prompts))
    job = Job(work, everyone, np.full(len(everyone), -1), 0, predict=True, only_changed=True)
    (item,) = run_jobs(engine, clean, [job], integrated_steps=8)
    active = [
        p for p in everyone if clean.values(*(np.array([x]) for x in (clean.layer[at], p, engine.lengths[p] - 1, clean.feature[at])))[0] > 0
    ]
    assert item.job.prompts.tolist() == active
    places = [np.full(len(active), x) for x in (clean.layer[at],)]
    where = (places[0], np.array(active), engine.lengths[active] - 1, np.full(len(active), clean.feature[at]))
    assert item.predicted_gradient == pytest.approx(-slopes(engine, *where) * clean.values(*where), abs=1e-4)
    assert np.isfinite(item.predicted_integrated).all()


# ---- the battery ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables(engine: Engine, prompts: PromptSet) -> dict[str, pa.Table]:
    config = InterventionConfig(
        ablated_features=12, top_features=3, control_draws=30, transfer_concepts=4, shared_rate=0.5, integrated_steps=2
    )
    return run_battery(engine, prompts, "random", config, first_number=5)


def test_tables_have_the_columns_of_the_schema(tables: dict[str, pa.Table]) -> None:
    assert set(tables) == {"intervention", "intervention_member", "outcome", "outcome_answer", "effect", "transfer"}
    for name, table in tables.items():
        assert table.schema.equals(arrow_schema(name)), name
        assert table.num_rows > 0, name


def test_keys_are_unique_and_controls_point_to_what_they_control(tables: dict[str, pa.Table]) -> None:
    interventions = pl.DataFrame(pl.from_arrow(tables["intervention"]))
    assert interventions["intervention"].is_unique().all()
    assert interventions["intervention"].min() == 5
    for name, key in {
        "outcome": ["intervention", "prompt", "source_prompt"],
        "outcome_answer": ["intervention", "prompt", "source_prompt", "answer"],
        "transfer": ["intervention", "prompt", "source_prompt"],
        "effect": ["intervention", "language", "split", "control"],
        "intervention_member": ["intervention", "layer", "feature", "position", "concept"],
    }.items():
        assert pl.DataFrame(pl.from_arrow(tables[name])).select(key).is_unique().all(), name
    controlled = interventions.filter(pl.col("control_of").is_not_null())
    assert set(controlled["control_of"]) <= set(interventions.filter(pl.col("control_of").is_null())["intervention"])
    assert {"matched_random", "same_norm_direction", "error_only", "whole_mlp", "other_concept"} <= set(controlled["control"])
    drawn = controlled.filter(pl.col("control") == "matched_random")
    assert (drawn["n_pool"] > 0).all()
    assert (drawn["distinct_sets"] >= 1).all()


def test_controls_share_no_feature_with_what_they_control(tables: dict[str, pa.Table]) -> None:
    members = pl.DataFrame(pl.from_arrow(tables["intervention_member"]))
    interventions = pl.DataFrame(pl.from_arrow(tables["intervention"])).filter(pl.col("control") == "matched_random")
    for number, control_of in interventions.select("intervention", "control_of").iter_rows():
        for concept in members.filter(pl.col("intervention") == number)["concept"].unique().to_list():

            def chosen(which: int, concept: str | None = concept) -> set[tuple[int, int]]:
                same = pl.col("concept").is_null() if concept is None else pl.col("concept") == concept
                return set(members.filter((pl.col("intervention") == which) & same).select("layer", "feature").iter_rows())

            assert not chosen(number) & chosen(control_of)
            assert {layer for layer, _ in chosen(number)} <= {layer for layer, _ in chosen(control_of)}


def test_effects_are_means_of_outcomes_with_few_sets_untested(tables: dict[str, pa.Table]) -> None:
    outcomes = pl.DataFrame(pl.from_arrow(tables["outcome"]))
    effects = pl.DataFrame(pl.from_arrow(tables["effect"]))
    for row in effects.filter((pl.col("language") == "all") & (pl.col("split") == "all") & (pl.col("control") == "none")).iter_rows(
        named=True
    ):
        own = outcomes.filter(pl.col("intervention") == row["intervention"])
        assert row["mean"] == pytest.approx(own["effect"].cast(pl.Float64).mean(), abs=1e-6)
        assert row["n_prompts"] == own.height
    drawn = effects.filter((pl.col("control") == "matched_random") & (pl.col("n_controls") < 100))
    assert drawn.height > 0
    assert drawn["p_value"].is_null().all()
    assert drawn["control_low"].drop_nulls().len() > 0
    assert effects["p_value"].is_null().all()  # no plan of this fixture draws 100 controls; the demo's does (tests/test_end_to_end.py)


def test_no_op_row_is_exactly_zero_with_its_noise_floor(tables: dict[str, pa.Table]) -> None:
    interventions = pl.DataFrame(pl.from_arrow(tables["intervention"]))
    (number,) = interventions.filter(pl.col("rule") == "no_op")["intervention"]
    outcomes = pl.DataFrame(pl.from_arrow(tables["outcome"])).filter(pl.col("intervention") == number)
    assert (outcomes["effect"] == 0).all()
    assert (outcomes["n_edited"] == 0).all()
    assert interventions["noise_floor"].is_not_null().all()


def test_transfer_rises_equal_the_logits_stored(tables: dict[str, pa.Table], engine: Engine) -> None:
    transfer = pl.DataFrame(pl.from_arrow(tables["transfer"]))
    assert (transfer["source_language"] != transfer["target_language"]).all()
    assert (transfer["source_concept"] != transfer["target_concept"]).all()
    swaps = transfer.filter(pl.col("control").is_null())
    answers = pl.DataFrame(pl.from_arrow(tables["outcome_answer"]))
    for row in swaps.head(10).iter_rows(named=True):
        own = answers.filter(
            (pl.col("intervention") == row["intervention"])
            & (pl.col("prompt") == row["prompt"])
            & (pl.col("source_prompt") == row["source_prompt"])
        )
        logits = {a: (before, after) for a, before, after in own.select("answer", "logit_before", "logit_after").iter_rows()}
        rise = (logits[-1][1] - logits[0][1]) - (logits[-1][0] - logits[0][0])
        assert row["rise"] == pytest.approx(rise, abs=1e-4)
        key = (row["target_language"], row["source_concept"], engine.prompts[row["prompt"]].template)
        (expected,) = [p.correct.token_id for p in engine.prompts if (p.language, p.concept, p.template) == key]
        assert row["expected_token_id"] == expected


def test_the_battery_gives_equal_tables_twice(engine: Engine, prompts: PromptSet, tables: dict[str, pa.Table]) -> None:
    config = InterventionConfig(
        ablated_features=12, top_features=3, control_draws=30, transfer_concepts=4, shared_rate=0.5, integrated_steps=2
    )
    again = run_battery(engine, prompts, "random", config, first_number=5)
    assert all(again[name].equals(table) for name, table in tables.items())


def test_shared_features_are_active_in_both_languages(engine: Engine) -> None:
    scene = make_scene(engine, activity(engine), InterventionConfig(shared_rate=1.0), "decision", count())
    found = shared_features(scene, "concept0", ("en", "fr"))
    for layer, feature in found:
        for prompt in (p for p in engine.prompts if p.concept == "concept0" and p.split == "train"):
            x = engine.model.capture(torch.tensor([prompt.token_ids])).mlp_in[layer][0, -1]
            assert float(engine.transcoders.encode(layer, x)[feature]) > 0


def test_variants_take_the_same_set_by_other_rules_and_modes(tables: dict[str, pa.Table]) -> None:
    interventions = pl.DataFrame(pl.from_arrow(tables["intervention"])).filter(pl.col("control").is_null())
    assert {"zero", "mean", "resample", "scale", "add", "patch", "swap", "no_op"} == set(interventions["rule"])
    members = pl.DataFrame(pl.from_arrow(tables["intervention_member"]))
    sets = {
        (row["rule"], row["mode"]): set(members.filter(pl.col("intervention") == row["intervention"]).select("layer", "feature").rows())
        for row in interventions.filter(pl.col("name").str.contains("ablate top 3:|ablate top 3$")).iter_rows(named=True)
    }
    assert {mode for _, mode in sets} >= {"free", "frozen_attention", "direct"}
    assert len({tuple(sorted(found)) for found in sets.values()}) == 1


def test_reference_values_equal_a_dense_pass(engine: Engine) -> None:
    scene = make_scene(engine, activity(engine), InterventionConfig(), "all", count())
    features = [(0, 5), (1, 17), (2, 40)]
    mean, sd = variants.reference_values(scene, features)
    for layer, feature in features:
        values = []
        for place in scene.train.tolist():
            x = engine.model.capture(torch.tensor([engine.prompts[place].token_ids])).mlp_in[layer][0, 1:]
            values += engine.transcoders.encode(layer, x)[:, feature].tolist()
        assert mean[layer, feature] == pytest.approx(np.mean(values), abs=1e-5)
        assert sd[layer, feature] == pytest.approx(np.std(values), abs=1e-5)


def test_a_supernode_is_ablated_whole(engine: Engine) -> None:
    config = InterventionConfig(control_draws=10)
    clean = activity(engine)
    scene = make_scene(engine, clean, config, "all", count())
    chosen = sorted({(int(layer), int(feature)) for layer, feature in zip(clean.layer[:400], clean.feature[:400], strict=True)})[:4]
    jobs = variants.supernode_jobs(scene, {"7": chosen, "8": []})
    assert [job.work.name for job in jobs if job.control is None] == ["ablate supernode 7"]
    assert jobs[0].work.features == tuple(chosen)
    assert {job.control for job in jobs[1:]} == {"matched_random"}
    whole = run_jobs(engine, clean, jobs[:1], integrated_steps=0)[0]
    by_hand = engine.run(
        edits_of([(int(p), [(layer, t, f, 0.0) for layer, f in chosen for t in range(1, engine.lengths[p])]) for p in jobs[0].prompts])
    )
    np.testing.assert_allclose(whole.effect, by_hand.effect, atol=1e-4)


def test_supernodes_of_a_graph_are_named_largest_first() -> None:
    graph = pa.table({"graph": [0, 1], "behaviour": ["antonyms", None]})
    columns = [
        (0, 0, "input", None, None),
        (0, 1, "feature", 2, 7),
        (0, 2, "feature", 2, 8),
        (0, 3, "feature", 4, 1),
        (1, 0, "feature", 0, 0),
    ]
    node = pa.table(dict(zip(("graph", "node", "kind", "layer", "feature"), map(list, zip(*columns, strict=True)), strict=True)))
    rows = [(0, 0, 3), (0, 1, 3), (0, 2, 3), (0, 3, 5), (1, 0, 1)]
    supernode = pa.table(dict(zip(("graph", "node", "supernode"), map(list, zip(*rows, strict=True)), strict=True)))
    assert supernodes_of(graph, node, supernode) == {"antonyms": {"3": [(2, 7), (2, 8)]}}


def test_chosen_prompts_keep_translations_together() -> None:
    many = random_prompts(n_concepts=30, lengths=(5, 6, 7, 8, 9)).prompts
    chosen = choose_prompts(many, 100, 0)
    assert len(chosen) <= 120
    keys = [(p.concept, p.template) for p in chosen]
    assert all(keys.count(key) == 2 for key in set(keys))
    assert choose_prompts(many, 10_000, 0) == list(many)


# ---- bad input --------------------------------------------------------------------------------------------------


def test_bad_input_is_named(engine: Engine, model: LanguageModel, transcoders: TranscoderSet, prompts: PromptSet) -> None:
    with pytest.raises(UsageError, match="no feature 96: it has 0 to 95"):
        engine.run(edits_of([(0, [(1, 1, 96, 0.0)])]))
    with pytest.raises(UsageError, match="Layer 3 is out of range"):
        engine.run(edits_of([(0, [(3, 1, 0, 0.0)])]))
    with pytest.raises(UsageError, match="Position 9 is outside prompt 0"):
        engine.run(edits_of([(0, [(1, 9, 0, 0.0)])]))
    with pytest.raises(UsageError, match="Unknown mode 'loose'"):
        engine.run(edits_of([(0, [(1, 1, 0, 0.0)])]), mode="loose")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="empty set"):
        Intervention("x", "zero", {None: ()})
    with pytest.raises(UsageError, match="needs a source prompt"):
        build(engine, Intervention("x", "patch", {None: ((0, 1),)}), [0])
    with pytest.raises(UsageError, match="needs a strength"):
        Intervention("x", "scale", {None: ((0, 1),)})
    with pytest.raises(UsageError, match="no prompts"):
        Engine(model, transcoders, [])
    with pytest.raises(InputError, match="infinite"):
        engine.run(edits_of([(0, [(1, 1, 0, np.inf)])]))
    bare = dataclasses.replace(prompts.prompts[0], answers=prompts.prompts[0].answers[:1])
    with pytest.raises(InputError, match="no contrast answer"):
        Engine(model, transcoders, [bare])
    unseen = dataclasses.replace(prompts, prompts=tuple(dataclasses.replace(p, split="test") for p in prompts.prompts))
    with pytest.raises(InputError, match="train split"):
        run_battery(Engine(model, transcoders, unseen.prompts), unseen, "random", InterventionConfig())


def test_nan_in_an_edited_pass_names_the_layer(transcoders: TranscoderSet, prompts: PromptSet) -> None:
    broken = random_model(n_layers=LAYERS)
    engine = Engine(broken, transcoders, prompts.prompts)
    engine.clean(0)
    with torch.no_grad():
        broken.hf.model.layers[2].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or infinite values in an edited pass from layer 0"):
        engine.run(edits_of([(0, [(0, 1, 0, 3.0)])]))
