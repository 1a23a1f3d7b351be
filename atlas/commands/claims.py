"""Commands on claims: published figures and their recomputation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atlas.commands.common import AtlasOption, FormatOption, OutOption, print_table, say
from atlas.find import find_atlas

VERDICTS = ("reproduced", "contradicted", "not_reproducible")


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
    verdict: Annotated[str | None, typer.Option(help="Only reproduced, contradicted or not_reproducible.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 where a verdict is not the one that the file expects.")] = False,
    format_name: FormatOption = None,
    out: OutOption = None,
) -> None:
    """Recompute every claim: reproduced, contradicted, or not reproducible from the data.

    A claim names the run it is about; those of runs that the atlas does not hold are left out.

    \b
    Examples:
      atlas claims check --atlas thesis.atlas
      atlas claims check --verdict contradicted --atlas thesis.atlas
      atlas claims check my_claims.toml --atlas my.atlas -f markdown
      atlas claims check my_claims.toml --strict > checked.csv && make paper
    """
    import pyarrow.compute as pc

    import atlas as package
    from atlas.errors import AtlasError, UsageError
    from queries.claims import check_claims

    if verdict is not None and verdict not in VERDICTS:
        raise UsageError(f"No verdict {verdict!r}.", hint=f"Verdicts: {', '.join(VERDICTS)}.")
    with package.open(find_atlas(atlas)) as reader:
        table = check_claims(reader, file)
    shown = table if verdict is None else table.filter(pc.equal(table["verdict"], verdict))
    print_table(shown, format_name, out, title="Claims")
    found = table.column("verdict").to_pylist()
    say(", ".join(f"{found.count(name)} {name.replace('_', ' ')}" for name in VERDICTS))
    unexpected = [row for row in table.to_pylist() if row["verdict"] != row["expected"]]
    for row in unexpected:
        say(f"{row['claim']}: {row['verdict']}, where the file expects {row['expected']}")
    if strict and unexpected:
        raise AtlasError(f"{len(unexpected)} of {len(found)} verdicts are not the expected ones", hint="Without --strict this ends with 0.")
