"""A process that forks workers which are killed: `python -m tests.faults.zygote`.

In, a JSON line: {"work": "ingest" | "publish" | "notes", "path": …, "seed": …, "kill_after": seconds or null, "kill_step": step or
null}. Out, a JSON line: how the worker ended. Libraries are imported once and workers are forked from here, where no thread runs,
so that a real SIGKILL costs milliseconds and hundreds of trials are possible.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from atlas import files
from atlas.catalogue import Catalogue
from atlas.folder import Atlas
from atlas.publish import publish
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


def main() -> None:
    """Read orders until the input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(order)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        if order.get("kill_after") is not None:
            time.sleep(float(order["kill_after"]))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
