"""What a hostile reviewer did in a real terminal: signals, pipes, pastes, errors, atlases that lack things, exports that are stopped."""

import asyncio
import base64
import fcntl
import json
import os
import pty
import re
import select
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from textual import events
from textual.widgets import Input

from atlas.errors import InputError, QueryError
from atlas.settings import DATABASE
from tests.queries.synthetic import OLDER
from tests.tui.conftest import Browse, press, screen_text, screen_widths
from tui.data import Cancelled, Data, Statement
from tui.data.engine import Meter
from tui.export import Batches, write_export
from tui.screens.feature import FeatureScreen
from tui.screens.graph import GraphScreen
from tui.session import Session
from tui.text import figure, width, wrap
from tui.widgets.line_view import LineView

ROOT = Path(__file__).parent.parent.parent
CALM = b"\x1b[?1049l"
"""The terminal is given back as it was."""


# A terminal of its own ------------------------------------------------------------------------------------


def start(atlas: Path, state: Path) -> tuple[int, subprocess.Popen[bytes]]:
    """Start the browser in a terminal; return the other end of the terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(state)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tui", str(atlas)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    os.close(follower)
    return leader, process


def read_until(leader: int, wanted: bytes, seconds: float = 30.0) -> bytes:
    """Read what the browser writes until it holds something."""
    seen, end = b"", time.monotonic() + seconds
    while wanted not in seen and time.monotonic() < end:
        if select.select([leader], [], [], 0.05)[0]:
            try:
                seen += os.read(leader, 65536)
            except OSError:
                break
    assert wanted in seen
    return seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_the_place_and_gives_the_terminal_back(published: Path, tmp_path: Path, number: signal.Signals) -> None:
    leader, process = start(published, tmp_path)
    try:
        read_until(leader, b"This atlas")
        os.write(leader, b"2")
        read_until(leader, b"120 features")
        os.write(leader, b"jjy")
        read_until(leader, b"\x1b]52;c;" + base64.b64encode(b"L0_F2"))  # keys are typed ahead of the rows
        process.send_signal(number)
        assert CALM in read_until(leader, CALM)
        assert process.wait(20) == 128 + number
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    (kept,) = json.loads((tmp_path / "feature-atlas" / "tui.json").read_text()).values()
    assert kept["screen"] == "features"
    assert kept["features"]["feature"] == [0, 2]


def test_a_pipe_is_no_terminal(published: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tui", str(published)], input=b"q", capture_output=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"atlas: the browser needs a terminal, and stdin is none\n")
    assert b"\x1b" not in done.stdout + done.stderr


# Errors and pastes ----------------------------------------------------------------------------------------


async def test_an_error_is_read_whole_and_hides_nothing(published: Path, browse: Browse) -> None:
    async with browse(published, (80, 24)) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("filter", text="no_such_column>3")
        await app.settle()
        await pilot.pause()
        text = screen_text(app)
        assert "no column 'no_such_column'" in text
        assert "flags: starred" in text.splitlines()[-3] + text.splitlines()[-2], "the hint is read to its end"
        assert text.count("no column") == 1, "no box on top of the rows repeats it"
        assert screen_widths(app) == [80] * 24
        await press(app, pilot, "escape")
        assert "no column" not in screen_text(app)
        assert app.front.status.text == "120 features"


async def test_a_paste_of_several_lines_loses_none(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2", "slash")
        field = app.front.query_one("#filter", Input)
        field.post_message(events.Paste("layer=1\r\n\n and feature<5\n\x1b[31m\x00"))
        await pilot.pause()
        assert field.value == "layer=1  and feature<5 [31m"
        field.value = "layer=1 or"
        field.cursor_position = len(field.value)
        field.post_message(events.Paste(" layer=2\n"))
        await pilot.pause()
        await press(app, pilot, "enter")
        assert app.front.tables()[0].source.count == 80


async def test_a_feature_that_is_not_there_leaves_the_shown_one_whole(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await app.perform("jump", feature="L1_F2")
        await app.settle()
        card = app.front.query_one("#card", LineView), app.front.query_one("#more", LineView)
        before = [view.lines for view in card]
        await app.perform("jump", feature="L99_F1")
        await app.settle()
        await pilot.pause()
        assert "this run has no feature L99_F1" in screen_text(app)
        assert [view.lines for view in card] == before
        assert all(before)
        assert app.front.feature_here() == (1, 2), "words are written for the feature that is shown"


async def test_nothing_of_another_run_stays_on_the_screen(atlas_copy: Path, browse: Browse) -> None:
    with duckdb.connect(str(atlas_copy / DATABASE)) as con:
        for table in ("edge", "node", "graph", "feature"):
            con.execute(f"delete from {table} where run_id = ?", [OLDER])
    async with browse(atlas_copy) as (app, pilot):
        await press(app, pilot, "5")
        await app.perform("jump", feature="L1_F2")
        await app.settle()
        await app.perform("run", run=OLDER)
        await app.settle()
        card = app.front
        assert isinstance(card, FeatureScreen)
        assert card.feature_here() is None
        assert "No feature" in screen_text(app)
        assert card.query_one("#more", LineView).lines == []
        await press(app, pilot, "5")
        graph = app.front
        assert isinstance(graph, GraphScreen)
        assert "No graph" in screen_text(app)
        assert graph.edges.lines == []
        assert graph.feature_here() is None


async def test_an_atlas_without_a_run_says_so_on_every_screen(atlas_copy: Path, browse: Browse) -> None:
    with duckdb.connect(str(atlas_copy / DATABASE)) as con:
        tables = [row[0] for row in con.execute("select table_name from duckdb_tables()").fetchall()]
        for _ in range(3):  # keys of one table may refer to another
            for table in set(tables) - {"atlas"}:
                try:
                    con.execute(f"delete from {table}")
                except duckdb.ConstraintException:
                    continue

    async with browse(atlas_copy, (80, 24)) as (app, _pilot):
        for name in ("overview", "features", "feature", "prompts", "graph", "interventions", "claims", "compare"):
            await app.perform(f"go_{name}")
            await app.settle()
            text = screen_text(app)
            assert "no complete run ''" not in text
            assert re.search(r"no run|no features|no prompts|no graph", text), name


@pytest.mark.parametrize("has_colour", [True, False])
async def test_themes_that_need_colour_are_not_offered_without(
    published: Path, browse: Browse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_colour: bool
) -> None:
    if has_colour:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "tui.json").write_text(json.dumps({str(published.resolve()): {"theme": "ansi-dark"}}))
    async with browse(published) as (app, _pilot):
        assert (app.theme == "ansi-dark") == has_colour
        assert any(theme.ansi for theme in app.available_themes.values()) == has_colour


def test_numbers_lose_digits_before_they_are_cut() -> None:
    assert figure(0.0078125, 5, 2) == "0.008"
    assert figure(0.00073, 5, 2) == "7e-04"
    assert figure(12_345_678, 8) == "1.23e+07"
    assert figure(-1.86e-5, 8) == "-1.9e-05"
    assert figure(1234.5, 9, sign=True) == "+1,234"
    assert [figure(value, 5) for value in (None, True, 0, 0.5, "text")] == ["·", "yes", "0", "0.5", "text"]


def test_an_error_is_folded_between_words() -> None:
    assert wrap("one two three", 7, 4) == ["one two", "three"]
    assert wrap("日本語 日本語", 7, 4) == ["日本語", "日本語"]
    assert wrap("one two three four", 5, 2) == ["one", "two …"]
    assert all(width(line) <= 6 for line in wrap("a" * 50 + " b", 6, 3))


# Stopping and exports -------------------------------------------------------------------------------------


@pytest.fixture
def data(published: Path) -> Iterator[Data]:
    found = Data.open(published)
    yield found
    found.close()


def test_who_waits_is_released_before_the_engine_has_let_go(data: Data) -> None:
    may_end, is_in = threading.Event(), threading.Event()

    def work(_cursor: Any) -> None:
        is_in.set()
        may_end.wait(20)

    job = data.job(work)
    assert is_in.wait(20)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()
    assert job.done()
    assert not job.has_ended()
    may_end.set()


async def test_a_waiter_that_is_cancelled_stops_its_job(data: Data) -> None:
    job = data.console("select count(*) from range(10000000) a, range(10000000) b where a.range % 7 = b.range % 11", 1)
    waiting = asyncio.create_task(job.result())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert job.stopped.is_set()
    while not job.has_ended():
        await asyncio.sleep(0.01)


def test_a_fault_in_a_thread_is_a_sentence(data: Data) -> None:
    with pytest.raises(QueryError, match="pages failed: KeyError: 'lost'"):
        data.job(lambda _cursor: dict[str, int]()["lost"], "pages").wait()


def exported(data: Data, sql: str, path: Path, most: int | None = None) -> tuple[Path, int, bool]:
    statement = Statement("test", sql)

    def write(schema: pa.Schema, rows: Iterator[pa.RecordBatch], meter: Meter) -> tuple[Path, int, bool]:
        return write_export(path, Batches(schema, rows, most), statement, {}, meter.check)

    return data.arrow(statement, write).wait()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_stops_at_its_limit_and_says_so(data: Data, tmp_path: Path, suffix: str) -> None:
    endless = "select a.range as a from range(100000) a, range(1000000) b"
    assert exported(data, endless, tmp_path / f"x{suffix}", 60_001)[1:] == (60_001, True)
    about = json.loads((tmp_path / "x.provenance.json").read_text())
    assert (about["rows"], about["is_cut"]) == (60_001, True)
    assert exported(data, "select * from range(7)", tmp_path / f"y{suffix}", 7)[1:] == (7, False)
    assert exported(data, "select * from range(7) where false", tmp_path / f"z{suffix}")[1:] == (0, False)


def test_an_export_that_ends_early_leaves_nothing_behind(data: Data, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="boom"):
        exported(data, "select case when range = 90000 then error('boom') else range end as a from range(100000)", tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"cannot write c\.parquet: Unhandled type"):
        exported(data, "select interval 1 day as d", tmp_path / "c.parquet")

    def write(_schema: pa.Schema, rows: Iterator[pa.RecordBatch], meter: Meter) -> Any:
        def stop() -> None:
            meter.stopped.set()
            meter.check()

        return write_export(tmp_path / "b.csv", Batches(_schema, rows), Statement("b", "b"), {}, stop)

    with pytest.raises(Cancelled):
        data.arrow(Statement("b", "select * from range(1000000)"), write).wait()
    assert list(tmp_path.iterdir()) == []


def test_the_files_beside_an_export_are_not_overwritten_either(data: Data, tmp_path: Path) -> None:
    first = exported(data, "select 1 as a", tmp_path / "x.csv")[0]
    second = exported(data, "select 2 as a", tmp_path / "x.parquet")[0]
    assert (first.name, second.name) == ("x.csv", "x-2.parquet")
    assert "select 1" in (tmp_path / "x.sql").read_text()
    assert "select 2" in (tmp_path / "x-2.sql").read_text()


# Words ----------------------------------------------------------------------------------------------------


async def test_the_status_says_that_a_word_is_safe_after_the_screen_has_been_drawn_anew(atlas_copy: Path, browse: Browse) -> None:
    async with browse(atlas_copy) as (app, pilot):
        await press(app, pilot, "2", "full_stop")
        assert app.front.status.text == "L0_F0 starred"
        await app.watch_publish()
        await app.settle()
        assert app.front.status.text == "L0_F0 starred", "one's own words are no news"
        await app.perform("jump", feature="L0_F1")
        await app.settle()
        await app.perform("note", text="read twice")
        await app.settle()
        assert app.front.status.text == "L0_F1 noted"


async def test_words_of_another_browser_are_shown_without_asking(atlas_copy: Path, browse: Browse) -> None:
    async with browse(atlas_copy) as (app, pilot):
        await press(app, pilot, "2", "down")
        await app.watch_publish()
        other = Session.open(atlas_copy)
        other.write("star", 0, 3).wait()
        other.data.close()
        await app.watch_publish()
        await app.settle()
        table = app.front.tables()[0]
        assert [bool(row[3]) for place in range(5) if (row := table.row_at(place)) is not None] == [False, False, False, True, False]
        assert table.place == 1
        path = app.session.catalogue.path
        path.write_bytes(b"no database" * 1000)
        await app.watch_publish()
        assert "catalogue" in app.front.status.text
        assert app.front.status.style_name == "negative"


async def test_a_newer_atlas_stays_announced_on_every_screen(atlas_copy: Path, published: Path, browse: Browse) -> None:
    async with browse(atlas_copy, (80, 24)) as (app, pilot):
        shutil.copy(published / DATABASE, atlas_copy / "next")
        (atlas_copy / "next").rename(atlas_copy / DATABASE)
        await app.watch_publish()
        await press(app, pilot, "2")
        assert "R: newer atlas" in screen_text(app)
        await press(app, pilot, "R")
        assert "newer atlas" not in screen_text(app)
        assert "is loaded" in app.front.status.text


async def test_an_order_that_is_stopped_is_not_the_order(published: Path, browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui.data import pages

    async with browse(published) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("sort", column="max")
        await app.settle()
        opened, may_end = pages.open_features, threading.Event()

        def slow(data: Data, *arguments: Any) -> Any:
            return data.job(lambda _cursor: may_end.wait(20))

        monkeypatch.setattr("tui.screens.features.open_features", slow)
        await app.perform("sort", column="density")
        await pilot.pause(0.05)
        await press(app, pilot, "escape")
        assert app.front.status.text == "stopped"
        monkeypatch.setattr("tui.screens.features.open_features", opened)
        may_end.set()
        await app.perform("filter", text="layer=1")
        await app.settle()
        assert "by max ▼" in app.front.status.text
        assert "density" not in app.front.status.text


def test_after_input_the_driver_looks_again_soon() -> None:
    from textual.drivers import linux_driver

    from tui.escape import LOOKS, SOON, EagerSelector, settle_escape

    settle_escape()
    assert vars(linux_driver)["selectors"].SelectSelector is EagerSelector
    reader, writer = os.pipe()
    with EagerSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        asked: list[float | None] = []

        def at_once(reading: Any, writing: Any, other: Any, timeout: float | None = None) -> Any:
            asked.append(timeout)
            return select.select(reading, writing, other, 0)

        selector._select = at_once  # type: ignore[attr-defined]
        selector.select(0.1)
        os.write(writer, b"\x1b")
        assert selector.select(0.1)
        os.read(reader, 1)
        for _ in range(LOOKS + 1):
            assert not selector.select(0.1)
    os.close(reader)
    os.close(writer)
    assert asked == [0.1, 0.1, *[SOON] * LOOKS, 0.1]
