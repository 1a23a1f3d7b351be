"""Where a label says that its feature fires, as a predicate on one token that can be checked without reading.

In: the JSON of `label.rule`. Out: `Rule`, a conjunction of conditions; one without any holds for every token, no rule for none.

    {"tokens": [" is", " est"], "role": "decision", "language": "fr"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atlas.errors import InputError
from ingest.labels.texts import Texts


@dataclass(frozen=True)
class Rule:
    """Conditions on a token, all of which hold."""

    tokens: tuple[str, ...] | None = None
    """Its text is one of these."""
    role: str | None = None
    """Its role in its prompt."""
    language: str | None = None
    """Language of its text."""

    def holds(self, texts: Texts) -> npt.NDArray[np.bool_]:
        """Return whether it holds for each counted token (N); never at sinks."""
        found = texts.position > 0
        if self.tokens is not None:
            wanted = set(self.tokens)
            found = found & np.array([text in wanted for text in texts.vocabulary], bool)[texts.token]
        if self.role is not None:
            found = found & np.array([role == self.role for role in texts.roles], bool)[texts.role]
        if self.language is not None:
            found = found & np.array([language == self.language for language in texts.languages], bool)[texts.language]
        return found

    def holds_in(self, texts: Texts, span: slice) -> npt.NDArray[np.bool_]:
        """Return the same for the tokens of a span alone."""
        found = texts.position[span] > 0
        if self.tokens is not None:
            found = found & np.array([texts.vocabulary[token] in self.tokens for token in texts.token[span]], bool)
        if self.role is not None:
            found = found & np.array([texts.roles[role] == self.role for role in texts.role[span]], bool)
        if self.language is not None:
            found = found & np.array([texts.languages[language] == self.language for language in texts.language[span]], bool)
        return found

    def to_json(self) -> str:
        """Write the conditions that there are."""
        fields = {"tokens": None if self.tokens is None else list(self.tokens), "role": self.role, "language": self.language}
        return json.dumps({name: value for name, value in fields.items() if value is not None}, ensure_ascii=False)


def parse_rule(text: str | None) -> Rule | None:
    """Read a rule; empty text and null are no rule.

    Raises:
        InputError: the text is no JSON object, or has other conditions than `Rule`.
    """
    if text is None or not text.strip():
        return None
    hint = 'A rule is JSON such as {"tokens": [" is"], "role": "decision", "language": "fr"}.'
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"rule {text[:60]!r} is not JSON: {error}", hint=hint) from error
    if not isinstance(fields, dict) or set(fields) - {"tokens", "role", "language"}:
        raise InputError(f"rule {text[:60]!r} has conditions that are not known", hint=hint)
    tokens = fields.get("tokens")
    if tokens is not None and not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
        raise InputError(f"rule {text[:60]!r}: tokens are a list of texts", hint=hint)
    return Rule(None if tokens is None else tuple(tokens), fields.get("role"), fields.get("language"))
