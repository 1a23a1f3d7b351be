"""Commands about labels: made by rule, written by a language model on this machine, scored one language at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atlas.commands.common import AtlasOption, interruptible, progress_bars, say
from atlas.commands.store import publish_atlas
from atlas.errors import UsageError

if TYPE_CHECKING:
    from ingest.labels.endpoint import Endpoint
    from ingest.labels.judges import Judge
    from ingest.labels.runs import Done
    from ingest.labels.source import LabelSource, Name

RunOption = Annotated[str | None, typer.Option(help="Run whose texts are read; default: the newest ingest with features.")]
FeaturesOption = Annotated[str | None, typer.Option(help="L3_F12,L4_F7, `starred`, or a file with one a line.")]
TopOption = Annotated[int | None, typer.Option(help="Instead: so many features that fire on most texts.")]
LayersOption = Annotated[str | None, typer.Option("--layers", "--layer", help="With --top: layers, e.g. 2-4 or 0,3.")]
EndpointOption = Annotated[str | None, typer.Option(help="OpenAI-compatible server on this machine, e.g. http://127.0.0.1:8080/v1.")]
RemoteOption = Annotated[bool, typer.Option("--allow-remote", help="Let texts go to a server on another machine.")]
TimeoutOption = Annotated[float, typer.Option(help="Seconds for one answer of the server.")]
RetriesOption = Annotated[int, typer.Option(help="Tries after the first, with growing pauses.")]
PerDecileOption = Annotated[int, typer.Option(help="Texts of each decile of strength, in each language.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the drawn texts.")]
AgainOption = Annotated[bool, typer.Option("--again", help="Do it anew where it is done already.")]
NoPublishOption = Annotated[bool, typer.Option("--no-publish", help="Leave atlas.duckdb as it is.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    labels = typer.Typer(help="Make, write and score labels of features.", no_args_is_help=True, rich_markup_mode=None)
    labels.callback()(_labels)
    labels.command("make")(make)
    labels.command("write")(write)
    labels.command("score")(score)
    app.add_typer(labels, name="labels")


def _labels() -> None:
    """Make, write and score labels of features."""


def make(
    atlas: AtlasOption = None,
    run: RunOption = None,
    kind: Annotated[str, typer.Option(help="mechanical: counted, without a model.")] = "mechanical",
    again: AgainOption = False,
    no_publish: NoPublishOption = False,
) -> None:
    """Label every feature of a run by what it is counted to fire on; `atlas ingest` does it by itself, imports and older runs need this.

    \b
    Examples:
      atlas labels make --atlas demo.atlas
      atlas labels make --run control
    """
    from ingest.labels.runs import make_labels

    if kind != "mechanical":
        raise UsageError(f"labels of kind {kind!r} cannot be made", hint="mechanical; `atlas labels write` asks a language model.")
    source = _source(atlas, run)
    if source.paths("feature_profile") and not again:
        say(f"run {source.run_id} has its mechanical labels already (--again counts them anew)")
        return
    with interruptible("labels make"), progress_bars() as progress:
        _report(source, make_labels(source, again=again, progress=progress), no_publish)


def write(
    model: Annotated[str, typer.Option(help="Name by which the server knows the model.")],
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible server on this machine, e.g. http://127.0.0.1:8080/v1.")],
    features: FeaturesOption = None,
    top: TopOption = None,
    layers: LayersOption = None,
    atlas: AtlasOption = None,
    run: RunOption = None,
    per_decile: PerDecileOption = 2,
    seed: SeedOption = 0,
    timeout: TimeoutOption = 120.0,
    retries: RetriesOption = 3,
    allow_remote: RemoteOption = False,
    again: AgainOption = False,
    no_publish: NoPublishOption = False,
) -> None:
    """Let a language model on this machine write labels; what it gives no usable answer for is listed by `labels/failures`.

    \b
    Examples:
      atlas labels write --endpoint http://127.0.0.1:8080/v1 --model qwen3 --top 50 --atlas demo.atlas
      atlas labels write --endpoint http://localhost:11434/v1 --model llama3 --features L3_F12,L4_F7
    """
    from ingest.labels.examples import ExampleConfig
    from ingest.labels.runs import write_labels

    server = _endpoint(endpoint, model, timeout, retries, allow_remote)
    source = _source(atlas, run)
    names = _names(source, features, top, layers)
    if names is None:
        raise UsageError("which features are to be labelled?", hint="Give --features L3_F12,L4_F7 or --top 50.")
    config = ExampleConfig(per_decile=per_decile, seed=seed, writing=True, min_texts=1)
    with interruptible("labels write"), progress_bars() as progress:
        _report(source, write_labels(source, names, server, config, again=again, progress=progress), no_publish)


def score(
    method: Annotated[str, typer.Option(help="intruder, detection, fuzzing; several with commas.")] = "intruder,detection,fuzzing",
    language: Annotated[str, typer.Option(help="Languages with commas, or all.")] = "all",
    scorer: Annotated[str, typer.Option(help="rule, local (a model by log-probability), or endpoint.")] = "rule",
    model: Annotated[
        str | None, typer.Option(help="local: directory, Hugging Face id, embedded:NAME; default: the run's own model.")
    ] = None,
    endpoint: EndpointOption = None,
    labels: Annotated[str, typer.Option(help="manual, mechanical, imported, language_model; several with commas, or all.")] = "all",
    features: FeaturesOption = None,
    top: TopOption = None,
    layers: LayersOption = None,
    atlas: AtlasOption = None,
    run: RunOption = None,
    per_decile: PerDecileOption = 2,
    seed: SeedOption = 0,
    timeout: TimeoutOption = 120.0,
    retries: RetriesOption = 3,
    allow_remote: RemoteOption = False,
    keep_examples: Annotated[
        bool | None, typer.Option("--keep-examples/--no-examples", help="Store each judged text; default: unless a rule judges.")
    ] = None,
    device: Annotated[str, typer.Option(help="local: cpu, cuda, …")] = "cpu",
    again: AgainOption = False,
    no_publish: NoPublishOption = False,
) -> None:
    """Score labels by how well they say where their feature fires, in each language apart.

    \b
    Examples:
      atlas labels score --atlas demo.atlas
      atlas labels score --scorer local --model embedded:bilingual --top 20 --method detection --language fr
      atlas labels score --scorer endpoint --endpoint http://127.0.0.1:8080/v1 --model qwen3 --labels language_model
    """
    from ingest.labels.examples import ExampleConfig
    from ingest.labels.runs import score_labels

    source = _source(atlas, run)
    methods = _listed(labels, ("manual", "mechanical", "imported", "language_model"), "--labels")
    judge = _judge(source, scorer, model, endpoint, timeout, retries, allow_remote, device)
    chosen = source.labels(methods=methods, names=_names(source, features, top, layers))
    wanted = [] if language == "all" else [part.strip() for part in language.split(",")]
    with interruptible("labels score"), progress_bars() as progress:
        done = score_labels(
            source,
            chosen,
            judge,
            ExampleConfig(per_decile=per_decile, seed=seed),
            methods=_listed(method, ("intruder", "detection", "fuzzing"), "--method"),
            languages=wanted,
            keep_examples=keep_examples,
            again=again,
            progress=progress,
        )
        _report(source, done, no_publish)


def _source(atlas: Path | None, run: str | None) -> LabelSource:
    from atlas.find import find_atlas
    from atlas.folder import Atlas
    from ingest.labels.source import LabelSource

    return LabelSource.open(Atlas(find_atlas(atlas)), run)


def _listed(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Parse a list of names; `all` is all of them."""
    if text == "all":
        return known
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if unknown := [name for name in found if name not in known]:
        raise UsageError(f"{option} {unknown[0]!r} is not one of {', '.join(known)}")
    return tuple(name for name in known if name in found)


