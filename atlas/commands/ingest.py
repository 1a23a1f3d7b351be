"""Commands that run a model: demo, ingest, prompts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from atlas.commands.common import FormatOption, interruptible, print_table, progress_bars, say
from atlas.commands.store import publish_atlas


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("demo")(demo)
    app.command("ingest")(ingest)
    prompts = typer.Typer(help="List and check behaviours (prompt sets).", no_args_is_help=True, rich_markup_mode=None)
    prompts.command("list")(prompts_list)
    prompts.command("check")(prompts_check)
    app.add_typer(prompts, name="prompts")


def demo(
    path: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to build.")] = Path("demo.atlas"),
) -> None:
    """Build an atlas from the embedded bilingual model and its negative control, and print the headline answers.

    \b
    Examples:
      atlas demo
      atlas demo /data/demo.atlas
    """
    from atlas.commands.headlines import headlines
    from ingest.demo import build_demo

    started = time.monotonic()
    with interruptible("demo"), progress_bars() as progress:
        build_demo(path, progress=progress)
        publish_atlas(path, progress)
    typer.echo(headlines(path))
    say(f"\nBuilt in {time.monotonic() - started:.0f} s. Go on with:")
    say(f"  atlas tui {path}\n  atlas query --atlas {path}\n  duckdb {path}/atlas.duckdb")


def ingest(
    plan: Annotated[Path | None, typer.Argument(metavar="[PLAN.toml]", help="Plan file; flags override it.")] = None,
    atlas: Annotated[Path, typer.Option("--atlas", "-a", metavar="DIR", help="Folder of the atlas; made if absent.")] = Path("my.atlas"),
    model: Annotated[str | None, typer.Option(help="Directory, Hugging Face id, or embedded:NAME.")] = None,
    transcoders: Annotated[str | None, typer.Option(help="Directory or Hugging Face id.")] = None,
    behaviour: Annotated[list[str] | None, typer.Option("--behaviour", "-b", help="Shipped name or .toml file; repeatable.")] = None,
    languages: Annotated[str | None, typer.Option(help="Languages, e.g. en,fr.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers, e.g. 10-25 or 0,3,5-7; default: all of the set.")] = None,
    max_concepts: Annotated[int | None, typer.Option(help="Keep about this many concepts a behaviour.")] = None,
    until: Annotated[str | None, typer.Option(help="Last stage to run.")] = None,
    seed: Annotated[int | None, typer.Option(help="Base seed of every draw.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    gate: Annotated[float | None, typer.Option(help="Baseline accuracy below which to stop; 0 never stops.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float64 or bfloat16.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Prompts a forward pass.")] = None,
    memory_budget: Annotated[str | None, typer.Option(help="Memory for transcoders on the device, e.g. 20GB.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Run a complete plan once more, as a further attempt.")] = False,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Leave atlas.duckdb as it is.")] = False,
) -> None:
    """Run prompts through a model with transcoders: activations, graph, interventions, circuits; then publish.

    A plan that is complete does nothing; one that was stopped goes on where it stopped.

    \b
    Examples:
      atlas ingest --atlas my.atlas --behaviour antonyms
      atlas ingest plan.toml --atlas my.atlas --seed 1
      atlas ingest --model Qwen/Qwen3-4B --transcoders mwhanna/qwen3-4b-transcoders \\
          --behaviour antonyms_qwen --layers 10-25 --device cuda --dtype bfloat16 --atlas qwen.atlas
    A plan file holds the same names:
      model = "embedded:bilingual"
      behaviours = ["antonyms", "agreement"]
      layers = "1-5"
    """
    from ingest.pipeline import run_plan
    from ingest.plan import parse_layers, read_plan

    flags: dict[str, Any] = {
        "model": model,
        "transcoders": transcoders,
        "behaviours": behaviour,
        "languages": [part.strip() for part in languages.split(",") if part.strip()] if languages is not None else None,
        "layers": parse_layers(layers) if layers is not None else None,
        "max_concepts": max_concepts,
        "until": until,
        "seed": seed,
        "name": name,
        "gate": gate,
        "dtype": dtype,
        "device": device,
        "batch_size": batch_size,
        "memory_budget": memory_budget,
    }
    validated = read_plan(plan, **flags)
    with interruptible("ingest"), progress_bars() as progress:
        outcome = run_plan(atlas, validated, again=again, progress=progress)
        say(f"run {outcome.run_id} ({validated.title}) {'was complete' if outcome.was_complete else 'is complete'}")
        if not no_publish:
            publish_atlas(atlas, progress)


def prompts_list(format_name: FormatOption = None) -> None:
    """List the behaviours that ship.

    \b
    Examples:
      atlas prompts list
    """
    import pyarrow as pa

    from ingest.prompts import load_behaviour, shipped_behaviours

    loaded = [load_behaviour(name) for name in shipped_behaviours()]
    rows = [
        {
            "behaviour": behaviour.name,
            "title": behaviour.title,
            "computation_type": behaviour.computation_type,
            "languages": ",".join(behaviour.languages),
            "templates": len(behaviour.templates),
            "concepts": len(behaviour.concepts),
        }
        for behaviour in loaded
    ]
    print_table(pa.Table.from_pylist(rows), format_name)


def prompts_check(
    behaviour: Annotated[str, typer.Argument(help="Shipped name or .toml file.")],
    model: Annotated[
        str, typer.Option(help="Directory, Hugging Face id, or embedded:NAME; only its tokenizer is read.")
    ] = "embedded:bilingual",
    format_name: FormatOption = None,
) -> None:
    """Tokenise a behaviour with a model's tokenizer; name what is wrong with it; exit code 3 when something is.

    \b
    Examples:
      atlas prompts check antonyms
      atlas prompts check mine.toml --model Qwen/Qwen3-4B
    """
    import pyarrow as pa

    from ingest.prompts.check import check_behaviour

    findings = check_behaviour(behaviour, model)
    if not findings:
        say(f"{behaviour}: every answer is one token, no leak between splits, no template gives its answer away")
        return
    print_table(pa.Table.from_pylist([{"kind": f.kind, "where": f.where, "problem": f.problem} for f in findings]), format_name)
    raise typer.Exit(3)
