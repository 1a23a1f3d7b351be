"""A process that forks workers which are killed: `python -m tests.faults.zygote`.

In, a JSON line: {"work": "ingest" | "publish" | "notes" | "read", "path": …, "seed": …, "kill_after": seconds or null,
"kill_step": step or null}, or {"together": [such orders]}. Out, a JSON line: how each worker ended. Libraries are imported once
and workers are forked from here, where no thread runs, so that a real SIGKILL costs milliseconds and hundreds of trials are
possible.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from atlas import files
from atlas.catalogue import Catalogue
from atlas.folder import Atlas
from atlas.publish import publish
from atlas.reader import Reader
from tests.atlas.samples import write_run
from tests.faults.disks import FailingDisk


class KillingDisk(FailingDisk):
    """Kills its own process before a step: no clean-up, no flush."""

    def step(self, name: str, path: Path) -> None:
        """Count a step; die where it is time."""
        if self.fail_at is not None and self.steps >= self.fail_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1


def work(order: dict[str, object]) -> None:
    """Do what the line says, in the forked worker."""
    step = order.get("kill_step")
    if step is not None:
        files.disk = KillingDisk(int(str(step)))
    path, seed = Path(str(order["path"])), int(str(order["seed"]))
    if order["work"] == "ingest":
        write_run(Atlas.create(path), seed)
    elif order["work"] == "publish":
        publish(path)
    elif order["work"] == "notes":
        for number in range(10):
            Catalogue(path).add_note(f"{seed}-{number}")
    elif order["work"] == "read":
        for _ in range(12):
            read_whole(path)


def read_whole(path: Path) -> None:
    """Open the published file and see that it is one state: counts agree with run_table, both orders of activations too."""
    with Reader(path) as reader:
        for table in ("activation", "activation_by_prompt", "prompt"):
            said = table.removesuffix("_by_prompt")
            (row,) = reader.sql(
                f"select (select count(*) from {table}) - (select coalesce(sum(n_rows), 0) from run_table where table_name = '{said}')"
            )
            if row[0] != 0:
                raise AssertionError(f"torn read: {table} differs from run_table by {row[0]}")


def start(order: dict[str, object]) -> int:
    """Fork a worker; returns its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(order)
            code = 0
        except BaseException:  # noqa: BLE001 - a worker's failure is reported by its exit code and this text
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def end(child: int) -> dict[str, object]:
    """Wait for a worker."""
    _, status = os.waitpid(child, 0)
    return {"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}


def main() -> None:
    """Read orders until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        if "together" in order:
            children = [start(one) for one in order["together"]]
            print(json.dumps([end(child) for child in children]), flush=True)  # noqa: T201
            continue
        child = start(order)
        if order.get("kill_after") is not None:
            time.sleep(float(order["kill_after"]))
            os.kill(child, signal.SIGKILL)
        print(json.dumps(end(child)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
