"""The way in: find the atlas, begin to open it, then bring up the browser.

In: a folder or None, a journal to write, a journal to repeat. Out: an exit code.

Opening the atlas starts in a thread before Textual is imported, so that both happen at once; an atlas that cannot be opened gives one
sentence on stderr and no screen.
"""

import contextlib
import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.errors import AtlasError, StoreError, UsageError
from atlas.find import atlases_here, find_atlas

if TYPE_CHECKING:
    from tui.session import Session


def run(path: Path | None, *, replay: Path | None = None, journal: Path | None = None) -> int:
    """Browse an atlas until the person leaves; returns the exit code of atlas/errors.py."""
    # What is made while starting lives until the end: looking for garbage in it costs a fifth of the start. `Browser` switches it on again.
    gc.disable()
    settle_allocator()
    try:
        folder = find(path)
        pool = ThreadPoolExecutor(max_workers=1)
        opening = pool.submit(_open, folder)
        from tui.escape import settle_escape

        settle_escape()
        from tui.browser import Browser
        from tui.journal import read_journal

        entries = None if replay is None else list(read_journal(replay))
        session = opening.result()
        pool.shutdown(wait=False)
        try:
            need_terminal()
        except UsageError:
            session.data.close()
            raise
        app = Browser(session, replay=entries, journal=journal)
        app.run()
        return app.return_code or 0
    except AtlasError as error:
        sys.stderr.write(f"atlas: {error}\n")
        return error.exit_code


def need_terminal() -> None:
    """Raise UsageError without keys to read or a place to draw on; the screen is drawn on stderr, so stdout may be a pipe."""
    for name, stream in (("stdin", sys.__stdin__), ("stderr", sys.__stderr__)):
        if stream is None or not stream.isatty():
            raise UsageError(
                f"the browser needs a terminal, and {name} is none", hint="`atlas query` and `atlas sql` answer in pipes and scripts."
            )


def _open(folder: Path) -> "Session":
    from tui.session import Session
    from tui.state import State

    return Session.open(folder, State(folder).text("run"))


def settle_allocator() -> None:
    """Let the C library keep one pool for all threads and give large blocks back at once: a third less memory after sorting millions."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    pools, from_system, give_back = -8, -3, -1
    with contextlib.suppress(OSError, AttributeError):  # a C library without mallopt
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in ((pools, 1), (from_system, 8 << 20), (give_back, 8 << 20)):
            mallopt(name, value)


def find(path: Path | None) -> Path:
    """Return the folder to open; where there is none at all, offer to build the demo."""
    try:
        return find_atlas(path)
    except StoreError:
        nowhere = path is None and not os.environ.get("ATLAS") and not atlases_here()
        if nowhere and sys.stdin.isatty() and sys.stdout.isatty() and _wants_demo():
            subprocess.run([sys.executable, "-m", "atlas.cli", "demo"], check=False)
            return find_atlas(None)
        raise


def _wants_demo() -> bool:
    sys.stderr.write("There is no atlas in this folder. Build the demo atlas now (about a minute)? [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")
