"""The `atlas` command: a thin front door; every command imports what it needs when it runs.

Exit codes stand in `atlas/errors.py`; stdout is data, stderr is narration.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from atlas import __version__
from atlas.commands import ask, claims, compare, exchange, ingest, labels, read, store, tiny, trace
from atlas.errors import AtlasError

app = typer.Typer(
    name="atlas",
    help="Ask a language model's features questions: in SQL, in a terminal, and in a paper.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atlas {__version__}")
        raise typer.Exit


@app.callback(epilog="Start with `atlas demo`. Every command shows examples under --help.")
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Ask a language model's features questions: in SQL, in a terminal, and in a paper."""


for module in (ingest, trace, ask, store, read, exchange, claims, tiny, labels, compare):
    module.register(app)


def main() -> None:
    """Run the command line and turn an error into one message and an exit code."""
    try:
        app()
    except AtlasError as error:
        typer.echo(f"atlas: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe left (`atlas sql … | head`): that is no error of ours.
        _forget_output()
        sys.exit(0)
    except OSError as error:
        typer.echo(f"atlas: {error.filename or 'cannot write the answer'}: {error.strerror or error}", err=True)
        _forget_output()
        sys.exit(AtlasError.exit_code)


def _forget_output() -> None:
    """Let what stdout still holds go nowhere: it cannot be written, and Python would say so once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
