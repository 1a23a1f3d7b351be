"""Commands that run a model, or say what that would take: demo, ingest, plan, prompts."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from atlas.commands.common import FormatOption, ShardsOption, interruptible, print_table, progress_bars, say
from atlas.commands.store import publish_atlas

if TYPE_CHECKING:
    from ingest.plan import Plan
    from ingest.workshop import Workshop


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("demo")(demo)
    app.command("ingest")(ingest)
    app.command("plan")(plan_command)
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
        threading.Thread(target=_import_publishing, daemon=True).start()
        build_demo(path, progress=progress)
        publish_atlas(path, progress)
    typer.echo(headlines(path))
    say(f"\nBuilt in {time.monotonic() - started:.0f} s. Go on with:")
    say(f"  atlas tui {path}\n  atlas query --atlas {path}\n  duckdb {path}/atlas.duckdb")


def _import_publishing() -> None:
    """Import what publishing needs while other processes analyse the models: a second that would come after them."""
    import queries.effects
    import queries.iou
    import queries.scores  # noqa: F401


def _plan_of_flags(
    plan: Annotated[Path | None, typer.Argument(metavar="[PLAN.toml]", help="Plan file; flags override it.")] = None,
    model: Annotated[str | None, typer.Option(help="Directory, Hugging Face id, or embedded:NAME.")] = None,
    transcoders: Annotated[str | None, typer.Option(help="Directory or Hugging Face id.")] = None,
    behaviour: Annotated[list[str] | None, typer.Option("--behaviour", "-b", help="Shipped name or .toml file; repeatable.")] = None,
    languages: Annotated[str | None, typer.Option(help="Languages, e.g. en,fr; '' keeps all.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers, e.g. 10-25 or 0,3,5-7; default: all of the set.")] = None,
    max_concepts: Annotated[int | None, typer.Option(help="Keep about this many concepts a behaviour.")] = None,
    drop_multitoken: Annotated[
        bool | None, typer.Option("--drop-multitoken", help="Leave out prompts whose answer is not one token.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Read a corpus instead of prompts: .parquet, .jsonl, .txt, a folder, or embedded.")
    ] = None,
    corpus_tokens: Annotated[int | None, typer.Option(help="Tokens after which reading the corpus stops; 0: all.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the corpus with the text.")] = None,
    language_column: Annotated[str | None, typer.Option(help="Column of the corpus with the language.")] = None,
    until: Annotated[str | None, typer.Option(help="Last stage to run.")] = None,
    control_draws: Annotated[
        int | None, typer.Option(help="Matched random sets beside each headline intervention: n allow p-values from 1/(1+n), 100 up.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Base seed of every draw.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    gate: Annotated[float | None, typer.Option(help="Baseline accuracy below which to stop; 0 never stops.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float64 or bfloat16.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Prompts a forward pass.")] = None,
    memory_budget: Annotated[str | None, typer.Option(help="Memory for transcoders on the device, e.g. 20GB.")] = None,
) -> Plan:
    """Read a plan from its file and the flags that `ingest` and `plan` share."""
    from ingest.plan import parse_layers, read_plan

    flags: dict[str, Any] = {
        "model": model,
        "transcoders": transcoders,
        "behaviours": behaviour,
        "languages": [part.strip() for part in languages.split(",") if part.strip()] if languages is not None else None,
        "layers": parse_layers(layers) if layers is not None else None,
        "max_concepts": max_concepts,
        "drop_multitoken": drop_multitoken,
        "corpus": corpus,
        "corpus_tokens": corpus_tokens,
        "text_column": text_column,
        "language_column": language_column,
        "until": until,
        "control_draws": control_draws,
        "seed": seed,
        "name": name,
        "gate": gate,
        "dtype": dtype,
        "device": device,
        "batch_size": batch_size,
        "memory_budget": memory_budget,
    }
    return read_plan(plan, **flags)


def _with_plan_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first parameter is a Plan, the flags that make one in its place."""
    own, shared = _parameters(command)[1:], _parameters(_plan_of_flags)

    def run(**values: Any) -> None:
        flags = {parameter.name: values.pop(parameter.name) for parameter in shared}
        command(_plan_of_flags(**flags), **values)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature([*shared, *own])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*shared, *own)}
    return run


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return a function's parameters with their annotations as objects: Typer resolves no names for a made signature."""
    hints = get_type_hints(function, localns={"Plan": Any}, include_extras=True)
    return [parameter.replace(annotation=hints[name]) for name, parameter in inspect.signature(function).parameters.items()]


