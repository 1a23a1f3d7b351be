"""The worker process that holds the model: nonsense lines, answers, cancelling, and an end with whoever asked."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.ask import Session
from ingest.ask.cards import Asking

ROOT = Path(__file__).parent.parent.parent.parent


class Client:
    """A process and its lines."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "ingest.ask.serve"]
        pipe = subprocess.PIPE
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=environment)

    def send(self, line: str | dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        self.process.stdin.flush()

    def hear(self, number: object = "any") -> dict[str, Any]:
        """Return the next answer (of an id), progress passed over."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line: dict[str, Any] = json.loads(text)
            if line["event"] != "progress" and number in ("any", line["id"]):
                return line
        raise AssertionError("the process has ended")


@pytest.fixture(scope="module")
def client(demo_atlas: Path) -> Iterator[Client]:
    """One process for the module, loaded."""
    found = Client()
    found.send({"id": 0, "do": "ask", "text": "too early"})
    assert found.hear(0)["message"] == "nothing is loaded yet"
    found.send({"id": 1, "do": "hello", "atlas": str(demo_atlas)})
    assert found.hear(1)["event"] == "ready"
    yield found
    found.process.kill()
    found.process.wait()
    assert found.process.stdout is not None
    found.process.stdout.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "not a line of JSON"),
        ("[1, 2]", "a JSON object"),
        ("\x00\ufffd{", "not a line of JSON"),
        ('{"do": "dance", "id": 5}', "cannot do 'dance'"),
        ('{"do": ["ask"], "id": 5}', "unhashable"),
        ('{"do": "ask", "id": 6}', "'text' is missing"),
        ('{"do": "ask", "id": 6, "text": 7}', "'text' is missing"),
        ('{"do": "ask", "id": 6, "text": "hot", "layers": "x"}', "layers are 'x'"),
        ('{"do": "ask", "id": 6, "text": "hot", "filter": "lape<<1"}', "where a value was expected"),
        ('{"do": "steer", "id": 6, "prompt": "hot", "set": ["L9_F1=0"]}', "has no layer 9"),
        ('{"do": "keep", "id": 7, "of": 99}', "no answer 99"),
    ],
)
def test_nonsense_gets_an_error_and_does_no_harm(client: Client, line: str, message: str) -> None:
    client.send(line)
    answer = client.hear()
    assert answer["event"] == "error"
    assert message in answer["message"]
    client.send({"id": 9, "do": "ask", "text": "hot", "top": 1})
    assert client.hear(9)["event"] == "result"


def test_answers_are_those_of_a_session(client: Client, session: Session) -> None:
    wanted = {"top": 3, "filter": "layer>=2", "columns": ["name", "activation"]}
    client.send({"id": "a", "do": "ask", "text": "The opposite of hot is", **wanted})
    answer = client.hear("a")
    asked = session.ask("The opposite of hot is", asking=Asking(top=3), filter="layer>=2", columns=["name", "activation"])
    assert answer["rows"] == [list(row) for row in asked.rows()]
    assert answer["tokens"] == [list(asked.texts[0].tokens)]
    client.send({"id": "b", "do": "steer", "prompt": "Le mot", "set": ["L3_F139=4"], "strengths": [0, 4], "max_new_tokens": 3})
    parts = {part["name"]: part for part in client.hear("b")["parts"]}
    result = session.steer("Le mot", "L3_F139=4", strengths=[0, 4])
    written = parts["continuations"]
    texts = [row[written["columns"].index("text")] for row in written["rows"]]
    assert all(whole.startswith(text) for whole, text in zip(result.arrow()["text"].to_pylist(), texts, strict=True))


def test_what_waits_can_be_cancelled(client: Client) -> None:
    client.send({"id": 20, "do": "steer", "prompt": "Le mot", "set": ["L3_F139=4"], "strengths": list(range(100)), "max_new_tokens": 200})
    client.send({"id": 21, "do": "ask", "text": "hot"})
    client.send({"id": 21, "do": "cancel"})
    client.send({"id": 20, "do": "cancel"})
    assert [client.hear()["event"] for _ in range(2)] == ["cancelled", "cancelled"]
    client.send({"id": 22, "do": "ask", "text": "hot", "top": 1})
    assert client.hear(22)["event"] == "result"


def test_an_answer_is_kept(client: Client, tmp_path: Path) -> None:
    client.send({"id": 30, "do": "ask", "text": "hot", "top": 1})
    client.hear(30)
    client.send({"id": 31, "do": "keep", "of": 30, "atlas": str(tmp_path / "own.atlas"), "languages": ["en"]})
    answer = client.hear(31)
    assert answer["event"] == "kept"
    assert (tmp_path / "own.atlas" / "runs" / answer["run"]).is_dir()


def test_it_ends_with_whoever_asked(client: Client) -> None:
    """Standard input is closed in the middle of a long answer: the process ends, well before that answer would."""
    client.send({"id": 40, "do": "steer", "prompt": "Le mot", "set": ["L3_F139=4"], "strengths": list(range(1000)), "max_new_tokens": 200})
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(60) == 0
