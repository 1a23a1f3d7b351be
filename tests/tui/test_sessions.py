"""Sessions: journals are repeated, newer atlases are noticed, words of two processes are kept, hostile text does no harm."""

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from atlas.catalogue import Catalogue
from atlas.errors import InputError
from atlas.settings import DATABASE
from tests.tui.conftest import Browse, press, screen_text, screen_widths
from tui.actions import SCREENS, key_table
from tui.app import find, run
from tui.journal import read_journal

WALK = Path(__file__).parent / "walk.jsonl"
GOLDENS = Path(__file__).parent / "goldens"
ROOT = Path(__file__).parent.parent.parent
GOLDEN_SCREENS = ("features", "feature", "prompts", "graph")


async def test_a_journal_walks_all_screens_and_is_written_again(published: Path, browse: Browse, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    entries = list(read_journal(WALK))
    assert {entry.screen for entry in entries} == set(SCREENS)
    async with browse(published, replay=entries, journal=journal) as (app, _pilot):
        assert app.replaying is not None
        await app.replaying
        assert app.front.NAME == "overview"
        assert app.front.status.style_name != "negative"
        assert app.made("features").filter_text == "layer=1 and rate.en>=0.1"
        assert app.made("console").tables()[0].source.count == 3
        assert app.made("compare").tables()[0].source.count > 0
        assert app.clipboard.startswith("L1_F")
    written = [(entry.screen, entry.action, dict(entry.arguments)) for entry in read_journal(journal)]
    asked = [(entry.screen, entry.action, dict(entry.arguments)) for entry in entries if entry.action != "place"]
    assert [entry for entry in written if entry[1] != "place"] == asked


async def test_what_a_person_does_is_repeated_from_its_journal(published: Path, browse: Browse, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    async with browse(published, journal=journal) as (app, pilot):
        await press(app, pilot, "2", "down", "down", "right", "right", "t", "enter", "greater_than_sign", "5", "enter", "0", "v", "down")
        last = screen_text(app)
    shutil.rmtree(tmp_path / "state")
    async with browse(published, replay=list(read_journal(journal))) as (app, pilot):
        assert app.replaying is not None
        await app.replaying
        assert app.front.NAME == "compare"
        await press(app, pilot, "down")
        assert screen_text(app) == last


@pytest.mark.parametrize("line", ["no json", '{"action": "explode"}', "[1]", '{"screen": "features"}'])
def test_a_journal_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"screen": "overview", "action": "go_features"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=":2:"):
        list(read_journal(path))


async def test_a_newer_atlas_is_offered_and_loaded(atlas_copy: Path, published: Path, browse: Browse) -> None:
    async with browse(atlas_copy) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("filter", text="layer=1")
        await app.settle()
        shutil.copy(published / DATABASE, atlas_copy / "next")
        (atlas_copy / "next").rename(atlas_copy / DATABASE)
        await press(app, pilot, "down")
        assert app.front.tables()[0].row is not None
        await app.watch_publish()
        assert "a newer atlas has been published" in screen_text(app)
        old = app.session
        await press(app, pilot, "R")
        assert app.session is not old
        assert not app.session.data.is_outdated()
        assert app.front.filter_text == "layer=1"
        assert app.front.tables()[0].source.count == 40


def test_notes_of_two_processes_at_once_are_all_kept(atlas_copy: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tui.session import Session\n"
        "s = Session.open(Path(sys.argv[1]))\n"
        "layer = 0 if sys.argv[2] == 'a' else 2\n"
        "for i in range(12): s.write('note', 1, i, f'{sys.argv[2]} {i}').wait(); s.write('star', layer, i).wait()\n"
        "s.data.close()"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(atlas_copy), name], cwd=ROOT) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    catalogue = Catalogue(atlas_copy)
    assert sorted(row["text"] for row in catalogue.rows("note")) == sorted(f"{name} {i}" for name in "ab" for i in range(12))
    assert len(catalogue.rows("star")) == 24
    assert not catalogue.damage()


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_hostile_text_does_no_harm_on_any_screen(hostile: Path, browse: Browse, size: tuple[int, int], tmp_path: Path) -> None:
    async with browse(hostile, size, state=tmp_path / "none") as (app, _pilot):
        for name in SCREENS if size == (80, 24) else ("features", "feature", "prompts", "graph"):
            arguments = {"layer": 0, "feature": 0} if name == "feature" else {}
            await app.perform(f"go_{name}", **arguments)
            await app.settle()
            text = screen_text(app)
            for line, cells in zip(text.splitlines(), screen_widths(app), strict=False):
                assert cells == size[0], f"{name}: {line!r}"
                for char in line:
                    assert unicodedata.category(char) not in ("Cc", "Cf"), f"{name}: {line!r}"
        await app.perform("go_prompts")
        await app.perform("filter", text="[bold")
        await app.settle()
        assert app.front.status.style_name != "negative"
        await app.perform("jump", feature="L1_F1")
        await app.settle()
        await app.perform("go_prompts", prompt=3)
        await app.settle()


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
async def test_cursor_and_sign_are_seen_without_colour(
    published: Path, browse: Browse, theme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with browse(published) as (app, pilot):
        app.theme = theme
        await press(app, pilot, "2", "down")
        lines = screen_text(app).splitlines()
        assert [line.startswith("▸") for line in lines].count(True) == 1
        for strip in app.screen._compositor.render_strips()[2:6]:
            for segment in strip:
                if segment.text.strip() and segment.style is not None and segment.style.color and segment.style.bgcolor:
                    assert segment.style.color.triplet != segment.style.bgcolor.triplet
        assert "░" in screen_text(app)


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_screens_look_as_they_did(published: Path, browse: Browse, size: tuple[int, int]) -> None:
    """Text goldens; `UPDATE_GOLDENS=1 pytest tests/tui` writes them anew, to be looked at before they are committed."""
    async with browse(published, size) as (app, pilot):
        for name in GOLDEN_SCREENS:
            arguments = {"feature": {"layer": 0, "feature": 0}, "prompts": {"prompt": 2}}.get(name, {})
            await app.perform(f"go_{name}", **arguments)
            await app.settle()
            await pilot.pause()
            # The thumb of a scroll bar stands where the last layout left it: it is no part of what is compared.
            text = re.sub(r"[ ▕▏]*[▁-▇]{2}$", "", screen_text(app), flags=re.MULTILINE)
            path = GOLDENS / f"{name}-{size[0]}x{size[1]}.txt"
            if os.environ.get("UPDATE_GOLDENS"):
                path.write_text(text, encoding="utf-8")
            assert text == path.read_text(encoding="utf-8"), f"{path.name} differs"


@pytest.mark.parametrize("size", [(200, 60)])
async def test_every_screen_fits_its_terminal(published: Path, browse: Browse, size: tuple[int, int]) -> None:
    async with browse(published, size) as (app, _pilot):
        for name in SCREENS:
            await app.perform(f"go_{name}")
            await app.settle()
            assert screen_widths(app) == [size[0]] * size[1]
            first = screen_text(app).splitlines()[0]
            assert all(f"{key} " in first for key, _, _ in SCREENS.values())


def test_the_key_table_of_the_docs_is_generated() -> None:
    text = (ROOT / "docs" / "tui.md").read_text(encoding="utf-8")
    assert key_table() in text, "run `python -m tui.document` to write docs/tui.md anew"


def test_an_atlas_that_cannot_be_opened_gives_one_sentence_and_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none.atlas") == 4
    assert capsys.readouterr().err.splitlines()[0] == f"atlas: There is no atlas at {tmp_path / 'none.atlas'}."


def test_the_atlas_in_this_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from atlas.errors import StoreError, UsageError

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATLAS", raising=False)
    with pytest.raises(StoreError, match="no atlas in this folder"):
        find(None)
    (tmp_path / "one.atlas").mkdir()
    assert find(None) == Path("one.atlas")
    (tmp_path / "two.atlas").mkdir()
    with pytest.raises(UsageError, match="There are 2 atlases"):
        find(None)
    assert find(Path("two.atlas")) == Path("two.atlas")


def test_state_that_cannot_be_read_is_no_reason_to_stop(tmp_path: Path) -> None:
    from tui.state import State

    (tmp_path / "tui.json").write_text("{ broken", encoding="utf-8")
    state = State(tmp_path / "a.atlas", tmp_path)
    assert state.get("features") == {}
    state.save({"screen": "graph"})
    assert State(tmp_path / "a.atlas", tmp_path).text("screen") == "graph"
    State(tmp_path / "b.atlas", tmp_path).save({"screen": "claims"})
    assert json.loads((tmp_path / "tui.json").read_text())[str((tmp_path / "a.atlas").resolve())] == {"screen": "graph"}
