"""Write the shipped behaviours of the embedded model's small world, so that its words stand in one place.

In: `words.py`, `templates.py`, `corpus.py`. Out: one TOML file a behaviour in `ingest/prompts/behaviours/`.
Usage: python -m ingest.tiny.behaviours [--check]; with --check nothing is written and a file that differs is an error.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.prompts.behaviour import BEHAVIOURS_DIR
from ingest.tiny import corpus, templates, words
from ingest.tiny.words import LANGUAGES, Language

OPERATORS = {
    "en": ("opposite", "opposites", "antonym", "capital", "permit"),
    "fr": ("contraire", "contraires", "antonyme", "capitale", "permis"),
    "de": ("Gegenteil", "Gegenteile", "Antonym", "Hauptstadt", "Ausweis"),
}
"""Words that name the operation, where a template has one."""

TRANSLATED_TO: Mapping[Language, Language] = {"en": "fr", "fr": "en", "de": "en"}
"""Language into which the operation `translation` asks for a word."""

Entry = dict[str, Any]


def behaviours() -> dict[str, str]:
    """Return name -> TOML text of every behaviour of the small world."""
    return {
        "antonyms": _document(
            "antonyms",
            "Name the opposite of a word",
            "abstract_mapping",
            [_template(t.id, t.language, t.text, t.split) for language in LANGUAGES for t in corpus.antonym_templates(language)],
            list(_antonym_concepts()),
            operations=[
                *_operations("synonym", templates.SYNONYM_TEMPLATES),
                *_operations("translation", {own: templates.TRANSLATION_TEMPLATES[own, to] for own, to in TRANSLATED_TO.items()}),
            ],
        ),
        "agreement": _document(
            "agreement",
            "Choose the verb that agrees with the subject in number",
            "candidate_set_filtering",
            [
                _template(name, language, text.replace("{y}", "{attractor}"), "train")
                for language in LANGUAGES
                for name, text in zip(("plain", "attractor"), templates.AGREEMENT_TEMPLATES[language], strict=True)
            ],
            list(_agreement_concepts()),
            contrast_operand=False,
            n_distractors=0,
        ),
        "two_hop": _document(
            "two_hop",
            "Name the capital of the country of a city",
            "hidden_state_transfer",
            [
                _template(f"two_hop_{number}", language, text, "train")
                for language in LANGUAGES
                for number, text in enumerate(templates.GEOGRAPHY_TEMPLATES[language]["two_hop"])
            ],
            list(_city_concepts()),
            operations=_operations("country", {language: templates.GEOGRAPHY_TEMPLATES[language]["country"] for language in LANGUAGES}),
        ),
        "gated_request": _document(
            "gated_request",
            "Allow or refuse a request by whether there is a permit",
            "gated_decision",
            [_gate_template(*row) for row in _gate_texts(templates.GATE_TEMPLATES)],
            list(_gate_concepts(decision=True)),
            contrast_operand=False,
            n_distractors=0,
            operations=_operations(
                "place", {own: [_gate_text(t, True) for t in templates.GATE_CONTENT_TEMPLATES[own]] for own in LANGUAGES}
            ),
        ),
        "gated_place": _document(
            "gated_place",
            "Name the place of a request, which the gate must not change",
            "gated_decision",
            [_gate_template(*row) for row in _gate_texts(templates.GATE_CONTENT_TEMPLATES)],
            list(_gate_concepts(decision=False)),
            contrast_operand=False,
        ),
    }


def _antonym_concepts() -> Iterator[Entry]:
    by_id = {concept.id: concept for concept in corpus.concepts()}
    synonyms = {concept[0]: dict(zip(LANGUAGES, synonym, strict=True)) for concept, synonym in words.SYNONYMS}
    for concept in by_id.values():
        cases = {
            language: [
                {
                    "operand": concept.words[language],
                    "answer": by_id[concept.partner].words[language],
                    "translation": concept.words[TRANSLATED_TO[language]],
                    **({"synonym": synonyms[concept.id][language]} if concept.id in synonyms else {}),
                }
            ]
            for language in LANGUAGES
        }
        yield {"name": concept.id, "cluster": concept.pair, "split": concept.split} | cases


def _agreement_concepts() -> Iterator[Entry]:
    """All nouns that the small world has in both numbers; every other one is for testing."""
    for index, noun in enumerate(words.NOUNS):
        following = words.NOUNS[(index + 1) % len(words.NOUNS)]
        entry: Entry = {"name": noun[0][0], "split": "test" if index % 2 else "train"}
        for column, language in enumerate(LANGUAGES):
            verbs = templates.AGREEMENT_ANSWERS[language]
            entry[language] = [
                {
                    "variant": variant,
                    "operand": noun[number][column],
                    "attractor": following[1 - number][column],
                    "answer": verbs[number],
                    "contrasts": [verbs[1 - number]],
                }
                for number, variant in enumerate(("singular", "plural"))
            ]
        yield entry


def _city_concepts() -> Iterator[Entry]:
    """Cities, clustered by country; the third of each country was held out of training."""
    for index, (country, capital, cities) in enumerate(words.COUNTRIES):
        for number, city in enumerate(cities):
            entry: Entry = {
                "name": city[0],
                "cluster": country[0],
                "split": ("test" if index % 2 else "validation") if number == 2 else "train",
            }
            for column, language in enumerate(LANGUAGES):
                case = {"operand": city[column], "answer": capital[column], "contrasts": [country[column]], "country": country[column]}
                entry[language] = [case]
            yield entry


def _gate_concepts(*, decision: bool) -> Iterator[Entry]:
    """Places; the operand is the gate word, or the place itself. Every other trained place is for testing, of the decision every fourth.

    The decision is also tested on nouns that training never held as places: it hangs on the gate word alone. Their names cannot be asked
    for, since the model answers with places that it knows.
    """
    step = 4 if decision else 2
    trained = [(place, "test" if index % step == step - 1 else "train") for index, place in enumerate(words.PLACES)]
    unknown = [(member, "test") for members in words.CATEGORIES.values() for member in members[:2]] if decision else []
    for place, split in (*trained, *unknown):
        entry: Entry = {"name": place[0], "split": split}
        for column, language in enumerate(LANGUAGES):
            gates = templates.GATES[language]
            entry[language] = [
                {"variant": variant, "operand": gate, "place": place[column], "answer": answer, "contrasts": [gates[1 - number][1]]}
                if decision
                else {"variant": variant, "operand": place[column], "gate": gate, "answer": place[column]}
                for number, ((gate, answer), variant) in enumerate(zip(gates, ("allow", "refuse"), strict=True))
            ]
        yield entry


def _gate_texts(table: Mapping[Any, Sequence[str]]) -> Iterator[tuple[str, str, str, bool]]:
    for language in LANGUAGES:
        for number, text in enumerate(table[language]):
            yield f"gate_{number}", language, text, table is templates.GATE_TEMPLATES


def _gate_template(name: str, language: str, text: str, decision: bool) -> Entry:
    return _template(name, language, _gate_text(text, decision), "train")


def _gate_text(text: str, decision: bool) -> str:
    return text.replace("{x}", "{place}").replace("{gate}", "{operand}") if decision else text.replace("{x}", "{operand}")


def _operations(name: str, texts: Mapping[Language, Sequence[str]]) -> list[Entry]:
    """Other questions about the same operands; the answer stands in each case under the operation's name."""
    return [{"name": name, "language": own, "text": text.replace("{x}", "{operand}")} for own in LANGUAGES for text in texts[own]]


