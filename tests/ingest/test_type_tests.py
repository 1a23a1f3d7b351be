"""The abstract-mapping test: swaps against a computation by hand, on a model that has a second operation and on one that lacks it."""

from __future__ import annotations

import dataclasses
from itertools import count

import numpy as np
import pytest
import torch
from torch import Tensor

import ingest.tiny
from atlas.errors import InputError
from ingest import type_tests
from ingest.circuit import swaps
from ingest.intervene.activity import activity
from ingest.intervene.battery import InterventionConfig, Scene, make_scene
from ingest.intervene.engine import Engine
from ingest.interventions import choose_prompts
from ingest.model import load_model
from ingest.prompts import PromptSet, build_prompt_set, load_behaviour, parse_behaviour
from ingest.prompts.check import _token_findings
from ingest.tiny.tokenizer import corpus_tokenizer
from ingest.transcoder import TranscoderSet


def bilingual(behaviour: str, variant: str = "bilingual", n_prompts: int = 96) -> tuple[Scene, PromptSet]:
    model = load_model(ingest.tiny.model_path(variant))
    transcoders = TranscoderSet.open(ingest.tiny.transcoder_path(variant))
    transcoders.bind(model)
    made = build_prompt_set([load_behaviour(behaviour)], model.tokenizer, languages=("en", "fr"), max_concepts=24)
    engine = Engine(model, transcoders, choose_prompts(list(made.prompts), n_prompts, 0))
    return make_scene(engine, activity(engine), InterventionConfig(), "all", count()), made


@pytest.fixture(scope="module")
def two_hop() -> tuple[Scene, PromptSet]:
    return bilingual("two_hop")


def test_other_operations_are_spelled_out_beside_the_prompts(two_hop: tuple[Scene, PromptSet]) -> None:
    _, made = two_hop
    assert {(p.template, p.language) for p in made.operations} == {("country", "en"), ("country", "fr")}
    first = made.operations[0]
    assert (first.text, first.correct.text, [a.text for a in first.contrasts]) == ("City: Lyon, country:", " France", [" Paris"])
    assert made.prompt_set_hash != dataclasses.replace(made, operations=()).prompt_set_hash
    assert not any(p.text == first.text for p in made.prompts)


def test_the_country_can_be_swapped_in_for_the_capital(two_hop: tuple[Scene, PromptSet]) -> None:
    scene, made = two_hop
    (swap,) = swaps.operation_swaps(scene, made.operations, 40)
    assert swap.holds is True
    assert swap.first > 0.9
    assert float(swap.rise.mean) > 10 > 2 > swap.random.max()
    row = type_tests.abstract_mapping(scene, made.pairs, made.operations)
    assert row["supports"] is True
    assert "operation country" in row["note"]
    without = type_tests.abstract_mapping(scene, made.pairs)
    assert without["supports"] is None
    assert "Not swapped: operation" in without["note"]


def test_an_operation_swap_equals_a_computation_by_hand(two_hop: tuple[Scene, PromptSet]) -> None:
    """Means, choice of features and the edited pass written out again, densely, for one prompt."""
    scene, made = two_hop
    engine, model, transcoders = scene.engine, scene.engine.model, scene.engine.transcoders
    place = next(i for i, p in enumerate(engine.prompts) if p.split != "train" and p.language == "fr")
    prompt = engine.prompts[place]
    sources = [p for p in swaps.answered(scene, made.operations) if p.split == "train" and p.language == "fr"]

    def decision(token_ids: tuple[int, ...]) -> Tensor:
        captured = model.capture(torch.tensor([token_ids]))
        return torch.stack([transcoders.encode(layer, captured.mlp_in[layer][0, -1]) for layer in transcoders.layers])  # (L, F)

    own = torch.stack([decision(p.token_ids) for p in engine.prompts if p.split == "train" and p.language == "fr"]).mean(0)
    theirs = {p.prompt: decision(p.token_ids) for p in sources}
    norms = torch.stack([transcoders.decoder(layer).norm(dim=1) for layer in transcoders.layers])
    size = (own - torch.stack(list(theirs.values())).mean(0)).abs() * norms
    chosen = size.flatten().topk(swaps.MEAN_FEATURES).indices
    value = torch.stack([a for number, a in theirs.items() if made.operations[number].cluster != prompt.cluster]).mean(0)

    def edit(layer: int, mlp_in: Tensor, mlp_out: Tensor) -> Tensor:
        out = mlp_out.clone()
        now = transcoders.encode(layer, mlp_in[0, -1])
        for index in chosen.tolist():
            if index // value.shape[1] == layer:
                feature = index % value.shape[1]
                out[0, -1] += (value[layer, feature] - now[feature]) * transcoders.decoder(layer)[feature]
        return out

    final = model.capture(torch.tensor([prompt.token_ids]), edit=edit).final[:, -1]
    by_hand = model.logits(final)[0]
    expected = next(p.correct.token_id for p in made.operations if p.concept == prompt.concept and p.language == "fr")
    means = swaps._means_of(scene, sources)
    edits = means.edits(scene, [place], {place: "fr"}, {("fr", "fr"): means.features(scene, "fr", "fr")})
    got = engine.run(edits, tokens=np.array([[prompt.correct.token_id, expected]]))
    assert got.logit_after[0] == pytest.approx(by_hand[[prompt.correct.token_id, expected]].detach().numpy(), abs=1e-3)


