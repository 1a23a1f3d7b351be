"""What is kept between starts: screen, run, columns, order, filter, theme; per atlas, in the person's state folder.

In: a folder's path. Out: a small dict. A file that cannot be read or written is no reason to stop: the browser starts as new.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def state_folder() -> Path:
    """Return the folder for state: $XDG_STATE_HOME/feature-atlas, else ~/.local/state/feature-atlas."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "feature-atlas"


class State:
    """The kept state of one atlas."""

    def __init__(self, atlas: Path, folder: Path | None = None) -> None:
        self.path = (folder or state_folder()) / "tui.json"
        self.atlas = str(atlas.resolve())
        self.values: dict[str, Any] = {}
        every = self._read()
        if isinstance(every.get(self.atlas), dict):
            self.values = every[self.atlas]

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def get(self, name: str) -> dict[str, Any]:
        """Return what a screen kept."""
        found = self.values.get(name)
        return found if isinstance(found, dict) else {}

    def text(self, name: str) -> str | None:
        """Return one kept text."""
        found = self.values.get(name)
        return found if isinstance(found, str) else None

    def save(self, values: dict[str, Any]) -> None:
        """Write the state of this atlas beside that of others."""
        self.values = values
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            temporary.write_text(json.dumps({**self._read(), self.atlas: values}, ensure_ascii=False), encoding="utf-8")
            temporary.replace(self.path)
