"""The screens, one file each; `make(name)` imports what it shows."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.screens.base import AtlasScreen


def make(name: str) -> "AtlasScreen":
    """Return a new screen by its name in the registry; only that screen's module is imported."""
    module = import_module(f"tui.screens.{name}")
    screen: AtlasScreen = module.SCREEN()
    return screen
