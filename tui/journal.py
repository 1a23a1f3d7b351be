"""The journal of a session: one JSON object a line, written as things are done, read back to repeat them.

In: actions with their arguments. Out: lines such as `{"at": 12.3, "screen": "features", "action": "filter", "text": "layer>=20"}`.
Times are seconds since the start; they are for people and are not repeated.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from atlas.errors import InputError
from tui.actions import ACTIONS

RESERVED = ("at", "screen", "action")
EXTRA = ("place",)
"""Entries that are no actions: where the cursor of a table or a list of lines stood."""


@dataclass(frozen=True)
class Entry:
    """One line of a journal."""

    screen: str
    action: str
    arguments: Mapping[str, Any]


class Journal:
    """Write actions to a file as they are done."""

    def __init__(self, path: Path | None) -> None:
        self._start = time.monotonic()
        self._stream: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8", buffering=1)

    def write(self, screen: str, action: str, arguments: Mapping[str, Any]) -> None:
        """Append one action; without a file nothing happens."""
        if self._stream is not None:
            entry = {"at": round(time.monotonic() - self._start, 3), "screen": screen, "action": action, **arguments}
            self._stream.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_journal(path: Path) -> Iterator[Entry]:
    """Yield the entries of a journal; raise InputError with the line for what is none."""
    known = {action.id for action in ACTIONS} | set(EXTRA)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the journal {path}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON: {error.msg}", hint="A journal has one JSON object a line.") from error
        action = entry.get("action") if isinstance(entry, dict) else None
        if action not in known:
            raise InputError(f"{path}:{number}: no action {action!r}", hint="docs/tui.md lists all actions.")
        yield Entry(str(entry.get("screen", "")), action, {key: value for key, value in entry.items() if key not in RESERVED})
