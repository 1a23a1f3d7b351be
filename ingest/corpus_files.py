"""Corpora: documents with a language, read from Parquet, JSON lines, text files or a `datasets` directory.

In: paths. Out: `RawDocument`s in an order that depends on the files' names and contents only, so that a pass can be resumed by counting.

- Parquet, JSON lines (`.jsonl`, `.ndjson`, also `.gz`) and what `datasets.Dataset.save_to_disk` wrote (Arrow streams) have a text and
  a language column; without a language column the path tells the language (below).
- Text files (`.txt`): documents are parted by blank lines. The language is the end of the name (`news.fr.txt`), else the folder's name.
- A folder is all of its files, by path. Documents without text are left out.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import InputError

_SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".txt", ".arrow")
_LANGUAGE = re.compile(r"^[a-z]{2}$")
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class RawDocument:
    """One document as it stands in a corpus."""

    language: str
    text: str
    source: str
    """File name (in its folder) and ordinal within the file."""


@dataclass(frozen=True)
class CorpusFiles:
    """Where a corpus lies and what its columns are called."""

    paths: tuple[Path, ...]
    text_column: str = "text"
    language_column: str = "language"
    language: str | None = None
    """Language of every document; None where a column or the path tells it."""

    def files(self) -> list[Path]:
        """Return the files, sorted.

        Raises:
            InputError: a path that is missing, of an unknown kind, or a folder without corpus files.
        """
        found: list[Path] = []
        for path in self.paths:
            if path.is_dir():
                own = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file))
                if not own:
                    raise InputError(f"{path.name} holds no corpus file", hint=f"files end in {', '.join(_SUFFIXES)}")
                found += own
            elif path.is_file() and _suffix(path):
                found.append(path)
            else:
                state = "is of an unknown kind" if path.exists() else "does not exist"
                raise InputError(f"corpus file {path.name} {state}", hint=f"give files that end in {', '.join(_SUFFIXES)}")
        return found

    def documents(self, skip: int = 0) -> Iterator[RawDocument]:
        """Yield documents in order, after the first `skip`.

        Raises:
            InputError: a missing column, broken JSON, a document whose language nothing tells.
        """
        for file in self.files():
            for number, (language, text) in enumerate(self._rows(file)):
                if not text.strip():
                    continue
                if skip:
                    skip -= 1
                    continue
                yield RawDocument(self._known_language(language, file), text, f"{file.name}#{number}")

    def languages(self) -> tuple[str, ...]:
        """Return the languages of the corpus, sorted; reads every language but no text where the format allows."""
        if self.language is not None:
            return (self.language,)
        found: set[str] = set()
        for file in self.files():
            for language in self._languages_of(file):
                found.add(self._known_language(language, file))
        return tuple(sorted(found))

    def _languages_of(self, file: Path) -> Iterator[str | None]:
        if _suffix(file) == ".parquet" and self.language_column in pq.read_schema(file).names:
            column = pq.read_table(file, columns=[self.language_column])[self.language_column]
            yield from column.unique().to_pylist()
        else:
            yield from (language for language, text in self._rows(file) if text.strip())

    def _known_language(self, language: str | None, file: Path) -> str:
        known = self.language or language or language_of_path(file)
        if known is None:
            raise InputError(
                f"nothing tells the language of {file.name}",
                hint=f"add a column {self.language_column!r}, name the file like news.fr.txt or its folder fr, or give --language",
            )
        return known

    def _rows(self, file: Path) -> Iterator[tuple[str | None, str]]:
        suffix = _suffix(file)
        if suffix == ".txt":
            with _read(file) as stream:
                texts = re.split(r"\n\s*\n", stream.read())
            yield from ((None, text) for text in texts)
        elif suffix == ".parquet":
            with pq.ParquetFile(file) as parquet:
                columns = self._columns(parquet.schema_arrow.names, file)
                for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                    yield from self._of_batch(batch)
        elif suffix == ".arrow":
            yield from self._arrow_rows(file)
        else:
            yield from self._json_rows(file)

    def _arrow_rows(self, file: Path) -> Iterator[tuple[str | None, str]]:
        try:
            with pa.memory_map(str(file)) as mapped, pa.ipc.open_stream(mapped) as stream:
                columns = self._columns(stream.schema.names, file)
                for batch in stream:
                    yield from self._of_batch(batch.select(columns))
        except pa.ArrowInvalid as error:
            raise InputError(f"{file.name} is not an Arrow stream: {error}", hint="save it with Dataset.save_to_disk") from error

    def _json_rows(self, file: Path) -> Iterator[tuple[str | None, str]]:
        with _read(file) as lines:
            for number, line in enumerate(lines):
                if not line.strip():
                    continue
                try:
                    row: dict[str, Any] = json.loads(line)
                    text = row[self.text_column]
                except (json.JSONDecodeError, KeyError, TypeError) as error:
                    raise InputError(
                        f"line {number + 1} of {file.name} is no JSON object with a field {self.text_column!r}",
                        hint="name the text's field with --text-column",
                    ) from error
                yield row.get(self.language_column), str(text or "")

    def _columns(self, names: Sequence[str], file: Path) -> list[str]:
        if self.text_column not in names:
            raise InputError(
                f"{file.name} has no column {self.text_column!r}; it has {', '.join(names)}",
                hint="name the text's column with --text-column",
            )
        return [name for name in (self.text_column, self.language_column) if name in names]

    def _of_batch(self, batch: pa.RecordBatch) -> Iterator[tuple[str | None, str]]:
        texts = batch.column(self.text_column).to_pylist()
        languages: list[str | None] = [None] * len(texts)
        if self.language_column in batch.schema.names:
            languages = batch.column(self.language_column).to_pylist()
        yield from zip(languages, (text or "" for text in texts), strict=True)


def language_of_path(file: Path) -> str | None:
    """Return the language a path tells: `news.fr.txt`, or a folder `fr`; None otherwise."""
    stem = file.name.removesuffix(_suffix(file) or "")
    for part in (stem.rpartition(".")[2], file.parent.name):
        if _LANGUAGE.match(part):
            return part
    return None


def _suffix(file: Path) -> str | None:
    """Return the corpus suffix of a file, None for other files (and for the caches `datasets` leaves beside its own)."""
    if file.name.startswith("cache-"):
        return None
    return next((suffix for suffix in sorted(_SUFFIXES, key=len, reverse=True) if file.name.endswith(suffix)), None)


def _read(file: Path) -> TextIO:
    if file.name.endswith(".gz"):
        return gzip.open(file, "rt", encoding="utf-8")
    return file.open(encoding="utf-8")
