"""Several processes on one folder: the same tables as one; shares, claims and what is left of a process that is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.check import check
from atlas.errors import StoreError, UsageError
from atlas.folder import Atlas
from atlas.runs import tables_equal, unfinished_runs
from atlas.shards import RunWriter
from ingest.engines import Together, together
from ingest.engines.alone import compute
from ingest.engines.together import claimed
from ingest.job import prepare
from ingest.pipeline import run_plan
from ingest.plan import Plan
from ingest.plan_shards import Shard
from ingest.workshop import Workshop
from tests.ingest.engines.conftest import Start


def test_two_processes_give_the_tables_of_one(single: tuple[Path, str], start: Start, tmp_path: Path) -> None:
    folder, run = tmp_path / "two.atlas", single[1]
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    processes = [
        start(folder, logs[0], ["--shard-of", "0/2"]),
        start(folder, logs[1], ["--shard-of", "auto"], SLURM_ARRAY_TASK_ID="1", SLURM_ARRAY_TASK_COUNT="2"),
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0], "".join(log.read_text() for log in logs)
    assert tables_equal(single[0], folder, run) == []
    assert check(folder) == []
    said = [log.read_text() for log in logs]
    assert sum("another process of it has shown it" in text or "was complete" in text for text in said) == 1
    assert not (folder / "runs" / run / "scratch").exists()


def test_what_a_stopped_process_leaves_is_listed_and_done_by_another(single: tuple[Path, str], small_plan: Plan, tmp_path: Path) -> None:
    folder, run = tmp_path / "stopped.atlas", single[1]

    def stopped(shop: Workshop) -> None:
        for shard in shop.shards[:3]:
            list(compute(shop, [shard]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(folder, small_plan, engine=stopped)
    (row,) = unfinished_runs(folder).to_pylist()
    assert (row["run_id"], row["name"], row["done"], row["shards"]) == (run, "antonyms on embedded:bilingual", 3, 9)
    with pytest.raises(StoreError, match=r"6 of 9 shards of run \w+ are not committed"):
        run_plan(folder, small_plan, engine=lambda _: None)
    assert run_plan(folder, small_plan, engine=Together(0, 2)).finished_here
    assert tables_equal(single[0], folder, run) == []
    assert unfinished_runs(folder).num_rows == 0


@pytest.fixture
def shop(small_plan: Plan, tmp_path: Path) -> Workshop:
    """A workshop of a run that has just begun."""
    job = prepare(small_plan)
    return Workshop(job, RunWriter(Atlas.create(tmp_path / "new.atlas"), job.identity, job.run_id))


def test_what_one_claims_another_does_not_get(shop: Workshop) -> None:
    some, others = list(shop.shards[:2]), list(shop.shards[1:3])
    with claimed(shop, some) as first, claimed(shop, others) as second:
        assert first == some
        assert second == others[1:]
    with claimed(shop, others) as later:
        assert later == others


def test_the_own_share_comes_first_and_nothing_is_left_to_nobody(shop: Workshop) -> None:
    waiting = [shard for shard in shop.shards if shard.kind in ("prompts", "baseline", "neighbours")]
    shares = list(Together(1, 2)._shares(shop, waiting))
    assert [[shard.name for shard in share] for share in shares] == [["neighbours-L4-5"], *([shard.name] for shard in waiting)]
    tried: set[Shard] = {shard for share in shares for shard in share}
    assert tried == set(waiting)


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("0/1", {}, Together(0, 1)),
        ("3/8", {}, Together(3, 8)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, Together(2, 4)),
        ("auto", {"RANK": "1", "WORLD_SIZE": "2"}, Together(1, 2)),
    ],
)
def test_shares_are_read(text: str, environment: dict[str, str], expected: Together) -> None:
    assert together(text, environment) == expected


@pytest.mark.parametrize("text", ["8/8", "1", "a/b", "-1/2", "auto"])
def test_wrong_shares_are_named(text: str) -> None:
    with pytest.raises(UsageError, match="--shard-of"):
        together(text, {})
