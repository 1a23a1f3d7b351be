"""A behaviour: one TOML file with concepts, templates, languages, answers, computation type and splits.

In: the path of a TOML file, or the name of one that ships in `ingest/prompts/behaviours/`. Out: a frozen `Behaviour`.

    name = "antonyms"                      # also the file's name
    title = "Name the opposite of a word"
    computation_type = "abstract_mapping"  # one of schema.sql's computation_type
    gate = 0.65                            # accuracy per language below which an ingest stops
    answer_prefix = " "                    # stands between prompt and answer when the answer is tokenised
    contrast_operand = true                # the source word is a contrast: copying would be wrong
    n_distractors = 3                      # other concepts' answers that are contrasts too
    answers = "token"                      # or "sequence": answers may be several tokens, scored teacher-forced
    chat = false                           # true: each text is a user's message in the tokenizer's chat template
    system = "Answer with one word."       # optional, with chat: the system message

    [[template]]
    name = "opposite_of"                   # templates of two languages with one name are translations
    language = "en"
    text = "The opposite of {operand} is"
    operator = "opposite"                  # optional: the word that names the operation
    split = "train"

    [[concept]]
    name = "hot"
    cluster = "hot_cold"                   # optional: the unit that statistics resample, and that is sampled whole
    split = "train"
    en = { operand = "hot", answer = "cold" }
    fr = { operand = "chaud", answer = "froid" }

A language's entry may be a list of cases with a `variant` each (minimal pairs), with `contrasts` of its own and with any other key
that a template's text names as a slot.

    [[operation]]                          # optional: another operation over the same operands, for the test of abstract mapping
    name = "synonym"                       # the key of a case that holds its answer: en = { …, synonym = "chilly" }
    language = "en"
    text = "A synonym for {operand} is"
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from atlas.errors import InputError

Split = Literal["train", "validation", "test"]
AnswerLength = Literal["token", "sequence"]
ComputationType = Literal["hidden_state_transfer", "candidate_set_filtering", "abstract_mapping", "gated_decision"]
SPLITS: tuple[str, ...] = get_args(Split)
BEHAVIOURS_DIR = Path(__file__).parent / "behaviours"

_TOP_KEYS = {
    "name", "title", "computation_type", "gate", "answer_prefix", "contrast_operand", "n_distractors", "template", "concept",
    "operation",
    "answers", "chat", "system",
}  # fmt: skip
_TEMPLATE_KEYS = {"name", "language", "text", "operator", "split", "answer_prefix"}
_OPERATION_KEYS = {"name", "language", "text", "answer_prefix"}


@dataclass(frozen=True)
class Template:
    """One way to ask, in one language."""

    name: str
    language: str
    text: str
    operator: str | None
    split: str
    answer_prefix: str

    @property
    def slots(self) -> frozenset[str]:
        """Names of the slots in the text."""
        return frozenset(name for _, name, _, _ in string.Formatter().parse(self.text) if name)


@dataclass(frozen=True)
class Operation:
    """One way to ask, in one language, for another operation over the same operands; its answer stands in a case under its name."""

    name: str
    language: str
    text: str
    answer_prefix: str


@dataclass(frozen=True)
class Case:
    """One filling of a concept in one language: operand, answer, contrasts, further slots."""

    operand: str
    answer: str
    variant: str | None = None
    contrasts: tuple[str, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Concept:
    """What is asked about."""

    name: str
    cluster: str
    """The unit that statistics resample; the concept's name where none is given."""
    split: str
    cases: Mapping[str, tuple[Case, ...]]
    """Cases by language."""


@dataclass(frozen=True)
class Behaviour:
    """A repeatable computation with a measurable answer."""

    name: str
    title: str
    computation_type: str
    gate: float
    contrast_operand: bool
    n_distractors: int
    templates: tuple[Template, ...]
    concepts: tuple[Concept, ...]
    definition: str
    """The TOML text."""
    answers: AnswerLength = "token"
    """`token`: every answer is one token, or the prompt is refused; `sequence`: answers may be several (`ingest.ask.sequence`)."""
    chat: bool = False
    """Each text is a user's message in the chat template of the model's tokenizer."""
    system: str | None = None
    """System message of that conversation."""
    operations: tuple[Operation, ...] = ()
    """Other operations over the same operands: sources of the operation swap (`ingest.circuit.operation`)."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that have a template, in order of appearance."""
        return tuple(dict.fromkeys(template.language for template in self.templates))


