"""The Ask screen and its worker process: answers, two texts, steering, hostile tokens, cancelling, a worker that dies."""

import asyncio
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from textual.widgets import Input

from atlas.errors import ModelError, UsageError
from tests.tui.conftest import Browse, press, screen_text, screen_widths
from tui.data import Cancelled
from tui.screens.ask import AskScreen
from tui.worker import AskWorker

ROOT = Path(__file__).parent.parent.parent


def fill(screen: AskScreen, **values: str) -> None:
    for name, value in values.items():
        screen.query_one(f"#{name}", Input).value = value


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_hostile_tokens_are_shown_and_lead_to_their_features(published: Path, browse: Browse, size: tuple[int, int]) -> None:
    async with browse(published, size) as (app, pilot):
        await press(app, pilot, "a")
        screen = app.front
        assert isinstance(screen, AskScreen)
        fill(screen, text="[/bold] hello")
        await press(app, pilot, "enter")
        assert screen.result.source.count == 9
        assert screen.focused is screen.result
        text = screen_text(app)
        assert "␛[31mr" in text
        assert "日本語" in text
        for line, cells in zip(text.splitlines(), screen_widths(app), strict=False):
            assert cells == size[0]
            assert all(unicodedata.category(char) not in ("Cc", "Cf") for char in line)
        await press(app, pilot, "down", "y")
        assert app.clipboard == "L1_F1"
        await press(app, pilot, "enter")
        assert app.front.NAME == "feature"


async def test_a_filter_asks_again_and_a_second_text_stands_beside(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "a")
        screen = app.front
        assert isinstance(screen, AskScreen)
        await app.perform("ask", text="hello")
        await app.settle()
        await app.perform("filter", text="lape<0.5")
        await app.settle()
        assert screen.result.source.count == 2
        assert "lape<0.5" in screen.status.text
        await app.perform("filter", text="lape<<")
        assert screen.status.style_name == "negative"
        assert screen.filter_text == "lape<0.5"
        await app.perform("filter", text="")
        await app.settle()
        fill(screen, text="hello", against="bonjour")
        screen.query_one("#against", Input).focus()
        await press(app, pilot, "enter")
        assert screen.asked == {"text": "hello", "against": "bonjour"}
        assert screen.result.source.count == 2


async def test_steering_shows_continuations_and_needs_a_change(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "a")
        screen = app.front
        assert isinstance(screen, AskScreen)
        fill(screen, text="hello")
        await press(app, pilot, "ctrl+t")
        assert "nothing is set" in screen.status.text
        fill(screen, set="L1_F2=3x", strengths="1,two")
        await press(app, pilot, "ctrl+t")
        assert "strengths are '1,two'" in screen.status.text
        fill(screen, strengths="1,2", answers=" cold| hot")
        screen.query_one("#set", Input).focus()
        await press(app, pilot, "enter")
        text = screen_text(app)
        assert "Continuations" in text
        assert " plain" in text
        assert "L1_F2=3x KL 0.5" in text
        assert "[red]silent" in text
        await press(app, pilot, "escape")
        assert screen.focused is screen.result


async def test_an_answer_can_be_stopped_and_the_next_one_comes(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "a")
        screen = app.front
        assert isinstance(screen, AskScreen)
        await app.perform("ask", text="hang")
        for _ in range(200):
            await asyncio.sleep(0.01)
            if screen.status.busy == "hanging 1/2":
                break
        assert screen.status.busy == "hanging 1/2"
        await app.perform("cancel")
        await app.settle()
        assert screen.status.text == "stopped"
        assert not screen.status.busy
        await app.perform("ask", text="hello")
        await app.settle()
        assert screen.result.source.count == 9


async def test_a_worker_that_dies_is_one_sentence_and_starts_again(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "a")
        screen = app.front
        await app.perform("ask", text="die")
        await app.settle()
        assert "ended (exit code 3): out of memory, said the stub — The next question starts it again." in screen.status.text
        await app.perform("ask", text="wrong")
        await app.settle()
        assert screen.status.text == "the text is wrong — write another"
        await app.perform("ask", text="rubbish")
        await app.settle()
        assert isinstance(screen, AskScreen)
        assert screen.result.source.count == 9
    assert not screen.worker.is_alive


async def test_features_of_an_answer_are_exported_with_their_provenance(published: Path, browse: Browse, tmp_path: Path) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "a")
        await app.perform("ask", text="hello")
        await app.settle()
        await app.perform("export", path=str(tmp_path / "asked.csv"))
        await app.settle()
        assert len((tmp_path / "asked.csv").read_text(encoding="utf-8").splitlines()) >= 10
        sidecar = json.loads((tmp_path / "asked.provenance.json").read_text(encoding="utf-8"))
        assert sidecar["asked"] == {"text": "hello", "against": "", "filter": ""}


async def test_waits_end_when_the_process_is_killed() -> None:
    worker = AskWorker()
    await worker.ready({})
    assert worker.process is not None
    wait = asyncio.create_task(worker.ask({}, {"do": "ask", "text": "hang"}))
    await asyncio.sleep(0.1)
    worker.process.kill()
    with pytest.raises(ModelError, match=r"ended \(signal 9\)"):
        await wait
    answer = await worker.ask({}, {"do": "ask", "text": "again"})
    assert answer["rows"][0][2] == "again"
    with pytest.raises(UsageError, match="the text is wrong"):
        await worker.ask({}, {"do": "ask", "text": "wrong"})
    wait = asyncio.create_task(worker.ask({}, {"do": "ask", "text": "hang"}))
    await asyncio.sleep(0.1)
    wait.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await wait
    await worker.close()
    assert not worker.is_alive


async def test_a_worker_that_cannot_start_says_so() -> None:
    with pytest.raises(ModelError, match="cannot be started"):
        await AskWorker(["/nonexistent/python"]).ready({})


def test_torch_never_enters_the_browser() -> None:
    """The screen is imported, asks its (stand-in) worker and is answered, in a process that then lists its modules."""
    script = (
        "import asyncio, sys, tui.worker, tui.screens.ask\n"
        f"worker = tui.worker.AskWorker([sys.executable, {str(Path(__file__).parent / 'ask_stub.py')!r}])\n"
        "async def main():\n"
        "    await worker.ask({}, {'do': 'ask', 'text': 'hello'})\n"
        "    await worker.close()\n"
        "asyncio.run(main())\n"
        "print(sorted({'torch', 'transformers', 'ingest', 'networkx', 'sqlmodel'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