def test_an_answer_of_another_operand_is_not_kept(two_hop: tuple[Scene, PromptSet]) -> None:
    """What is expected of the wrong operand does not come to stand above the others: the test can fail."""
    scene, made = two_hop
    concepts = sorted({p.concept for p in made.operations})
    following = dict(zip(concepts, concepts[7:] + concepts[:7], strict=True))
    wrong = [dataclasses.replace(p, concept=following[p.concept]) for p in made.operations]
    asked = swaps.answered(scene, wrong)
    expected = {(p.language, p.concept): p.correct.token_id for p in asked}
    targets = [i for i, p in enumerate(scene.engine.prompts) if p.split != "train" and (p.language, p.concept) in expected]
    tokens = {i: expected[scene.engine.prompts[i].language, scene.engine.prompts[i].concept] for i in targets}
    means = swaps._means_of(scene, [p for p in asked if p.split == "train"])
    swap = swaps._mean_swap(scene, "wrong", means, tokens, {i: scene.engine.prompts[i].language for i in targets}, asked)
    assert swap is not None
    assert swap.holds is False
    assert swap.kept is not None
    assert float(swap.kept.mean) < 0


def test_the_negative_control_has_no_translation_to_swap_in() -> None:
    """Nothing told it which words mean the same: it answers no translation, and its language swap keeps no operand."""
    scene, made = bilingual("antonyms", "control")
    assert {p.template for p in swaps.answered(scene, made.operations)} == {"synonym"}
    assert all("translation" not in swap.name for swap in swaps.operation_swaps(scene, made.operations, 40))
    row = type_tests.abstract_mapping(scene, made.pairs, made.operations)
    assert row["supports"] is False


def test_no_source_of_a_swap_is_of_the_prompts_own_cluster(two_hop: tuple[Scene, PromptSet]) -> None:
    scene, made = two_hop
    sources = [p for p in made.operations if p.cluster == "France"]
    means = swaps._means_of(scene, sources)
    assert not means.has_others("en", "France")
    assert means.has_others("en", "Japan")
    feature = next(feature for language, feature in means.total if language == "en")
    assert means.without("en", "Japan", feature) == pytest.approx(means.total["en", feature] / means.n["en"])


def test_a_wrong_operation_is_refused_by_name() -> None:
    text = load_behaviour("two_hop").definition
    with pytest.raises(InputError, match=r"operation 1: no concept has an answer 'river' in language 'en'"):
        parse_behaviour(text.replace('name = "country"', 'name = "river"', 1), "x.toml")
    with pytest.raises(InputError, match=r"operation 1: text 'City, country:' has no \{operand\}"):
        parse_behaviour(text.replace('"City: {operand}, country:"', '"City, country:"', 1), "x.toml")
    with pytest.raises(InputError, match="operation 1: unknown field 'operator'"):
        parse_behaviour(text.replace('text = "City: {operand}, country:"', 'operator = "c"', 1), "x.toml")


def test_an_operations_answer_of_several_tokens_is_named() -> None:
    tokenizer = corpus_tokenizer()
    behaviour = parse_behaviour(load_behaviour("two_hop").definition.replace('country = "France"', 'country = "Gallia"', 1), "x.toml")
    assert [finding.where for finding in _token_findings(behaviour, tokenizer)] == ["two_hop/en/Lyon"]
    with pytest.raises(InputError, match=r"two_hop/en/country/Lyon: the answer ' Gallia' is \d tokens"):
        build_prompt_set([behaviour], tokenizer, prepend=0)
    kept = build_prompt_set([behaviour], tokenizer, prepend=0, drop_multitoken=True)
    assert len(kept.dropped) == 2