@_with_plan_flags
def ingest(
    plan: Plan,
    atlas: Annotated[Path, typer.Option("--atlas", "-a", metavar="DIR", help="Folder of the atlas; made if absent.")] = Path("my.atlas"),
    again: Annotated[bool, typer.Option("--again", help="Run a complete plan once more, as a further attempt.")] = False,
    engine: Annotated[str, typer.Option(help="local: this process; ray: a Ray cluster, a worker per GPU or CPU.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Workers of --engine ray; default: one per GPU, or CPU.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, e.g. auto or ray://head:10001; default: $RAY_ADDRESS, else one on this machine.")
    ] = None,
    shard_of: Annotated[
        str | None,
        typer.Option("--shard-of", metavar="I/N", help="One of N processes on one folder, I from 0; auto: Slurm array or torchrun."),
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Compute nothing: show the run if all its shards are committed.")] = False,
    incremental: Annotated[bool, typer.Option("--incremental", help="Publish by adding new runs to a copy of the published file.")] = False,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Leave atlas.duckdb as it is.")] = False,
    shards: ShardsOption = None,
) -> None:
    """Run prompts through a model with transcoders: activations, graph, interventions, circuits; then publish.

    A plan that is complete does nothing; one that was stopped goes on where it stopped, shard by shard (`atlas plan --list-shards`).
    With --corpus, a corpus is read instead, as a run of its own: what each feature fires on, by language. Several machines give the
    same tables as one: with Ray, or with --shard-of in a Slurm array (docs/scale.md).

    \b
    Examples:
      atlas ingest --atlas my.atlas --behaviour antonyms
      atlas ingest plan.toml --atlas my.atlas --seed 1
      atlas ingest --corpus news.parquet --corpus-tokens 1000000 --languages "" --atlas my.atlas
      atlas ingest --model Qwen/Qwen3-4B --transcoders mwhanna/qwen3-4b-transcoders \\
          --behaviour antonyms_qwen --layers 10-25 --device cuda --dtype bfloat16 --atlas qwen.atlas
      atlas ingest qwen.toml --atlas /shared/qwen.atlas --engine ray --address auto
      sbatch --array=0-7 --gpus=1 --wrap "atlas ingest qwen.toml --atlas /shared/qwen.atlas --shard-of auto"
    A plan file holds the same names:
      model = "embedded:bilingual"
      behaviours = ["antonyms", "agreement"]
      layers = "1-5"
    """
    from ingest.pipeline import run_plan

    with interruptible("ingest"), progress_bars() as progress:
        chosen = _engine(engine, workers, address, shard_of, finish=finish, again=again)
        outcome = run_plan(atlas, plan, again=again, engine=chosen, shards=shards, progress=progress, narrate=say)
        if outcome.was_complete:
            state = "was complete"
        else:
            state = "is complete" if outcome.finished_here else "is complete; another process of it has shown it"
        say(f"run {outcome.run_id} ({plan.title}) {state}")
        if not no_publish and (outcome.finished_here or not shard_of):
            publish_atlas(atlas, progress, incremental=incremental)


def _engine(
    engine: str, workers: int | None, address: str | None, shard_of: str | None, *, finish: bool, again: bool
) -> Callable[[Workshop], None]:
    """Choose who computes the shards.

    Raises:
        UsageError: flags that exclude each other, an unknown engine, a wrong --shard-of.
    """
    import os

    from atlas.errors import UsageError
    from ingest.engines import alone, together

    if engine not in ("local", "ray"):
        raise UsageError(f"--engine is {engine!r}.", hint="One of: local, ray.")
    if engine != "ray" and (workers is not None or address is not None):
        raise UsageError("--workers and --address speak of a Ray cluster.", hint="Give --engine ray, or leave them out.")
    if sum((engine == "ray", shard_of is not None, finish)) > 1:
        raise UsageError("--engine ray, --shard-of and --finish exclude each other.", hint="Give one of them.")
    if shard_of is not None and again:
        raise UsageError(
            "--again with --shard-of: a process that starts late would begin one more attempt.", hint="Run it in one process, or with Ray."
        )
    if finish:
        return lambda _: None
    if shard_of is not None:
        return together(shard_of, os.environ)
    if engine == "ray":
        from ingest.engines.cluster import Cluster

        return Cluster(workers, address, say)
    return alone


@_with_plan_flags
def plan_command(
    plan: Plan,
    atlas: Annotated[Path, typer.Option("--atlas", "-a", metavar="DIR", help="Folder the atlas would stand in.")] = Path("my.atlas"),
    active: Annotated[
        int | None, typer.Option(help="Active features a token and layer; default: measured on a small model, else assumed.")
    ] = None,
    assume_tflops: Annotated[
        float | None, typer.Option(help="Matrix-product rate of another machine (10^12 FLOP/s), in place of measuring this one.")
    ] = None,
    assume_memory: Annotated[str | None, typer.Option(help="Memory of that machine's device, e.g. 24GB.")] = None,
    list_shards: Annotated[
        bool,
        typer.Option("--list-shards", help="List the shards instead of the stages: what can be computed apart, and what it waits for."),
    ] = False,
    format_name: FormatOption = None,
) -> None:
    """Say what `ingest` with the same flags would take, stage by stage: time, memory, rows, bytes. Runs nothing, loads no large weights.

    Rates are measured on this machine in a few seconds; shapes come from config.json and file headers. Exit code 3 or 6 when it cannot fit.

    \b
    Examples:
      atlas plan --behaviour antonyms
      atlas plan plan.toml --device cuda
      atlas plan --model ./Qwen3-4B --transcoders ./qwen3-4b-transcoders -b antonyms_qwen --layers 10-25 --device cuda \\
          --dtype bfloat16 --memory-budget 8GB
      atlas plan plan.toml --device cuda --assume-tflops 60 --assume-memory 24GB
      atlas plan plan.toml --list-shards
    """
    import pyarrow as pa

    from atlas.errors import UsageError
    from ingest.estimate import estimate
    from ingest.workshop import parse_bytes

    if assume_memory is not None and assume_tflops is None:
        raise UsageError("--assume-memory speaks of another machine, whose rate is not given.", hint="Give --assume-tflops too.")
    found = estimate(
        plan, atlas, active=active, tflops=assume_tflops, device_memory=None if assume_memory is None else parse_bytes(assume_memory)
    )
    for line in found.narration():
        say(line)
    print_table(pa.Table.from_pylist(found.shard_rows() if list_shards else found.rows()), format_name)
    found.refuse()


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
