"""Features of a text of one's own: those of an ingest, joined with their cards, filtered, compared, kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import atlas
import queries
from atlas.errors import InputError, UsageError
from atlas.publish import publish
from ingest.activations import ActivationConfig, activations
from ingest.ask import Session
from ingest.ask.cards import Asking, parse_positions
from ingest.ask.chat import chat_text
from ingest.prompts import PromptSet, build_prompt_set, load_behaviour
from ingest.quality import QualityConfig
from tests.ingest.ask import plain

EN, FR = "The opposite of hot is", "Le contraire de chaud est"


@pytest.fixture(scope="module")
def prompts() -> PromptSet:
    return build_prompt_set([load_behaviour("antonyms")], plain.tokenizer(), languages=["en", "fr"], max_concepts=2)


def test_features_of_own_text_equal_those_of_an_ingest_of_it(session: Session, prompts: PromptSet) -> None:
    for prompt in prompts.prompts[::5]:
        alone = replace(prompts, prompts=(replace(prompt, prompt=0),), pairs=(), operations=())
        config = ActivationConfig(quality=QualityConfig(replacement=False, reconstruction=False))
        table = activations(session.opened.model, session.opened.transcoders, alone, config)["activation"]
        expected = sorted(zip(*(table[name].to_pylist() for name in ("position", "layer", "feature", "activation")), strict=True))
        active = session.ask(prompt.text).active
        columns = (active.position, active.layer, active.feature, active.activation)
        assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == expected
        assert len(expected) > 100


def test_features_of_own_text_equal_those_that_the_atlas_holds(session: Session) -> None:
    """In the atlas the prompt stood in a batch with others: equal sets but for the smallest, values within 1e-4 (METHODS section 8)."""
    assert session.reader is not None
    number, text = session.reader.sql(
        "select prompt, text from prompt where run_id = ? order by prompt limit 1", [session.opened.run]
    ).rows()[0]
    rows = session.reader.sql(
        "select position, layer, feature, activation from activation_by_prompt where run_id = ? and prompt = ?",
        [session.opened.run, number],
    ).rows()
    stored = {row[:3]: row[3] for row in rows}
    active = session.ask(text).active
    places = zip(active.position.tolist(), active.layer.tolist(), active.feature.tolist(), strict=True)
    found = dict(zip(places, active.activation.tolist(), strict=True))
    assert all(max(stored.get(key, 0.0), found.get(key, 0.0)) < 1e-4 for key in set(stored) ^ set(found))
    assert all(abs(stored[key] - found[key]) < 1e-4 for key in set(stored) & set(found))
    assert len(set(stored) & set(found)) > 100


def test_rows_are_the_strongest_of_each_token_by_a_dense_search(session: Session) -> None:
    asked = session.ask(EN, asking=Asking(top=3), columns=["all"])
    ids = asked.texts[0].token_ids
    read = plain.mlp_inputs(ids, range(6))
    for position in range(1, len(ids)):
        dense = {
            (layer, feature): float(value)
            for layer in range(6)
            for feature, value in enumerate(
                torch.relu(read[layer][position] @ plain.weights(layer)["W_enc"].T + plain.weights(layer)["b_enc"])
            )
            if value > 0
        }
        best = sorted(dense, key=lambda key: (-dense[key], key))[:3]
        rows = [row for row in asked.arrow().to_pylist() if row["position"] == position]
        assert [(row["layer"], row["feature"]) for row in rows] == best
        assert [row["activation"] for row in rows] == pytest.approx([dense[key] for key in best], abs=1e-5)
    assert 0 not in asked.arrow()["position"].to_pylist()


def test_cards_are_those_of_the_atlas(session: Session) -> None:
    assert session.reader is not None
    row = session.ask(EN, asking=Asking(top=1), columns=["all"]).arrow().to_pylist()[-1]
    card = session.reader.ask("features/card", run=session.opened.run, layer=row["layer"], feature=row["feature"]).arrow().to_pylist()[0]
    assert row["density"] == card["density"]
    assert row["relative"] == pytest.approx(row["activation"] / card["max_activation"])
    assert row["promotes"] == card["promoted_tokens"][:5]
    assert [row["rate.en"], row["rate.fr"]] == card["rates"]
    scores = session.reader.ask("languages/scores", run=session.opened.run, layer=row["layer"], top=10_000).arrow().to_pylist()
    (lift,) = [score["lift"] for score in scores if score["feature"] == row["feature"]]
    assert row["translation_lift"] == lift


def test_filters_positions_and_tokens_choose_rows(session: Session) -> None:
    every = session.ask(EN, asking=Asking(top=0), columns=["all"]).arrow().to_pylist()
    few = session.ask(EN, asking=Asking(top=0, layers=(2, 3), min_value=0.5, filter="lape<0.5 and density<=0.05"), columns=["all"])
    kept = [
        row
        for row in every
        if row["layer"] in (2, 3) and row["activation"] >= 0.5 and row["lape"] is not None and row["lape"] < 0.5 and row["density"] <= 0.05
    ]
    assert few.arrow().to_pylist() == kept
    assert 0 < len(kept) < len(every)
    hot = session.ask(EN, asking=Asking(top=0, token="HOT"))
    assert set(hot.arrow()["token"].to_pylist()) == {" hot"}
    last = session.ask(EN, asking=Asking(top=0, positions=parse_positions("-1")))
    assert set(last.arrow()["position"].to_pylist()) == {len(last.texts[0]) - 1}
    ranked = session.ask(EN, asking=Asking(top=5, whole=True, by="relative")).arrow()
    assert ranked["relative"].to_pylist() == sorted(ranked["relative"].to_pylist(), reverse=True)
    assert parse_positions("2,4-5,-1") == (2, 4, 5, -1)


@pytest.mark.parametrize(
    ("asking", "message"),
    [
        (Asking(filter="nonsense<2"), "no column 'nonsense'"),
        (Asking(by="nonsense"), "cannot rank by 'nonsense'"),
        (Asking(by="token"), "no number"),
        (Asking(positions=(99,)), "outside of the text"),
        (Asking(token="absent"), "no token of the text"),
    ],
)
def test_what_cannot_be_asked_is_refused(session: Session, asking: Asking, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        session.ask(EN, asking=asking)


def test_empty_and_overlong_texts_are_refused(session: Session) -> None:
    with pytest.raises(InputError, match="is empty"):
        session.ask("  ")
    with pytest.raises(UsageError, match="reads 256"):
        session.ask("hot " * 300)


def test_two_texts_are_shared_and_apart_as_sets_say(session: Session) -> None:
    asked = session.ask(EN, against=FR, asking=Asking(top=0))
    sides = []
    for text in (EN, FR):
        active = session.ask(text).active
        counted = active.select(active.position > 0)
        best: dict[tuple[int, int], float] = {}
        for layer, feature, value in zip(counted.layer.tolist(), counted.feature.tolist(), counted.activation.tolist(), strict=True):
            best[layer, feature] = max(value, best.get((layer, feature), 0.0))
        sides.append(best)
    rows = session.ask(EN, against=FR, asking=Asking(top=0), columns=["where", "layer", "feature", "here", "there"]).arrow().to_pylist()
    found = {(row["layer"], row["feature"]): row for row in rows}
    assert set(found) == set(sides[0]) | set(sides[1])
    for key, row in found.items():
        assert row["where"] == ("both" if key in sides[0] and key in sides[1] else "here" if key in sides[0] else "there")
        assert row["here"] == pytest.approx(sides[0].get(key, 0.0), abs=1e-4)
        assert row["there"] == pytest.approx(sides[1].get(key, 0.0), abs=1e-4)
    assert asked.overlap is not None
    assert (asked.overlap.both, asked.overlap.here) == (len(set(sides[0]) & set(sides[1])), len(set(sides[0]) - set(sides[1])))


def test_a_text_against_itself_shares_everything(session: Session) -> None:
    asked = session.ask(EN, against=EN, asking=Asking(top=0))
    assert asked.overlap is not None
    assert asked.overlap.jaccard == 1.0
    assert set(asked.arrow()["difference"].to_pylist()) == {0.0}


def test_a_kept_answer_is_a_run_like_any_other_and_is_kept_once(session: Session, tmp_path: Path) -> None:
    folder = tmp_path / "own.atlas"
    asked = session.ask(EN, against=FR, asking=Asking(top=1, filter="layer=2"))
    run = session.keep(asked, folder, languages=["en", "fr"])
    assert session.keep(session.ask(EN, against=FR), folder, languages=["en", "fr"]) == run
    assert session.keep(session.ask(EN, against=FR), folder) != run
    publish(folder, build=queries.build_steps(), audits=queries.audits())
    with atlas.open(folder) as reader:
        rows = reader.ask("features/of_prompt", run=run, prompt=1, top=100_000, sinks=True).arrow()
        own = asked.active.select(asked.active.text == 1)
        assert rows.num_rows == len(own.keys())
        assert sorted(rows["activation"].to_pylist())[-1] == float(own.activation.max())
        pairs = reader.sql("select kind, prompt_a, prompt_b from prompt_pair where run_id = ?", [run]).rows()
        assert pairs == [("translation", 0, 1)]
        runs = {row[0]: row[1] for row in reader.sql("select run_id, kind::varchar from run").rows()}
        assert runs[run] == "ask"
        stored = reader.sql("select count(*), sum(activation) from activation where run_id = ?", [run]).rows()[0]
        assert stored == (len(asked.active), pytest.approx(float(asked.active.activation.astype(np.float64).sum())))


def test_a_chat_template_is_the_tokenizers_own(session: Session) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        session.ask(EN, chat=True)
    tokenizer = session.opened.model.tokenizer
    tokenizer.chat_template = (
        "{% for m in messages %}<|endoftext|>{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}est{% endif %}"
    )
    try:
        assert chat_text(tokenizer, "hot", "Be brief") == "<|endoftext|>system: Be brief\n<|endoftext|>user: hot\nest"
        text = session.ask("hot", chat=True).texts[0]
        assert text.tokens[0] == "<|endoftext|>"
        assert text.token_ids.count(text.token_ids[0]) == 1
        tokenizer.chat_template = "{{ raise_exception('no system message, please') }}"
        with pytest.raises(InputError, match="no system message, please"):
            session.ask("hot", chat=True, system="x")
    finally:
        tokenizer.chat_template = None


def test_a_session_says_which_model_and_why_none(demo_atlas: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model to ask"):
        Session.open()
    with pytest.raises(UsageError, match="has no transcoders"):
        Session.open(model=str(tmp_path))
    with Session.open(demo_atlas, model="embedded:control") as control:
        assert control.opened.run_name == "control"
        assert control.ask(EN).arrow()["density"].null_count == 0
    with Session.open(model="embedded:bilingual", layers=[3]) as bare:
        assert set(bare.ask(EN).arrow()["density"].to_pylist()) == {None}
        assert {name[:3] for name in bare.ask(EN).arrow()["name"].to_pylist()} == {"L3_"}


def test_what_the_dictionary_leaves_unexplained_stands_beside_each_token(session: Session) -> None:
    """The share of each token and layer is that of the model's own records and the set's own reconstruction."""
    asked = session.ask(EN, against=FR)
    found = asked.unexplained().to_pylist()
    model, transcoders = session.opened.model, session.opened.transcoders
    expected = []
    for number, text in enumerate(asked.texts):
        with torch.no_grad():
            captured = model.capture(torch.tensor([text.token_ids]))
        for position in range(1, len(text)):
            for layer in transcoders.layers:
                written = captured.mlp_out[layer][0, position].double()
                error = written - transcoders.reconstruct(layer, captured.mlp_in[layer][0, position]).double()
                expected.append((number, position, layer, float(error.norm() ** 2 / written.norm() ** 2)))
    assert [(row["text"], row["position"], row["layer"]) for row in found] == [row[:3] for row in expected]
    assert [row["unexplained_share"] for row in found] == pytest.approx([row[3] for row in expected], rel=1e-3, abs=1e-6)
    worst = max(found, key=lambda row: row["unexplained_share"])
    assert f"(layer {worst['layer']} at {worst['token']!r})" in asked.sentences()[-1]
