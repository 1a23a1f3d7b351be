"""What all screens share: the open atlas, its runs, the chosen run, and people's words that are newer than the published file.

In: a folder. Out: a `Session`; everything that may wait is a `Job`.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.catalogue import Catalogue
from tui.data import Data, FeatureView, Job, Read, Statement, Where, feature_key
from tui.data.runs import Run, RunInfo, read_runs, run_info

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Words:
    """Stars, labels and notes of one transcoder set, as the catalogue has them now."""

    starred: frozenset[int] = frozenset()
    labels: Mapping[int, str] = field(default_factory=dict)
    noted: frozenset[int] = frozenset()


class Session:
    """One atlas, open."""

    def __init__(self, data: Data, runs: list[Run], run: Run | None, words: Words) -> None:
        self.data = data
        self.runs = runs
        self.run = run
        """The chosen run, None where the atlas has none."""
        self.words = words
        self.catalogue = Catalogue(data.folder)
        self._info: RunInfo | None = None
        self.words_seen: object = None
        """State of the catalogue's files when it was last looked at."""

    def words_state(self) -> object:
        """Return what changes when anybody writes to the catalogue: sizes and times of its files."""
        found = []
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                status = os.stat(f"{self.catalogue.path}{suffix}")
                found.append((suffix, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    @classmethod
    def open(cls, folder: Path, run_id: str | None = None) -> "Session":
        """Open an atlas and choose a run (the newest complete one with features): to be called in a thread."""
        data = Data.open(folder)
        try:
            runs = data.job(read_runs).wait()
            chosen = next((run for run in runs if run.run_id == run_id), None) or (runs[0] if runs else None)
            return cls(data, runs, chosen, read_words(data, chosen.transcoder_set) if chosen else Words())
        except BaseException:
            data.close()
            raise

    @property
    def info(self) -> RunInfo | None:
        """Return what the features table must know of the chosen run, None before `read_info` has ended."""
        return self._info if self.run is not None and self._info is not None and self._info.run_id == self.run.run_id else None

    @property
    def run_id(self) -> str:
        """Return the chosen run's id, empty where the atlas has no run."""
        return "" if self.run is None else self.run.run_id

    @property
    def transcoder_set(self) -> str:
        """Return the chosen run's transcoder set."""
        return "" if self.run is None or self.run.transcoder_set is None else self.run.transcoder_set

    def read_info(self) -> Job[RunInfo | None]:
        """Read what the features table must know of the chosen run, once a run: it counts layers, so it is not part of the start."""
        run = self.run

        def work(cursor: "duckdb.DuckDBPyConnection") -> RunInfo | None:
            if run is not None and self.info is None:
                self._info = run_info(cursor, run.run_id, run.transcoder_set)
            return self.info

        return self.data.job(work, "counting features")

    def choose(self, run_id: str) -> Job[None]:
        """Make another run the chosen one."""
        chosen = next(run for run in self.runs if run.run_id.startswith(run_id))

        def work(_cursor: "duckdb.DuckDBPyConnection") -> None:
            self.words = read_words(self.data, chosen.transcoder_set)
            self.run = chosen

        return self.data.job(work, "run")

    def refresh_words(self) -> Job[None]:
        """Read the catalogue again, after a write here or in another process."""

        def work(_cursor: "duckdb.DuckDBPyConnection") -> None:
            self.words = read_words(self.data, self.transcoder_set or None)

        return self.data.job(work, "people's words")

    def write(self, kind: str, layer: int, feature: int, text: str = "") -> Job[str]:
        """Star (or unstar), label or note a feature; the job ends when it is safe on disk."""

        def work(_cursor: "duckdb.DuckDBPyConnection") -> str:
            where = (self.transcoder_set, layer, feature)
            done = _write(self.catalogue, kind, where, text)
            self.words = read_words(self.data, self.transcoder_set or None)
            self.words_seen = self.words_state()
            return done

        return self.data.job(work, kind)

    def view(self, columns: tuple[str, ...], **changes: Any) -> FeatureView:
        """Return a view of the chosen run's features with people's newest words."""
        keys = {"starred": tuple(sorted(self.words.starred)), "noted": tuple(sorted(self.words.noted))}
        return FeatureView(self.run_id, self.transcoder_set or None, columns, keys=keys, labels=self.words.labels, **changes)


def author() -> str:
    """Return who writes: $ATLAS_AUTHOR, else the login name."""
    try:
        return os.environ.get("ATLAS_AUTHOR") or getuser()
    except (KeyError, OSError):
        return "unknown"


def _write(catalogue: Catalogue, kind: str, where: tuple[str, int, int], text: str) -> str:
    transcoder_set, layer, feature = where
    if kind == "label":
        catalogue.add_label(transcoder_set, layer, feature, text, author=author())
        return "labelled"
    if kind == "note":
        catalogue.add_note(text, transcoder_set=transcoder_set, layer=layer, feature=feature, author=author())
        return "noted"
    if catalogue.is_starred(*where):
        catalogue.unstar(*where)
        return "star taken off"
    catalogue.star(*where)
    return "starred"


def read_words(data: Data, transcoder_set: str | None) -> Words:
    """Read people's words: the catalogue where there is one, else what was published."""
    catalogue = Catalogue(data.folder)
    if catalogue.path.exists():
        stars, notes, labels = (catalogue.rows(table) for table in ("star", "note", "label"))
        labels.sort(key=lambda row: str(row["created_at"]))
        return Words(
            frozenset(_key(row) for row in stars if row["transcoder_set"] == transcoder_set),
            {_key(row): row["text"] for row in labels if row["transcoder_set"] == transcoder_set and not row["retired"]},
            frozenset(
                _key(row) for row in notes if row["transcoder_set"] == transcoder_set and not row["deleted"] and row["layer"] is not None
            ),
        )
    here = Where("transcoder_set", "=", transcoder_set)
    stars_read = Read("stars", "star", ("layer", "feature"), (here,))
    notes_read = Read("notes", "note", ("layer", "feature"), (here, Where("deleted", "=", False), Where("feature", "not null")))
    published = data.rows(stars_read, notes_read).wait() if transcoder_set else [[], []]
    return Words(frozenset(feature_key(*row) for row in published[0]), {}, frozenset(feature_key(*row) for row in published[1]))


def _key(row: Mapping[str, Any]) -> int:
    return feature_key(row["layer"], row["feature"])


def statement_text(statement: Statement) -> str:
    """Return a statement as a file that any DuckDB client runs: its values first, as a comment and as variables."""
    values = [f"-- ${name} = {value!r}" for name, value in statement.parameters.items()]
    return "\n".join([f"-- {statement.title}", *values, statement.sql.rstrip() + ";", ""])
