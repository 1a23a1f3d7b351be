import importlib
import inspect
import os
import selectors

import pytest

from tui.escape import ALONE_MS, LOOKS, SOON, EagerSelector, settle_escape


def test_a_selector_looks_again_soon_after_input_and_then_waits_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    answers = [[("key", 1)], *([[]] * (LOOKS + 2))]

    def select(_self: object, timeout: float | None = None) -> list[object]:
        waits.append(timeout)
        return list(answers[len(waits) - 1])

    monkeypatch.setattr(selectors.SelectSelector, "select", select)
    selector = EagerSelector()
    for _ in answers:
        selector.select(0.1)
    assert waits == [0.1, *([SOON] * LOOKS), 0.1, 0.1]


def test_the_terminal_driver_of_this_textual_reads_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's input thread makes a SelectSelector of the module that is replaced: else esc would be as slow as before."""
    driver = importlib.import_module("textual.drivers.linux_driver")
    monkeypatch.setattr(driver, "selectors", selectors)
    monkeypatch.setenv("ESCDELAY", "100")  # so that it is put back
    monkeypatch.delenv("ESCDELAY")
    settle_escape()
    assert os.environ["ESCDELAY"] == ALONE_MS
    assert driver.selectors.SelectSelector is EagerSelector
    assert driver.selectors.EVENT_READ == selectors.EVENT_READ
    assert "selectors.SelectSelector()" in inspect.getsource(driver.LinuxDriver.run_input_thread)
