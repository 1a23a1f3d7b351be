"""Progress on stderr: lines for a log, with rates and time left; bars in a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from atlas.commands.common import ProgressLines, progress_bars


def test_a_log_gets_a_line_every_half_minute_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    report = ProgressLines(lambda: now[0])
    for second, done in ((0, 0), (10, 20), (31, 62), (40, 80), (62, 124), (100, 200), (101, 200)):
        now[0] = float(second)
        report("rows", done, 200)
    assert capsys.readouterr().err.splitlines() == [
        "rows: 62 of 200, 2.0/s, 69 s left",
        "rows: 124 of 200, 2.0/s, 38 s left",
        "rows: 200 done",
    ]


def test_an_unknown_total_is_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    report = ProgressLines(lambda: now[0])
    report("corpus", 100, 0)
    now[0] = 50.0
    report("corpus", 1000, 0)
    assert capsys.readouterr().err.splitlines() == ["corpus: 1,000, 20.0/s"]


def test_a_terminal_gets_bars_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))
    with progress_bars() as report:
        for done in range(1, 4):
            report("rows", done, 3)
            report("corpus", done * 10, 0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "rows" in captured.err
    assert "3/3" in captured.err
    assert "30/?" in captured.err
