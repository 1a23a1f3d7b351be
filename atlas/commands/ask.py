"""Commands that ask the model of an atlas something now: ask-text, steer, ask."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atlas.commands.common import FormatOption, OutOption, interruptible, print_table, progress_bars, say
from atlas.commands.store import publish_atlas

if TYPE_CHECKING:
    from atlas.export.provenance import Provenance
    from ingest.ask.session import Session

AskAtlas = Annotated[
    Path | None,
    typer.Option("--atlas", "-a", metavar="DIR", help="Folder of the atlas; default: $ATLAS, else the one here, else none with --model."),
]
RunOption = Annotated[str | None, typer.Option(help="Run whose model is asked; default: the newest ingest with features.")]
ModelOption = Annotated[str | None, typer.Option(help="Directory, Hugging Face id, or embedded:NAME; default: the run's.")]
TranscodersOption = Annotated[str | None, typer.Option(help="Directory or Hugging Face id; default: the run's, or the model's own.")]
LayersOption = Annotated[str | None, typer.Option("--layers", "--layer", help="Layers, e.g. 2-4 or 0,3; default: all of the run.")]
DtypeOption = Annotated[str | None, typer.Option(help="float32, float64 or bfloat16; default: the run's.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")]
MemoryOption = Annotated[str, typer.Option(help="Memory for transcoder matrices, e.g. 20GB.")]
NoPrependOption = Annotated[bool, typer.Option("--no-prepend", help="Put no token before the text.")]
ChatOption = Annotated[bool, typer.Option("--chat", help="The text is a user's message in the tokenizer's chat template.")]
SystemOption = Annotated[str | None, typer.Option(help="With --chat: the system message.")]
KeepOption = Annotated[bool, typer.Option("--keep", help="Put the answer into the atlas as a run, and publish.")]
LanguageOption = Annotated[
    list[str] | None, typer.Option("--language", help="With --keep: language of the text; twice with --against or several texts.")
]
NoPublishOption = Annotated[bool, typer.Option("--no-publish", help="With --keep: leave atlas.duckdb as it is.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ask-text")(ask_text)
    app.command("steer")(steer)
    app.command("ask")(ask)


def _session(
    atlas: Path | None,
    run: str | None,
    model: str | None,
    transcoders: str | None,
    layers: str | None,
    dtype: str | None,
    device: str,
    memory_budget: str,
    no_prepend: bool,
) -> Session:
    """Open a session on the atlas that is meant; with --model none is needed."""
    from atlas.errors import AtlasError
    from atlas.find import find_atlas

    folder: Path | None = None
    try:
        folder = find_atlas(atlas)
    except AtlasError:
        if model is None or atlas is not None:
            raise
    from ingest.ask.session import Session
    from ingest.plan import parse_layers

    return Session.open(
        folder,
        run=run,
        model=model,
        transcoders=transcoders,
        layers=None if layers is None else parse_layers(layers),
        dtype=dtype,
        device=device,
        memory_budget=memory_budget,
        prepend=not no_prepend,
    )


def ask_text(
    text: Annotated[str | None, typer.Argument(help="What the model reads; - reads it from standard input.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Read the text from this file.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of the file or of standard input is a text of its own.")] = False,
    against: Annotated[str | None, typer.Option(help="A second text beside it: features on both, only here, only there.")] = None,
    atlas: AskAtlas = None,
    run: RunOption = None,
    model: ModelOption = None,
    transcoders: TranscodersOption = None,
    layers: LayersOption = None,
    position: Annotated[str | None, typer.Option(help="Positions, e.g. 3, 3-5 or 2,-1; 0 is the prepended token.")] = None,
    token: Annotated[str | None, typer.Option(help="Only tokens with this text.")] = None,
    min_value: Annotated[float, typer.Option(help="Smallest activation.")] = 0.0,
    density: Annotated[str | None, typer.Option(help="Largest density, or a comparison: 0.05, >0.01.")] = None,
    score: Annotated[list[str] | None, typer.Option("--score", help="A comparison of a language score, e.g. lape<0.5; repeatable.")] = None,
    filter_text: Annotated[str, typer.Option("--filter", help='Expression over all columns: layer>=2 and label~"hot".')] = "",
    top: Annotated[int, typer.Option(help="Strongest features a token (with --whole: a text; with --against: a group); 0: all.")] = 10,
    by: Annotated[str, typer.Option(help="Column that ranks: activation, relative, or a score.")] = "activation",
    whole: Annotated[bool, typer.Option("--whole", help="One row a feature over the whole text instead of one a token.")] = False,
    sinks: Annotated[bool, typer.Option("--sinks", help="Show the attention sink (position 0) too.")] = False,
    columns: Annotated[str | None, typer.Option(help="Columns, joined by commas; all: every one.")] = None,
    chat: ChatOption = False,
    system: SystemOption = None,
    keep: KeepOption = False,
    language: LanguageOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "cpu",
    memory_budget: MemoryOption = "",
    no_prepend: NoPrependOption = False,
    no_publish: NoPublishOption = False,
    format_name: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Show which features fire on a text of your own, over the whole dictionary, with what the atlas knows of them.

    The model is the one of the newest ingest of the atlas. Two texts side by side with --against.

    \b
    Examples:
      atlas ask-text "Le contraire de « chaud » est"
      atlas ask-text "Le contraire de chaud est" --against "The opposite of hot is" --layers 2-4
      atlas ask-text "The opposite of hot is" --token hot --score "lape<0.5" --density 0.05 -f csv > hot.csv
      atlas ask-text --file letter.txt --whole --top 50 --keep --language en
      cat sentences.txt | atlas ask-text - --lines -f jsonl
    """
    from ingest.ask.cards import Asking, parse_positions
    from ingest.plan import parse_layers

    texts = _texts(text, file, lines)
    asking = Asking(
        layers=None if layers is None else parse_layers(layers),
        positions=None if position is None else parse_positions(position),
        token=token,
        min_value=min_value,
        filter=_expression(density, score or [], filter_text),
        top=top,
        by=by,
        whole=whole,
        sinks=sinks,
    )
    with (
        interruptible("ask-text"),
        progress_bars() as progress,
        _session(atlas, run, model, transcoders, layers, dtype, device, memory_budget, no_prepend) as session,
    ):
        asked = session.ask(
            texts if len(texts) > 1 else texts[0],
            against=against,
            asking=asking,
            columns=None if columns is None else [name.strip() for name in columns.split(",")],
            chat=chat,
            system=system,
            progress=progress,
        )
        about = {"text": "\n".join(texts), "against": against, "filter": asking.filter or None, "layers": layers}
        print_table(asked.arrow(), format_name, out, title="Features that fire", provenance=_provenance(session, "ask-text", about))
        for sentence in asked.sentences():
            say(sentence)
        if keep:
            _keep(session, session.keep(asked, languages=language or ["und"]), no_publish)


