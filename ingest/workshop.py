"""What the stages of a run share: the plan, the prompts, the model and its transcoders (loaded when first needed), earlier rows.

In: a plan, where its files lie, its prompts, and the run's writer. Out: what a stage asks for; rows that an earlier stage committed
come from memory or from its shard, compared with its hash.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atlas.errors import DamagedError, UsageError
from atlas.ids import sha256_file
from atlas.schema import arrow_schema
from atlas.shards import RunWriter
from ingest.plan import Plan
from ingest.prompts import PromptSet
from ingest.sources import Source

if TYPE_CHECKING:
    from ingest.model import LanguageModel
    from ingest.transcoder import TranscoderSet

Progress = Callable[[str, int, int], None]
Tables = Mapping[str, pa.Table]
ONE_THREAD_BELOW = 256
"""d_model below which one thread is faster than two: the products are too small to share."""


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
    if not text.strip():
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"memory budget is {text!r}.", hint="Write 20GB or 512MiB.")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))
