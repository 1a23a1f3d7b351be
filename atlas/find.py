"""Which atlas a person means: the one they name, $ATLAS, or the only one in the current folder."""

from __future__ import annotations

import os
from pathlib import Path

from atlas.errors import StoreError, UsageError

SUFFIX = "*.atlas"


def atlases_here() -> list[Path]:
    """List the atlases in the current folder, by name."""
    return sorted(folder for folder in Path().glob(SUFFIX) if folder.is_dir())


def find_atlas(path: Path | None) -> Path:
    """Return the folder of the atlas that is meant.

    Raises:
        StoreError: there is none.
        UsageError: there are several and none was named.
    """
    if path is None and os.environ.get("ATLAS"):
        path = Path(os.environ["ATLAS"])
    if path is not None:
        if not path.is_dir():
            raise StoreError(f"There is no atlas at {path}.", hint="`atlas demo` builds one; `atlas ingest --atlas DIR` starts one.")
        return path
    found = atlases_here()
    if len(found) == 1:
        return found[0]
    if not found:
        raise StoreError("There is no atlas in this folder.", hint="`atlas demo` builds one in about a minute; or give --atlas DIR.")
    raise UsageError(f"There are {len(found)} atlases here: {', '.join(map(str, found))}.", hint="Choose one: --atlas DIR, or $ATLAS.")
