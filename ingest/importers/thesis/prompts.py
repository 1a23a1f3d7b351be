"""Prompts of a thesis run, keyed by content, and their answers and translation pairs.

In: the prompts file. Out: `Prompts`, which other parts ask for a prompt's ordinal. A prompt has no id but its line; the file was
rewritten under its own name, so every other file's texts are checked against it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atlas.errors import InputError
from ingest.importers.common import Record
from ingest.importers.thesis.files import Files, Rows, read_jsonl

PROMPT_FILE = re.compile(r"^(.*?)_?(train|test|validation)\.jsonl$")


@dataclass(frozen=True)
class Prompts:
    """The prompts of one run, in file order."""

    behaviour: str
    split: str
    records: tuple[Record, ...]
    languages: tuple[str, ...]
    """Language of each prompt."""
    concepts: tuple[str, ...]
    hashes: tuple[str, ...]

    @property
    def prompt_set_hash(self) -> str:
        """SHA-256 over every prompt's hash, in order; the definition that ingest uses."""
        return hashlib.sha256("\n".join(self.hashes).encode()).hexdigest()

    def by_line(self, index: int, text: str, record: Record) -> int:
        """Return prompt `index` after checking that it has this text; the file may be another version under the same name."""
        if not 0 <= index < len(self.records):
            raise record.fail("prompt_idx", f"a prompt between 0 and {len(self.records) - 1}")
        own = self.records[index].values["prompt"]
        if own != text:
            raise InputError(
                f"{record.where}: speaks of prompt {index} as {text!r}, but {self.records[index].where} is {own!r}",
                hint="The prompts file is another version than the one this run used; give the one it used.",
            )
        return index

    def by_text(self, text: str, record: Record, what: str, concept: int | None = None, template: int | None = None) -> int:
        """Return the prompt with this text, told apart by concept and template index where texts repeat."""
        found = [
            index
            for index, prompt in enumerate(self.records)
            if prompt.values["prompt"] == text
            and (concept is None or prompt.values.get("concept_index", concept) == concept)
            and (template is None or prompt.values.get("template_idx", template) == template)
        ]
        if len(found) != 1:
            raise InputError(
                f"{record.where}: field {what!r}: expected the text of one prompt of the prompts file, got {text!r} ({len(found)} have it)",
                hint="The prompts file is another version than the one this run used; give the one it used.",
            )
        return found[0]

    def rows(self) -> Rows:
        """Return rows of behaviour, prompt, answer and prompt_pair."""
        prompts = [self._prompt(index) for index in range(len(self.records))]
        answers = [row for index in range(len(self.records)) for row in self._answers(index)]
        behaviour = {
            "behaviour": self.behaviour,
            "title": f"Imported from the thesis: {self.behaviour}",
            "languages": sorted(set(self.languages)),
            "n_prompts": len(prompts),
            "prompt_set_hash": self.prompt_set_hash,
        }
        return {"behaviour": [behaviour], "prompt": prompts, "answer": answers, "prompt_pair": self._pairs()}

    def _prompt(self, index: int) -> dict[str, Any]:
        values = self.records[index].values
        return {
            "prompt": index,
            "behaviour": self.behaviour,
            "prompt_hash": self.hashes[index],
            "language": self.languages[index],
            "concept": self.concepts[index],
            "template": f"template_{values['template_idx']}" if "template_idx" in values else "template",
            "split": self.split,
            "text": values["prompt"],
            "operand": values.get("word", values.get("subject")),
            "variant": values.get("number"),
        }

    def _answers(self, index: int) -> list[dict[str, Any]]:
        values = self.records[index].values
        return [
            {"prompt": index, "answer": 0, "role": "correct", "text": values["correct_answer"]},
            {"prompt": index, "answer": 1, "role": "contrast", "text": values["incorrect_answer"]},
        ]

    def _pairs(self) -> list[dict[str, Any]]:
        """Pair prompts of two languages with equal concept and template index."""
        groups: dict[tuple[Any, Any], list[int]] = {}
        for index, record in enumerate(self.records):
            if "concept_index" in record.values and "template_idx" in record.values:
                groups.setdefault((record.values["concept_index"], record.values["template_idx"]), []).append(index)
        pairs = [(a, b) for group in groups.values() for a in group for b in group if self.languages[a] < self.languages[b]]
        return [{"pair": i, "kind": "translation", "prompt_a": a, "prompt_b": b} for i, (a, b) in enumerate(sorted(pairs))]


def read_prompts(files: Files, note: Callable[[str], None]) -> Prompts:
    """Read the prompts file."""
    path = files.one("prompts")
    assert path is not None  # find_files refuses a folder without one
    match = PROMPT_FILE.match(path.name)
    records = tuple(read_jsonl(path, files.name(path)))
    if not records:
        raise InputError(f"{files.name(path)}:1: expected prompts, got an empty file")
    for record in records:
        _check(record)
    if any(not record.has("language") for record in records):
        note(f"{files.name(path)}: no field 'language'; prompts are taken to be English")
    languages = tuple(record.optional_text("language") or "en" for record in records)
    return Prompts(
        behaviour=_behaviour(files, match.group(1) if match else ""),
        split=match.group(2) if match else "train",
        records=records,
        languages=languages,
        concepts=_concepts(records, languages),
        hashes=tuple(_hash(record, language) for record, language in zip(records, languages, strict=True)),
    )


def _check(record: Record) -> None:
    """Refuse a prompt whose fields are of another type than they are used as."""
    for field in ("prompt", "correct_answer", "incorrect_answer"):
        record.text(field)
    for field in ("language", "word", "subject", "number"):
        record.optional_text(field)
    for field in ("concept_index", "template_idx"):
        if field in record.values:
            record.integer(field)


def _behaviour(files: Files, stem: str) -> str:
    """Name the behaviour: from an interventions file, else from the prompts file, else from the folder."""
    for path in files.of("interventions"):
        if match := re.match(r"intervention_(?:ablation|patching|steering)_(?:C\d+_)?(.*)\.csv$", path.name):
            return match.group(1)
    return stem if stem and stem != "prompts" else files.root.name


def _concepts(records: tuple[Record, ...], languages: tuple[str, ...]) -> tuple[str, ...]:
    """Name each prompt's concept: the English word with the same concept_index, so that translations share a cluster."""
    english: dict[int, str] = {}
    for record, language in zip(records, languages, strict=True):
        if language == "en" and "concept_index" in record.values and record.has("word"):
            english.setdefault(record.integer("concept_index"), record.text("word"))
    unambiguous = len(set(english.values())) == len(english)
    names = []
    for record in records:
        if "concept_index" not in record.values:
            names.append(str(record.values.get("subject", record.values.get("word", record.values["prompt"]))))
            continue
        index = record.integer("concept_index")
        names.append(english[index] if unambiguous and index in english else f"concept_{index}")
    return tuple(names)


def _hash(record: Record, language: str) -> str:
    """SHA-256 (16 hex) of language, text and answers; the definition that ingest uses, so that equal prompts meet across runs."""
    values = record.values
    fingerprint = "\x1f".join([language, values["prompt"], f"correct:{values['correct_answer']}", f"contrast:{values['incorrect_answer']}"])
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
