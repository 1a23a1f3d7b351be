"""The header of a question: what a `.sql` file says about itself, parsed strictly.

In: the text of a file and its path. Out: a `Question`. Every mistake is a `QueryError` that names file and line.

A header is the block of `--` lines at the top:

    -- Which features …?                                  the question in words, one line, ends in a question mark
    --
    -- How it is answered, in sentences (optional).
    -- decides: what a person does with the answer
    -- grain: one row per …
    -- main: table whose newest complete run is asked (omitted where the question has no parameter `run`)
    -- fits: name of a query in queries/resolve that returns a row for a run with an answer, where rows of main do not tell (optional)
    -- key: columns that are unique in the answer and stand in its order
    -- parameters:
    --   name | type | default | meaning [| choice, choice]
    -- columns:
    --   name | type | unit | meaning
    -- example: name=value, name=value

A line that is indented deeper than its table continues the line above it. `required` as a default means that there is none.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import QueryError, UsageError

Value = str | int | float | bool | None
"""What a parameter can be: the Python side of varchar, integer types, double and boolean."""

_PARAMETER_TYPES = ("varchar", "smallint", "integer", "bigint", "double", "boolean")
_FIELDS = ("decides", "grain", "main", "fits", "key", "parameters", "columns", "example")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_INTEGER_LIMITS = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}


@dataclass(frozen=True)
class Parameter:
    """One named input of a question."""

    name: str
    type: str
    default: Value
    meaning: str
    choices: tuple[str, ...] = ()
    required: bool = False

    def parse(self, value: object) -> Value:
        """Return `value` (a Python value or its text) as this parameter's type; raise UsageError where it is not one."""
        if value is None or (isinstance(value, str) and value == "null"):
            return None
        parsed = _PARSERS[self.type](self, value)
        if self.choices and parsed not in self.choices:
            raise UsageError(f"{self.name} = {value!r} is not one of {', '.join(self.choices)}")
        return parsed

    def refuse(self, value: object, expected: str) -> UsageError:
        """Return the error for a value of the wrong type."""
        return UsageError(f"{self.name} = {value!r} is not {expected}", hint=f"{self.name}: {self.meaning}")


def _parse_varchar(parameter: Parameter, value: object) -> Value:
    if not isinstance(value, str):
        raise parameter.refuse(value, "text")
    return value


def _parse_integer(parameter: Parameter, value: object) -> Value:
    limit = _INTEGER_LIMITS[parameter.type]
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[+-]?\d+", text) or not -limit <= int(text) < limit:
        raise parameter.refuse(value, f"a whole number between {-limit} and {limit - 1}")
    return int(text)


def _parse_double(parameter: Parameter, value: object) -> Value:
    try:
        number = float("nan") if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = float("nan")
    if number != number:
        raise parameter.refuse(value, "a number")
    return number


def _parse_boolean(parameter: Parameter, value: object) -> Value:
    word = str(value).strip().lower()
    if word not in _WORDS:
        raise parameter.refuse(value, "true or false")
    return _WORDS[word]


_PARSERS: Mapping[str, Callable[[Parameter, object], Value]] = {
    "varchar": _parse_varchar,
    "smallint": _parse_integer,
    "integer": _parse_integer,
    "bigint": _parse_integer,
    "double": _parse_double,
    "boolean": _parse_boolean,
}


