"""The interactive session: lines in, tables out; errors and Ctrl-C end an answer, not the session."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingest.ask import Session
from ingest.ask.console import AskConsole


class Terminal:
    """What a person would see."""

    def __init__(self, session: Session) -> None:
        self.tables: list[pa.Table] = []
        self.sentences: list[str] = []
        self.console = AskConsole(session, show=self.tables.append, say=self.sentences.append)

    def type(self, *lines: str) -> list[bool]:
        return [self.console.onecmd(line) for line in lines]


@pytest.fixture
def terminal(session: Session) -> Terminal:
    return Terminal(session)


def test_a_line_that_is_no_command_is_a_text(terminal: Terminal) -> None:
    terminal.type(
        "top 0", "Le contraire de « chaud » est", "layers 2-3", "top 1", "filter lape<0.6", "text", "against The opposite of hot is"
    )
    first, narrower, beside = terminal.tables
    assert set(narrower["name"].to_pylist()) < set(first["name"].to_pylist())
    assert {name[:2] for name in narrower["name"].to_pylist()} <= {"L2", "L3"}
    assert set(beside["where"].to_pylist()) <= {"both", "here", "there"}
    assert any("fire on both" in sentence for sentence in terminal.sentences)


def test_steering_remembers_what_is_set(terminal: Terminal) -> None:
    terminal.type("set L3_F139", "strengths 0,4", "tokens 3", 'answers " froid" " chaud"', "steer Le contraire de « chaud » est")
    assert terminal.tables[0]["strength"].to_pylist() == [None, 0.0, 4.0]
    assert terminal.tables[1]["answer"].to_pylist()[:2] == [" froid", " chaud"]
    terminal.type("set none", "steer")
    assert "nothing is set" in terminal.sentences[-1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("against", "against what?"),
        ("text", "no text yet"),
        ("keep", "no answer yet"),
        ("layers x", "layers are 'x'"),
        ("top many", "is no number"),
        ("set L3", "not a feature"),
        ("sample warm", "cannot read 'warm'"),
    ],
)
def test_errors_end_the_answer_not_the_session(terminal: Terminal, line: str, said: str) -> None:
    assert terminal.type(line) == [False]
    assert said in terminal.sentences[-1]


def test_ctrl_c_stops_the_answer(session: Session) -> None:
    terminal = Terminal(session)

    def interrupt(_table: Any) -> None:
        raise KeyboardInterrupt

    terminal.console.show = interrupt
    assert terminal.type("hot") == [False]
    assert "stopped" in terminal.sentences[-1]
    terminal.console.show = terminal.tables.append
    assert terminal.type("hot", "quit") == [False, True]
    assert len(terminal.tables) == 1


def test_the_last_answer_is_kept(session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept: list[tuple[str, ...]] = []

    def keep(result: Any, folder: Path | None = None, *, languages: Any = ("und",)) -> str:
        kept.append((*languages, str(len(result))))
        return "0123456789abcdef"

    terminal = Terminal(session)
    monkeypatch.setattr(session, "keep", keep)
    published: list[Path] = []
    terminal.console.publish = published.append
    terminal.type("top 1", "hot", "language en", "keep")
    assert kept == [("en", str(len(terminal.tables[0])))]
    assert session.reader is not None
    assert published == [session.reader.path]
