"""Who may import whom, and what stays out of a quick start (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("atlas", "ingest", "queries", "tui")
ALLOWED = {
    "atlas": {"atlas"},
    "queries": {"atlas", "queries"},
    "tui": {"atlas", "queries", "tui"},
    "ingest": {"atlas", "ingest"},
}
HEAVY = {"torch", "transformers", "networkx"}
HEAVY_AT_START = ("torch", "transformers", "networkx", "duckdb", "pyarrow", "polars", "sqlmodel", "textual", "numpy")


def imports(path: Path, *, lazy: bool) -> set[str]:
    """Top-level packages that a file imports; with `lazy` also those inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    type_checking = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
        if child is not node
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in type_checking or (not lazy and node in inside):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    front_door = {ROOT / "atlas" / "__init__.py", ROOT / "atlas" / "cli.py", *(ROOT / "atlas" / "commands").glob("*.py")}
    for path in files(package):
        foreign = imports(path, lazy=path not in front_door) & set(PACKAGES) - ALLOWED[package]
        assert not foreign, f"{path.relative_to(ROOT)} imports {', '.join(sorted(foreign))}"


@pytest.mark.parametrize("package", ["atlas", "queries", "tui"])
def test_torch_and_its_kin_stay_in_ingest(package: str) -> None:
    for path in files(package):
        heavy = imports(path, lazy=path.parts[-2] != "export") & HEAVY
        assert not heavy, f"{path.relative_to(ROOT)} imports {', '.join(sorted(heavy))}"


def test_textual_stays_in_the_terminal_browser() -> None:
    for package in ("atlas", "queries", "ingest"):
        for path in files(package):
            assert "textual" not in imports(path, lazy=True), path.relative_to(ROOT)


@pytest.mark.parametrize("command", [["--help"], ["query", "--help"], ["ingest", "--help"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    script = "import sys; sys.argv = ['atlas', *sys.argv[1:]]\nfrom atlas.cli import app\ntry:\n    app()\nexcept SystemExit:\n    pass\n"
    script += f"print(sorted(set({HEAVY_AT_START!r}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "Examples:" in result.stdout or command == ["--help"]


def test_the_terminal_browser_starts_without_what_it_does_not_need() -> None:
    script = "import sys, tui.app\nprint(sorted({'torch', 'transformers', 'networkx', 'polars', 'sqlmodel', 'ingest'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
