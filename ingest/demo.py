"""The demo atlas: the embedded bilingual model and, beside it, its negative control, analysed by one plan; and an example of all else.

In: a folder. Out: nine runs in it.

1. The two models share nothing but the plan, so that each is analysed in a process of its own.
2. The control stops before circuits. Its process goes on with what needs neither run: other behaviours of the bilingual model, two traced
   prompts, a steered one, intruders that the model looks for (`ingest.demo_examples`).
3. The bilingual run becomes visible after all of these, so that questions without a run speak of it. What reads it comes last: scores
   of its labels, and the comparison of its features with the control's.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Collection
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

from atlas.folder import Atlas
from ingest import demo_examples
from ingest.plan import Plan

Progress = Callable[[str, int, int], None]

BILINGUAL = Plan(
    name="bilingual",
    behaviours=("antonyms",),
    max_concepts=24,
    graph_features=120,
    ablated_features=30,
    transfer_concepts=6,
    edited_prompts=128,
    attributed_prompts=24,
    circuit_prompts=12,
    control_draws=100,
    transcoders="embedded:bilingual",
)
"""The plan of the demo; the control differs from it in the model and in its gate, and stops before circuits: no headline asks for its."""

CONTROL = dataclasses.replace(
    BILINGUAL, name="control", model="embedded:control", transcoders="embedded:control", gate=0.0, until="interventions"
)

TASKS = Plan(
    name=demo_examples.TASKS,
    behaviours=("agreement", "gated_request", "two_hop"),
    layers=(0, 2, 4),
    max_concepts=6,
    until="activations",
    transcoders="embedded:bilingual",
)
"""Other behaviours of the bilingual model, on half of its layers: minimal pairs, and features that serve several behaviours."""


def build_demo(folder: Path, progress: Progress | None = None) -> dict[str, str]:
    """Build all runs; return run name -> run id of the two models. Complete runs are left as they are.

    Raises:
        StoreError: the folder cannot be written.
    """
    Atlas.create(folder)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(2, mp_context=context) as pool:
        reports, control_is_visible = manager.Queue(), manager.Event()
        running = {
            CONTROL.name: pool.submit(_run, folder, CONTROL, reports, None, control_is_visible),
            BILINGUAL.name: pool.submit(_run, folder, BILINGUAL, reports, control_is_visible, None),
        }
        _relay(running.values(), reports, progress)
        runs = {name: future.result() for name, future in running.items()}
        for example in (demo_examples.score_by_rule, demo_examples.compare_models):
            pool.submit(example, folder).result()
        return runs


def _run(folder: Path, plan: Plan, reports: Any, wait_for: Any, signal: Any) -> str:
    """Run one plan in this process, sending its progress; show it after `wait_for`, or do the examples after it and set `signal`."""
    from ingest.pipeline import run_plan

    def report(stage: str, done: int, total: int) -> None:
        reports.put((f"{current.name}: {stage}", done, total))

    current = plan
    try:
        run = run_plan(folder, plan, progress=report, before_finish=None if wait_for is None else wait_for.wait).run_id
        if signal is not None:  # by the process that is done first
            current = TASKS
            run_plan(folder, TASKS, progress=report)
            demo_examples.trace_and_steer(folder)
            demo_examples.judge_by_model(folder)
        return run
    finally:
        if signal is not None:
            signal.set()


def _relay(running: Collection[Future[str]], reports: Any, progress: Progress | None) -> None:
    """Pass reports on until all is done."""
    while not all(future.done() for future in running) or not reports.empty():
        try:
            report = reports.get(timeout=0.1)
        except Empty:
            continue
        if progress is not None:
            progress(*report)