def _template(name: str, language: str, text: str, split: str) -> Entry:
    text = text.replace("{x}", "{operand}")
    operator = next((word for word in OPERATORS[language] if word in text.replace(":", " ").replace(",", " ").split()), None)
    return {"name": name, "language": language, "text": text, "split": split} | ({"operator": operator} if operator else {})


def _document(
    name: str,
    title: str,
    computation_type: str,
    rows: Sequence[Entry],
    concepts: Sequence[Entry],
    *,
    contrast_operand: bool = True,
    n_distractors: int = 3,
    operations: Sequence[Entry] = (),
) -> str:
    head = {
        "name": name,
        "title": title,
        "computation_type": computation_type,
        "gate": 0.65,
        "answer_prefix": " ",
        "contrast_operand": contrast_operand,
        "n_distractors": n_distractors,
    }
    lines = ["# Written by `python -m ingest.tiny.behaviours` from the embedded model's words; edit those, or copy this file.", ""]
    lines += [f"{key} = {_value(value)}" for key, value in head.items()]
    for kind, entries in (("template", rows), ("operation", operations), ("concept", concepts)):
        for entry in entries:
            lines += ["", f"[[{kind}]]", *(f"{key} = {_value(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """Render a TOML value: texts, numbers, booleans, lists and inline tables."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value)


def main() -> int:
    """Write or check all files."""
    stale = []
    for name, text in behaviours().items():
        path = BEHAVIOURS_DIR / f"{name}.toml"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"behaviours: {', '.join(stale)} {'differ' if '--check' in sys.argv else 'written'}\n")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
