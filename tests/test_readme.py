"""The README shows what the demo printed: no placeholder is left, and every page it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_placeholder_is_left() -> None:
    assert "@@" not in TEXT


def test_every_page_and_picture_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_headlines_are_those_of_the_command(demo_atlas: Path) -> None:
    from atlas.commands.headlines import headlines

    titles = [block.splitlines()[0] for block in headlines(demo_atlas).split("\n\n")]
    assert all(title in TEXT for title in titles)
