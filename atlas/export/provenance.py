"""Where an exported file's numbers come from: the sidecar `<file>.provenance.json`.

In: the question, its SQL and parameters, the runs and the atlas it was asked of. Out: a JSON file beside each exported file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas import __version__, files
from atlas.catalogue import utc_now
from atlas.errors import UsageError
from atlas.ids import sha256_file

SUFFIX = ".provenance.json"
STDOUT = "-"
"""As a target: standard output."""


@dataclass(frozen=True)
class Provenance:
    """What was asked of which atlas."""

    question: str | None = None
    """Name of the question, None for SQL of a person."""
    sql: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    run_ids: Sequence[str] = ()
    manifest: int | None = None
    """Number of the manifest that the atlas was published from."""
    manifest_hash: str | None = None
    code_version: str = __version__

    def of(self, table: pa.Table) -> Provenance:
        """Add the runs that a result names in its column run_id."""
        named = set(table["run_id"].to_pylist()) - {None} if "run_id" in table.column_names else set()
        return Provenance(
            self.question,
            self.sql,
            self.parameters,
            tuple(sorted({*self.run_ids, *map(str, named)})),
            self.manifest,
            self.manifest_hash,
            self.code_version,
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the fields as JSON values."""
        return {
            "question": self.question,
            "sql": self.sql,
            "parameters": {name: _plain(value) for name, value in self.parameters.items()},
            "run_ids": list(self.run_ids),
            "manifest": self.manifest,
            "manifest_hash": self.manifest_hash,
            "code_version": self.code_version,
        }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def checked_target(target: Path | str) -> Path:
    """Return the file to write; raise UsageError where there is no folder for it or a folder has its name."""
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", hint=f"Give a file, such as {path / 'table.csv'}.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}.", hint="Make it, or give a file elsewhere.")
    return path


def format_of(target: Path | str, formats: Iterable[str], aliases: Mapping[str, str]) -> str:
    """Return the format that a file's ending names; raise UsageError where it names none."""
    ending = Path(target).suffix.lstrip(".").lower()
    found = aliases.get(ending, ending)
    if found not in formats:
        said = f"The ending of {target} names no format." if ending else f"{target} has no ending that names a format."
        raise UsageError(said, hint=f"Give --format or an ending; formats: {', '.join(formats)}.")
    return found


def sidecar_path(path: Path) -> Path:
    """Name the sidecar of a file."""
    return path.with_name(path.name + SUFFIX)


def write_sidecar(path: Path, provenance: Provenance, **facts: Any) -> Path:
    """Write the sidecar of a file that is written already: its hash, its provenance, the time, and facts such as its columns."""
    content = {
        "file": path.name,
        "sha256": sha256_file(path),
        **provenance.as_dict(),
        "written_at": utc_now().isoformat(timespec="seconds") + "Z",
        **facts,
    }
    target = sidecar_path(path)
    files.write_whole(target, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    return target
