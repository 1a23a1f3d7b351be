"""Commands on claims: published figures and their recomputation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import AtlasOption, FormatOption, find_atlas, print_table, say


def register(app: typer.Typer) -> None:
    """Add the commands."""
    claims = typer.Typer(help="Check published figures against the atlas.", no_args_is_help=True, rich_markup_mode=None)
    claims.callback()(_claims)
    claims.command("check")(check)
    app.add_typer(claims, name="claims")


def _claims() -> None:
    """Check published figures against the atlas."""


def check(
    file: Annotated[Path | None, typer.Argument(help="Claims file (TOML); default: all that ship.")] = None,
    atlas: AtlasOption = None,
    format_name: FormatOption = None,
) -> None:
    """Recompute every claim: reproduced, contradicted, or not reproducible from the data.

    \b
    Examples:
      atlas claims check --atlas thesis.atlas
      atlas claims check my_claims.toml --atlas my.atlas -f markdown
    """
    import atlas as package
    from queries.claims import check_claims

    with package.open(find_atlas(atlas)) as reader:
        table = check_claims(reader, file)
    print_table(table, format_name)
    verdicts = table.column("verdict").to_pylist()
    say(", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)))
