"""Commands that keep the store: publish, check, repair, compact, gc, runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas.commands.common import (
    AtlasOption,
    FolderArgument,
    FormatOption,
    Progress,
    either,
    interruptible,
    print_table,
    progress_bars,
    say,
)
from atlas.find import find_atlas
from atlas.settings import KEEP_DAYS, KEEP_MANIFESTS

if TYPE_CHECKING:
    from atlas.maintain import Action


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("publish")(publish)
    app.command("check")(check)
    app.command("repair")(repair)
    app.command("compact")(compact)
    app.command("gc")(gc)
    runs = typer.Typer(help="List, compare and remove runs.", no_args_is_help=False, invoke_without_command=True, rich_markup_mode=None)
    runs.callback()(_runs_default)
    runs.command("list")(runs_list)
    runs.command("show")(runs_show)
    runs.command("diff")(runs_diff)
    runs.command("rm")(runs_rm)
    app.add_typer(runs, name="runs")


def publish_atlas(folder: Path, progress: Progress | None = None, *, incremental: bool = False) -> None:
    """Build atlas.duckdb of a folder with the shipped build steps and audits; `incremental`: add new runs to a copy of the old file."""
    import queries
    from atlas.publish import publish as build

    result = build(folder, build=queries.build_steps(), audits=queries.audits(), progress=progress, incremental=incremental)
    if incremental:
        new = result.n_runs - result.n_carried
        kept = f"{result.n_carried} runs kept from the published file, {new} added"
        say(kept if result.n_carried else "built anew: nothing could be kept")
    say(f"published {folder}/atlas.duckdb (manifest {result.manifest}, {result.n_rows:,} rows)")


def publish(
    path: FolderArgument = None,
    atlas: AtlasOption = None,
    incremental: Annotated[bool, typer.Option("--incremental", help="Add new runs to a copy of the published file.")] = False,
) -> None:
    """Build atlas.duckdb from the shards and swap it in; readers of the old one go on undisturbed.

    With --incremental the runs that the published file has are kept as they are, and only new ones are verified and loaded; where
    the file was built by another version, or a run is gone or changed, all is built as usual.

    \b
    Examples:
      atlas publish demo.atlas
      atlas publish demo.atlas --incremental
    """
    folder = find_atlas(either(path, atlas))
    with interruptible("publish"), progress_bars() as progress:
        publish_atlas(folder, progress, incremental=incremental)


def check(
    path: FolderArgument = None,
    atlas: AtlasOption = None,
    format_name: FormatOption = None,
) -> None:
    """Verify every hash, count and reference; exit code 4 when something is wrong.

    \b
    Examples:
      atlas check demo.atlas
    """
    import pyarrow as pa

    from atlas.check import check as run_check

    folder = find_atlas(either(path, atlas))
    with interruptible("check"), progress_bars() as progress:
        findings = run_check(folder, progress=progress)
    if not findings:
        say(f"{folder}: all hashes, counts and references are right")
        return
    print_table(
        pa.Table.from_pylist([{"path": str(f.path), "problem": f.problem, "next_step": f.next_step} for f in findings]), format_name
    )
    raise typer.Exit(4)


def repair(
    path: FolderArgument = None,
    atlas: AtlasOption = None,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Do not build atlas.duckdb again.")] = False,
    format_name: FormatOption = None,
) -> None:
    """Set aside what `check` finds damaged and rebuild what can be; nothing is deleted, `quarantine/` keeps it.

    A run that lost a shard is hidden until the same `atlas ingest` or `atlas import` computes what is missing.

    \b
    Examples:
      atlas check demo.atlas || atlas repair demo.atlas
    """
    from atlas.folder import Atlas
    from atlas.maintain import repair as run_repair

    folder = find_atlas(either(path, atlas))
    with interruptible("repair"), progress_bars() as progress:
        actions = run_repair(folder)
        if actions:
            _print_actions(actions, format_name)
            hidden = any(action.what.startswith("hidden") for action in actions)
            if hidden and Atlas(folder).database.exists():
                say(f"{folder}: atlas.duckdb is whole and stays: it shows what was hidden until `atlas publish`")
            elif not Atlas(folder).manifest().runs:
                say(f"{folder}: no run is left to show; atlas.duckdb stays as it is")
            elif not no_publish:
                publish_atlas(folder, progress)
        else:
            say(f"{folder}: nothing is damaged")


def compact(
    path: FolderArgument = None,
    atlas: AtlasOption = None,
    run: Annotated[str | None, typer.Option(help="Only this run: its id, or its first digits; default: all.")] = None,
    format_name: FormatOption = None,
) -> None:
    """Merge the many small files of a run into one a table, compressed harder; rows stay the same, the old files go at `atlas gc`.

    \b
    Examples:
      atlas compact demo.atlas
      atlas compact demo.atlas --run 3f2a
    """
    from atlas.maintain import compact as run_compact

    folder = find_atlas(either(path, atlas))
    with interruptible("compact"):
        actions = run_compact(folder, run)
    if actions:
        _print_actions(actions, format_name)
    else:
        say(f"{folder}: every run has one file a table already")


def gc(
    path: FolderArgument = None,
    atlas: AtlasOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only list what would go.")] = False,
    keep_manifests: Annotated[int, typer.Option(min=1, help="Newest manifests to keep, with all they name.")] = KEEP_MANIFESTS,
    keep_days: Annotated[float, typer.Option(min=0, help="Keep what is younger, in days; a run being written is young.")] = KEEP_DAYS,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    format_name: FormatOption = None,
) -> None:
    """Remove what no kept manifest refers to: removed runs, merged files, what dead writers left.

    \b
    Examples:
      atlas gc demo.atlas --dry-run
      atlas gc demo.atlas --keep-days 0 --keep-manifests 1 --yes
    """
    from atlas.maintain import gc as run_gc

    folder = find_atlas(either(path, atlas))
    actions = run_gc(folder, dry_run=True, keep_manifests=keep_manifests, keep_days=keep_days)
    if not actions:
        say(f"{folder}: nothing to remove (kept: {keep_manifests} manifests, and what is younger than {keep_days:g} days)")
        return
    if dry_run:
        _print_actions(actions, format_name)
    else:
        if not yes:
            _print_actions(actions, format_name)
            typer.confirm(f"Remove {len(actions)} files from {folder}?", abort=True, err=True)
        with interruptible("gc"):
            actions = run_gc(folder, dry_run=False, keep_manifests=keep_manifests, keep_days=keep_days)
    size = sum(action.bytes for action in actions)
    say(f"{len(actions)} files, {size / 1e6:.1f} MB {'would go' if dry_run else 'are gone'}")


def _print_actions(actions: Sequence[Action], format_name: str | None) -> None:
    import pyarrow as pa

    rows = [{"path": str(item.path), "what": item.what, "bytes": item.bytes, "next_step": item.next_step} for item in actions]
    print_table(pa.Table.from_pylist(rows), format_name)


def _runs_default(context: typer.Context, atlas: AtlasOption = None, format_name: FormatOption = None) -> None:
    """List, compare and remove runs; without a subcommand, list them."""
    if context.invoked_subcommand is None:
        runs_list(atlas, format_name)


def runs_list(
    atlas: AtlasOption = None,
    format_name: FormatOption = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="List runs that were begun and are not shown yet.")] = False,
) -> None:
    """List the runs that the newest manifest shows; say which others were begun and can go on.

    \b
    Examples:
      atlas runs list --atlas demo.atlas
      atlas runs list --unfinished
    """
    from atlas.runs import list_runs, unfinished_runs

    folder = find_atlas(atlas)
    begun = unfinished_runs(folder)
    if unfinished:
        print_table(begun, format_name)
        return
    print_table(list_runs(folder), format_name)
    for row in begun.to_pylist():
        of_all = f" of {row['shards']}" if row["shards"] is not None else ""
        say(
            f"unfinished: run {row['run_id']} ({row['name'] or 'without a name'}), {row['done']}{of_all} shards committed, the last one at "
            f"{row['last_commit']} UTC; the same command goes on with it"
        )


def runs_show(run: Annotated[str, typer.Argument(help="Run id, or its first digits.")], atlas: AtlasOption = None) -> None:
    """Print a run's plan and what it wrote.

    \b
    Examples:
      atlas runs show 3f2a
    """
    from atlas.runs import show_run

    typer.echo(show_run(find_atlas(atlas), run))


def runs_diff(
    first: Annotated[str, typer.Argument(help="Run id, or its first digits.")],
    second: Annotated[str, typer.Argument(help="Run id, or its first digits.")],
    atlas: AtlasOption = None,
    format_name: FormatOption = None,
) -> None:
    """Show what differs between two runs: plans, then tables.

    \b
    Examples:
      atlas runs diff 3f2a 91bc
    """
    from atlas.runs import diff_runs

    print_table(diff_runs(find_atlas(atlas), first, second), format_name)


def runs_rm(
    run: Annotated[str, typer.Argument(help="Run id, or its first digits.")],
    atlas: AtlasOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Hide a run from the next manifest on; its shards stay until gc.

    \b
    Examples:
      atlas runs rm 3f2a && atlas publish
    """
    from atlas.runs import remove_run

    folder = find_atlas(atlas)
    if not yes:
        typer.confirm(f"Hide run {run} from {folder}?", abort=True, err=True)
    say(f"run {remove_run(folder, run)} is hidden; `atlas publish {folder}` rebuilds atlas.duckdb without it")