@dataclass(frozen=True)
class Column:
    """One column of a question's answer."""

    name: str
    type: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Question:
    """A named question: its header and its SQL."""

    name: str
    topic: str
    title: str
    text: str
    decides: str
    grain: str
    main: str | None
    key: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    example: Mapping[str, Value]
    sql: str
    path: Path
    fits: str | None = None
    """Query in queries/resolve that returns a row for a run that has an answer, where rows of `main` alone do not tell."""

    def parse(self, given: Mapping[str, object]) -> dict[str, Value]:
        """Return all parameters with defaults filled in and types checked; raise UsageError with the parameter's name."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise UsageError(f"{self.name} has no parameter {name!r}", hint=f"it has: {', '.join(known) or 'no parameters'}")
        for parameter in self.parameters:
            if parameter.required and given.get(parameter.name) is None:
                raise UsageError(f"{self.name} needs {parameter.name}", hint=f"{parameter.name}: {parameter.meaning}")
        return {name: parameter.parse(given[name]) if name in given else parameter.default for name, parameter in known.items()}


@dataclass(frozen=True)
class _Line:
    number: int
    text: str


def parse_question(text: str, name: str, path: Path) -> Question:
    """Return the question that stands in `text`; `name` is `<topic>/<question>`."""
    lines = [_Line(number, line) for number, line in enumerate(text.splitlines(), start=1)]
    comments = _leading_comments(lines, path)
    title = comments[0].text.removeprefix("--").strip()
    if not title.endswith("?"):
        raise _error(path, comments[0].number, "the first line must be a question that ends in '?'")
    prose, fields = _split_fields(comments[1:], path)
    parameters = tuple(_parameter(line, path) for line in fields.get("parameters", []))
    columns = tuple(_column(line, path) for line in fields["columns"])
    question = Question(
        name=name,
        topic=name.partition("/")[0],
        title=title,
        text=prose,
        decides=_one(fields, "decides", path),
        grain=_one(fields, "grain", path),
        main=_one(fields, "main", path) if "main" in fields else None,
        key=tuple(part.strip() for part in _one(fields, "key", path).split(",")),
        parameters=parameters,
        columns=columns,
        example=_example(fields.get("example", []), parameters, path),
        sql="\n".join(line.text for line in lines[len(comments) :]).strip() + "\n",
        path=path,
        fits=_one(fields, "fits", path) if "fits" in fields else None,
    )
    _check(question, comments[0].number)
    return question


def _error(path: Path, line: int, message: str) -> QueryError:
    return QueryError(f"{path}:{line}: {message}", hint="the format of a header stands in queries/header.py")


def _leading_comments(lines: list[_Line], path: Path) -> list[_Line]:
    comments = []
    for line in lines:
        if not line.text.startswith("--"):
            break
        comments.append(line)
    if not comments:
        raise _error(path, 1, "no header: the file must begin with -- lines")
    return comments


def _split_fields(comments: list[_Line], path: Path) -> tuple[str, dict[str, list[_Line]]]:
    """Split a header into prose and its fields; a field holds its own line's rest and its indented lines."""
    prose: list[str] = []
    fields: dict[str, list[_Line]] = {}
    field: str | None = None
    for line in comments:
        body = line.text[2:]
        match = re.match(r" ([a-z_]+):(?: (.*))?$", body)
        if match and match[1] in _FIELDS:
            field = match[1]
            if field in fields:
                raise _error(path, line.number, f"{field} stands twice")
            fields[field] = [_Line(line.number, match[2].strip())] if match[2] else []
        elif field is None:
            prose.append(body.strip())
        elif not body.strip():
            continue
        elif body.startswith("     ") and fields[field]:
            last = fields[field][-1]
            fields[field][-1] = _Line(last.number, f"{last.text} {body.strip()}")
        elif body.startswith("   ") and field in ("parameters", "columns"):
            fields[field].append(_Line(line.number, body.strip()))
        else:
            raise _error(path, line.number, f"{body.strip()!r} belongs to no field; fields: {', '.join(_FIELDS)}")
    for required in ("decides", "grain", "key", "columns"):
        if not fields.get(required):
            raise _error(path, comments[-1].number if comments else 1, f"the header has no {required!r}")
    return " ".join(part for part in prose if part), fields


def _one(fields: Mapping[str, list[_Line]], field: str, path: Path) -> str:
    if len(fields[field]) != 1:
        raise _error(path, fields[field][0].number if fields[field] else 1, f"{field} must be one line of text")
    return fields[field][0].text


def _cells(line: _Line, path: Path, least: int, most: int) -> list[str]:
    cells = [cell.strip() for cell in line.text.split(" | ")]
    if not least <= len(cells) <= most:
        raise _error(path, line.number, f"{len(cells)} cells where {least} are expected: {line.text!r}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", cells[0]):
        raise _error(path, line.number, f"{cells[0]!r} is not a name")
    return cells


def _parameter(line: _Line, path: Path) -> Parameter:
    cells = _cells(line, path, 4, 5)
    name, kind, default, meaning = cells[:4]
    if kind not in _PARAMETER_TYPES:
        raise _error(path, line.number, f"type {kind!r} is not one of {', '.join(_PARAMETER_TYPES)}")
    choices = tuple(choice.strip() for choice in cells[4].split(",")) if len(cells) == 5 else ()
    parameter = Parameter(name, kind, None, meaning, choices, required=default == "required")
    if parameter.required:
        return parameter
    try:
        value = parameter.parse(default)
    except UsageError as error:
        raise _error(path, line.number, error.message) from error
    return Parameter(name, kind, value, meaning, choices)


def _column(line: _Line, path: Path) -> Column:
    name, kind, unit, meaning = _cells(line, path, 4, 4)
    return Column(name, kind, unit, meaning)


def _example(lines: list[_Line], parameters: tuple[Parameter, ...], path: Path) -> dict[str, Value]:
    example: dict[str, Value] = {}
    known = {parameter.name: parameter for parameter in parameters}
    for line in lines:
        for part in line.text.split(","):
            name, sign, value = part.strip().partition("=")
            if not sign or name not in known:
                raise _error(path, line.number, f"example {part.strip()!r} is not parameter=value")
            try:
                example[name] = known[name].parse(value)
            except UsageError as error:
                raise _error(path, line.number, error.message) from error
    return example


def _check(question: Question, line: int) -> None:
    """Hold the header together: names unique, key among the columns, `run` and `main` together, SQL there."""
    for kind, names in (
        ("parameter", [parameter.name for parameter in question.parameters]),
        ("column", [column.name for column in question.columns]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise _error(question.path, line, f"{kind} {name!r} stands twice")
    columns = {column.name for column in question.columns}
    for name in question.key:
        if name not in columns:
            raise _error(question.path, line, f"key column {name!r} is not among the columns")
    has_run = any(parameter.name == "run" for parameter in question.parameters)
    if has_run != (question.main is not None):
        raise _error(question.path, line, "a question has `main:` exactly when it has a parameter `run`")
    if not question.sql.strip():
        raise _error(question.path, line, "no SQL below the header")
