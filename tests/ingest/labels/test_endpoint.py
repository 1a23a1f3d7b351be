"""A server that fails, hangs or talks nonsense does no harm: one feature fails with a clear reason, and nothing waits for ever."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from atlas.errors import ModelError, UsageError
from ingest.labels.endpoint import Endpoint, EndpointJudge, json_object
from ingest.labels.examples import Example
from ingest.labels.judges import JudgeFailure, Label, Shown
from ingest.labels.writer import label_of
from tests.ingest.labels import planted, stub

QUESTION = [{"role": "user", "content": "what?"}]


@pytest.fixture
def server() -> Iterator[stub.Stub]:
    with stub.running() as running:
        yield running


def endpoint(server: stub.Stub, *, retries: int = 1, timeout: float = 5.0) -> tuple[Endpoint, list[float]]:
    pauses: list[float] = []
    return Endpoint(server.url, "m", timeout=timeout, retries=retries, sleep=pauses.append), pauses


def test_an_answer_is_taken(server: stub.Stub) -> None:
    asked, pauses = endpoint(server)
    server.answer = lambda question: f'<think>{{"label": "no"}}</think>\n```json\n{{"label": "heard {question}"}}\n```'
    assert asked.ask(QUESTION, label_of) == "heard what?"
    assert pauses == []


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("error 500", "answers 500"),
        ("error 429", "answers 429"),
        ("raw html", "no JSON"),
        ("raw empty", "no JSON"),
        ("raw binary", "no JSON"),
        ("raw deep", "no JSON"),
        ("raw schema", "no choices"),
        ("raw list", "no choices"),
        ("raw type", "empty message"),
        ("raw blank", "empty message"),
        ("raw enormous", "larger than"),
        ("close", "connection broke"),
        ("cut", "connection broke"),
    ],
)
def test_what_can_pass_is_tried_again_and_then_named(server: stub.Stub, behaviour: str, reason: str) -> None:
    server.behaviour = behaviour
    asked, pauses = endpoint(server, retries=2)
    with pytest.raises(JudgeFailure, match=reason) as failure:
        asked.ask(QUESTION, label_of)
    assert failure.value.attempts == len(server.questions) == 3
    assert pauses == [0.5, 1.0], "pauses grow"


@pytest.mark.parametrize("behaviour", ["hang", "drip"])
def test_a_server_that_hangs_or_drips_is_cut_off(server: stub.Stub, behaviour: str) -> None:
    server.behaviour = behaviour
    asked, _ = endpoint(server, retries=0, timeout=0.3)
    with pytest.raises(JudgeFailure, match=r"no answer within 0\.3 s"):
        asked.ask(QUESTION, label_of)
    assert behaviour == "hang" or server.was_cut.wait(2), "the answer was read to its end"


def test_what_has_passed_is_forgotten(server: stub.Stub) -> None:
    server.fail_first = 2
    asked, pauses = endpoint(server, retries=2)
    assert asked.ask(QUESTION, label_of) == "a word"
    assert len(pauses) == 2


@pytest.mark.parametrize("behaviour", ["error 401", "error 404"])
def test_what_cannot_pass_stops_at_once(server: stub.Stub, behaviour: str) -> None:
    server.behaviour = behaviour
    asked, pauses = endpoint(server)
    with pytest.raises(ModelError, match="Check URL and model name"):
        asked.ask(QUESTION, label_of)
    assert pauses == []


def test_a_question_that_the_server_refuses_is_not_asked_again(server: stub.Stub) -> None:
    server.behaviour = "error 400"
    asked, pauses = endpoint(server)
    with pytest.raises(JudgeFailure, match="answers 400"):
        asked.ask(QUESTION, label_of)
    assert pauses == []


def test_a_redirect_is_not_followed(server: stub.Stub) -> None:
    server.behaviour = "redirect"
    asked, _ = endpoint(server)
    with pytest.raises(JudgeFailure, match="answers 302"):
        asked.ask(QUESTION, label_of)


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelError, match="nobody listens"):
        Endpoint(f"http://127.0.0.1:{port}/v1", "m").ask(QUESTION, label_of)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://192.0.2.1:8080/v1", "is not this machine"),
        ("http://[2001:db8::1]/v1", "is not this machine"),
        ("127.0.0.1:8080", "endpoint is"),
        ("file:///etc/passwd", "endpoint is"),
        ("http://127.0.0.1:99999/v1", "endpoint is"),
        ("http://me:word@127.0.0.1/v1", "holds a password"),
    ],
)
def test_only_this_machine_is_spoken_to(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Endpoint(url, "m")


def test_another_machine_is_spoken_to_where_that_is_wanted() -> None:
    assert Endpoint("http://192.0.2.1:8080/v1", "m", allow_remote=True).url.startswith("http://192")
    assert Endpoint("http://localhost:1/v1", "m").model == "m"


@pytest.mark.parametrize(
    "content", ["sure!", '{"label": 7}', '{"label": ""}', '{"label": "two\\nlines"}', '{"name": "x"}', json.dumps({"label": "a" * 201})]
)
def test_a_label_is_one_printable_line(content: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no JSON"):
        label_of(content)


def test_json_is_found_in_what_models_write_around_it() -> None:
    assert json_object('Sure:\n```json\n{"answers": [1, 0]}\n```') == {"answers": [1, 0]}
    with pytest.raises(ValueError, match="no JSON object"):
        json_object("<think>{}</think>")


def shown(n: int) -> list[Shown]:
    texts = planted.texts(planted.tables())
    return [Shown(Example(item, 1, texts.span(item), (0.0,) * 6), texts, (1,)) for item in range(n)]


def test_a_judge_takes_exactly_as_many_zeros_and_ones_as_it_asked_for(server: stub.Stub) -> None:
    asked, _ = endpoint(server, retries=0)
    judge, label = EndpointJudge(asked), Label("l", 0, 0, "hot")
    server.answer = lambda question: json.dumps(
        {"answers": [1, 0] * 6 if "with 12" in question else [True] * (2 if "with 2 " in question else 10)}
    )
    verdicts = judge.recognise(label, shown(12), "detection")
    assert [verdict.yes for verdict in verdicts] == [True] * 12
    assert [question.count("\n1. ") for question in server.questions] == [1, 1], "ten texts, then two"
    for nonsense in ('{"answers": [1]}', '{"answers": [1, 2]}', '{"answers": "1 0"}', '{"answers": [1, 0, 1]}'):
        server.answer = lambda question, nonsense=nonsense: nonsense  # type: ignore[misc]
        with pytest.raises(JudgeFailure, match="expected 2 zeros and ones"):
            judge.recognise(label, shown(2), "fuzzing")


def test_a_judge_names_an_intruder_that_is_there(server: stub.Stub) -> None:
    asked, _ = endpoint(server, retries=0)
    judge = EndpointJudge(asked)
    server.answer = lambda question: '{"intruder": 5}'
    assert judge.intruders([shown(5), shown(5)]) == [4, 4]
    for nonsense in ('{"intruder": 0}', '{"intruder": 6}', '{"intruder": true}', '{"intruder": "5"}'):
        server.answer = lambda question, nonsense=nonsense: nonsense  # type: ignore[misc]
        with pytest.raises(JudgeFailure, match="expected a number from 1 to 5"):
            judge.intruders([shown(5)])
