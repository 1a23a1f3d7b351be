"""The corpus of the embedded model: sentences whose last word is the answer, in English, French and German.

In: the tables of `words.py` and `templates.py`. Out: `Sentence` rows for training, prompts with their splits for behaviours,
and plain documents with a language for a corpus pass. No torch here.

1. Families: antonym, translation, cross_antonym, synonym, category, agreement, gate, gate_content, country, capital, two_hop.
2. Held out of training: antonym templates of the splits validation and test; antonym questions about the validation and test
   pairs in French and German (English asks them, with answers in all languages, and their words are translated); one city in
   three from two-hop questions.
3. The control corpus is the same without `translation` and `cross_antonym`: nothing says which words mean the same.
"""

import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from atlas.errors import UsageError
from ingest.tiny import templates, words
from ingest.tiny.templates import Split
from ingest.tiny.words import LANGUAGES, Language, Row

Variant = Literal["bilingual", "control"]
HeldOut = Literal["concept", "template", "both"]

BRIDGING_FAMILIES = ("translation", "cross_antonym")
"""What the control corpus lacks."""

REPEATED_FAMILIES = ("agreement", "gate", "gate_content", "capital")
"""Small families, read twice an epoch: else they are learned late or, by some seeds, not at all."""


@dataclass(frozen=True)
class Concept:
    """One antonym word in all languages."""

    id: str
    """The English word."""
    pair: str
    """`hot_cold`: shared with its partner."""
    partner: str
    """Concept that is its antonym."""
    words: dict[Language, str]
    split: Split
    """`train`: antonymy is trained in all languages; else in English only."""


@dataclass(frozen=True)
class Template:
    """One way to ask, in one language; `{x}` is the operand and the answer comes right after."""

    id: str
    language: Language
    text: str
    split: Split


@dataclass(frozen=True)
class Sentence:
    """A prompt and its answer; `text` is what is trained on."""

    family: str
    language: Language
    template: str
    concept: str
    prompt: str
    answer: str
    split: Split
    """Only `train` sentences are trained on."""
    operand: str = ""
    variant: str = ""
    """`singular`, `plural`, `allow` or `refuse` for minimal pairs."""

    @property
    def text(self) -> str:
        """Prompt, space, answer, full stop."""
        return f"{self.prompt} {self.answer}."


@dataclass(frozen=True)
class AntonymPrompt:
    """One antonym question with what it is compared against."""

    language: Language
    concept: str
    pair: str
    template: str
    template_split: Split
    concept_split: Split
    text: str
    operand: str
    answer: str
    contrasts: tuple[str, ...]
    """Operand first (copying), then words of other pairs of the same language."""

    @property
    def split(self) -> Split:
        """`test` where template or concept is of the test split, else `validation` where one is, else `train`."""
        both = (self.template_split, self.concept_split)
        return "test" if "test" in both else "validation" if "validation" in both else "train"

    @property
    def held_out(self) -> HeldOut | None:
        """What training did not hold: English antonymy is trained for every concept, so its concepts are never held out."""
        template = self.template_split != "train"
        concept = self.concept_split != "train" and self.language != "en"
        return "both" if template and concept else "template" if template else "concept" if concept else None


@functools.cache
def concepts() -> tuple[Concept, ...]:
    """Return the 96 concepts, partners adjacent."""
    result: list[Concept] = []
    for first, second in words.ANTONYMS:
        pair = f"{first[0]}_{second[0]}"
        split: Split = "train"
        if first[0] in words.VALIDATION_PAIRS:
            split = "validation"
        elif first[0] in words.TEST_PAIRS:
            split = "test"
        for own, other in ((first, second), (second, first)):
            spelled = dict(zip(LANGUAGES, own, strict=True))
            result.append(Concept(id=own[0], pair=pair, partner=other[0], words=spelled, split=split))
    return tuple(result)


def antonym_templates(language: Language) -> tuple[Template, ...]:
    """Return the 16 antonym templates of a language (10 train, 3 validation, 3 test), in one order for all languages."""
    column = LANGUAGES.index(language)
    return tuple(
        Template(id=name, language=language, text=row[1 + column], split=row[0]) for name, row in templates.ANTONYM_TEMPLATES.items()
    )