def shipped_behaviours() -> tuple[str, ...]:
    """Name the behaviours that come with the package."""
    return tuple(sorted(path.stem for path in BEHAVIOURS_DIR.glob("*.toml")))


def load_behaviour(name_or_path: str | Path) -> Behaviour:
    """Load a behaviour by shipped name or by path.

    Raises:
        InputError: no such behaviour or file, or a field that is missing, unknown or of the wrong type.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = BEHAVIOURS_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(shipped_behaviours())
        raise InputError(
            f"There is no behaviour {str(name_or_path)!r}.",
            hint=f"Shipped behaviours: {known}. Or give the path of a .toml file (docs/behaviours.md says how to write one).",
        )
    try:
        text = path.read_text(encoding="utf-8")
        return parse_behaviour(text, path.name)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path.name} is not a TOML file: {error}.", hint="docs/behaviours.md shows the format.") from error


def parse_behaviour(text: str, source: str) -> Behaviour:
    """Parse a behaviour's TOML text; `source` names it in errors.

    Raises:
        InputError: naming the entry and the field.
        tomllib.TOMLDecodeError: when it is not TOML.
    """
    document = tomllib.loads(text)
    _no_unknown(document, _TOP_KEYS, source)
    computation_type = _get(document, "computation_type", str, source)
    if computation_type not in get_args(ComputationType):
        raise InputError(
            f"{source}: computation_type is {computation_type!r}.",
            hint=f"One of: {', '.join(get_args(ComputationType))}.",
        )
    answers = _get(document, "answers", str, source, default="token")
    if answers not in get_args(AnswerLength):
        raise InputError(f"{source}: answers is {answers!r}.", hint=f"One of: {', '.join(get_args(AnswerLength))}.")
    prefix = _get(document, "answer_prefix", str, source, default=" ")
    templates = tuple(_template(entry, f"{source}: template {i + 1}", prefix) for i, entry in enumerate(document.get("template", [])))
    languages = dict.fromkeys(template.language for template in templates)
    concepts = tuple(_concept(entry, f"{source}: concept {i + 1}", tuple(languages)) for i, entry in enumerate(document.get("concept", [])))
    behaviour = Behaviour(
        name=_get(document, "name", str, source),
        title=_get(document, "title", str, source),
        computation_type=computation_type,
        gate=float(_get(document, "gate", (int, float), source, default=0.0)),
        contrast_operand=_get(document, "contrast_operand", bool, source, default=True),
        n_distractors=_get(document, "n_distractors", int, source, default=3),
        templates=templates,
        concepts=concepts,
        definition=text,
        answers=answers,
        chat=_get(document, "chat", bool, source, default=False),
        system=_get(document, "system", str, source, default=None),
        operations=tuple(
            _operation(entry, f"{source}: operation {i + 1}", prefix, concepts) for i, entry in enumerate(document.get("operation", []))
        ),
    )
    _validate(behaviour, source)
    return behaviour


def _template(entry: Mapping[str, Any], where: str, prefix: str) -> Template:
    _no_unknown(entry, _TEMPLATE_KEYS, where)
    template = Template(
        name=_get(entry, "name", str, where),
        language=_get(entry, "language", str, where),
        text=_get(entry, "text", str, where),
        operator=_get(entry, "operator", str, where, default=None),
        split=_split(entry, where),
        answer_prefix=_get(entry, "answer_prefix", str, where, default=prefix),
    )
    if "operand" not in template.slots:
        raise InputError(f"{where}: text {template.text!r} has no {{operand}}.", hint="Put {operand} where the word goes.")
    if template.operator is not None and template.operator not in template.text:
        raise InputError(f"{where}: operator {template.operator!r} does not stand in its text {template.text!r}.")
    return template


def _operation(entry: Mapping[str, Any], where: str, prefix: str, concepts: tuple[Concept, ...]) -> Operation:
    _no_unknown(entry, _OPERATION_KEYS, where)
    operation = Operation(
        name=_get(entry, "name", str, where),
        language=_get(entry, "language", str, where),
        text=_get(entry, "text", str, where),
        answer_prefix=_get(entry, "answer_prefix", str, where, default=prefix),
    )
    if "{operand}" not in operation.text:
        raise InputError(f"{where}: text {operation.text!r} has no {{operand}}.", hint="Put {operand} where the word goes.")
    if not any(operation.name in case.slots for concept in concepts for case in concept.cases.get(operation.language, ())):
        raise InputError(
            f"{where}: no concept has an answer {operation.name!r} in language {operation.language!r}.",
            hint=f'Give it with the case, e.g. {operation.language} = {{ operand = "…", answer = "…", {operation.name} = "…" }}.',
        )
    return operation


def _concept(entry: Mapping[str, Any], where: str, languages: tuple[str, ...]) -> Concept:
    _no_unknown(entry, {"name", "cluster", "split", *languages}, where)
    name = _get(entry, "name", str, where)
    cases = {}
    for language in languages:
        if language in entry:
            value = entry[language]
            listed = value if isinstance(value, list) else [value]
            cases[language] = tuple(_case(case, f"{where} ({name}), {language}") for case in listed)
    cluster = _get(entry, "cluster", str, where, default=name)
    return Concept(name=name, cluster=cluster, split=_split(entry, where), cases=cases)


def _case(entry: Any, where: str) -> Case:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected a table such as {{ operand = …, answer = … }}, got {entry!r}.")
    slots = {key: value for key, value in entry.items() if key not in {"answer", "variant", "contrasts"}}
    for key, value in slots.items():
        if not isinstance(value, str):
            raise InputError(f"{where}: slot {key!r} is {value!r}, expected text.")
    contrasts = _get(entry, "contrasts", list, where, default=[])
    if not all(isinstance(contrast, str) for contrast in contrasts):
        raise InputError(f"{where}: contrasts are {contrasts!r}, expected a list of texts.")
    return Case(
        operand=_get(entry, "operand", str, where),
        answer=_get(entry, "answer", str, where),
        variant=_get(entry, "variant", str, where, default=None),
        contrasts=tuple(contrasts),
        slots=slots,
    )


def _validate(behaviour: Behaviour, source: str) -> None:
    if not behaviour.templates or not behaviour.concepts:
        raise InputError(f"{source}: needs at least one [[template]] and one [[concept]].")
    if behaviour.system is not None and not behaviour.chat:
        raise InputError(f"{source}: a system message needs a chat template.", hint="Set chat = true, or take the message out.")
    if not 0 <= behaviour.gate <= 1:
        raise InputError(f"{source}: gate is {behaviour.gate}, expected an accuracy from 0 to 1.")
    seen: set[tuple[str, str]] = set()
    for template in behaviour.templates:
        if (template.language, template.name) in seen:
            raise InputError(f"{source}: template {template.name!r} stands twice in language {template.language!r}.")
        seen.add((template.language, template.name))
    names = [concept.name for concept in behaviour.concepts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{source}: concepts stand twice: {', '.join(twice)}.")


def _split(entry: Mapping[str, Any], where: str) -> str:
    split: str = _get(entry, "split", str, where, default="train")
    if split not in SPLITS:
        raise InputError(f"{where}: split is {split!r}.", hint=f"One of: {', '.join(SPLITS)}.")
    return split


_MISSING = object()


def _get(entry: Mapping[str, Any], key: str, kind: Any, where: str, *, default: Any = _MISSING) -> Any:
    if key not in entry:
        if default is _MISSING:
            raise InputError(f"{where}: field {key!r} is missing.", hint="docs/behaviours.md shows the format.")
        return default
    value = entry[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{where}: field {key!r} is {value!r}, of the wrong type.")
    return value


def _no_unknown(entry: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(entry) - known)
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}.", hint=f"Known fields: {', '.join(sorted(known))}.")
