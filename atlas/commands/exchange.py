"""Commands that take in and give out: import, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas.commands.common import AtlasOption, ShardsOption, answer, interruptible, parse_assignments, print_table, progress_bars, say
from atlas.commands.store import publish_atlas
from atlas.errors import UsageError
from atlas.find import find_atlas

if TYPE_CHECKING:
    import pyarrow as pa


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_results)
    export = typer.Typer(help="Export tables, figures and graphs, for papers and other tools.", no_args_is_help=True, rich_markup_mode=None)
    export.callback()(_export)
    export.command("table")(export_table)
    export.command("figure")(export_figure)
    export.command("graph")(export_graph)
    export.command("paper")(export_paper)
    app.add_typer(export, name="export")


def import_results(
    kind: Annotated[str, typer.Argument(help="thesis, graph or neuronpedia.")],
    path: Annotated[Path, typer.Argument(help="File or folder of the results.")],
    atlas: Annotated[Path, typer.Option("--atlas", "-a", metavar="DIR", help="Folder of the atlas; made if absent.")] = Path("my.atlas"),
    shards: ShardsOption = None,
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
        with RunWriter(Atlas.create(atlas, shards=shards), imported.plan, run_id(imported.plan)) as writer:
            was_complete = writer.is_complete
            if not was_complete:
                writer.commit("import", imported.tables)
                writer.finish({"kind": "import", **imported.run_row}, shards=["import"])
        say(f"run {writer.run_id} ({imported.run_row.get('name', kind)}) {'was there already' if was_complete else 'is imported'}")
        if not no_publish:
            publish_atlas(atlas, progress)


def _export() -> None:
    """Export tables, figures and graphs, for papers and other tools."""


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


def export_figure(
    kind: Annotated[str | None, typer.Argument(help="Kind of figure, or the question it is drawn from; none lists the kinds.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File: .pdf, .svg or .png; default: KIND.pdf here.")] = None,
    atlas: AtlasOption = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Parameter; repeatable.")] = None,
    width: Annotated[str, typer.Option(help="column or page.")] = "column",
    title: Annotated[str | None, typer.Option(help="Print this above the figure; papers say it in the caption.")] = None,
    format_name: Annotated[str | None, typer.Option("--format", "-f", help="pdf, svg or png; default: the ending.")] = None,
) -> None:
    """Draw the answer to a question, sized for a column or a page, with where its numbers come from beside it.

    \b
    Examples:
      atlas export figure
      atlas export figure language_iou -o iou.pdf
      atlas export figure effects -o effects.png --width page --param run=control --param split=held_out
    """
    import atlas as package
    from atlas.export.figure import FIGURES, write_figure
    from atlas.export.paper import FIGURE_FALLBACKS, figure_rows

    if kind is None:
        _list_figures()
        return
    kind = _figure_kind(kind)
    question, given = FIGURES[kind].question, parse_assignments(param or [])
    with package.open(find_atlas(atlas)) as reader:
        found = answer(reader, question, None, given)
        if not found.table.num_rows:
            # Only what was not given is changed: a run of attribution graphs has no star edges.
            more = {name: str(value) for name, value in FIGURE_FALLBACKS.get(kind, {}).items()}
            found = answer(reader, question, None, {**more, **given}) if more else found
    target = out or Path(f"{kind}.{format_name or 'pdf'}")
    rows = figure_rows(kind, found.table, found.provenance.parameters)
    for path in write_figure(kind, rows, target, format_name, width=width, title=title, provenance=found.provenance):
        say(f"written: {path}")


def _figure_kind(name: str) -> str:
    """Return the kind that a person means by its name or its question."""
    from atlas.export.figure import FIGURES

    plain = name.replace("-", "_")
    for kind, found in FIGURES.items():
        if plain in (kind, found.question, found.question.partition("/")[2]):
            return kind
    raise UsageError(f"No figure {name!r}.", hint=f"Figures: {', '.join(FIGURES)}.")


def _list_figures() -> None:
    import pyarrow as pa

    from atlas.export.figure import FIGURES

    rows = [{"figure": kind, "shows": found.title, "question": found.question} for kind, found in FIGURES.items()]
    print_table(pa.Table.from_pylist(rows), None)


def export_graph(
    graph: Annotated[str | None, typer.Argument(help="Number or name of the graph in its run; default: the first that fits.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File: .graphml, .gexf or .json; default: graph-NUMBER.FORMAT.")] = None,
    atlas: AtlasOption = None,
    run: Annotated[str | None, typer.Option(help="Run, by id or name; default: the newest with graphs.")] = None,
    format_name: Annotated[str | None, typer.Option("--format", "-f", help="graphml, gexf or json; default: the ending.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only edges of this kind, e.g. causal (see `atlas schema edge`).")] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Only nodes that survive pruning and accepted edges.")] = False,
) -> None:
    """Write one graph for another program: graphml and gexf for Gephi, json for circuit-tracer and Neuronpedia.

    json takes the attribution graph of one prompt (`atlas trace --atlas`, `atlas import graph`); graphml and gexf take any.

    \b
    Examples:
      atlas query graphs/list
      atlas export graph 0 -o antonyms.gexf
      atlas export graph 0 --kind causal --kept -o causal.graphml
      atlas export graph --run 3f2a --format json -o hot.json
    """
    import atlas as package
    from atlas.export.graph import write_graph

    ending = format_name or (out.suffix.lstrip(".").lower() if out else "graphml")
    with package.open(find_atlas(atlas)) as reader:
        graphs = answer(reader, "graphs/list", None, _given(run=run))
        row = _choose_graph(graphs.table.to_pylist(), graph, ending)
        given = {"run": str(graphs.provenance.parameters["run"]), "graph": str(row["graph"])}
        nodes = answer(reader, "graphs/nodes", None, given).table
        edges = answer(reader, "graphs/edges", None, {**given, **_given(kind=kind)})
    links = edges.table
    if kept:
        nodes, links = _kept(nodes, links)
    written = write_graph(
        nodes,
        links,
        out or Path(f"graph-{row['graph']}.{ending}"),
        ending,
        graph=row,
        prompt=row["text"] or "",
        tokens=row["tokens"] or (),
        scan=row["transcoder_set"] or "",
        n_layers=row["n_layers"],
        provenance=edges.provenance,
    )
    say(f"graph {row['graph']} ({row['name']}): {nodes.num_rows:,} nodes, {links.num_rows:,} edges")
    for path in written:
        say(f"written: {path}")


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _choose_graph(graphs: Sequence[Mapping[str, Any]], wanted: str | None, ending: str) -> Mapping[str, Any]:
    """Return the graph of this number or name; without one, the first, for json the first of one prompt."""
    if not graphs:
        raise UsageError("This run has no graph.", hint="`atlas query provenance/tables` shows what each run holds.")
    named = ", ".join(f"{row['graph']} ({row['name']})" for row in graphs)
    if wanted is None:
        of_one_prompt = [row for row in graphs if row["kind"] == "attribution"]
        return of_one_prompt[0] if ending == "json" and of_one_prompt else graphs[0]
    found = [row for row in graphs if wanted in (str(row["graph"]), row["name"])]
    found = found or [row for row in graphs if wanted.lower() in row["name"].lower()]
    if len(found) != 1:
        raise UsageError(f"{'No' if not found else 'More than one'} graph is meant by {wanted!r}.", hint=f"Graphs of this run: {named}.")
    return found[0]


def _kept(nodes: pa.Table, edges: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the nodes that survive pruning and the accepted edges between them."""
    import pyarrow.compute as pc

    nodes = nodes.filter(nodes["kept"])
    ends = [pc.is_in(edges[end], value_set=nodes["node"].combine_chunks()) for end in ("source", "target")]
    return nodes, edges.filter(pc.and_(edges["accepted"], pc.and_(*ends)))


