"""docs/reliability.md names tests that exist."""

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
