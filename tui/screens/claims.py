"""Claims: published figures beside recomputed ones, and the question behind each.

In: table `claim`. Out: a link to the question with its parameters.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from textual.binding import BindingType

from tui.columns import Column
from tui.data import Statement
from tui.screens.base import bindings_of
from tui.screens.ledger import LedgerScreen, Part
from tui.text import fit, safe
from tui.widgets.line_view import Line, Link, Section, text_line

VERDICT = {"reproduced": "positive", "contradicted": "negative"}


class ClaimsScreen(LedgerScreen):
    """All claims."""

    NAME = "claims"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of("claims")
    PARTS = (
        Part(
            "claims",
            "Claims",
            "provenance/claims",
            columns=(
                Column("claim_id", "claim", "text", 26),
                Column("published", "published", "text", 12),
                Column("recomputed", "recomputed", "text", 12),
                Column("verdict", "verdict", "text", 16),
                Column("statement", "in words", "text", 60),
            ),
        ),
    )

    async def detail(self, row: Mapping[str, Any]) -> tuple[list[Section], list[Statement]]:
        """Return a claim in full."""
        lines = [text_line(str(row["statement"]), "strong")]
        for name in ("published", "recomputed", "tolerance", "source", "run_name", "parameters", "note"):
            if row.get(name) is not None:
                lines.append(Line(((fit(name.replace("_", " "), 12), "dim"), (safe(str(row[name])), ""))))
        lines.append(Line(((fit("verdict", 12), "dim"), (str(row["verdict"]).replace("_", " "), VERDICT.get(row["verdict"], "")))))
        link = Link("go_queries", {"question": row["query"]})
        lines.append(Line(((fit("question", 12), "dim"), (safe(str(row["query"])), "link")), link))
        return [Section(safe(str(row["claim_id"])), tuple(lines), "enter opens the question")], []

    async def do_open(self) -> None:
        """Open the question that recomputes the claim, with its parameters."""
        row = self.here
        if row is None:
            return
        arguments: dict[str, Any] = {"question": row["query"]}
        try:
            parameters = json.loads(row["parameters"]) if row["parameters"] else {}
        except ValueError:
            parameters = {}
        if isinstance(parameters, dict) and parameters:
            arguments["parameters"] = parameters
        await self.browser.perform("go_queries", **arguments)


SCREEN = ClaimsScreen
