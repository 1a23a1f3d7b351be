"""Commands that take in and give out: import, export."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
