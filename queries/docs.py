"""What the headers of the questions say, for people: docs/queries.md (`python -m queries.docs` writes, `--check` compares) and help.

In: the catalogue and the audits. Out: one page, a section a topic, and one question's help for a terminal, so that no parameter or
column is described in two places.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from queries.header import Parameter, Question, Value
from queries.loader import catalogue

PAGE = Path(__file__).parent.parent / "docs" / "queries.md"
HEAD = """\
# Questions

{n} named questions, generated from the headers of `queries/<topic>/<question>.sql` by `python -m queries.docs`. Each is one SQL file that
runs in any DuckDB client with its `$parameters` bound. The same header gives

- the command line: `atlas query languages/bilingual_features --param rate=0.2`
- a notebook: `atlas.open("demo.atlas").ask("languages/bilingual_features", rate=0.2).pl()`
- the form and the table of the terminal browser.

A parameter `run` that is null means the newest complete run, ingest first, that has rows of the question's main table; a run can be given
by its id, by at least four digits of its id's start, or by its name. Language scores and their nulls come from table `feature_score`, whose
parameter sets `provenance/parameter_sets` lists; a question asked with other thresholds recomputes values and gives no null.
"""
AUDITS = """\
## Audits

`atlas publish` refuses a file in which one of these finds a row:

"""


def _value(value: Value) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _parameter(parameter: Parameter) -> str:
    default = "required" if parameter.required else _value(parameter.default)
    choices = f" One of: {', '.join(parameter.choices)}." if parameter.choices else ""
    return f"| `{parameter.name}` | {parameter.type} | {default} | {_cell(parameter.meaning)}.{choices} |"


def _question(question: Question) -> Iterator[str]:
    """Yield the lines of one question."""
    yield f"### {question.name}\n"
    yield f"{question.title} {question.text}".strip() + "\n"
    main = f" Main table: `{question.main}`." if question.main else ""
    yield f"Decides {question.decides}. {question.grain.capitalize()}.{main}\n"
    given = " ".join(f"--param {name}={_value(value)}" for name, value in question.example.items())
    yield f"    atlas query {question.name} {given}".rstrip() + "\n"
    if question.parameters:
        yield "| parameter | type | default | meaning |\n|---|---|---|---|"
        yield "\n".join(map(_parameter, question.parameters)) + "\n"
    yield "| column | type | unit | meaning |\n|---|---|---|---|"
    key = set(question.key)
    for column in question.columns:
        name = f"**`{column.name}`**" if column.name in key else f"`{column.name}`"
        yield f"| {name} | {_cell(column.type)} | {column.unit} | {_cell(column.meaning)} |"
    yield ""


def help_text(question: Question) -> str:
    """Return what a question's header says, as text for a terminal."""
    example = " ".join(f"--param {name}={_value(value)}" for name, value in question.example.items())
    main = f" Rows of table {question.main}." if question.main else ""
    given = [(item.name, item.type, "required" if item.required else _value(item.default), _meaning(item)) for item in question.parameters]
    columns = [(item.name, item.type, item.unit, item.meaning) for item in question.columns]
    parts = [f"{question.name}: {question.title}", *([question.text] if question.text else [])]
    parts.append(f"It decides {question.decides}. {question.grain.capitalize()}, ordered by {', '.join(question.key)}.{main}")
    if given:
        parts.append("\n".join(("Parameters (name, type, default, meaning):", *_aligned(given))))
    parts.append("\n".join(("Columns (name, type, unit, meaning):", *_aligned(columns))))
    parts.append(f"Example:\n  atlas query {question.name} {example}".rstrip())
    return "\n\n".join(parts)


def _meaning(parameter: Parameter) -> str:
    return parameter.meaning + (f"; one of {', '.join(parameter.choices)}" if parameter.choices else "")


def _aligned(rows: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        first = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        yield f"  {first}  {row[3]}".rstrip()


def _audits() -> Iterator[str]:
    for path in sorted((Path(__file__).parent / "audits").glob("*.sql")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = [
            line.removeprefix("--").strip() for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
        ]
        yield f"- `{path.stem}`: {' '.join(comment)}"


def page() -> str:
    """Return the whole page."""
    questions = list(catalogue().values())
    parts = [HEAD.format(n=len(questions))]
    topics = [(topic, list(group)) for topic, group in groupby(questions, key=lambda question: question.topic)]
    for topic, group in topics:
        listed = "\n".join(f"- [{item.name}](#{item.name.replace('/', '')}): {item.title}" for item in group)
        parts.append(f"**{topic}**\n\n{listed}\n")
    for topic, group in topics:
        parts.append(f"## {topic.capitalize()}\n")
        parts += [line for item in group for line in _question(item)]
    parts.append(AUDITS + "\n".join(_audits()))
    return "\n".join(parts).rstrip() + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` say whether it is up to date; return the exit code."""
    text = page()
    if "--check" in arguments:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        if not same:
            sys.stderr.write(f"{PAGE.name} is out of date: run `python -m queries.docs`\n")
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
