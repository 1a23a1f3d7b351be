"""Every screen with a Pilot: what it shows, what its keys do, what it says when there is nothing."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from textual.color import Color
from textual.widgets import Input

from atlas.catalogue import Catalogue
from tests.tui.conftest import Browse, build, press, screen_text
from tui.actions import ACTIONS, SCREENS, SHORT
from tui.screens.base import AtlasScreen
from tui.screens.console import ConsoleScreen
from tui.screens.features import FeaturesScreen
from tui.screens.queries import QueriesScreen
from tui.text import width
from tui.widgets.frame import tabs
from tui.widgets.line_view import LineView
from tui.widgets.modals import Reader
from tui.widgets.styles import styled

SET = "synthetic-transcoders"


def test_every_action_can_be_performed_and_no_key_means_two_things() -> None:
    from tui.browser import Browser
    from tui.screens import make

    for name in SCREENS:
        screen = make(name)
        keys: dict[str, str] = {}
        for action in ACTIONS:
            if action.screens and name not in action.screens:
                continue
            assert action.id.startswith("go_") or hasattr(screen, f"do_{action.id}") or hasattr(Browser, f"do_{action.id}"), action.id
            for key in filter(None, action.keys.split(",")):
                assert key not in keys, f"{key} on {name}: {keys.get(key)} and {action.id}"
                keys[key] = action.id


async def test_overview_shows_headlines_and_leads_to_their_questions(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        text = screen_text(app)
        for part in (
            "This atlas",
            "Runs",
            "Which layers are bilingual?",
            "languages/bilingual_by_layer",
            "Strongest causal edges",
            "antonyms",
        ):
            assert part in text
        await press(app, pilot, "tab", "down", "enter")
        assert app.front.NAME == "queries"
        assert "languages/bilingual_by_layer" in screen_text(app)


async def test_features_sort_filter_and_open(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2")
        screen = app.front
        assert isinstance(screen, FeaturesScreen)
        assert "120 features" in screen_text(app)
        await press(app, pilot, "down", "down", "end")
        assert screen.feature_here() == (2, 39)
        await press(app, pilot, "home", "slash")
        screen.query_one("#filter", Input).value = "layer=1 and rate.en>=0.5"
        await press(app, pilot, "enter")
        assert screen.focused is screen.table
        rows = [screen.table.row_at(place) for place in range(screen.table.source.count)]
        assert rows
        assert all(row is not None and row[1] == 1 for row in rows)
        shown = screen.statements[0]
        assert "rate_en" in shown.parameters.values() or "$rate_en" in shown.sql
        await press(app, pilot, "right", "right", "right", "right", "right", "t")
        assert screen.order == {"max": True}
        await press(app, pilot, "t")
        assert screen.order == {"max": False}
        largest = [row[8] for row in (screen.table.row_at(place) for place in range(screen.table.source.count)) if row is not None]
        assert largest == sorted(largest)
        await press(app, pilot, "enter")
        assert app.front.NAME == "feature"
        await press(app, pilot, "backspace")
        assert app.front is screen


async def test_a_filter_that_is_wrong_changes_nothing_and_says_why(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("filter", text="layer>=")
        await app.settle()
        assert "was expected" in screen_text(app)
        assert app.front.filter_text == ""
        await app.perform("filter", text="colour=3")
        await app.settle()
        assert "no column 'colour'" in screen_text(app)
        assert app.front.tables()[0].source.count == 120
        await app.perform("filter", text="density>2")
        await app.settle()
        assert "No feature passes this filter." in screen_text(app)


async def test_columns_are_chosen_by_name(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("columns", names="layer feature mean.fr lape.flag")
        await app.settle()
        assert [column.name for column in app.front.tables()[0].columns] == ["layer", "feature", "mean.fr", "lape.flag"]
        await app.perform("columns", names="layer colour")
        assert "no column 'colour'" in screen_text(app)


async def test_jump_by_each_of_the_three_names(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        for number, name in enumerate(("L1_F5", "synthetic/1-transcoder-hp/6", "1_7_3")):
            await press(app, pilot, "o")
            app.screen.query_one(Input).value = name
            await press(app, pilot, "enter")
            assert app.front.feature_here() == (1, 5 + number)
            assert f"L1_F{5 + number}" in screen_text(app)


async def test_jump_to_what_is_not_there(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, _pilot):
        await app.perform("jump", feature="nonsense")
        assert "not a feature" in screen_text(app)
        await app.perform("jump", feature="L9_F999")
        await app.settle()
        assert "this run has no feature L9_F999" in screen_text(app)


async def test_a_feature_shows_all_its_parts(published: Path, browse: Browse) -> None:
    async with browse(published, (200, 60)) as (app, pilot):
        await app.perform("jump", feature="L0_F0")
        await app.settle()
        titles = {line.parts[0][0] for view in app.front.query(LineView) for line in view.lines if line.parts}
        for title in (
            "Top contexts",
            "Languages",
            "Activations",
            "Scores",
            "Edges out",
            "Edges in",
            "Interventions",
            "Communities",
            "Circuits",
            "Labels",
            "Notes",
        ):
            assert title in titles
        text = screen_text(app)
        assert "virtual_weight" in text
        assert "null" in text
        assert "x matched_random" in text
        await press(app, pilot, "right_square_bracket", "greater_than_sign")
        assert app.front.feature_here() == (0, 1)


def _distance(one: Color, other: Color) -> float:
    return abs(one.brightness - other.brightness)


async def test_shades_are_told_apart_and_their_text_can_be_read(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, _pilot):
        await app.perform("jump", feature="L1_F5")
        await app.settle()
        for theme in ("textual-dark", "textual-light"):
            app.theme = theme
            await app.settle()
            styles = [segment.style for segment in styled(app.front.query_one("#card"), [("x", f"shade{n}") for n in range(1, 5)])]
            grounds = [Color.from_rich_color(style.bgcolor) for style in styles if style is not None]
            inks = [Color.from_rich_color(style.color) for style in styles if style is not None]
            assert len(set(grounds)) == 4, theme
            (dim,) = (segment.style for segment in styled(app.front.query_one("#card"), [("x", "dim")]))
            ground, text = app.front.query_one("#card").colors[2:]
            assert dim is not None
            assert _distance(Color.from_rich_color(dim.color), ground) < _distance(text, ground), (
                f"{theme}: dim is nearer to the background"
            )
            for ground, ink in zip(grounds, inks, strict=True):
                assert ground.get_contrast_text(1.0).brightness == pytest.approx(ink.brightness, abs=0.2), theme


async def test_the_table_and_the_card_show_the_label_that_is_counted_on_this_run(tmp_path: Path, browse: Browse) -> None:
    def label(con: duckdb.DuckDBPyConnection) -> None:
        (run,) = con.execute("select run_id from feature order by run_id limit 1").fetchall()[0]
        columns = "label_id, transcoder_set, layer, feature, text, method, source_run, created_at, retired"
        for number, (text, source, day) in enumerate((("here", run, 1), ("elsewhere", "f" * 16, 2))):
            values = [f"a{number}" * 8, SET, 1, 5, text, "mechanical", source, f"2030-01-0{day}", False]
            con.execute(f"insert into label ({columns}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    async with browse(build(tmp_path / "labels.atlas", label)) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("filter", text='label~"here"')
        await app.settle()
        assert app.front.feature_here() == (1, 5)
        source = app.front.tables()[0].source
        assert "here" in source.load(0, 1).wait()[0]
        await press(app, pilot, "enter")
        lines = [line.strip() for line in screen_text(app).splitlines()]
        assert "here" in lines[2]
        assert "elsewhere" not in lines[2]


async def test_star_label_and_note_are_saved_at_once(atlas_copy: Path, browse: Browse) -> None:
    async with browse(atlas_copy) as (app, pilot):
        await app.perform("jump", feature="L1_F5")
        await app.settle()
        await press(app, pilot, "full_stop")
        assert Catalogue(atlas_copy).is_starred(SET, 1, 5)
        await press(app, pilot, "l")
        app.screen.query_one(Input).value = "opposites [of] size"
        await press(app, pilot, "enter")
        assert [row["text"] for row in Catalogue(atlas_copy).rows("label")] == ["opposites [of] size"]
        await press(app, pilot, "n")
        app.screen.query_one(Input).value = "look again"
        await press(app, pilot, "enter")
        assert [row["text"] for row in Catalogue(atlas_copy).rows("note")] == ["look again"]
        text = screen_text(app)
        assert "★ opposites [of] size" in text
        await press(app, pilot, "2")
        await app.perform("filter", text='starred and label~"opposites"')
        await app.settle()
        assert app.front.feature_here() == (1, 5)
        assert app.front.tables()[0].source.count == 1
        await press(app, pilot, "full_stop")
        assert not Catalogue(atlas_copy).is_starred(SET, 1, 5)


async def test_prompts_tokens_and_pairs(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "4", "down")
        text = screen_text(app)
        assert "Prompt 1" in text
        assert "Answers" in text
        assert "Strongest features" in text
        await press(app, pilot, "p")
        text = screen_text(app)
        assert "Two prompts" in text
        assert "In both" in text
        await press(app, pilot, "backspace")
        await app.perform("go_prompts", prompt=1, position=3)
        await app.settle()
        assert "active at position 3" in screen_text(app)
        await app.perform("filter", text="language=fr and correct=false")
        await app.settle()
        rows = app.front.tables()[0].source.ready(0, 99) or []
        assert rows
        assert all(row[1] == "fr" and row[3] is False for row in rows)


async def test_graph_follows_edges_and_returns(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "5")
        assert "Edges in" in screen_text(app)
        first = app.front.arguments
        await press(app, pilot, "enter")
        assert app.front.arguments != first
        here: Any = app.front
        assert f"◉ {'L'}{here.feature_here()[0]}_F{here.feature_here()[1]}" in screen_text(app)
        await press(app, pilot, "backspace")
        assert app.front.arguments == first
        await press(app, pilot, "x")
        assert "star_total" in screen_text(app)
        assert {row["kind"] for row in here.into} == {"star_total"}
        await press(app, pilot, "minus", "u")
        assert "Community by" in screen_text(app)
        await press(app, pilot, "greater_than_sign")
        assert "Graph 1" in screen_text(app)


async def test_interventions_parts_and_details(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "6")
        assert "Effects with controls" in screen_text(app)
        assert "Effect on the margin" in screen_text(app)
        seen = []
        for _ in range(5):
            await press(app, pilot, "v")
            seen.append(screen_text(app))
        for part, text in zip(
            ("Dose-response of", "Measured", "Transfer between languages", "Causal bridges", "Effects with controls"), seen, strict=True
        ):
            assert part in text
        await app.perform("go_interventions", circuit=0)
        await app.settle()
        assert "Paths" in screen_text(app)


async def test_a_question_is_asked_with_the_values_of_its_form(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await app.perform("go_queries", question="graphs/strongest_edges")
        await app.settle()
        screen = app.front
        assert isinstance(screen, QueriesScreen)
        before = screen.result.source.count
        field = next(found for found in screen.form.query(Input) if found.name == "top")
        field.value = "3"
        field.focus()
        await press(app, pilot, "enter")
        assert 0 < screen.result.source.count < before
        field.value = "many"
        field.focus()
        await press(app, pilot, "enter")
        assert "not a whole number" in screen_text(app)
        await press(app, pilot, "escape")
        assert screen.focused is screen.list


async def test_every_question_has_a_form(published: Path, browse: Browse) -> None:
    from queries.loader import catalogue

    async with browse(published) as (app, _pilot):
        await app.perform("go_queries")
        await app.settle()
        screen = app.front
        assert isinstance(screen, QueriesScreen)
        assert screen.list.source.count == len(catalogue())
        for question in catalogue().values():
            rows = screen.form.rows(question, {})
            assert len(rows) == len(question.parameters)


async def test_console_runs_completes_and_refuses(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "8")
        screen = app.front
        assert isinstance(screen, ConsoleScreen)
        await press(app, pilot, "f5")
        assert "3 rows" in screen_text(app)
        await app.perform("ask", sql="select * from feature_score")
        await app.settle()
        assert "500 of more than 500 rows" in screen_text(app)
        await app.perform("ask", sql="drop table feature")
        await app.settle()
        assert "not allowed" in screen_text(app)
        await app.perform("ask", sql="select nothing from feature")
        await app.settle()
        assert "nothing" in screen.status.text
        screen.editor.load_text("select feature_la")
        screen.editor.move_cursor((0, 17))
        screen.editor.focus()
        await press(app, pilot, "ctrl+space")
        assert screen.editor.text == "select feature_language"
        assert "feature.density" in screen.completions("feature.den")
        await app.perform("history", number=2)
        assert screen.editor.text == "select * from feature_score"


async def test_claims_lead_to_their_question(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "9")
        assert "written-by-hand" in screen_text(app)
        await press(app, pilot, "enter")
        assert app.front.NAME == "queries"
        assert "graphs/summary" in screen_text(app)


async def test_compare_every_mode(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "0")
        modes = ("overlap", "profiles", "scores", "nodes", "edges", "matches", "features")
        for mode in modes:
            await app.perform("mode", name=mode)
            await app.settle()
            assert app.front.status.style_name != "negative", app.front.status.text
            assert app.front.tables()[0].source.count > 0, mode
        await press(app, pilot, "enter")
        assert app.front.NAME == "feature"


async def test_help_sql_and_palette_come_from_the_registry(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        for name, (key, title, purpose) in SCREENS.items():
            await app.perform(f"go_{name}")
            await app.settle()
            assert name == app.front.NAME
            app.front.set_focus(None)
            await press(app, pilot, "question_mark")
            assert isinstance(app.screen, Reader)
            text = screen_text(app)
            assert f"Help: {title}" in text
            assert purpose[:40] in text
            await press(app, pilot, "escape", "s")
            if app.front.statements:
                assert isinstance(app.screen, Reader), name
                assert "select" in screen_text(app)
                await press(app, pilot, "escape")
            assert isinstance(app.screen, AtlasScreen)
            del key


async def test_export_writes_data_sql_and_provenance(published: Path, browse: Browse, tmp_path: Path) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("filter", text="layer=1")
        await app.settle()
        for suffix in (".csv", ".parquet"):
            await app.perform("export", path=str(tmp_path / f"out{suffix}"))
            await app.settle()
            assert "exported 40 rows" in screen_text(app)
        await app.perform("export", path=str(tmp_path / "out.csv"))
        await app.settle()
        assert csv.read_csv(tmp_path / "out.csv").num_rows == csv.read_csv(tmp_path / "out-3.csv").num_rows == 40
        assert pq.read_table(tmp_path / "out-2.parquet").num_rows == 40
        about = json.loads((tmp_path / "out.provenance.json").read_text())
        assert about["rows"] == 40
        assert about["runs"] == ["a000000000000001"]
        assert about["parameters"]["layer"] == 1
        assert about["sql"] in (tmp_path / "out.sql").read_text()
        await app.perform("export", path=str(tmp_path / "out.txt"))
        await app.settle()
        assert "cannot export" in screen_text(app)
        await app.perform("export", path="/proc/none/out.csv")
        await app.settle()
        assert "cannot write" in screen_text(app)


async def test_copy_goes_to_the_clipboard_and_a_file(published: Path, browse: Browse, tmp_path: Path) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2", "down", "y")
        assert app.clipboard == "L0_F1"
        assert (tmp_path / "state" / "clipboard.txt").read_text() == "L0_F1\n"


async def test_the_place_is_kept_between_starts(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2")
        await app.perform("filter", text="layer=2")
        await app.perform("sort", column="max")
        await app.settle()
        await press(app, pilot, "down", "down")
        here = app.front.feature_here()
        await press(app, pilot, "q")
    async with browse(published) as (app, pilot):
        assert app.front.NAME == "features"
        assert app.front.filter_text == "layer=2"
        assert "by max ▼" in screen_text(app)
        assert app.front.feature_here() == here


async def test_another_run_is_chosen(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "2", "r")
        await press(app, pilot, "down", "enter")
        assert app.session.run_id != "a000000000000001"
        assert app.session.run is not None
        assert app.session.run.name in app.atlas_title
        await app.perform("run", run="ffff")
        assert "this atlas has no run 'ffff'" in screen_text(app)


async def test_a_running_statement_is_cancelled_by_escape(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await press(app, pilot, "8")
        await app.perform("ask", sql="select count(*) from range(10000000) a, range(10000000) b where a.range % 7 = b.range % 11")
        await pilot.pause(0.3)
        assert app.front.status.busy
        await pilot.press("escape")
        await app.settle()
        assert "stopped" in screen_text(app)
        await app.perform("ask", sql="select 41 + 1 as answer")
        await app.settle()
        assert "1 row" in screen_text(app)


async def test_mouse_opens_tabs_sorts_and_selects(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        await pilot.click("TabLine", offset=(16, 0))
        await app.settle()
        assert app.front.NAME == "features"
        await pilot.click("#features", offset=(60, 0))
        await app.settle()
        assert isinstance(app.front, FeaturesScreen)
        assert len(app.front.order) == 1
        await pilot.click("#features", offset=(30, 5))
        await app.settle()
        assert app.front.table.place == 4
        await pilot.click("#features", offset=(30, 5))
        await app.settle()
        assert app.front.NAME == "feature"


@pytest.mark.parametrize("columns", [80, 100, 107, 120, 123, 124, 140, 200])
def test_all_tabs_fit(columns: int) -> None:
    for name in SCREENS:
        text = "".join(text for _, text in tabs(name, columns))
        assert width(text) <= columns
        letters = 3 if columns < 100 else 4
        shown = {other: title if other == name else SHORT.get(other, title)[:letters] for other, (_, title, _) in SCREENS.items()}
        assert all(f"{key} {shown[other]}" in text or f"{key} {title}" in text for other, (key, title, _) in SCREENS.items())


async def test_the_name_of_the_atlas_stands_apart_from_the_tabs(published: Path, browse: Browse) -> None:
    async with browse(published, (120, 24)) as (app, _pilot):
        first = screen_text(app).splitlines()[0]
        shown = "".join(text for _, text in tabs("overview", 120))
        assert first.startswith(shown + "  │ ")
        assert "synthetic" in first[len(shown) :]


async def test_escape_takes_a_filter_off(published: Path, browse: Browse) -> None:
    async with browse(published) as (app, pilot):
        for name, text in (("features", "layer=1"), ("claims", "query"), ("queries", "edges")):
            await app.perform(f"go_{name}")
            await app.settle()
            table = app.front.tables()[0]
            await app.perform("filter", text=text)
            await app.settle()
            fewer = table.source.count
            await press(app, pilot, "slash", "escape")
            assert app.front.filter_text == text
            await press(app, pilot, "escape")
            assert app.front.filter_text == ""
            assert table.source.count > fewer or name == "claims"


async def test_the_sql_screen_says_how_to_leave_the_editor(published: Path, browse: Browse) -> None:
    async with browse(published, (80, 24)) as (app, pilot):
        await press(app, pilot, "8")
        screen = app.front
        assert isinstance(screen, ConsoleScreen)
        before = screen.editor.text
        await press(app, pilot, "9")
        assert screen.editor.text != before
        assert app.front is screen
        assert "esc leaves the editor" in screen_text(app)
        await press(app, pilot, "escape")
        assert "tab returns to the editor" in screen_text(app)
        await press(app, pilot, "9")
        assert app.front.NAME == "claims"


async def test_two_runs_are_compared_whole_and_a_cut_is_said(published: Path, browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui.screens import compare

    async with browse(published) as (app, pilot):
        await press(app, pilot, "0")
        await app.perform("mode", name="features")
        await app.settle()
        whole = app.front.tables()[0].source.count
        assert "largest differences" not in app.front.status.text
        export = await app.session.data.fetch(app.front.statements[0]).result()
        assert len(export) == whole
        differences = [abs(row[5]) for row in export]
        assert differences == sorted(differences, reverse=True)
        assert {row[2] for row in export} <= {"both", "this", "other"}
        monkeypatch.setattr(compare, "SHOWN", 10)
        await app.perform("mode", name="features")
        await app.settle()
        assert app.front.tables()[0].source.count == 10
        assert "the 10 largest differences of more than 10" in app.front.status.text
        assert len(await app.session.data.fetch(app.front.statements[0]).result()) == whole


async def test_help_is_read_whole_on_a_small_screen(published: Path, browse: Browse) -> None:
    async with browse(published, (80, 24)) as (app, pilot):
        await press(app, pilot, "2", "question_mark")
        (view,) = app.screen.query(LineView)
        assert view.virtual_size.width <= view.size.width
