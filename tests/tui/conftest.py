"""One synthetic atlas for all tests of the browser, one with hostile tokens, and a way to read the screen as text."""

import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from textual.pilot import Pilot

from atlas.settings import DATABASE
from tests.queries import synthetic
from tui.browser import Browser
from tui.session import Session

HOSTILE = (
    "[bold",
    "[/]",
    "日本語",
    "👩‍👩‍👧‍👦",
    "\x1b[31mred\x1b[0m",
    "\x07",
    "שלום",
    "مرحبا",
    "\u202eabc\u202c",
    "a\nb\tc\r",
    "e\u0301\u0301\u0301\u0301\u0301",
    "",
    "\ufffd",
    "🇩🇪",
    "x" * 80,
    "\u200b\u2060\ufeff",
    "\\",
    "'",
    '"',
    "$text",
    ";--",
    "\x9b31m",
    "\u2028",
    "❤️",
)


def build(folder: Path, change: Callable[[duckdb.DuckDBPyConnection], None] | None = None) -> Path:
    """Publish the synthetic atlas of the questions' tests into a folder."""
    folder.mkdir(parents=True)
    con = duckdb.connect()
    con.execute(f"attach '{folder / DATABASE}' as atlas (storage_version 'v1.2.0')")
    con.execute("use atlas")
    synthetic.build(con)
    if change is not None:
        change(con)
    con.execute("use memory")
    con.execute("detach atlas")
    con.close()
    return folder


def make_hostile(con: duckdb.DuckDBPyConnection) -> None:
    """Put texts that break naive drawing wherever text comes from data."""
    h = {"h": list(HOSTILE)}
    pick = "list_extract($h, ({}) % len($h) + 1)"
    con.execute(f"update token set token = {pick.format('position * 7 + item')}", h)
    con.execute("update feature set promoted_tokens = $h, suppressed_tokens = list_reverse($h)", h)
    weights = f"list_transform(range({len(HOSTILE)}), lambda x: 1.5 - x)"
    con.execute(f"update feature set promoted_weights = {weights}, suppressed_weights = {weights}")
    con.execute(f"update prompt set text = {pick.format('prompt')} || ' ' || text", h)
    con.execute(f"update answer set text = {pick.format('answer + prompt')}", h)
    con.execute(f"update node set label = {pick.format('node')}", h)
    con.execute(f"update claim set statement = {pick.format('3')} || '[red]' || {pick.format('4')}, note = {pick.format('9')}", h)
    con.execute(f"update label set text = {pick.format('0')} || {pick.format('2')} || {pick.format('4')}", h)
    con.execute(f"update note set text = {pick.format('1')} || {pick.format('9')} || {pick.format('5')}", h)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic atlas; never written to by tests."""
    return build(tmp_path_factory.mktemp("tui") / "synthetic.atlas")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic atlas with hostile texts."""
    return build(tmp_path_factory.mktemp("tui") / "hostile.atlas", make_hostile)


@pytest.fixture
def atlas_copy(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may write to."""
    return Path(shutil.copytree(published, tmp_path / "copy.atlas"))


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Ask screen start a stand-in: loading torch for every visit of every screen would take minutes."""
    monkeypatch.setattr("tui.worker.COMMAND", (sys.executable, str(Path(__file__).parent / "ask_stub.py")))


Browse = Callable[..., AbstractAsyncContextManager[tuple[Browser, Pilot[Any]]]]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Open the browser on an atlas at a size, wait until it has settled, and close it after."""

    @asynccontextmanager
    async def opened(folder: Path, size: tuple[int, int] = (140, 45), **options: Any) -> AsyncIterator[tuple[Browser, Pilot[Any]]]:
        options.setdefault("state", tmp_path / "state")
        app = Browser(Session.open(folder), **options)
        async with app.run_test(size=size) as pilot:
            await app.settle()
            yield app, pilot

    return opened


async def press(app: Browser, pilot: Pilot[Any], *keys: str) -> None:
    """Press keys one by one, waiting for each to settle."""
    for key in keys:
        await pilot.press(key)
        await app.settle()
        await pilot.pause()


def screen_text(app: Browser) -> str:
    """Return what stands on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


def screen_widths(app: Browser) -> list[int]:
    """Return the cells of each line on the screen."""
    return [strip.cell_length for strip in app.screen._compositor.render_strips()]
