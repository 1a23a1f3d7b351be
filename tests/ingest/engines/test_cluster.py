"""A Ray cluster on this machine: the tables of one process, though a worker is killed; how work is handed out; Ray absent."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from atlas.check import check
from atlas.errors import UsageError
from atlas.runs import tables_equal
from ingest.engines import cluster
from ingest.plan import Plan
from ingest.plan_shards import Shard, plan_shards
from tests.ingest.engines.conftest import Start

SHARDS = plan_shards(Plan(), ["antonyms", "agreement"], dict.fromkeys(range(5), 5000))


def test_a_killed_worker_is_replaced_and_the_tables_are_those_of_one_process(
    single: tuple[Path, str], start: Start, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'feature-atlas[ray]')")
    folder, log, run = tmp_path / "ray.atlas", tmp_path / "log", single[1]
    process = start(folder, log, ["--engine", "ray", "--workers", "2"])
    deadline = time.monotonic() + 300
    while not list(folder.glob("runs/*/done/baseline.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    found = re.search(r"worker 1 of 2: process (\d+) on", log.read_text())
    assert found, log.read_text()
    os.kill(int(found[1]), signal.SIGKILL)
    assert process.wait(timeout=300) == 0, log.read_text()
    assert "a worker died" in log.read_text()
    assert tables_equal(single[0], folder, run) == []
    assert check(folder) == []
    first, second = (sorted(path.name for path in (atlas / "runs" / run / "done").iterdir()) for atlas in (single[0], folder))
    assert first == second


def test_layers_go_out_in_equal_parts_and_behaviours_one_by_one() -> None:
    def part(done: set[str], under_way: set[str], workers: int = 2) -> tuple[str, ...]:
        return cluster.next_part(SHARDS, done, under_way, workers)

    assert part(set(), set()) == ("prompts",)
    assert part(set(), {"prompts"}) == ("baseline",)
    assert part(set(), {"prompts", "baseline"}) == ()
    gate = {"prompts", "baseline"}
    assert part(gate, set()) == ("activations-L0", "activations-L1", "activations-L2")
    assert part(gate, {"activations-L0", "activations-L1", "activations-L2"}) == ("activations-L3", "activations-L4")
    layers = {f"activations-L{layer}" for layer in range(5)}
    assert part(gate, layers) == ("activations-replaced",)
    assert part(gate, {*layers, "activations-replaced"}) == ("graph-antonyms",)
    # After a loss, what is left goes out again.
    assert part({*gate, "activations-L0", "activations-L1"}, {"activations-L3", "activations-L4"}) == ("activations-L2",)


def test_every_order_of_completion_comes_to_an_end() -> None:
    done: set[str] = set()
    while part := cluster.next_part(SHARDS, done, (), 3):
        done |= set(part)
    assert done == {shard.name for shard in SHARDS}


def test_ray_that_is_absent_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="Ray, which is not installed") as caught:
        cluster._ray()
    assert "feature-atlas[ray]" in str(caught.value)


def test_needs_come_before_what_needs_them() -> None:
    seen: set[str] = set()
    for shard in SHARDS:
        assert isinstance(shard, Shard)
        assert set(shard.needs) <= seen
        assert shard.name not in seen
        seen.add(shard.name)
