"""Commands that take in and give out: import, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import AtlasOption, answer, find_atlas, interruptible, parse_assignments, progress_bars, say
from atlas.commands.store import publish_atlas
from atlas.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_results)
    export = typer.Typer(help="Export tables for papers and other tools.", no_args_is_help=True, rich_markup_mode=None)
    export.callback()(_export)
    export.command("table")(export_table)
    app.add_typer(export, name="export")


def import_results(
    kind: Annotated[str, typer.Argument(help="thesis, graph or neuronpedia.")],
    path: Annotated[Path, typer.Argument(help="File or folder of the results.")],
    atlas: Annotated[Path, typer.Option("--atlas", "-a", metavar="DIR", help="Folder of the atlas; made if absent.")] = Path("my.atlas"),
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Leave atlas.duckdb as it is.")] = False,
) -> None:
    """Import what another tool has published, as one run or not at all; the same content again changes nothing.

    \b
    Examples:
      atlas import thesis results/b1_v1 --atlas thesis.atlas
      atlas import graph le-contraire-de.json --atlas thesis.atlas
    """
    from atlas.folder import Atlas
    from atlas.ids import run_id
    from atlas.shards import RunWriter
    from ingest.importers import read

    with interruptible("import"), progress_bars() as progress:
        imported = read(kind, path)
        for note in imported.notes:
            say(f"note: {note}")
        with RunWriter(Atlas.create(atlas), imported.plan, run_id(imported.plan)) as writer:
            was_complete = writer.is_complete
            if not was_complete:
                writer.commit("import", imported.tables)
                writer.finish({"kind": "import", **imported.run_row}, shards=["import"])
        say(f"run {writer.run_id} ({imported.run_row.get('name', kind)}) {'was there already' if was_complete else 'is imported'}")
        if not no_publish:
            publish_atlas(atlas, progress)


def _export() -> None:
    """Export tables for papers and other tools."""


def export_table(
    name: Annotated[str | None, typer.Argument(help="Question, e.g. languages/bilingual_features.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write, with its NAME.provenance.json beside it.")] = None,
    atlas: AtlasOption = None,
    sql: Annotated[str | None, typer.Option("--sql", help="Export the rows of this SELECT instead of a question's.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Parameter; repeatable.")] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", "-f", help="csv, tsv, json, jsonl, parquet, arrow, latex, markdown, html, xlsx; default: the ending."),
    ] = None,
    caption: Annotated[str, typer.Option(help="Caption (LaTeX, HTML).")] = "",
    label: Annotated[str, typer.Option(help="LaTeX label, e.g. tab:bilingual.")] = "",
    max_rows: Annotated[int | None, typer.Option(help="Rows at most, in formats for readers.")] = None,
) -> None:
    """Write the answer to a question as a table, with where its numbers come from beside it.

    \b
    Examples:
      atlas export table languages/bilingual_features -o bilingual.csv
      atlas export table languages/iou_by_layer -f latex --label tab:iou > iou.tex
      atlas export table --sql "select * from run" -o runs.parquet
    """
    import atlas as package
    from atlas.export.table import write_table

    if (name is None) == (sql is None):
        raise UsageError("Give a question or --sql, not both and not neither.", hint="`atlas query` lists the questions.")
    if out is None and format_name is None:
        format_name = "csv"
    with package.open(find_atlas(atlas)) as reader:
        found = answer(reader, name, sql, parse_assignments(param or []))
    written = write_table(
        found.table,
        out if out is not None else "-",
        format_name,
        title=found.title,
        caption=caption,
        label=label,
        provenance=found.provenance,
        max_rows=max_rows,
    )
    for path in written:
        say(f"written: {path}")
