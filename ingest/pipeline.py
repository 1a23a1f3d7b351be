"""The way of the data, as short code: prompts, baseline, activations, features, graph, communities, interventions, circuits; or a corpus.

In: an atlas folder and a plan. Out: a run whose shards are committed one stage at a time and shown by a manifest at the end.

1. Resolve and hash model, transcoders and prompts; their hashes and the plan's identity give the run id.
2. Do the stages that have no commit record yet. A stage reads what earlier ones wrote from memory or, after a stop, from their shards.
3. Write the run's row and the manifest.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atlas.errors import DamagedError, InputError
from atlas.folder import Atlas
from atlas.ids import run_id, sha256_file
from atlas.schema import arrow_schema
from atlas.shards import RunWriter
from ingest.plan import Plan
from ingest.prompts import PromptSet, build_prompt_set, load_behaviour
from ingest.sources import Source, resolve_source

if TYPE_CHECKING:
    from ingest.model import LanguageModel
    from ingest.transcoder import TranscoderSet

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
Tables = Mapping[str, pa.Table]
ONE_THREAD_BELOW = 256
"""d_model below which one thread is faster than two: the products are too small to share."""


@dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    run_id: str
    was_complete: bool


@dataclass
class Workshop:
    """What the stages of one run share: the plan, the prompts, the model (loaded when first needed), and earlier stages' rows."""

    plan: Plan
    sources: Mapping[str, Source]
    prompts: PromptSet
    writer: RunWriter
    progress: Progress | None = None
    kept: dict[str, dict[str, pa.Table]] = field(default_factory=dict)

    @cached_property
    def model(self) -> LanguageModel:
        """The analysed model."""
        from ingest.model import load_model

        source = self.sources["model"]
        model = load_model(source.path, dtype=self.plan.dtype, device=self.plan.device, name=source.name, source=source.name)
        if model.device.type == "cpu" and model.d_model < ONE_THREAD_BELOW:
            torch.set_num_threads(1)
        return model

    @cached_property
    def all_transcoders(self) -> TranscoderSet:
        """The whole transcoder set, bound to the model."""
        from ingest.transcoder import TranscoderSet

        source = self.sources["transcoders"]
        opened = TranscoderSet.open(
            source.path,
            dtype=self.plan.dtype,
            device=self.plan.device,
            memory_budget=parse_bytes(self.plan.memory_budget),
            name=source.name,
            source=source.name,
        )
        opened.bind(self.model, self.plan.layers or None)
        return opened

    @cached_property
    def transcoders(self) -> TranscoderSet:
        """The plan's layers of the set; what is resident is shared with the whole set. A cross-layer set stays whole."""
        return with_layers(self.all_transcoders, self.plan.layers)

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints within a stage; removed when the run is complete."""
        return self.writer.atlas.run_folder(self.writer.run_id) / "scratch"

    def counter(self, stage: str) -> Callable[[int, int], None] | None:
        """A progress callback for one stage."""
        if self.progress is None:
            return None
        report = self.progress
        return lambda done, total: report(stage, done, total)

    def table(self, stage: str, name: str) -> pa.Table:
        """Rows that an earlier stage of this run wrote, without run_id."""
        if stage not in self.kept:
            self.kept[stage] = read_back(self.writer, stage)
        return self.kept[stage][name]


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
    from ingest.stages import STAGE_FUNCTIONS

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
        stages = plan.stages()
        if narrate is not None and "interventions" in stages:
            for line in design_lines(plan, prompts):
                narrate(line)
        for number, stage in enumerate(stages):
            if not writer.is_done(stage):
                tables = dict(STAGE_FUNCTIONS[stage](workshop))
                writer.commit(stage, tables)
                workshop.kept[stage] = tables
            if progress is not None:
                progress("stages", number + 1, len(stages))
        if before_finish is not None:
            before_finish()
        writer.finish(run_row(workshop), shards=stages)
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


def with_layers(transcoders: TranscoderSet, layers: Sequence[int]) -> TranscoderSet:
    """Return a set with only some layers, which shares files and memory with the given one; no layers (or cross-layer): itself.

    Raises:
        InputError: a layer that the set does not have.
    """
    if not layers or transcoders.cross_layer:
        return transcoders
    transcoders.require(layers)
    chosen = copy.copy(transcoders)
    chosen.files = dataclasses.replace(transcoders.files, layers={layer: transcoders.files.layers[layer] for layer in sorted(layers)})
    return chosen


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


def read_back(writer: RunWriter, shard: str) -> dict[str, pa.Table]:
    """Read the tables of a committed shard, each compared with its hash.

    Raises:
        DamagedError: a file is missing or is another one than the commit record names.
    """
    record = writer.record(shard)
    if record is None:
        raise DamagedError(f"stage {shard} of run {writer.run_id} is not committed", hint="Run the same command again.")
    tables = {}
    for item in record.files:
        if item.path is None:
            tables[item.table] = arrow_schema(item.table).empty_table()
            continue
        path = writer.atlas.path / item.path
        if sha256_file(path) != item.sha256:
            raise DamagedError(f"{path} differs from its commit record", hint="`atlas check` names all damage; `atlas repair` mends it.")
        tables[item.table] = pq.read_table(path)
    return tables


def parse_bytes(text: str) -> int | None:
    """Parse `20GB` or `512 MiB`; None for empty text.

    Raises:
        UsageError: when it is something else.
    """
    import re

    from atlas.errors import UsageError

    if not text.strip():
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"memory budget is {text!r}.", hint="Write 20GB or 512MiB.")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))
