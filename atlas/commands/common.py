"""What all commands share: finding the atlas, printing a result, progress on stderr, and stopping cleanly.

stdout carries data and nothing else; narration, progress and errors go to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas.errors import InterruptedRun, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.export.provenance import Provenance
    from atlas.reader import Reader

AtlasOption = Annotated[
    Path | None,
    typer.Option("--atlas", "-a", metavar="DIR", help="Folder of the atlas; default: $ATLAS, else the one in the current folder."),
]
FolderArgument = Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Folder of the atlas; the same as --atlas DIR.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", "-f", help="table, csv, tsv, json, jsonl, markdown, latex, html, parquet, arrow; default: table, csv in a pipe."
    ),
]
ShardsOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where a new atlas keeps its shards, e.g. s3://bucket/prefix; credentials come from the environment; default: its folder.",
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of stdout.")]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


def say(text: str) -> None:
    """Print narration to stderr."""
    typer.echo(text, err=True)


def either(path: Path | None, atlas: Path | None) -> Path | None:
    """Take the folder that was given as argument or as --atlas; raises UsageError where both are given and differ."""
    if path is not None and atlas is not None and path.resolve() != atlas.resolve():
        raise UsageError(f"Two atlases are named: {path} and --atlas {atlas}.", hint="Give one of them.")
    return path if path is not None else atlas


def parse_assignments(pairs: list[str], what: str = "--param") -> dict[str, str]:
    """Parse `name=value` arguments.

    Raises:
        UsageError: an argument without `=`, or a name given twice.
    """
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{what} {pair!r} has no value.", hint=f"Write {what} name=value.")
        plain = name.strip().replace("-", "_")
        if plain in parsed:
            raise UsageError(f"{what} {plain} is given twice: {parsed[plain]!r} and {value!r}.", hint="Give one of them.")
        parsed[plain] = value
    return parsed


def print_table(
    table: pa.Table, format_name: str | None, out: Path | None = None, *, title: str = "", provenance: Provenance | None = None
) -> None:
    """Print an Arrow table to stdout or write it to a file, in a named format."""
    if out is None and (format_name == "table" or (format_name is None and sys.stdout.isatty())):
        _print_for_people(table)
        return
    from atlas.export.table import write_table

    write_table(table, out or "-", format_name or (None if out else "csv"), title=title, provenance=provenance)


@dataclass(frozen=True)
class Answer:
    """Rows, what they are called, and where they come from."""

    table: pa.Table
    title: str
    provenance: Provenance


def answer(reader: Reader, name: str | None, sql: str | None, parameters: Mapping[str, str]) -> Answer:
    """Ask a named question, or run a person's SQL; the provenance names the run and all parameters that were used."""
    import queries
    from atlas.export.provenance import Provenance

    if name is None:
        table = reader.sql(str(sql), dict(parameters) or None).arrow()
        return Answer(table, "", Provenance(None, sql, parameters, (), reader.manifest, reader.manifest_hash))
    question, settled = queries.prepare(reader, name, parameters)
    table = reader.ask(question.name, **settled).arrow()
    runs = [str(settled["run"])] if settled.get("run") else []
    return Answer(table, question.title, Provenance(question.name, question.sql, settled, runs, reader.manifest, reader.manifest_hash))


_CELL_WIDTH = 60


def _print_for_people(table: pa.Table) -> None:
    """Print aligned columns, one line a row; a line may be wider than the terminal (`| less -S` scrolls sideways)."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(header_style="bold", box=None, pad_edge=False)
    for field in table.schema:
        shown.add_column(field.name, justify="right" if _is_number(str(field.type)) else "left", no_wrap=True)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        shown.add_row(*(Text(shortened(cell(value))) for value in row))
    terminal = Console()
    natural = terminal.measure(shown, options=terminal.options.update(max_width=10_000)).maximum
    Console(width=max(natural, terminal.width), soft_wrap=True).print(shown)
    if table.num_rows == 0:
        say("(no rows)")


def _is_number(arrow_type: str) -> bool:
    return arrow_type.startswith(("int", "uint", "float", "double", "decimal"))


def shortened(text: str) -> str:
    """Cut a cell's text to its first line and to a readable width."""
    line = text.splitlines()[0] if text else text
    return line if len(line) <= _CELL_WIDTH and line == text else line[: _CELL_WIDTH - 1] + "…"


def cell(value: Any) -> str:
    """Format one value for people: floats to four significant digits, null as a middle dot."""
    if value is None:
        return "·"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(cell(item) for item in value)
    return str(value)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show one bar a stage on stderr, with its rate and the time left; plain lines where stderr is no terminal. A total of 0 is unknown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield ProgressLines()
        return
    rate = TextColumn("{task.fields[rate]:>11}")
    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), rate, TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=console) as bars:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None, rate="")
            speed = bars.tasks[bars.task_ids.index(tasks[stage])].speed
            bars.update(tasks[stage], completed=done, total=total or None, rate=f"{speed:,.1f}/s" if speed else "")

        yield update


class ProgressLines:
    """Progress for a log: a line when a stage is done, and one every half minute with its rate and the time left."""

    EVERY = 30.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.started: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self.finished: set[str] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of `done` of `total` (0: unknown) and print what is due."""
        now = self.clock()
        started = self.started.setdefault(stage, now)
        if total and done >= total:
            if stage not in self.finished:
                self.finished.add(stage)
                say(f"{stage}: {total:,} done")
            return
        if now - self.said.get(stage, started) < self.EVERY:
            return
        self.said[stage] = now
        rate = done / (now - started)
        left = f", {(total - done) / rate:,.0f} s left" if total and rate else ""
        say(f"{stage}: {done:,}{f' of {total:,}' if total else ''}, {rate:,.1f}/s{left}")


@contextmanager
def interruptible(what: str) -> Iterator[None]:
    """Turn Ctrl-C into one sentence that says the work can be resumed.

    Raises:
        InterruptedRun: in place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise InterruptedRun(f"{what} was stopped.", hint="What was committed is kept: the same command goes on from there.") from error
