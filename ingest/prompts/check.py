"""What is wrong with a behaviour for a given model: answers that are not one token, leaks, templates that give the answer away.

In: a behaviour (name or path) and a model whose tokenizer is read. Out: findings, none when all is well.

1. Every correct answer, every contrast that a case names and every other operation's answer is one token after its answer prefix, unless
   the behaviour's answers are sequences.
2. Leak: a prompt of the train split and one of another split have the same text, or a held-out concept's words are the words of a
   train concept under another name (its operand and answer; where every concept has that operand, as with gates, its other slots too).
3. Trivial: the answer stands in the prompt itself, or all concepts of a template have the same answer (and no variants).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ingest.prompts.behaviour import Behaviour, Case, Concept, Template, load_behaviour
from ingest.sources import resolve_source


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: Literal["tokens", "leak", "trivial", "slot"]
    where: str
    problem: str


def check_behaviour(name_or_path: str | Path, model: str) -> list[Finding]:
    """Check a behaviour against a model's tokenizer.

    Raises:
        InputError: the behaviour or the model is not there.
    """
    from transformers import AutoTokenizer

    behaviour = load_behaviour(name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(str(resolve_source(model, "model").path))
    return [*_token_findings(behaviour, tokenizer), *check_text(behaviour)]


def check_text(behaviour: Behaviour) -> list[Finding]:
    """Find leaks, prompts that give their answer away and missing slots: what needs no tokenizer."""
    return [*_missing_slots(behaviour), *_leaks(behaviour), *_trivial(behaviour)]


def _cases(behaviour: Behaviour) -> Iterator[tuple[Template, Concept, Case]]:
    for template in behaviour.templates:
        for concept in behaviour.concepts:
            for case in concept.cases.get(template.language, ()):
                yield template, concept, case


def _where(behaviour: Behaviour, *parts: str) -> str:
    return "/".join((behaviour.name, *parts))


def _token_findings(behaviour: Behaviour, tokenizer: Any) -> Iterator[Finding]:
    if behaviour.answers == "sequence":
        return
    seen: set[tuple[str, str]] = set()
    for language, concept, text in _answers(behaviour):
        if (language, text) in seen:
            continue
        seen.add((language, text))
        pieces = tokenizer.tokenize(text)
        if len(pieces) != 1:
            problem = f"{text!r} is {len(pieces)} tokens: {' | '.join(pieces)}"
            yield Finding("tokens", _where(behaviour, language, concept), problem)


def _answers(behaviour: Behaviour) -> Iterator[tuple[str, str, str]]:
    """Yield (language, concept, answer with its prefix) of templates, then of other operations."""
    for template, concept, case in _cases(behaviour):
        for word in (case.answer, *case.contrasts):
            yield template.language, concept.name, template.answer_prefix + word
    for operation in behaviour.operations:
        for concept in behaviour.concepts:
            for case in concept.cases.get(operation.language, ()):
                if operation.name in case.slots:
                    yield operation.language, concept.name, operation.answer_prefix + case.slots[operation.name]


def _missing_slots(behaviour: Behaviour) -> Iterator[Finding]:
    for template, concept, case in _cases(behaviour):
        missing = template.slots - set(case.slots)
        if missing:
            yield Finding("slot", _where(behaviour, template.language, template.name, concept.name), f"no value for {{{min(missing)}}}")


def _leaks(behaviour: Behaviour) -> Iterator[Finding]:
    texts: dict[str, str] = {}
    for template, concept, case in _cases(behaviour):
        if template.slots <= set(case.slots):
            text = template.text.format(**case.slots)
            kind = "train" if template.split == concept.split == "train" else "held out"
            if texts.setdefault(text, kind) != kind:
                yield Finding("leak", _where(behaviour, template.language, template.name, concept.name), f"{text!r} is also in train")
    words: dict[tuple[str, ...], Concept] = {}
    common = _common_operands(behaviour)
    for concept in behaviour.concepts:
        for language, cases in concept.cases.items():
            for case in cases:
                further = sorted(case.slots.values()) if (language, case.operand) in common else []
                other = words.setdefault((language, case.operand, case.answer, *further), concept)
                if other.name != concept.name and other.split != concept.split:
                    problem = f"{case.operand!r} -> {case.answer!r} is also {other.name!r}, of split {other.split}"
                    yield Finding("leak", _where(behaviour, language, concept.name), problem)


def _common_operands(behaviour: Behaviour) -> set[tuple[str, str]]:
    """Return (language, operand) of the operands that every concept of the language has."""
    found: dict[str, list[set[str]]] = defaultdict(list)
    for concept in behaviour.concepts:
        for language, cases in concept.cases.items():
            found[language].append({case.operand for case in cases})
    return {(language, operand) for language, sets in found.items() if len(sets) > 1 for operand in set.intersection(*sets)}


def _trivial(behaviour: Behaviour) -> Iterator[Finding]:
    answers: dict[tuple[str, str], set[str]] = defaultdict(set)
    for template, concept, case in _cases(behaviour):
        answers[template.language, template.name].add(case.answer)
        if template.slots <= set(case.slots) and case.answer != case.operand and case.answer in _words(template.text.format(**case.slots)):
            problem = f"the answer {case.answer!r} stands in the prompt"
            yield Finding("trivial", _where(behaviour, template.language, template.name, concept.name), problem)
    for (language, name), given in answers.items():
        if len(given) == 1:
            yield Finding("trivial", _where(behaviour, language, name), f"every prompt has the answer {next(iter(given))!r}")


def _words(text: str) -> Sequence[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()