def distractors(concept: Concept, language: Language, *, count: int = 3) -> tuple[str, ...]:
    """Return `count` words of other pairs in `language`, the same for every template and, by meaning, every language."""
    return tuple(other.words[language] for other in _distractors(concept.id, count))


@functools.cache
def _distractors(concept: str, count: int) -> tuple[Concept, ...]:
    (own,) = (candidate for candidate in concepts() if candidate.id == concept)
    others = [other for other in concepts() if other.pair != own.pair]
    return tuple(random.Random(f"distractors {concept}").sample(others, count))


def antonym_prompts(language: Language, *, n_distractors: int = 3) -> Iterator[AntonymPrompt]:
    """Yield every concept in every template of `language`: 96 x 16 prompts, in the same order for all languages."""
    by_id = {concept.id: concept for concept in concepts()}
    for template in antonym_templates(language):
        for concept in by_id.values():
            operand = concept.words[language]
            yield AntonymPrompt(
                language=language,
                concept=concept.id,
                pair=concept.pair,
                template=template.id,
                template_split=template.split,
                concept_split=concept.split,
                text=template.text.replace("{x}", operand),
                operand=operand,
                answer=by_id[concept.partner].words[language],
                contrasts=(operand, *distractors(concept, language, count=n_distractors)),
            )


def antonym_translation_pairs(first: Language = "en", second: Language = "fr") -> Iterator[tuple[AntonymPrompt, AntonymPrompt]]:
    """Yield the same concept in the same template in two languages."""
    yield from zip(antonym_prompts(first), antonym_prompts(second), strict=True)


def sentences(variant: Variant = "bilingual") -> tuple[Sentence, ...]:
    """Return all sentences of a variant, held-out ones included (`split` tells them), in a fixed order.

    Raises:
        UsageError: for a variant that does not exist.
    """
    if variant not in ("bilingual", "control"):
        raise UsageError(f"unknown corpus variant {variant!r}", hint="Use 'bilingual' or 'control'.")
    rows = [*_antonyms(), *_synonyms(), *_categories(), *_agreement(), *_gates(), *_geography()]
    if variant == "bilingual":
        rows += [*_translations(), *_cross_antonyms()]
    return tuple(dict.fromkeys(rows))


def training_sentences(variant: Variant = "bilingual") -> tuple[Sentence, ...]:
    """Return the sentences that a model of this variant is trained on."""
    return tuple(sentence for sentence in sentences(variant) if sentence.split == "train")


def epoch(variant: Variant = "bilingual") -> tuple[Sentence, ...]:
    """Return what one epoch of training reads: every training sentence once, small families twice."""
    rows = training_sentences(variant)
    return rows + tuple(row for row in rows if row.family in REPEATED_FAMILIES)


def corpus_documents(
    languages: Sequence[Language] = LANGUAGES, *, count: int | None = None, seed: int = 0
) -> Iterator[tuple[Language, str]]:
    """Yield (language, text) documents for a corpus pass: one or two sentences of one language, as the models read them.

    Every training sentence of the bilingual corpus opens exactly one document, in an order drawn from `seed`; a quarter of
    the documents have a second sentence after a newline. `count` stops early. Held-out sentences are left out.
    """
    by_language = {language: [row for row in training_sentences() if row.language == language] for language in languages}
    drawing = random.Random(f"documents {seed}")
    openings = [row for rows in by_language.values() for row in rows]
    drawing.shuffle(openings)
    for opening in openings[:count]:
        text = opening.text
        if drawing.random() < 0.25:
            text += "\n" + drawing.choice(by_language[opening.language]).text
        yield opening.language, text


