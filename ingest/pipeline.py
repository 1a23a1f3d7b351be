"""The way of the data, as short code: prompts, baseline, activations, features, graph, communities, interventions, circuits; or a corpus.

In: an atlas folder, a plan, an engine. Out: a run whose shards are committed one by one and shown by a manifest at the end.

1. Resolve and hash model, transcoders and prompts; their hashes and the plan's identity give the run id (`ingest.job`).
2. The engine does the shards of the plan that have no commit record yet (`ingest.engines`). A shard reads what earlier ones wrote from
   their files, so that it does not matter which process computed them.
3. Write the run's row and the manifest.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas import files
from atlas.folder import Atlas
from atlas.seals import sealed
from atlas.shards import RunWriter
from ingest.design import design_lines
from ingest.engines import Engine, alone
from ingest.job import prepare
from ingest.plan import Plan
from ingest.workshop import Progress, Workshop

FINISH_SECONDS = 60.0
"""Longest wait for another process that is finishing the same run."""


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    run_id: str
    was_complete: bool
    """Whether there was nothing to do."""
    finished_here: bool = True
    """Whether this process made the run visible; False where another one of the same run was first."""


def run_plan(
    folder: Path,
    plan: Plan,
    *,
    again: bool = False,
    engine: Engine = alone,
    shards: str | None = None,
    progress: Progress | None = None,
    narrate: Callable[[str], None] | None = None,
    before_finish: Callable[[], object] | None = None,
) -> Outcome:
    """Do what a plan says and what is not done yet.

    `engine` does the shards; whatever it is, the run's id and its tables are the same. `shards`: URL on object storage where a new
    atlas keeps its shards; None: its folder, or as it was made. `narrate` is told, before anything is computed,
    what the plan can show; `before_finish` is called before the run becomes visible.

    Raises:
        InputError: model, transcoders or behaviours are missing or do not fit.
        GateError: the model is below the gate of a behaviour.
        ModelError: NaN, or memory that runs out.
        StoreError: the atlas cannot be written.
    """
    job = prepare(plan)
    atlas = Atlas.create(folder, shards=shards)
    with RunWriter(atlas, job.identity, job.run_id, again=again) as writer:
        if writer.is_complete:
            return Outcome(writer.run_id, was_complete=True)
        shop = Workshop(job, writer, progress)
        note_shards(shop)
        if narrate is not None and "interventions" in plan.stages():
            for line in design_lines(plan, job.prompts):
                narrate(line)
        engine(shop)
        if before_finish is not None:
            before_finish()
        return Outcome(writer.run_id, was_complete=False, finished_here=finish(shop))


def finish(shop: Workshop) -> bool:
    """Make a run visible whose shards are all committed; False where another process has done so.

    Raises:
        StoreError: shards are missing.
        LockedError: another process has been finishing it for long.
    """
    writer = shop.writer

    def is_visible() -> bool:
        visible = writer.atlas.manifest().run(writer.run_id)
        return visible is not None and visible.attempt >= writer.attempt

    if first := not is_visible():
        files.make_folder(shop.scratch)
        with files.locked(shop.scratch / "finish.lock", seconds=FINISH_SECONDS, what=f"finishing run {writer.run_id}"):
            if first := not is_visible():
                names = [shard.name for shard in shop.shards if not shard.draft]
                writer.require(names)
                writer.finish(run_row(shop), shards=names)
    shutil.rmtree(shop.scratch, ignore_errors=True)
    return first


def note_shards(shop: Workshop) -> None:
    """Write down, for people, what the run consists of (`atlas runs list` counts what is left); nothing relies on it."""
    path = shop.scratch / "shards.json"
    if not path.exists():
        files.make_folder(path.parent)
        files.write_once(path, sealed({"shards": [shard.name for shard in shop.shards if not shard.draft]}))


def run_row(shop: Workshop) -> dict[str, Any]:
    """Return the run's row of table `run`, as far as the writer does not fill it in."""
    first = "corpus-documents" if shop.plan.corpus else "prompts"
    return {
        "kind": "ingest",
        "name": shop.plan.title,
        "model_id": shop.rows(first, "model")["model_id"][0].as_py(),
        "transcoder_set": shop.rows(first, "transcoder")["transcoder_set"][0].as_py(),
        "prompt_set_hash": None if shop.plan.corpus else shop.prompts.prompt_set_hash,
        "seed": shop.plan.seed,
        "machine": f"{platform.machine()}, {shop.plan.device}",
    }
