"""Commands of the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from atlas.commands.common import interruptible, progress_bars, say


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tiny = typer.Typer(help="The embedded bilingual Qwen3 and its transcoders.", no_args_is_help=True, rich_markup_mode=None)
    tiny.callback()(_tiny)
    tiny.command("train")(train)
    app.add_typer(tiny, name="tiny")


def _tiny() -> None:
    """The embedded bilingual Qwen3 and its transcoders."""


def train(
    out: Annotated[Path, typer.Argument(help="Folder for model/, transcoders/, metrics.json and SHA256SUMS.")],
    variant: Annotated[
        Literal["bilingual", "control"], typer.Option(help="bilingual, or control (no translation sentences).")
    ] = "bilingual",
    seed: Annotated[int | None, typer.Option(help="Seed; default: that of the shipped files.")] = None,
) -> None:
    """Train the embedded model and its transcoders from scratch, on the CPU, in minutes.

    \b
    Examples:
      atlas tiny train tiny
      atlas tiny train control --variant control --seed 3
    """
    from ingest.tiny.train import train as train_tiny

    with interruptible("training"), progress_bars() as progress:
        train_tiny(out, variant=variant, seed=seed, progress=progress)
    say(f"{out}: model/, transcoders/, metrics.json, SHA256SUMS")
