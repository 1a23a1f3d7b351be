"""Make esc count at once: a terminal sends it like the beginning of an arrow key, and Textual's input thread takes 100 ms to look again.

In: nothing. Out: Textual's Unix driver looks again 20 ms after each input for a while, and takes an esc that stands alone after 40 ms.
"""

import os
import selectors
from types import SimpleNamespace
from typing import Any

ALONE_MS = "40"
SOON = 0.02
LOOKS = 5


class EagerSelector(selectors.SelectSelector):
    """Waits as long as it is told to, but looks soon again after input."""

    looks = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready."""
        soon = timeout is not None and self.looks > 0
        ready: list[Any] = super().select(min(timeout, SOON) if soon and timeout is not None else timeout)
        self.looks = LOOKS if ready else max(0, self.looks - 1)
        return ready


def settle_escape() -> None:
    """Arrange for it; to be called before Textual is imported."""
    os.environ.setdefault("ESCDELAY", ALONE_MS)
    try:
        from textual.drivers import linux_driver
    except ImportError:  # not a Unix terminal
        return
    if hasattr(linux_driver, "selectors"):  # else a Textual that reads otherwise: esc is slower there, and nothing else
        linux_driver.selectors = SimpleNamespace(**{**vars(selectors), "SelectSelector": EagerSelector})
