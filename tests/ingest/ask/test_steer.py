"""Steering against a hand-written loop with plain transformers hooks; a change of nothing changes no bit."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch

import atlas
import queries
from atlas.errors import UsageError
from atlas.publish import publish
from ingest.ask import Session
from ingest.ask.change import parse_change, parse_changes
from ingest.ask.generation import Continuation, Sampling, generate
from ingest.ask.steering import SteeringEdit, Where
from ingest.model import from_module
from ingest.transcoder import TranscoderSet
from tests.ingest.ask import plain
from tests.ingest.families import FAMILIES, TOKENS, random_hf, random_weights

PROMPT = "Le contraire de « chaud » est"
A, B, C, D = (2, 336), (2, 45), (3, 139), (4, 207)
"""Features that fire on the prompt: two of layer 2, one of layer 3, one of layer 4."""
Values = Mapping[tuple[int, int], float]

CASES: dict[str, tuple[list[str], list[tuple[int, int]], Callable[[Values], Values]]] = {
    "scale": (["L2_F336=-3x"], [A], lambda clean: {A: -3 * clean[A]}),
    "ablate": (["L4_F207=0"], [D], lambda _clean: {D: 0.0}),
    "clamp": (["L3_F139=6"], [C], lambda _clean: {C: 6.0}),
    "add": (["L3_F139=+4.5"], [C], lambda clean: {C: clean[C] + 4.5}),
    "swap": (["L2_F336<->L2_F45"], [A, B], lambda clean: {A: clean[B], B: clean[A]}),
    "several layers": (["L2_F336=4x", "L3_F139=+5", "L4_F207=0"], [A, C, D], lambda clean: {A: 4 * clean[A], C: clean[C] + 5, D: 0.0}),
    "swap over layers": (["L2_F336<->L4_F207"], [A, D], lambda clean: {A: clean[D], D: clean[A]}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_steered_continuation_equals_a_loop_with_hooks(session: Session, name: str) -> None:
    sets, features, target = CASES[name]
    for rule in ("all", "last") if name in ("clamp", "several layers") else ("all",):
        result = session.steer(PROMPT, sets, positions=rule, sampling=Sampling(6))
        ids = result.steered.prompt.token_ids
        where = Where(rule)
        tokens, logprobs = plain.steered_greedily(ids, features, target, partial(where.covers, n_prompt=len(ids)), 6)
        written = result.steered.points[0].continuations[0]
        assert list(written.token_ids) == tokens
        assert list(written.logprobs) == pytest.approx(logprobs, abs=2e-4)


def test_the_clamped_continuation_is_another_one(session: Session) -> None:
    """The comparison above would hold for edits without effect too."""
    result = session.steer(PROMPT, "L3_F139=6", sampling=Sampling(6))
    point = result.steered.points[0]
    assert point.n_edited > 0
    assert point.kl > 1e-4
    assert point.continuations[0].logprobs != result.steered.unsteered.continuations[0].logprobs


@pytest.mark.parametrize("sampling", [Sampling(8), Sampling(8, 0.9, 3, seed=4)])
def test_a_change_of_nothing_gives_the_same_bits(session: Session, sampling: Sampling) -> None:
    result = session.steer(PROMPT, ["L2_F336=1x", "L4_F207=+0"], sampling=sampling, answers=[" froid", " chaud et froid"])
    same, before = result.steered.points[0], result.steered.unsteered
    assert same.continuations == before.continuations
    assert same.answers == before.answers
    assert (same.kl, same.gains, same.losses, same.moved, same.n_edited) == (0.0, (), (), (), 0)
    silent = session.steer(PROMPT, "L0_F0=0", sampling=sampling).steered
    if silent.points[0].n_edited == 0:
        assert silent.points[0].continuations == silent.unsteered.continuations


def unsteered(session: Session, seed: int) -> tuple[Continuation, ...]:
    return session.steer(PROMPT, "L3_F139=6", sampling=Sampling(8, 1.5, 2, seed)).steered.unsteered.continuations


def test_samples_hang_on_the_seed_and_on_nothing_else(session: Session) -> None:
    texts = {
        seed: [
            item.token_ids
            for item in session.steer(PROMPT, "L3_F139=6", sampling=Sampling(8, 1.5, n, seed)).steered.unsteered.continuations
        ]
        for seed, n in ((0, 2), (1, 2))
    }
    again = session.steer(PROMPT, "L3_F139=2", sampling=Sampling(8, 1.5, 3, 0)).steered.unsteered.continuations
    assert [item.token_ids for item in again][:2] == texts[0]
    assert texts[0] != texts[1]


def test_sampling_follows_the_models_distribution(session: Session) -> None:
    """Frequencies of the first token over 400 samples: within 5 standard errors of its probability."""
    result = session.steer(PROMPT, "L3_F139=1x", sampling=Sampling(1, 1.0, 400, 7)).steered
    logprob = torch.log_softmax(plain.next_logits(result.prompt.token_ids), dim=0)
    top = int(logprob.argmax())
    p = math.exp(float(logprob[top]))
    share = sum(item.token_ids[0] == top for item in result.unsteered.continuations) / 400
    assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 400)


def test_kl_shifts_and_moved_features_follow_from_plain_passes(session: Session) -> None:
    result = session.steer(PROMPT, "L3_F139=6", sampling=Sampling(1), top=5)
    point, ids = result.steered.points[0], result.steered.prompt.token_ids
    before = torch.log_softmax(plain.next_logits(ids).double(), dim=0)
    positions = range(1, len(ids))
    clean = plain.mlp_inputs(ids, [4, 5])
    with plain.steering(ids, [C], lambda _clean: {C: 6.0}, positions):
        after = torch.log_softmax(plain.next_logits(ids).double(), dim=0)
    assert point.kl == pytest.approx(float((before.exp() * (before - after)).sum()), rel=1e-3)
    rise = after.exp() - before.exp()
    assert [shift.token_id for shift in point.gains] == rise.topk(5).indices.tolist()
    assert [shift.token_id for shift in point.losses] == (-rise).topk(5).indices.tolist()
    assert point.gains[0].after == pytest.approx(float(after[point.gains[0].token_id]), abs=1e-4)
    seen: dict[int, torch.Tensor] = {}
    handles = [
        plain.model().model.layers[layer].mlp.register_forward_pre_hook(lambda _m, args, layer=layer: seen.__setitem__(layer, args[0][0]))
        for layer in (4, 5)
    ]
    with plain.steering(ids, [C], lambda _clean: {C: 6.0}, positions):
        plain.next_logits(ids)
    for handle in handles:
        handle.remove()
    changes: dict[tuple[int, int, int], float] = {}
    for layer in (4, 5):
        own = plain.weights(layer)
        difference = torch.relu(seen[layer] @ own["W_enc"].T + own["b_enc"]) - torch.relu(clean[layer] @ own["W_enc"].T + own["b_enc"])
        changes |= {(layer, f, p): float(difference[p, f]) for p in positions for f in difference[p].abs().topk(5).indices.tolist()}
    best = sorted(changes, key=lambda key: -abs(changes[key]))[:5]
    assert [(moved.layer, moved.feature, moved.position) for moved in point.moved] == best
    assert point.moved[0].after - point.moved[0].before == pytest.approx(changes[best[0]], abs=1e-4)


def test_strengths_take_the_place_of_values(session: Session) -> None:
    result = session.steer(PROMPT, ["L3_F139", "L4_F207=0"], strengths=[0, 1, 4], sampling=Sampling(1))
    assert [point.name for point in result.steered.points] == ["L3_F139=0x L4_F207=0", "L3_F139=1x L4_F207=0", "L3_F139=4x L4_F207=0"]
    (member,) = [m for m in result.steered.points[2].members if (m.layer, m.feature) == C and m.position == 1]
    assert member.target == pytest.approx(4 * member.clean)
    sd = session.steer(PROMPT, "L3_F139=+2sd", sampling=Sampling(1)).steered.points[0].changes[0]
    assert session.reader is not None
    (card,) = session.reader.ask("features/cards", run=session.opened.run, features="L3_F139").arrow().to_pylist()
    assert sd.value == pytest.approx(2 * card["sd_activation"])


@pytest.mark.parametrize(
    ("text", "name"),
    [("L1_F2=3x", "L1_F2=3x"), ("1_2=x0.5", "L1_F2=0.5x"), ("L1_F2 = -1", "L1_F2=-1"), ("L1_F2=0", "L1_F2=0"), ("L1_F2=2.50", "L1_F2=2.5")],
)
def test_spellings_of_a_change(text: str, name: str) -> None:
    assert parse_change(text).name == name


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        (["L1_F2=three"], {}, "says no value"),
        (["L1"], {}, "not a feature"),
        (["L1_F2<->L1_F2"], {}, "swap with itself"),
        (["L1_F2=0", "L1_F2=3x"], {}, "set twice"),
        ([], {}, "nothing is set"),
        (["L9_F2=0"], {}, "has no layer 9"),
        (["L1_F512=0"], {}, "has 512 features"),
        (["L1_F2"], {}, "no --strengths"),
        (["L1_F2=0"], {"strengths": [1.0]}, "nothing to act on"),
        (["L1_F2=0"], {"positions": "somewhere"}, "positions are 'somewhere'"),
        (["L1_F2=0"], {"positions": "99"}, "outside of the prompt"),
        (["L1_F2=0"], {"sampling": Sampling(300)}, "reads 256"),
        (["L0_F0=+1sd", "L1_F400=+1sd", "L5_F511=+1sd", "L4_F1=+1sd", "L2_F0=+1sd", "L3_F0=+1sd"], {}, "standard deviation"),
    ],
)
def test_what_cannot_be_steered_is_refused(session: Session, sets: list[str], options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        session.steer(PROMPT, sets, **options)  # type: ignore[arg-type]


def test_a_silent_feature_is_pointed_out(session: Session) -> None:
    active = session.ask(PROMPT).active
    silent = next(feature for feature in range(512) if (3, feature) not in set(active.keys()))
    assert f"L3_F{silent} is silent" in session.steer(PROMPT, f"L3_F{silent}=3x", sampling=Sampling(1)).steered.notes[0]


def test_kept_steering_is_an_intervention_with_its_text(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "own.atlas"
    result = session.steer(PROMPT, ["L2_F336", "L3_F139=2"], strengths=[0, 4], sampling=Sampling(5), answers=[" froid", " chaud et froid"])
    run = session.keep(result, folder, languages=["fr"])
    assert session.keep(result, folder, languages=["fr"]) == run
    publish(folder, build=queries.build_steps(), audits=queries.audits())
    with atlas.open(folder) as reader:
        rows = reader.ask("interventions/continuations", run=run).arrow().to_pylist()
        assert [row["text"] for row in rows] == result.arrow()["text"].to_pylist()
        assert {row["unsteered"] for row in rows} == {result.arrow()["text"].to_pylist()[0]}
        outcome = reader.sql("select intervention, effect, kl from outcome where run_id = ? order by 1", [run]).rows()
        margins = [row["margin"] for row in result.answers().to_pylist() if row["margin"] is not None]
        assert [row[1] for row in outcome] == pytest.approx([margin - margins[0] for margin in margins[1:]], abs=1e-5)
        members = reader.sql(
            "select position, value from intervention_member where run_id = ? and intervention = 2 and layer = 2 order by position", [run]
        ).rows()
        targets = [(m.position, m.target) for m in result.steered.points[1].members if m.layer == 2]
        assert members == [(-1, None), *((position, pytest.approx(value)) for position, value in targets)]
        rules = reader.sql("select rule::varchar from intervention where run_id = ? order by intervention", [run]).rows()
        assert [rule for (rule,) in rules] == ["no_op", "mixed", "mixed"]


def test_parse_changes_names_every_feature_once() -> None:
    assert [change.places for change in parse_changes(["L1_F2<->L1_F7", "L3_F4=0"])] == [((1, 2), (1, 7)), ((3, 4),)]


@pytest.mark.parametrize("family", FAMILIES)
def test_writing_with_cached_keys_and_values_equals_writing_without(family: str) -> None:
    """Every supported family, by passes over the whole sequence: masks, rotary positions and sliding windows included."""
    model = from_module(random_hf(family))
    ids = list(TOKENS)
    written = generate(model, ids, Sampling(6))[0]
    for token, logprob in zip(written.token_ids, written.logprobs, strict=True):
        logits = model.logits(model.capture(torch.tensor([ids]), layers=(), mlp=False).final[0, -1])
        assert token == int(logits.argmax())
        assert logprob == pytest.approx(float(torch.log_softmax(logits, dim=0)[token]), abs=1e-9)
        ids.append(token)


def test_a_cross_layer_feature_writes_to_all_its_targets() -> None:
    """Against an edit that is written out by hand: the change of one activation times each target's decoder row."""
    weights, config = random_weights("cross_layer")
    transcoders = TranscoderSet.from_weights(weights, config=config, dtype="float64")
    model = from_module(random_hf("llama"))
    transcoders.bind(model)
    change = parse_change("L0_F3=+2")
    edit = SteeringEdit(transcoders, [change], Where("decision"), len(TOKENS)).begin(0)
    ids, last = torch.tensor([list(TOKENS)]), len(TOKENS) - 1

    def by_hand(layer: int, _mlp_in: torch.Tensor, mlp_out: torch.Tensor) -> torch.Tensor:
        out = mlp_out.clone()
        out[0, last] += 2.0 * transcoders.decoder(0, layer)[3]
        return out

    found, expected, clean = (model.capture(ids, edit=given) for given in (edit, by_hand, None))
    assert torch.allclose(found.final, expected.final, atol=1e-12)
    assert not torch.allclose(found.final[0, last], clean.final[0, last], atol=1e-3)
