"""Parse what a person types into `/`: a filter expression, or words to search for.

In: text such as `layer>=20 and lape<0.5`. Out: a small typed tree over column names, or `Search` where the text holds no comparison.
No SQL: the browser's data package turns the tree into a statement with bound values and refuses names that are not columns.

    expression  = term ("or" term)*
    term        = factor ("and" factor)*          "and" may be left out between comparisons
    factor      = "not" factor | "(" expression ")" | comparison | flag
    comparison  = name operator value | name "in" "(" value ("," value)* ")" | name "is" ["not"] "null"
    operator    = "=" "==" "!=" "<>" "<" "<=" ">" ">=" "~" (contains) "!~" (does not contain)
    flag        = a name alone, e.g. starred, labelled, dead
"""

import re
from dataclasses import dataclass

from atlas.errors import UsageError

FLAGS = ("starred", "labelled", "noted", "dead", "alive")
"""Names that stand alone."""

Value = int | float | str | bool


@dataclass(frozen=True)
class Compare:
    """One column against one value; `operator` is =, !=, <, <=, >, >=, ~ or !~."""

    column: str
    operator: str
    value: Value


@dataclass(frozen=True)
class Among:
    """One column against several values."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Null:
    """Whether a column has no value."""

    column: str
    negated: bool


@dataclass(frozen=True)
class Flag:
    """A name of FLAGS."""

    name: str


@dataclass(frozen=True)
class Not:
    """The opposite."""

    operand: "Filter"


@dataclass(frozen=True)
class Both:
    """Both sides hold."""

    left: "Filter"
    right: "Filter"


@dataclass(frozen=True)
class Either:
    """One side or both hold."""

    left: "Filter"
    right: "Filter"


@dataclass(frozen=True)
class Search:
    """Free text, looked for wherever the view has text."""

    text: str


Filter = Compare | Among | Null | Flag | Not | Both | Either | Search

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<operator>==|!=|<>|<=|>=|!~|[=<>~(),])
    | (?P<name>[^\s"'=<>~(),!]+)
    )""",
    re.VERBOSE,
)
_COMPARISONS = ("=", "==", "!=", "<>", "<", "<=", ">", ">=", "~", "!~")
_SAME = {"==": "=", "<>": "!="}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        return self.text.lower() if self.kind == "name" else ""


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise UsageError(f"cannot read the filter at {text[at:].strip()[:20]!r}", hint='Write for example: layer>=20 and label~"hot"')
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return tokens


def parse(text: str) -> Filter | None:
    """Return the filter that `text` means, `Search` for words without comparison, None for an empty text; raise UsageError."""
    if not text.strip():
        return None
    if text.lstrip().startswith(("'", '"')) and len(text.strip()) > 1 and text.strip()[-1] == text.strip()[0]:
        return Search(text.strip()[1:-1])
    if not re.search(r"[=<>~]", text) and not re.search(r"\b(?:is|in)\s*(?:\(|null|not\s+null)", text, re.IGNORECASE):
        words = text.strip().lower().split()
        if not (any(word in FLAGS for word in words) and all(word in (*FLAGS, "and", "or", "not") for word in words)):
            return Search(text.strip())
    reader = _Reader(_tokens(text))
    tree = reader.expression()
    if reader.peek() is not None:
        raise reader.error("an end")
    return tree


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self, expected: str) -> _Token:
        token = self.peek()
        if token is None:
            raise self.error(expected)
        self.at += 1
        return token

    def error(self, expected: str) -> UsageError:
        token = self.peek()
        found = "the end" if token is None else repr(token.text)
        return UsageError(f"the filter has {found} where {expected} was expected", hint='Write for example: layer>=20 and label~"hot"')

    def take(self, *words: str) -> bool:
        token = self.peek()
        if token is not None and (token.word in words or (token.kind == "operator" and token.text in words)):
            self.at += 1
            return True
        return False

    def expression(self) -> Filter:
        left = self.term()
        while self.take("or"):
            left = Either(left, self.term())
        return left

    def term(self) -> Filter:
        left = self.factor()
        while True:
            token = self.peek()
            if token is None or token.word == "or" or token.text == ")":
                return left
            self.take("and", ",")
            left = Both(left, self.factor())

    def factor(self) -> Filter:
        if self.take("not"):
            return Not(self.factor())
        if self.take("("):
            inner = self.expression()
            if not self.take(")"):
                raise self.error("')'")
            return inner
        return self.comparison()

    def comparison(self) -> Filter:
        name = self.next("a column")
        if name.kind != "name":
            self.at -= 1
            raise self.error("a column")
        column = name.text.lower()
        following = self.peek()
        if following is not None and following.kind == "operator" and following.text in _COMPARISONS:
            self.at += 1
            return Compare(column, _SAME.get(following.text, following.text), self.value())
        if self.take("in"):
            return self.among(column)
        if self.take("is"):
            negated = self.take("not")
            if not self.take("null"):
                raise self.error("null")
            return Null(column, negated)
        if column in FLAGS:
            return Flag(column)
        raise self.error(f"a comparison after {column!r}")

    def among(self, column: str) -> Filter:
        if not self.take("("):
            raise self.error("'('")
        values = [self.value()]
        while self.take(","):
            values.append(self.value())
        if not self.take(")"):
            raise self.error("')'")
        return Among(column, tuple(values))

    def value(self) -> Value:
        token = self.next("a value")
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        if token.kind == "string":
            return re.sub(r"\\(.)", r"\1", token.text[1:-1])
        if token.kind == "name":
            return {"true": True, "false": False}.get(token.text.lower(), token.text)
        self.at -= 1
        raise self.error("a value")
