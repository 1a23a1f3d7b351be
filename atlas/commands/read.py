"""Commands that read: query, sql, schema, tui."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import AtlasOption, FolderArgument, FormatOption, OutOption, answer, either, parse_assignments, print_table, say
from atlas.errors import QueryError, UsageError
from atlas.find import find_atlas


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("query")(query)
    app.command("sql")(sql)
    app.command("schema")(schema)
    app.command("tui")(tui)


def query(
    name: Annotated[str | None, typer.Argument(help="Question, e.g. languages/bilingual_features; none lists all.")] = None,
    atlas: AtlasOption = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Parameter; repeatable.")] = None,
    show_sql: Annotated[bool, typer.Option("--sql", help="Print the SQL instead of running it.")] = False,
    dialect: Annotated[
        str | None,
        typer.Option(help="Print the SQL for another engine instead, parameters filled in: spark, trino, clickhouse, datafusion, …"),
    ] = None,
    describe: Annotated[bool, typer.Option("--describe", help="Print the question, its parameters and columns.")] = False,
    format_name: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Ask a named question; without a name, list the questions.

    \b
    Examples:
      atlas query
      atlas query languages/bilingual_features --param rate=0.2
      atlas query languages/bilingual_features --describe
      atlas query graphs/strongest_edges -f csv > edges.csv
      atlas query languages/bilingual_features --dialect spark > bilingual.sql
    """
    import queries

    if name is None:
        _list_questions()
        return
    question = queries.question(name)
    if dialect is not None:
        _print_translated(question.name, find_atlas(atlas), parse_assignments(param or []), dialect)
    elif show_sql:
        typer.echo(question.sql)
    elif describe:
        from queries.docs import help_text

        typer.echo(help_text(question))
    else:
        import atlas as package

        with package.open(find_atlas(atlas)) as reader:
            found = answer(reader, question.name, None, parse_assignments(param or []))
        print_table(found.table, format_name, out, title=found.title, provenance=found.provenance)


def _print_translated(name: str, folder: Path, given: dict[str, str], dialect: str) -> None:
    import atlas as package
    import queries
    from queries.elsewhere import translate

    with package.open(folder) as reader:
        question, settled = queries.prepare(reader, name, given)
    typer.echo(translate(question, settled, dialect))


def _list_questions() -> None:
    import pyarrow as pa

    import queries

    catalogue = queries.catalogue()
    rows = {"question": list(catalogue), "asks": [question.title for question in catalogue.values()]}
    print_table(pa.table(rows), None)
    if sys.stdout.isatty():
        say("\nAsk one with `atlas query NAME`; `--describe` shows its parameters and columns, `--sql` its text.")


def sql(
    text: Annotated[str, typer.Argument(help="One SELECT (or EXPLAIN) statement; - reads it from standard input.")],
    atlas: AtlasOption = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Value of $NAME; repeatable.")] = None,
    format_name: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Run one SELECT on the published atlas, read-only.

    \b
    Examples:
      atlas sql "select language, count(*) as prompts from prompt group by language order by language"
      atlas sql "select * from feature where layer = \\$layer limit 5" -p layer=3
      atlas sql - < my_question.sql
    """
    import atlas as package

    statement = sys.stdin.read() if text == "-" else text
    if not statement.strip():
        raise UsageError("There is no SQL.", hint='For example: atlas sql "select * from run"')
    with package.open(find_atlas(atlas)) as reader, _parameters_hinted():
        found = answer(reader, None, statement, parse_assignments(param or []))
    print_table(found.table, format_name, out, provenance=found.provenance)


@contextmanager
def _parameters_hinted() -> Iterator[None]:
    """Say how a parameter is given, where the engine says that one was not."""
    try:
        yield
    except QueryError as error:
        missing = re.search(r"not provided for the following (?:prepared statement )?parameters: ([\w, ]+)", error.message)
        if missing is None:
            raise
        names = [name.strip() for name in missing[1].split(",")]
        hint = "Give " + " ".join(f"-p {name}=VALUE" for name in names)
        raise QueryError(f"the statement's {', '.join(f'${name}' for name in names)} has no value", hint=hint) from error


def schema(
    table: Annotated[str | None, typer.Argument(help="Table; none lists all tables.")] = None,
    ddl: Annotated[bool, typer.Option("--ddl", help="Print schema.sql itself.")] = False,
    format_name: FormatOption = None,
) -> None:
    """Show the data dictionary: tables, columns, types, meanings.

    \b
    Examples:
      atlas schema
      atlas schema activation
      atlas schema --ddl > schema.sql
    """
    from atlas.schema import describe_table, list_tables, schema_text

    if ddl:
        typer.echo(schema_text(), nl=False)
    elif table is None:
        print_table(list_tables(), format_name)
    else:
        print_table(describe_table(table), format_name)


def tui(
    path: FolderArgument = None,
    atlas: AtlasOption = None,
    replay: Annotated[Path | None, typer.Option(help="Repeat the actions of a journal.")] = None,
    journal: Annotated[Path | None, typer.Option(help="Write the journal of actions here.")] = None,
) -> None:
    """Browse an atlas in the terminal.

    \b
    Examples:
      atlas tui
      atlas tui demo.atlas
      atlas tui demo.atlas --replay session.jsonl
    """
    from tui.app import run

    raise typer.Exit(run(either(path, atlas), replay=replay, journal=journal))
