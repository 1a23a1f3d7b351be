"""Small JSON files that carry their own hash, so that a flipped byte is found on reading.

In: a mapping. Out: bytes whose key `sha256` is the SHA-256 of the canonical JSON of the rest; and back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas import files
from atlas.errors import DamagedError
from atlas.ids import canonical_json, sha256_text


def sealed(content: Mapping[str, Any]) -> bytes:
    """Write content as JSON that carries its own hash."""
    body = dict(content)
    body["sha256"] = sha256_text(canonical_json(content))
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def unseal(path: Path) -> dict[str, Any]:
    """Read JSON that carries its own hash.

    Raises DamagedError when it is unreadable, differs from its hash, or is gone, StoreError when only this process may not read it.
    """
    try:
        with files.reading(path):
            content = json.loads(path.read_bytes())
        claimed = content.pop("sha256")
    except FileNotFoundError as error:
        raise DamagedError(f"missing: {path}", hint="Restore it from a copy, or run `atlas repair`.") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedError(f"not readable: {path}: {error}", hint="Restore it from a copy, or run `atlas repair`.") from error
    if sha256_text(canonical_json(content)) != claimed:
        raise DamagedError(f"differs from its own hash: {path}", hint="Restore it from a copy, or run `atlas repair`.")
    return dict(content)
