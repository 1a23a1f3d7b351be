"""The command that puts two atlases or two runs side by side: features, and the answer to any question."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas.commands.common import FormatOption, OutOption, interruptible, parse_assignments, print_table, progress_bars, say
from atlas.commands.store import publish_atlas
from atlas.errors import InputError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from ingest.compare import Side
    from ingest.labels.source import LabelSource
    from ingest.transcoder import TranscoderSet


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of an atlas.")],
    second: Annotated[Path | None, typer.Argument(metavar="[B]", help="Folder of another; with --runs, none.")] = None,
    runs: Annotated[
        str | None, typer.Option(help="Runs, by id or name, e.g. bilingual,control; default: the newest ingest of each.")
    ] = None,
    relation: Annotated[
        str | None, typer.Option(help="List features instead of counting: identical, matched, split, merged, weak, gone, new, or all.")
    ] = None,
    by: Annotated[str, typer.Option(help="decoder, coactivation, or both with a comma.")] = "decoder,coactivation",
    layers: Annotated[str | None, typer.Option("--layers", "--layer", help="Layers, e.g. 2-4 or 0,3; default: all in both.")] = None,
    match: Annotated[float, typer.Option(help="Cosine from which nearest neighbours are matched.")] = 0.7,
    part: Annotated[float, typer.Option(help="Cosine from which features are near: split, merged, gone and new hang on it.")] = 0.5,
    transcoders_a: Annotated[str | None, typer.Option(help="Where the first run's dictionary lies; default: found by its name.")] = None,
    transcoders_b: Annotated[str | None, typer.Option(help="Where the second run's dictionary lies.")] = None,
    question: Annotated[str | None, typer.Option(help="Compare the answers to a question instead, e.g. graphs/list.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="With --question; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, …")] = "cpu",
    keep: Annotated[bool, typer.Option("--keep", help="Put the matching into the first atlas as a run, and publish.")] = False,
    format_name: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Put two runs side by side: which features are the same, new, gone, split or merged; or any question's answers.

    \b
    Examples:
      atlas compare narrow.atlas wide.atlas
      atlas compare demo.atlas --runs bilingual,control --relation matched -f csv > matched.csv
      atlas compare narrow.atlas wide.atlas --question graphs/list
      atlas compare old.atlas new.atlas --question provenance/claims
    """
    names: list[str | None] = [None, None] if runs is None else [*(name.strip() for name in runs.split(","))]
    if len(names) != 2 or (second is None and runs is None):
        raise UsageError("what is to be compared?", hint="Two atlases, or one with --runs RUN,RUN.")
    folders = [first, second or first]
    with interruptible("compare"):
        if question is not None:
            table = _answers(folders, names, question, parse_assignments(param or []))
            print_table(table, format_name, out, title=f"{question}, two runs")
            return
        found = _features(folders, names, (transcoders_a, transcoders_b), by, layers, match, part, device, keep)
    print_table(_shown(found, relation), format_name, out, title="Features of two runs")


def _features(
    folders: list[Path],
    names: list[str | None],
    dictionaries: tuple[str | None, str | None],
    by: str,
    layers: str | None,
    match: float,
    part: float,
    device: str,
    kept: bool,
) -> pa.Table:
    """Match the features of two runs, and keep the result where that is wanted."""
    from atlas.folder import Atlas
    from ingest.compare import CompareConfig, Thresholds, keep
    from ingest.compare import compare as match_features
    from ingest.labels.source import LabelSource
    from ingest.plan import parse_layers

    measures = {name.strip() for name in by.split(",")}
    if not measures or measures - {"decoder", "coactivation"}:
        raise UsageError(f"--by {by!r}", hint="decoder, coactivation, or decoder,coactivation.")
    if not 0 < part <= match <= 1:
        raise UsageError(f"--part {part:g}, --match {match:g}", hint="0 < part <= match <= 1.")
    defaults = CompareConfig()
    config = CompareConfig(
        decoder=Thresholds(part, match, 0.999) if "decoder" in measures else None,
        coactivation=defaults.coactivation if "coactivation" in measures else None,
        layers=parse_layers(layers) if layers else (),
    )
    sources = [LabelSource.open(Atlas(folder), name) for folder, name in zip(folders, names, strict=True)]
    if sources[0].atlas.path.resolve() == sources[1].atlas.path.resolve() and sources[0].run_id == sources[1].run_id:
        say(f"run {sources[0].run_id} is compared with itself")
    sides = [_side(source, given, device, "decoder" in measures) for source, given in zip(sources, dictionaries, strict=True)]
    with progress_bars() as progress:
        found = match_features(sides[0], sides[1], config, progress=progress)
        if kept:
            say(f"run {keep(sources[0].atlas, found, sides[0], sides[1], config)}")
            publish_atlas(folders[0], progress)
    return found


