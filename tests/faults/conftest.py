"""Fixtures of the fault harness: the store's template atlas, and a process whose children are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.atlas.conftest import template

__all__ = ["Zygote", "template", "zygote"]
ROOT = Path(__file__).parents[2]


class Zygote:
    """Talks to tests.faults.zygote."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def do(self, work: str, path: Path, seed: int = 1, **kill: Any) -> dict[str, Any]:
        """Do one thing, perhaps killed; returns how it ended."""
        answer: dict[str, Any] = self._ask({"work": work, "path": str(path), "seed": seed, **kill})
        return answer

    def together(self, path: Path, *orders: tuple[str, int]) -> list[dict[str, Any]]:
        """Do many things at once; returns how each ended."""
        answers: list[dict[str, Any]] = self._ask({"together": [{"work": work, "path": str(path), "seed": seed} for work, seed in orders]})
        return answers

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.stdout is not None
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()