def _names(source: LabelSource, features: str | None, top: int | None, layers: str | None) -> list[Name] | None:
    """Return the chosen features, None for all."""
    from atlas.ids import parse_feature
    from ingest.plan import parse_layers

    if features is not None and top is not None:
        raise UsageError("give --features or --top, not both")
    if top is not None:
        return source.most_active(top, parse_layers(layers) if layers else ())
    if features is None:
        return None
    if features == "starred":
        rows = source.atlas.catalogue.rows("star")
        return [(row["layer"], row["feature"]) for row in rows if row["transcoder_set"] == source.transcoder_set]
    path = Path(features)
    text = path.read_text(encoding="utf-8").replace("\n", ",") if path.is_file() else features
    names = [parse_feature(part) for part in text.split(",") if part.strip()]
    source.require(names)
    return names


def _endpoint(url: str, model: str, timeout: float, retries: int, allow_remote: bool) -> Endpoint:
    from ingest.labels.endpoint import Endpoint

    if timeout <= 0 or retries < 0:
        raise UsageError(f"--timeout {timeout:g}, --retries {retries}", hint="A timeout is above 0 seconds, retries are 0 or more.")
    return Endpoint(url, model, timeout=timeout, retries=retries, allow_remote=allow_remote)


def _judge(
    source: LabelSource,
    scorer: str,
    model: str | None,
    endpoint: str | None,
    timeout: float,
    retries: int,
    allow_remote: bool,
    device: str,
) -> Judge:
    """Return who scores."""
    from ingest.labels.judges import LocalJudge, RuleJudge

    if scorer == "rule":
        if model or endpoint:
            raise UsageError("a rule needs no --model and no --endpoint", hint="--scorer local, or --scorer endpoint.")
        return RuleJudge()
    if scorer == "endpoint":
        from ingest.labels.endpoint import EndpointJudge

        if not endpoint or not model:
            raise UsageError("--scorer endpoint needs --endpoint and --model", hint="--endpoint http://127.0.0.1:8080/v1 --model NAME.")
        return EndpointJudge(_endpoint(endpoint, model, timeout, retries, allow_remote))
    if scorer != "local":
        raise UsageError(f"--scorer {scorer!r}", hint="rule, local or endpoint.")
    from ingest.model import load_model
    from ingest.sources import resolve_source

    rows = source.table("model").to_pylist()
    if model is None and not rows:
        raise UsageError(f"run {source.run_id} does not say which model was analysed", hint="Give --model.")
    found = resolve_source(model or str(rows[0]["source"]), "model")
    return LocalJudge(load_model(found.path, device=device, name=found.name, source=found.name))


def _report(source: LabelSource, done: Done, no_publish: bool) -> None:
    """Say what was done, and publish."""
    if done.was_complete:
        say(f"run {done.run_id} is there already (--again does it anew)")
    else:
        counted = ", ".join(f"{count:,} {table}" for table, count in sorted(done.rows.items()) if count)
        say(f"run {done.run_id}: {counted or 'no rows'}")
        if failed := done.rows.get("label_failure", 0):
            say(f"{failed:,} questions had no usable answer: atlas query labels/failures")
    if not no_publish:
        publish_atlas(source.atlas.path)
