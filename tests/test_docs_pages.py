"""The generated pages of docs/ say what the code says; `make docs` writes them anew.

docs/queries.md has its own test. docs/cli.md depends on the version of typer: `make check` compares it, with the pinned one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    specification = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["schema.md", "tui-keys.md"])
def test_generated_page_is_up_to_date(build: ModuleType, name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == build.PAGES[name](), "run `make docs`"


def test_every_command_is_on_the_page_with_an_example(build: ModuleType) -> None:
    page = build.cli_page()
    for command in ("export figure", "export graph", "export paper", "claims check", "repair", "compact", "gc", "query"):
        section = page.split(f"## atlas {command}\n")[1].split("\n## ")[0]
        assert "Examples:" in section
        assert f"atlas {command}" in section.split("Examples:")[1]
