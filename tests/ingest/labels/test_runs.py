"""Labelling runs: mechanical labels, labels by a (stub) language model, scores; resumed, visible as a whole, failures on record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import queries
from atlas.errors import ModelError, UsageError
from atlas.publish import publish
from ingest.labels import runs
from ingest.labels.endpoint import Endpoint, EndpointJudge
from ingest.labels.examples import ExampleConfig, in_part
from ingest.labels.judges import JudgeFailure, Label, LocalJudge, RuleJudge, Shown
from ingest.labels.runs import make_labels, score_labels, write_labels
from ingest.labels.source import LabelSource
from tests.ingest.labels import planted, stub

WRITING = ExampleConfig(per_decile=1, min_texts=1, writing=True)
SCORING = ExampleConfig(per_decile=1)


@pytest.fixture
def source(tmp_path: Path) -> LabelSource:
    return planted.make_atlas(tmp_path / "planted.atlas")


@pytest.fixture
def server() -> Iterator[stub.Stub]:
    with stub.running() as running:
        running.answer = word_between_marks
        yield running


def endpoint(server: stub.Stub, timeout: float = 5.0) -> Endpoint:
    return Endpoint(server.url, "stub", timeout=timeout, retries=0, sleep=lambda seconds: None)


def word_between_marks(question: str) -> str:
    """Label a feature by the words that are marked, as a language model that reads well would."""
    return json.dumps({"label": " ".join(sorted(set(re.findall("«(.*?)»", question))))})


def rows(source: LabelSource, run_id: str, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = LabelSource.open(source.atlas, run_id).table(table).to_pylist()
    return found


def test_labelling_runs_publish_and_the_same_again_changes_nothing(source: LabelSource, server: stub.Stub) -> None:
    done = make_labels(source)
    assert done.rows == {"feature_profile": 7, "label": 8}
    assert make_labels(source).was_complete
    again = make_labels(source, again=True)
    assert again.run_id == done.run_id
    assert write_labels(source, [(0, 0), (0, 7)], endpoint(server), WRITING).rows == {"label": 1, "label_failure": 1}
    scores = score_labels(source, source.labels(), RuleJudge(), SCORING, keep_examples=True)
    publish(source.atlas.path, build=queries.build_steps(), audits=queries.audits())
    with duckdb.connect(str(source.atlas.database), read_only=True) as con:
        assert con.sql("select count(*) from label").fetchall() == [(9,)], "labels that were counted twice are one"
        kinds = con.sql("select kind::varchar, count(*) from run group by all order by all").fetchall()
        assert kinds == [("ingest", 1), ("label", 3)]
        found = queries.ask(con, "features/labels", contains="hot").rows()
        assert len(found) == 3
    assert scores.rows["label_score"] > 0


def test_a_model_writes_labels_from_texts_that_scores_leave_out(source: LabelSource, server: stub.Stub) -> None:
    done = write_labels(source, [(0, 0), (0, 4)], endpoint(server), WRITING)
    found = {row["feature"]: row for row in rows(source, done.run_id, "label")}
    assert {feature: row["text"] for feature, row in found.items()} == {0: "chaud hot", 4: "hot"}
    row = found[0]
    assert (row["method"], row["model"], row["version"], row["source_run"]) == ("language_model", "stub", "write-1", source.run_id)
    written_from = {example.item for some in source.examples([(0, 0)], WRITING)[0, 0] for example in some.activating}
    scored_on = {example.item for some in source.examples([(0, 0)], SCORING)[0, 0] for example in (*some.activating, *some.silent)}
    assert written_from
    assert not written_from & scored_on
    assert write_labels(source, [(0, 4), (0, 0)], endpoint(server), WRITING).was_complete, "the order of features does not matter"
    assert len(server.questions) == 2


def test_features_without_an_answer_leave_a_reason_and_nothing_else(source: LabelSource, server: stub.Stub) -> None:
    server.answer = lambda question: "I would rather not." if "froid" in question else word_between_marks(question)
    done = write_labels(source, [(0, 0), (0, 1), (0, 7)], endpoint(server), WRITING)
    assert [row["feature"] for row in rows(source, done.run_id, "label")] == [0]
    failures = {row["feature"]: row for row in rows(source, done.run_id, "label_failure")}
    assert "no JSON object" in failures[1]["reason"]
    assert failures[1]["attempts"] == 1
    assert "fires on fewer than" in failures[7]["reason"]
    assert failures[7]["attempts"] == 0


@pytest.mark.parametrize("behaviour", ["error 500", "hang", "raw html", "raw enormous", "close"])
def test_a_server_that_misbehaves_leaves_failures_and_no_label(source: LabelSource, server: stub.Stub, behaviour: str) -> None:
    server.behaviour = behaviour
    done = write_labels(source, [(0, 0), (0, 1)], endpoint(server, timeout=0.3), WRITING)
    assert done.rows == {"label": 0, "label_failure": 2}


def test_a_run_gives_up_when_nothing_is_answered_and_goes_on_when_the_server_is_well_again(
    source: LabelSource, server: stub.Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runs.SHARD_FEATURES, "chat", 2)
    monkeypatch.setattr(runs, "GIVE_UP_AFTER", 2)
    names = [(0, feature) for feature in range(6)]
    before = source.atlas.manifest().number
    asked = 0

    def well_twice(question: str) -> str:
        nonlocal asked
        asked += 1
        return word_between_marks(question) if asked <= 2 else "no"

    server.answer = well_twice
    with pytest.raises(ModelError, match="2 questions in a row had no usable answer"):
        write_labels(source, names, endpoint(server), WRITING)
    assert source.atlas.manifest().number == before, "nothing of it is shown"
    assert source.labels() == []
    server.answer = word_between_marks
    server.questions.clear()
    done = write_labels(source, names, endpoint(server), WRITING)
    assert len(server.questions) == 4, "the first shard was kept"
    assert [row["feature"] for row in rows(source, done.run_id, "label")] == list(range(6))


def test_a_run_that_is_stopped_shows_nothing_and_goes_on(source: LabelSource, server: stub.Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runs.SHARD_FEATURES, "chat", 1)

    def stop(question: str) -> str:
        return word_between_marks(question)

    def progress(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    server.answer = stop
    names = [(0, feature) for feature in range(4)]
    with pytest.raises(KeyboardInterrupt):
        write_labels(source, names, endpoint(server), WRITING, progress=progress)
    assert source.labels() == []
    write_labels(source, names, endpoint(server), WRITING)
    assert len(server.questions) == 4
    assert len(source.labels()) == 4


def test_scores_are_stored_with_language_model_version_and_examples(source: LabelSource, server: stub.Stub) -> None:
    make_labels(source)

    def honest(question: str) -> str:
        listed = re.findall(r"^\d+\. (.*)$", question, flags=re.MULTILINE)
        if "does not belong" in question:
            marked = [re.findall("«(.*?)»", text) for text in listed]
            return json.dumps({"intruder": 1 + next(place for place, words in enumerate(marked) if words not in (["hot"], ["chaud"]))})
        seen = [" ".join(re.findall("«(.*?)»", text)) if "in « »" in question else text for text in listed]
        return json.dumps({"answers": [int("hot" in text or "chaud" in text) for text in seen]})

    server.answer = honest
    chosen = source.labels(methods=("mechanical",), names=[(0, 0)])
    done = score_labels(source, chosen, EndpointJudge(endpoint(server)), SCORING)
    scores = rows(source, done.run_id, "label_score")
    assert {(row["score"], row["language"]) for row in scores} == {(a, b) for a in ("detection", "fuzzing") for b in ("en", "fr")}
    for row in scores:
        assert (row["value"], row["ci_high"], row["model"], row["source_run"]) == (1.0, 1.0, "stub", source.run_id)
        assert row["prompt_version"] == f"{row['score']}-1/chat/stub@{source.run_id[:8]}"
        assert row["n_examples"] == 2 * row["n_activating"]
    (first, second) = rows(source, done.run_id, "intruder_score")
    assert (first["value"], first["chance"], second["language"]) == (1.0, 0.2, "fr")
    examples = rows(source, done.run_id, "label_example")
    assert len(examples) == sum(row["n_examples"] for row in scores)
    assert all(row["activating"] == row["predicted"] for row in examples)
    assert in_part(source.texts.item[[row["item"] * 6 for row in examples]], writing=False).all()


def test_a_judge_that_fails_in_one_language_is_on_record_for_it(source: LabelSource, server: stub.Stub) -> None:
    make_labels(source)
    server.answer = lambda question: "non" if "chaud" in question.partition("\n")[2] else json.dumps({"answers": [1] * 10})
    chosen = source.labels(names=[(0, 0)])
    done = score_labels(source, chosen, EndpointJudge(endpoint(server)), ExampleConfig(per_decile=1), methods=["detection"])
    (score,) = rows(source, done.run_id, "label_score")
    (failure,) = rows(source, done.run_id, "label_failure")
    assert (score["language"], score["value"]) == ("en", 0.5)
    assert (failure["language"], failure["step"], failure["label_id"]) == ("fr", "detection", chosen[0].label_id)


def test_one_language_can_be_scored_alone(source: LabelSource) -> None:
    make_labels(source)
    done = score_labels(source, source.labels(), RuleJudge(), SCORING, languages=["fr"], methods=["fuzzing"])
    assert {row["language"] for row in rows(source, done.run_id, "label_score")} == {"fr"}


def test_what_cannot_be_scored_is_refused(source: LabelSource) -> None:
    with pytest.raises(UsageError, match="there is no label to score"):
        score_labels(source, source.labels(), RuleJudge(), SCORING)
    with pytest.raises(UsageError, match="no scoring method 'vibes'"):
        score_labels(source, [], RuleJudge(), SCORING, methods=["vibes"])
    with pytest.raises(UsageError, match="no feature L0_F99"):
        write_labels(source, [(0, 99)], Endpoint("http://127.0.0.1:1/v1", "m"), WRITING)


def test_a_local_model_is_asked_by_log_probability(source: LabelSource) -> None:
    """The embedded model's verdict is the larger of two log-probabilities that are computed by hand here."""
    import torch

    from ingest.model import load_model
    from ingest.sources import resolve_source

    torch.set_num_threads(1)
    found = resolve_source("embedded:bilingual", "model")
    model = load_model(found.path, name=found.name, source=found.name)
    judge = LocalJudge(model, batch_size=3)
    examples = source.examples([(0, 0)], SCORING)[0, 0][0]
    shown = [Shown(example, source.texts) for example in (*examples.activating[:3], *examples.silent[:2])]
    label = Label("l", 0, 0, "hot")
    verdicts = judge.recognise(label, shown, "detection")
    for each, verdict in zip(shown, verdicts, strict=True):
        question = f"A feature fires on: hot\nText: {each.text}\nDoes the feature fire on a word of this text?\nAnswer:"
        prompt = model.tokenise([question]).ids[0]
        totals = []
        for answer in (" yes", " no"):
            ids = torch.tensor(model.tokenizer(answer, add_special_tokens=False)["input_ids"])
            with torch.no_grad():
                logits = model.hf(torch.cat([prompt, ids])[None]).logits[0].log_softmax(dim=1)
            totals.append(sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(ids)))
        assert verdict.yes == (totals[0] > totals[1])
        assert verdict.probability == pytest.approx(1 / (1 + pow(2.718281828459045, totals[1] - totals[0])), rel=1e-3)
    assert judge.intruders([shown])[0] in range(5)
    with pytest.raises(JudgeFailure, match="longer than the 256"):
        judge.recognise(Label("l", 0, 0, "word " * 300), shown, "fuzzing")