def _side(source: LabelSource, given: str | None, device: str, wanted: bool) -> Side:
    """Open a run's dictionary: the one that is given, else the one it names, if it is at hand."""
    from ingest.compare import Side

    return Side(source, _dictionary(source, given, device) if wanted else None)


def _dictionary(source: LabelSource, given: str | None, device: str) -> TranscoderSet | None:
    from ingest.sources import resolve_source
    from ingest.transcoder import TranscoderSet

    rows = source.table("transcoder").to_pylist()
    named = given or (str(rows[0]["source"]) if rows else None)
    if named is None:
        return None
    try:
        found = resolve_source(named, "transcoders")
    except InputError as error:
        if given is not None:
            raise
        logging.getLogger(__name__).warning("the dictionary of run %s is not at hand: %s", source.run_id, error.message)
        return None
    return TranscoderSet.open(found.path, device=device, name=found.name, source=found.name)


def _shown(found: pa.Table, relation: str | None) -> pa.Table:
    """Return counts by measure, layer and relation, or the rows of one relation."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from ingest.compare import RELATIONS

    if relation is not None:
        if relation != "all" and relation not in RELATIONS:
            raise UsageError(f"--relation {relation!r}", hint=f"One of: {', '.join(RELATIONS)}, all.")
        return found if relation == "all" else found.filter(pc.equal(found["relation"], relation))
    layer = pc.coalesce(found["layer_a"], found["layer_b"])
    counted = (
        found.append_column("layer", layer)
        .group_by(["measure", "layer", "relation"])
        .aggregate([("match", "count"), ("similarity", "mean"), ("cosine", "mean"), ("jaccard", "mean")])
    )
    order = pa.array([RELATIONS.index(name) for name in counted["relation"].to_pylist()])
    counted = counted.append_column("order", order).sort_by([("measure", "descending"), ("layer", "ascending"), ("order", "ascending")])
    columns = ["measure", "layer", "relation", "match_count", "similarity_mean", "cosine_mean", "jaccard_mean"]
    return counted.select(columns).rename_columns(["measure", "layer", "relation", "rows", "similarity", "cosine", "jaccard"])


def _answers(folders: list[Path], names: list[str | None], question: str, given: dict[str, str]) -> pa.Table:
    """Ask both atlases a question and put the rows with equal keys side by side, with the difference of numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    import atlas as package
    import queries

    found = queries.question(question)
    tables = []
    for folder, name in zip(folders, names, strict=True):
        own = {**given, **({} if name is None or found.main is None else {"run": name})}
        with package.open(folder) as reader:
            tables.append(reader.ask(found.name, **own).arrow())
    key = list(found.key)
    values = [column.name for column in found.columns if column.name not in key]
    joined = tables[0].combine_chunks()
    sides = []
    for table, letter in zip(tables, "ab", strict=True):
        plain = [name for name in values if not pa.types.is_nested(table.schema.field(name).type)]
        sides.append(table.select([*key, *plain]).rename_columns([*key, *(f"{name}_{letter}" for name in plain)]))
    joined = sides[0].join(sides[1], keys=key, join_type="full outer").sort_by([(name, "ascending") for name in key])
    columns = list(key)
    for name in values:
        if f"{name}_a" not in joined.column_names:
            continue
        columns += [f"{name}_a", f"{name}_b"]
        kind = joined.schema.field(f"{name}_a").type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            difference = pc.subtract(joined[f"{name}_b"].cast(pa.float64()), joined[f"{name}_a"].cast(pa.float64()))
            joined = joined.append_column(f"{name}_difference", difference)
            columns.append(f"{name}_difference")
    return joined.select(columns)