def export_paper(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; made if absent.")],
    atlas: AtlasOption = None,
    run: Annotated[str | None, typer.Option(help="Run, by id or name; default: the newest ingest.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the document.")] = None,
    author: Annotated[list[str] | None, typer.Option(metavar="FAMILY, GIVEN", help="Author, for CITATION.cff; repeatable.")] = None,
) -> None:
    """Write all tables and figures of a run, a results.tex that compiles by itself, a data dictionary and CITATION.cff.

    \b
    Examples:
      atlas export paper results
      atlas export paper results --run bilingual --author "Doe, Jane" && (cd results && pdflatex results.tex)
    """
    import shutil

    import atlas as package
    import queries
    from atlas.export.paper import write_paper
    from atlas.export.provenance import Provenance
    from atlas.schema import schema_text

    with package.open(find_atlas(atlas)) as reader, interruptible("export paper"), progress_bars() as progress:
        run_id = queries.resolve_run(reader, "feature", run)
        row = next((row for row in reader.ask("provenance/runs").arrow().to_pylist() if row["run_id"] == run_id), None)
        if row is None:
            raise UsageError("This atlas has no complete run.", hint="`atlas ingest` or `atlas import` makes one.")
        say(f"run {run_id} ({row['name']})")
        contents = write_paper(
            folder,
            questions=queries.catalogue(),
            ask=lambda name, **parameters: reader.ask(name, **parameters).arrow(),
            run=row,
            schema_sql=schema_text(),
            provenance=Provenance(manifest=reader.manifest, manifest_hash=reader.manifest_hash),
            title=title,
            authors=author or (),
            progress=lambda done, total: progress("questions", done, total),
        )
    say(f"written: {folder}: {len(contents.tables)} tables, {len(contents.figures)} figures; contents.json says what was left out and why")
    if shutil.which("pdflatex") is None:
        packages = "texlive-latex-recommended texlive-science lmodern"
        say(f"To compile results.tex, install a LaTeX; on Debian: apt-get install --no-install-recommends {packages}")
    else:
        say(f"Compile it: cd {folder} && pdflatex results.tex")
