"""Text from data is drawable: one line, no control characters, widths that add up."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.conftest import HOSTILE
from tui import marks
from tui.columns import Column, draw
from tui.text import cut, fit, number, safe, signed, token, width
from tui.widgets.styles import parts_width


@given(st.text())
def test_safe_text_holds_nothing_that_moves_a_terminal(text: str) -> None:
    shown = safe(text)
    assert "\n" not in shown
    for char in shown:
        assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    assert safe(shown) == shown


@given(st.text(), st.integers(0, 40), st.sampled_from(["left", "right"]))
def test_fit_gives_exactly_the_asked_cells(text: str, cells: int, align: str) -> None:
    assert width(fit(safe(text), cells, align)) == cells
    assert width(cut(safe(text), cells)) <= cells


@pytest.mark.parametrize("text", HOSTILE)
def test_every_cell_of_a_table_has_its_width(text: str) -> None:
    for kind, value in (("text", text), ("label", text), ("tokens", [text, text]), ("star", True), ("flag", None)):
        column = Column("x", "x", kind, 12)  # type: ignore[arg-type]
        assert parts_width(draw(column, value)) == 12
    for kind in ("number", "signed", "rate", "signed_bar"):
        for figure in (None, 0.0, -1.5, 1e9, -1e-9, 3, float("nan")):
            assert parts_width(draw(Column("x", "x", kind, 19), figure)) == 19  # type: ignore[arg-type]


def test_controls_flags_and_joiners() -> None:
    assert safe("\x1b[31m") == "␛[31m"
    assert safe("a\nb\tc") == "a↵b⇥c"
    assert safe("👩‍👩‍👧‍👦") == "👩👩👧👦"
    assert safe("\u202eabc") == "abc"
    assert safe("🇩🇪") == "DE"
    assert safe("e" + "\u0301" * 9) == "e\u0301\u0301"


def test_spaces_of_a_token_are_visible() -> None:
    assert token(" hot") == "␣hot"
    assert token("hot  ") == "hot␣␣"
    assert token("") == "∅"
    assert token("  ") == "␣␣"


def test_numbers_as_people_read_them() -> None:
    assert [number(value) for value in (None, 0.12345, 1234567, 12345.6, 1e-7, -0.0, True)] == [
        "·",
        "0.123",
        "1,234,567",
        "12,346",
        "1.00e-07",
        "0",
        "yes",
    ]
    assert [signed(value) for value in (0.5, -0.5, 0.0, None)] == ["+0.5", "-0.5", "0", "·"]


def test_bars_show_size_and_sign_without_colour() -> None:
    assert marks.bar(0.5, 1.0, 4) == "██  "
    assert marks.bar(1e-9, 1.0, 4) == "▏   "
    assert marks.bar(0.0, 1.0, 4) == "    "
    assert marks.signed_bar(-1.0, 1.0, 9) == "░░░░│    "
    assert marks.signed_bar(0.5, 1.0, 9) == "    │██  "
    assert marks.columns([1, 2], 2) == [" █", "██"]
    assert marks.interval(-1, 0, 1, -2, 2, 9) == "··├─●─┤··"
