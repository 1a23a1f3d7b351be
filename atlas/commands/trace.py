"""The command that traces one prompt: its attribution graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import interruptible, progress_bars, say
from atlas.commands.store import publish_atlas


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("trace")(trace)


def trace(
    model: Annotated[str, typer.Option(help="Directory, Hugging Face id, or embedded:NAME.")] = "embedded:bilingual",
    transcoders: Annotated[str | None, typer.Option(help="Directory or Hugging Face id; default: the embedded model's own.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Text; a BOS or end-of-text token is put before it.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Token ids as they are, e.g. 0,5,17.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=".json (circuit-tracer, Neuronpedia) or .npz (arrays).")] = None,
    atlas: Annotated[Path | None, typer.Option("--atlas", "-a", metavar="DIR", help="Put the graph into this atlas as a run.")] = None,
    language: Annotated[str, typer.Option(help="Language of the prompt, for the atlas.")] = "und",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    node_threshold: Annotated[float, typer.Option(help="Share of influence that kept nodes hold.")] = 0.8,
    edge_threshold: Annotated[float, typer.Option(help="Share of edge score that kept edges hold.")] = 0.98,
    max_logits: Annotated[int, typer.Option(help="Logit nodes at most.")] = 10,
    logit_probability: Annotated[float, typer.Option(help="Probability that logit nodes cover.")] = 0.95,
    max_feature_nodes: Annotated[int | None, typer.Option(help="Attributed features at most; default: all active.")] = None,
    memory_budget: Annotated[str, typer.Option(help="Memory for transcoder matrices, e.g. 20GB.")] = "2GiB",
    no_prepend: Annotated[bool, typer.Option("--no-prepend", help="Put no token before the text.")] = False,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="With --atlas: leave atlas.duckdb as it is.")] = False,
) -> None:
    """Compute the attribution graph of one prompt: to a file, into an atlas, or just its summary.

    \b
    Examples:
      atlas trace --prompt "The opposite of the word hot is" --out hot.json
      atlas trace --prompt "Le contraire exact du mot chaud est" --language fr --atlas demo.atlas
      atlas trace --model ./model --transcoders ./transcoders --tokens 0,5,17 --dtype float64 --out graph.npz
    """
    from atlas.errors import UsageError
    from ingest.sources import resolve_source
    from ingest.trace import parse_tokens
    from ingest.trace import trace as run_trace
    from ingest.workshop import parse_bytes

    if transcoders is None and not model.startswith("embedded:"):
        raise UsageError(f"Model {model!r} has no transcoders.", hint="Give --transcoders: a directory or a Hugging Face id.")
    sources = {"model": resolve_source(model, "model"), "transcoders": resolve_source(transcoders or model, "transcoders")}
    with interruptible("trace"), progress_bars() as progress:
        traced = run_trace(
            sources["model"].path,
            sources["transcoders"].path,
            prompt=prompt,
            tokens=None if tokens is None else parse_tokens(tokens),
            out=out,
            dtype=dtype,
            device=device,
            node_threshold=node_threshold,
            edge_threshold=edge_threshold,
            max_n_logits=max_logits,
            logit_probability=logit_probability,
            max_feature_nodes=max_feature_nodes,
            prepend=not no_prepend,
            memory_budget=parse_bytes(memory_budget),
            progress=lambda done, total: progress("attribution", done, total),
        )
        say(traced.summary())
        if out is not None:
            say(f"written: {out}")
        if atlas is not None:
            from ingest.trace_run import commit_trace

            say(f"run {commit_trace(atlas, traced, sources, language)}")
            if not no_publish:
                publish_atlas(atlas, progress)
