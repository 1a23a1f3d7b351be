"""Labels written by a language model: what it is shown of a feature, and what of its answer is taken.

In: texts on which a feature fires, with marks, in each language, and the tokens it promotes. Out: one line of text. The texts come from
a part of the run that scoring leaves out (`examples.WRITING_PART`), so that no label is scored on what it was written from.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingest.labels.endpoint import Endpoint, json_object
from ingest.labels.examples import LanguageExamples, marked_places
from ingest.labels.judges import Shown
from ingest.labels.texts import Texts

VERSION = "write-1"
TEXTS_A_LANGUAGE = 8
LONGEST = 200
"""Characters of a label."""
SYSTEM = (
    "You describe features of a language model. A feature fires on some words; in the texts they stand in « ». Say in one short phrase "
    "what these words, or what stands before them, have in common. If it holds in several languages, say it so that it holds in all. "
    "Answer with one JSON object and nothing else."
)
QUESTION = '{texts}{promoted}\n\nAnswer {{"label": "at most fifteen words"}}.'


def write_label(endpoint: Endpoint, examples: Sequence[LanguageExamples], promoted: Sequence[str], texts: Texts) -> str:
    """Return a label.

    Raises:
        JudgeFailure: no usable answer.
        ModelError: nobody listens.
    """
    listed = []
    for each in examples:
        strongest = sorted(each.activating, key=lambda example: -max(example.values))[:TEXTS_A_LANGUAGE]
        lines = [Shown(example, texts, marked_places(example)).text for example in strongest]
        listed.append(f"Texts ({each.language}):\n" + "\n".join(f"- {line}" for line in lines))
    makes_likely = f"\n\nIt makes these next words more likely: {', '.join(promoted)}" if promoted else ""
    question = QUESTION.format(texts="\n\n".join(listed), promoted=makes_likely)
    return endpoint.ask([{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}], label_of)


def label_of(content: str) -> str:
    """Return the label of an answer.

    Raises:
        ValueError: no label, more than one line, or longer than LONGEST.
    """
    found = json_object(content).get("label")
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"expected a text in label, got {str(found)[:80]!r}")
    text = found.strip()
    if len(text) > LONGEST or not text.isprintable():
        raise ValueError(f"expected one printable line of at most {LONGEST} characters in label, got {len(text)} characters")
    return text
