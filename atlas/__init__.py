"""The store and the front door: open an atlas, ask it questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from atlas.folder import Atlas
    from atlas.reader import Reader
    from ingest.ask.session import Session

__version__ = "0.1.0"
__all__ = ["__version__", "create", "open"]


def open(path: str | PathLike[str]) -> Reader:
    """Open a published atlas for questions: `atlas.open("demo.atlas").ask("languages/bilingual_features", rate=0.2)`.

    Raises StoreError when nothing is published there, VersionError for another format.
    """
    import os
    from pathlib import Path

    from atlas.reader import Reader
    from queries import ask

    return Reader(Path(os.fspath(path)), ask=ask, session=_session)


def _session(reader: Reader) -> Session:
    """Load the model that the newest run of an atlas analysed, for questions to it."""
    from ingest.ask.session import Session

    return Session.of(reader)


def create(path: str | PathLike[str]) -> Atlas:
    """Make an empty atlas folder, or open the one that is there."""
    import os
    from pathlib import Path

    from atlas.folder import Atlas

    return Atlas.create(Path(os.fspath(path)))