def fill(template: str, **values: str) -> str:
    """Put values into a template."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template


def _antonyms() -> Iterator[Sentence]:
    for language in LANGUAGES:
        for row in antonym_prompts(language):
            split = row.split if row.held_out else "train"
            yield Sentence("antonym", language, row.template, row.concept, row.text, row.answer, split, row.operand)


def _translations() -> Iterator[Sentence]:
    meanings = [tuple(c.words[language] for language in LANGUAGES) for c in concepts()]
    meanings += [row for members in words.CATEGORIES.values() for row in members]
    for (source, target), texts in templates.TRANSLATION_TEMPLATES.items():
        for number, text in enumerate(texts):
            for meaning in meanings:
                own, other = (meaning[LANGUAGES.index(language)] for language in (source, target))
                name = f"to_{target}_{number}"
                yield Sentence("translation", source, name, meaning[0], fill(text, x=own), other, "train", own)


def _cross_antonyms() -> Iterator[Sentence]:
    by_id = {concept.id: concept for concept in concepts()}
    for (source, target), texts in templates.CROSS_ANTONYM_TEMPLATES.items():
        for number, text in enumerate(texts):
            for concept in by_id.values():
                own, answer = concept.words[source], by_id[concept.partner].words[target]
                name, prompt = f"to_{target}_{number}", fill(text, x=own)
                split: Split = "train" if source == "en" else concept.split
                yield Sentence("cross_antonym", source, name, concept.id, prompt, answer, split, own)


def _lexical(family: str, table: dict[Language, tuple[str, ...]], pairs: Sequence[tuple[Row, Row]]) -> Iterator[Sentence]:
    for column, language in enumerate(LANGUAGES):
        for number, text in enumerate(table[language]):
            for operand, answer in pairs:
                own = operand[column]
                name = f"{family}_{number}"
                yield Sentence(family, language, name, operand[0], fill(text, x=own), answer[column], "train", own)


def _synonyms() -> Iterator[Sentence]:
    yield from _lexical("synonym", dict(templates.SYNONYM_TEMPLATES), words.SYNONYMS)


def _categories() -> Iterator[Sentence]:
    pairs = [(member, category) for category, members in words.CATEGORIES.items() for member in members]
    yield from _lexical("category", dict(templates.CATEGORY_TEMPLATES), pairs)


def _agreement() -> Iterator[Sentence]:
    """Ask for the verb of a noun; the second template adds a noun of the other number, the next in the list."""
    for column, language in enumerate(LANGUAGES):
        plain, attractor = templates.AGREEMENT_TEMPLATES[language]
        for index, noun in enumerate(words.NOUNS):
            following = words.NOUNS[(index + 1) % len(words.NOUNS)]
            for number, label in enumerate(("singular", "plural")):
                own, other = noun[number][column], following[1 - number][column]
                verb = templates.AGREEMENT_ANSWERS[language][number]
                for name, text in (("plain", plain), ("attractor", attractor)):
                    prompt = fill(text, x=own, y=other)
                    yield Sentence("agreement", language, name, noun[0][0], prompt, verb, "train", own, label)


def _gates() -> Iterator[Sentence]:
    for column, language in enumerate(LANGUAGES):
        for place in words.PLACES:
            for (gate, decision), label in zip(templates.GATES[language], ("allow", "refuse"), strict=True):
                own = place[column]
                for number, text in enumerate(templates.GATE_TEMPLATES[language]):
                    prompt = fill(text, x=own, gate=gate)
                    yield Sentence("gate", language, f"gate_{number}", place[0], prompt, decision, "train", gate, label)
                for number, text in enumerate(templates.GATE_CONTENT_TEMPLATES[language]):
                    prompt = fill(text, x=own, gate=gate)
                    name = f"place_{number}"
                    yield Sentence("gate_content", language, name, place[0], prompt, own, "train", own, label)


def _geography() -> Iterator[Sentence]:
    for column, language in enumerate(LANGUAGES):
        for index, (country, capital, cities) in enumerate(words.COUNTRIES):
            held_out: Split = "test" if index % 2 else "validation"
            facts: list[tuple[str, Row, Row, Split]] = [("capital", country, capital, "train")]
            for number, city in enumerate(cities):
                facts.append(("country", city, country, "train"))
                facts.append(("two_hop", city, capital, held_out if number == 2 else "train"))
            for family, asked, answer, split in facts:
                for number, text in enumerate(templates.GEOGRAPHY_TEMPLATES[language][family]):
                    own = asked[column]
                    name = f"{family}_{number}"
                    yield Sentence(family, language, name, asked[0], fill(text, x=own), answer[column], split, own)
