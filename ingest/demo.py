"""The demo atlas: the embedded bilingual model and, beside it, its negative control, analysed by one plan; and two traced prompts.

In: a folder. Out: four runs in it. The two models share nothing but the plan, so that each is analysed in a process of its own.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

from atlas.folder import Atlas
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

TRACED = (("en", "The opposite of the word hot is"), ("fr", "Le contraire exact du mot chaud est"))
"""Prompts (language, text) whose attribution graphs stand in the demo, each a run of its own, traced on the bilingual model."""


def build_demo(folder: Path, progress: Progress | None = None) -> dict[str, str]:
    """Analyse both models and trace the prompts; return run name -> run id of the two. Complete runs are left as they are.

    The bilingual run becomes visible last, so that questions without a run speak of it.

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
        while not all(future.done() for future in running.values()) or not reports.empty():
            _relay(reports, progress)
        return {name: future.result() for name, future in running.items()}


def _run(folder: Path, plan: Plan, reports: Any, wait_for: Any, signal: Any) -> str:
    """Run one plan in this process, sending its progress; show it after `wait_for`, then (in any case) set `signal`."""
    from ingest.pipeline import run_plan

    def report(stage: str, done: int, total: int) -> None:
        reports.put((f"{plan.name}: {stage}", done, total))

    try:
        before_finish = None if wait_for is None else wait_for.wait
        run = run_plan(folder, plan, progress=report, before_finish=before_finish).run_id
        if signal is not None:
            _trace(folder)  # by the process that is done first
        return run
    finally:
        if signal is not None:
            signal.set()


def _trace(folder: Path) -> None:
    """Put the attribution graphs of the traced prompts into the atlas."""
    from ingest.model import load_model
    from ingest.sources import resolve_source
    from ingest.trace import trace_loaded
    from ingest.trace_run import commit_trace
    from ingest.transcoder import TranscoderSet

    sources = {"model": resolve_source(BILINGUAL.model, "model"), "transcoders": resolve_source(BILINGUAL.transcoders, "transcoders")}
    model, transcoders = load_model(sources["model"].path), TranscoderSet.open(sources["transcoders"].path)
    for language, text in TRACED:
        commit_trace(folder, trace_loaded(model, transcoders, prompt=text), sources, language)


def _relay(reports: Any, progress: Progress | None) -> None:
    try:
        report = reports.get(timeout=0.1)
    except Empty:
        return
    if progress is not None:
        progress(*report)
