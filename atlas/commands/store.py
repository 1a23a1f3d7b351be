"""Commands that keep the store: publish, check, runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import AtlasOption, FormatOption, Progress, find_atlas, interruptible, print_table, progress_bars, say


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("publish")(publish)
    app.command("check")(check)
    runs = typer.Typer(help="List, compare and remove runs.", no_args_is_help=False, invoke_without_command=True, rich_markup_mode=None)
    runs.callback()(_runs_default)
    runs.command("list")(runs_list)
    runs.command("show")(runs_show)
    runs.command("diff")(runs_diff)
    runs.command("rm")(runs_rm)
    app.add_typer(runs, name="runs")


def publish_atlas(folder: Path, progress: Progress | None = None) -> None:
    """Build atlas.duckdb of a folder with the shipped build steps and audits."""
    import queries
    from atlas.publish import publish as build

    result = build(folder, build=queries.build_steps(), audits=queries.audits(), progress=progress)
    say(f"published {folder}/atlas.duckdb (manifest {result.manifest}, {result.n_rows:,} rows)")


def publish(path: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Folder of the atlas.")] = None) -> None:
    """Build atlas.duckdb from the shards and swap it in; readers of the old one go on undisturbed.

    \b
    Examples:
      atlas publish demo.atlas
    """
    folder = find_atlas(path)
    with interruptible("publish"), progress_bars() as progress:
        publish_atlas(folder, progress)


def check(
    path: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Folder of the atlas.")] = None,
    format_name: FormatOption = None,
) -> None:
    """Verify every hash, count and reference; exit code 4 when something is wrong.

    \b
    Examples:
      atlas check demo.atlas
    """
    import pyarrow as pa

    from atlas.check import check as run_check

    folder = find_atlas(path)
    with interruptible("check"), progress_bars() as progress:
        findings = run_check(folder, progress=progress)
    if not findings:
        say(f"{folder}: all hashes, counts and references are right")
        return
    print_table(
        pa.Table.from_pylist([{"path": str(f.path), "problem": f.problem, "next_step": f.next_step} for f in findings]), format_name
    )
    raise typer.Exit(4)


def _runs_default(context: typer.Context, atlas: AtlasOption = None, format_name: FormatOption = None) -> None:
    """List, compare and remove runs; without a subcommand, list them."""
    if context.invoked_subcommand is None:
        runs_list(atlas, format_name)


def runs_list(atlas: AtlasOption = None, format_name: FormatOption = None) -> None:
    """List the runs that the newest manifest shows.

    \b
    Examples:
      atlas runs list --atlas demo.atlas
    """
    from atlas.runs import list_runs

    print_table(list_runs(find_atlas(atlas)), format_name)


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