def steer(
    prompt: Annotated[str, typer.Option(help="Text that the model goes on from; - reads it from standard input.")],
    set_: Annotated[
        list[str], typer.Option("--set", metavar="CHANGE", help="L20_F1454=3x, =0, =4.5, =+2, =+2sd, or L1_F2<->L1_F7; repeatable.")
    ],
    strengths: Annotated[str | None, typer.Option(help="Values in place of those of --set, one after the other: 0,1,2,4.")] = None,
    positions: Annotated[str, typer.Option(help="Edited positions: all, prompt, decision, last, new, or 3,5,-1.")] = "all",
    max_new_tokens: Annotated[int, typer.Option(help="New tokens.")] = 20,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    samples: Annotated[int, typer.Option(help="Continuations, with --temperature.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the samples; every strength gets the same random numbers.")] = 0,
    answer: Annotated[
        list[str] | None, typer.Option("--answer", help='Answer to score, with its leading space; repeatable: --answer " cold".')
    ] = None,
    top: Annotated[int, typer.Option(help="Tokens that gain, tokens that lose, and features that move, to show.")] = 10,
    show: Annotated[
        str, typer.Option(help="Table for formats other than `table`: continuations, answers, effects, tokens, features.")
    ] = "continuations",
    atlas: AskAtlas = None,
    run: RunOption = None,
    model: ModelOption = None,
    transcoders: TranscodersOption = None,
    layers: LayersOption = None,
    chat: ChatOption = False,
    system: SystemOption = None,
    keep: KeepOption = False,
    language: LanguageOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "cpu",
    memory_budget: MemoryOption = "",
    no_prepend: NoPrependOption = False,
    no_publish: NoPublishOption = False,
    format_name: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Change features and see how the model goes on, beside how it does unedited.

    Prints continuations, log-probabilities of answers, the change of the next token's distribution (KL in nats) and the later
    features that move most. The edit goes to the MLP's output, so that the reconstruction error stays.

    \b
    Examples:
      atlas steer --set L3_F139=3x --prompt "Le contraire de « chaud » est"
      atlas steer --set L3_F139 --strengths 0,1,2,4 --prompt "The opposite of hot is" --answer " cold" --answer " hot"
      atlas steer --set L2_F45=0 --set L4_F10=+2.5 --positions last --temperature 0.8 --samples 3 --seed 1 --prompt "Le mot"
      atlas steer --set "L1_F2<->L1_F7" --prompt "The opposite of hot is" --show features -f csv
    """
    from atlas.errors import UsageError
    from ingest.ask.change import parse_changes, parse_strengths
    from ingest.ask.generation import Sampling
    from ingest.ask.results import parts

    parse_changes(set_)
    sampling = Sampling(max_new_tokens, temperature, samples, seed)
    values = None if strengths is None else parse_strengths(strengths)
    with (
        interruptible("steer"),
        progress_bars() as progress,
        _session(atlas, run, model, transcoders, layers, dtype, device, memory_budget, no_prepend) as session,
    ):
        result = session.steer(
            _texts(prompt, None, False)[0],
            set_,
            positions=positions,
            strengths=values,
            sampling=sampling,
            answers=answer or [],
            top=top,
            chat=chat,
            system=system,
            progress=progress,
        )
        tables = parts(result)
        if out is None and (format_name == "table" or (format_name is None and sys.stdout.isatty())):
            for part in tables:
                typer.echo(f"\n{part.title}")
                print_table(part.table, "table")
        else:
            chosen = next((part for part in tables if part.name == show), None)
            if chosen is None:
                raise UsageError(f"there is no table {show!r}", hint=f"One of {', '.join(part.name for part in tables)}.")
            about = {"prompt": prompt, "set": " ".join(set_), "strengths": strengths, "positions": positions, "seed": seed}
            print_table(chosen.table, format_name, out, title=chosen.title, provenance=_provenance(session, "steer", about))
        for note in result.steered.notes:
            say(note)
        if keep:
            _keep(session, session.keep(result, languages=language or ["und"]), no_publish)


def ask(
    atlas: AskAtlas = None,
    run: RunOption = None,
    model: ModelOption = None,
    transcoders: TranscodersOption = None,
    layers: LayersOption = None,
    dtype: DtypeOption = None,
    device: DeviceOption = "cpu",
    memory_budget: MemoryOption = "",
    no_prepend: NoPrependOption = False,
) -> None:
    """Open a session: the model is loaded once, then each line is a text or a command (help lists them).

    \b
    Examples:
      atlas ask
      atlas ask --atlas qwen.atlas --device cuda --layers 10-25
      echo "The opposite of hot is" | atlas ask --atlas demo.atlas
    In it:
      ask> Le contraire de « chaud » est
      ask> against The opposite of hot is
      ask> set L3_F139=3x
      ask> steer
    """
    from ingest.ask.console import AskConsole

    if sys.stdin.isatty():
        import contextlib

        with contextlib.suppress(ImportError):  # line editing and history, where the platform has them
            import readline  # noqa: F401
    with _session(atlas, run, model, transcoders, layers, dtype, device, memory_budget, no_prepend) as session:
        console = AskConsole(session, show=lambda table: print_table(table, "table"), say=say, publish=publish_atlas)
        if not sys.stdin.isatty():
            console.use_rawinput, console.prompt = False, ""
        console.run()


def _texts(text: str | None, file: Path | None, lines: bool) -> list[str]:
    """Return the texts that are meant.

    Raises:
        UsageError: none, or both a text and a file.
        InputError: a file that is not there or no UTF-8.
    """
    from atlas.errors import InputError, UsageError

    if (text is None) == (file is None):
        raise UsageError("give either a text or --file", hint='atlas ask-text "The opposite of hot is"')
    if file is not None:
        try:
            whole = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {file}: {error}", hint="Give a text file in UTF-8.") from error
    else:
        whole = sys.stdin.read() if text == "-" else str(text)
    if lines:
        found = [line for line in whole.splitlines() if line.strip()]
        if not found:
            raise UsageError("there is no line with a text")
        return found
    return [whole.rstrip("\n") if file is not None or text == "-" else whole]


def _expression(density: str | None, scores: list[str], filter_text: str) -> str:
    """Join the filters of the command line into one expression."""
    parts = [f"({filter_text})"] if filter_text.strip() else []
    if density is not None:
        text = density.strip()
        parts.append(f"density {text if text[:1] in '<>=!' else '<= ' + text}")
    return " and ".join([*parts, *(f"({score})" for score in scores)])


def _provenance(session: Session, command: str, about: Mapping[str, Any]) -> Provenance:
    from atlas.export.provenance import Provenance

    runs = [session.opened.run] if session.opened.run else []
    given = {name: value for name, value in about.items() if value is not None}
    reader = session.reader
    if reader is None:
        return Provenance(command, None, given, runs)
    return Provenance(command, None, given, runs, reader.manifest, reader.manifest_hash)


def _keep(session: Session, run: str, no_publish: bool) -> None:
    """Say where an answer is kept, and publish."""
    say(f"run {run}")
    if not no_publish and session.reader is not None:
        publish_atlas(session.reader.path)
