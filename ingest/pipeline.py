"""The way of the data, as short code: prompts, baseline, activations, features, graph, communities, interventions, circuits; or a corpus.

In: an atlas folder and a plan. Out: a run whose shards are committed one stage at a time and shown by a manifest at the end.

1. Resolve and hash model, transcoders and prompts; their hashes and the plan's identity give the run id.
2. Do the stages that have no commit record yet. A stage reads what earlier ones wrote from memory or, after a stop, from their shards.
3. Write the run's row and the manifest.
"""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import InputError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.shards import RunWriter
from ingest import stages
from ingest.plan import Plan
from ingest.prompts import PromptSet, build_prompt_set, load_behaviour
from ingest.sources import Source, resolve_source
from ingest.workshop import Progress, Workshop

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    run_id: str
    was_complete: bool


def run_plan(
    folder: Path,
    plan: Plan,
    *,
    again: bool = False,
    progress: Progress | None = None,
    narrate: Callable[[str], None] | None = None,
    before_finish: Callable[[], object] | None = None,
) -> Outcome:
    """Do what a plan says and what is not done yet.

    `narrate` is told, before anything is computed, what the plan can show; `before_finish` is called before the run becomes visible.

    Raises:
        InputError: model, transcoders or behaviours are missing or do not fit.
        GateError: the model is below the gate of a behaviour.
        ModelError: NaN, or memory that runs out.
        StoreError: the atlas cannot be written.
    """
    from ingest.corpus_source import corpus_hash
    from ingest.fit import check_fit

    sources = {"model": resolve_source(plan.model, "model"), "transcoders": resolve_source(plan.transcoders, "transcoders")}
    check_fit(sources["model"].path, sources["transcoders"].path, plan.layers)
    prompts = PromptSet((), (), ()) if plan.corpus else tokenised(plan, sources["model"])
    atlas = Atlas.create(folder)
    hashes = {
        "model": sources["model"].content_hash("model"),
        "transcoders": sources["transcoders"].content_hash("transcoders"),
        **({"corpus": corpus_hash(plan)} if plan.corpus else {"prompts": prompts.prompt_set_hash}),
    }
    identity = plan.identity(hashes)
    with RunWriter(atlas, identity, run_id(identity), again=again) as writer:
        if writer.is_complete:
            return Outcome(writer.run_id, was_complete=True)
        workshop = Workshop(plan, sources, prompts, writer, progress)
        names = plan.stages()
        if narrate is not None and "interventions" in names:
            for line in design_lines(plan, prompts):
                narrate(line)
        for number, stage in enumerate(names):
            if not writer.is_done(stage):
                tables = dict(stages.STAGE_FUNCTIONS[stage](workshop))
                writer.commit(stage, tables)
                workshop.kept[stage] = tables
            if progress is not None:
                progress("stages", number + 1, len(names))
        if before_finish is not None:
            before_finish()
        writer.finish(run_row(workshop), shards=names)
        shutil.rmtree(workshop.scratch, ignore_errors=True)
        return Outcome(writer.run_id, was_complete=False)


def design_lines(plan: Plan, prompts: PromptSet) -> Iterator[str]:
    """Say for each behaviour what the plan's held-out concepts and controls can show: smallest p, smallest detectable effect."""
    from atlas.stats import describe_design
    from ingest.interventions import choose_prompts

    for behaviour in prompts.behaviours:
        own = choose_prompts([prompt for prompt in prompts.prompts if prompt.behaviour == behaviour.name], plan.edited_prompts, plan.seed)
        held_out = [prompt for prompt in own if prompt.split != "train"]
        clusters = {prompt.cluster for prompt in held_out or own}
        kind = "held-out" if held_out else "train (none are held out)"
        yield f"{behaviour.name}: {len(held_out or own)} {kind} prompts; " + "; ".join(describe_design(len(clusters), plan.control_draws))


def tokenised(plan: Plan, source: Source) -> PromptSet:
    """Spell out the plan's behaviours with the model's tokenizer (no weights are read)."""
    from transformers import AutoTokenizer

    if not any(source.path.glob("tokenizer*")) and not (source.path / "vocab.json").exists():
        raise InputError(
            f"Model {source.name} has no tokenizer beside it (tokenizer.json).",
            hint="Download it with the model; `atlas trace --tokens` works without one.",
        )
    tokenizer = AutoTokenizer.from_pretrained(str(source.path))
    prompts = build_prompt_set(
        [load_behaviour(behaviour) for behaviour in plan.behaviours],
        tokenizer,
        languages=plan.languages or None,
        splits=plan.splits,
        max_concepts=plan.max_concepts or None,
        seed=plan.seed,
        drop_multitoken=plan.drop_multitoken,
    )
    if prompts.dropped:
        log.warning(
            "%d of %d prompts are left out, because an answer is not one token; the first: %s",
            len(prompts.dropped),
            len(prompts.dropped) + len(prompts.prompts),
            prompts.dropped[0],
        )
    return prompts


def run_row(workshop: Workshop) -> dict[str, Any]:
    """Return the run's row of table `run`, as far as the writer does not fill it in."""
    return {
        "kind": "ingest",
        "name": workshop.plan.title,
        "model_id": workshop.model.row()["model_id"],
        "transcoder_set": workshop.transcoders.name,
        "prompt_set_hash": None if workshop.plan.corpus else workshop.prompts.prompt_set_hash,
        "seed": workshop.plan.seed,
        "machine": f"{platform.machine()}, {workshop.plan.device}",
    }
