"""How long a first answer takes, and the next ones: `python benchmarks/ask.py demo.atlas [--runs 3]`.

In: an atlas of the embedded model. Out: a Markdown table of wall-clock seconds: importing torch and transformers, opening a session,
the first answer in it, later ones, steering, and the whole command `atlas ask-text`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

TEXT = "Le contraire de « chaud » est"
SCRIPT = """
import json, sys, time
clock = time.perf_counter
t = [clock()]
import torch
t.append(clock())
from ingest.ask.session import Session
t.append(clock())
session = Session.open(sys.argv[1])
t.append(clock())
session.ask(sys.argv[2])
t.append(clock())
for _ in range(5):
    session.ask(sys.argv[2])
t.append(clock())
session.steer(sys.argv[2], "L4_F361=4x")
t.append(clock())
print(json.dumps([b - a for a, b in zip(t, t[1:])]))
"""
STAGES = (
    "import torch",
    "import the rest (transformers)",
    "open the session (load the model)",
    "first answer",
    "five more answers",
    "steer, 20 tokens",
)


def used() -> float:
    """Return the process seconds of finished children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    stages: list[list[float]] = []
    walls: list[float] = []
    processes: list[float] = []
    for _ in range(options.runs):
        done = subprocess.run([sys.executable, "-c", SCRIPT, str(options.atlas), TEXT], capture_output=True, text=True, check=True)
        stages.append(json.loads(done.stdout.splitlines()[-1]))
        before, started = used(), time.perf_counter()
        command = [sys.executable, "-m", "atlas.cli", "ask-text", TEXT, "--atlas", str(options.atlas)]
        subprocess.run(command, capture_output=True, check=True)
        walls.append(time.perf_counter() - started)
        processes.append(used() - before)
    print("| step | seconds (median) |\n|---|---|")
    for place, name in enumerate(STAGES):
        print(f"| {name} | {statistics.median(row[place] for row in stages):.2f} |")
    print(f"| `atlas ask-text`, all in all | {statistics.median(walls):.2f} ({statistics.median(processes):.2f} of processor) |")


if __name__ == "__main__":
    main()
