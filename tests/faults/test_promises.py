"""docs/reliability.md names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))]
    assert len(rows) > 35
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, f"a promise without a test: {row}"
        for path, test in named:
            assert re.search(rf"(def|class) {test}\b", (ROOT / path).read_text(encoding="utf-8")), f"{path}::{test}"


def test_every_fault_test_stands_behind_a_promise() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests" / "faults").glob("test_*.py")):
        if path.name != Path(__file__).name:
            for test in re.findall(r"^(?:def|class) ([tT]est\w+)", path.read_text(encoding="utf-8"), re.M):
                assert f"{path.relative_to(ROOT).as_posix()}::{test}" in text, f"{test} is not in docs/reliability.md"


WRITING = {"write_bytes", "write_text", "rename", "replace", "unlink", "link", "link_to", "symlink_to", "hardlink_to", "mkdir", "rmdir"}
WRITING |= {"makedirs", "remove", "removedirs", "chmod", "touch", "copy", "copy2", "copyfile", "copytree", "move", "rmtree", "truncate"}
ALLOWED = {
    "loading.py": {"symlink_to"},  # in a temporary folder
    "maintain.py": {"rmdir"},  # of empty folders
    "places.py": {"unlink", "move"},  # the spool of an upload; on the object store
    "publish.py": {"copyfile", "rmtree"},  # the start of an incremental build; the spill folder
}
"""Calls that write, by module: none of them is a step of a commit, or decides what is visible."""


def test_one_module_writes() -> None:
    """What the harness can stop, drop and refuse is everything: other modules of the store write through atlas/files.py."""
    for path in sorted((ROOT / "atlas").glob("*.py")):
        if path.name == "files.py":
            continue
        calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        # Only of modules and paths: text has a method `replace` too.
        found = {call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in WRITING and not _is_ours(call)}
        assert found <= ALLOWED.get(path.name, set()), f"{path.name} writes by {sorted(found)}"


def _is_ours(call: ast.Attribute) -> bool:
    """Whether a call goes to atlas.files, to a place or a set, or is a text's or dataclass's `replace`."""
    owner = ast.unparse(call.value)
    return (
        owner in ("files", "files.disk", "dataclasses", "place", "self")
        or "place" in owner.split(".")
        or (call.attr == "replace" and owner != "os")
    )
