"""What the stages of a run share: the plan, the prompts, the model and its transcoders (loaded when first needed), earlier rows.

In: a plan, where its files lie, its prompts, and the run's writer. Out: what a stage asks for; rows that an earlier stage committed
are read from its shards, compared with their hashes, so that whoever computed them does not matter.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atlas import files
from atlas.errors import DamagedError, StoreError, UsageError
from atlas.folder import CommitRecord
from atlas.ids import sha256_file
from atlas.schema import arrow_schema
from atlas.seals import sealed, unseal
from atlas.shards import RunWriter, write_parquet
from ingest.batches import ONE_THREAD_BELOW
from ingest.job import Job
from ingest.plan import Plan
from ingest.plan_shards import Shard
from ingest.prompts import PromptSet

if TYPE_CHECKING:
    from ingest.activations import Extraction
    from ingest.model import LanguageModel
    from ingest.transcoder import TranscoderSet

Progress = Callable[[str, int, int], None]
Tables = Mapping[str, pa.Table]


@dataclass
class Workshop:
    """What the stages of one run share: the plan, the prompts, the model (loaded when first needed), and earlier stages' rows."""

    job: Job
    writer: RunWriter
    progress: Progress | None = None
    extraction: Extraction | None = None
    """What the layers of the activations share, kept between shards."""
    _verified: set[Path] = field(default_factory=set)

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self.job.plan

    @property
    def prompts(self) -> PromptSet:
        """All prompts of the run."""
        return self.job.prompts

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of the plan, in order."""
        return self.job.shards

    @cached_property
    def model(self) -> LanguageModel:
        """The analysed model."""
        from ingest.model import load_model

        source = self.job.sources["model"]
        model = load_model(source.path, dtype=self.plan.dtype, device=self.plan.device, name=source.name, source=source.name)
        if model.device.type == "cpu" and model.d_model < ONE_THREAD_BELOW:
            torch.set_num_threads(1)
        return model

    @cached_property
    def all_transcoders(self) -> TranscoderSet:
        """The whole transcoder set, bound to the model."""
        from ingest.transcoder import TranscoderSet

        source = self.job.sources["transcoders"]
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
    def layers(self) -> tuple[int, ...]:
        """Layers that are analysed, ascending."""
        return tuple(sorted({layer for shard in self.shards for layer in shard.layers}))

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints within a stage; removed when the run is complete."""
        return self.writer.atlas.run_folder(self.writer.run_id) / "scratch"

    def report_shards(self, n_done: int) -> None:
        """Tell the progress bar how many shards are done."""
        if self.progress is not None:
            self.progress("shards", n_done, len(self.shards))

    def counter(self, stage: str) -> Callable[[int, int], None] | None:
        """A progress callback for one stage."""
        if self.progress is None:
            return None
        report = self.progress
        return lambda done, total: report(stage, done, total)

    def is_done(self, shard: Shard) -> bool:
        """Say whether a shard is committed, or a draft written."""
        return self._draft(shard.name).is_dir() if shard.draft else self.writer.is_done(shard.name)

    def commit(self, shard: Shard, tables: Tables) -> None:
        """Commit a shard, or write a draft; what is there already stays."""
        if shard.draft:
            write_draft(self._draft(shard.name), tables)
        else:
            self.writer.commit(shard.name, tables)

    def table(self, stage: str, name: str, behaviour: str | None = None) -> pa.Table:
        """Rows that an earlier stage of this run committed (for one behaviour), without run_id; empty where it wrote none.

        Raises:
            DamagedError: a file is missing or is another one than its commit record names.
        """
        shards = [shard for shard in self.shards if shard.stage == stage and not shard.draft]
        wanted = [shard.name for shard in shards if behaviour in (None, shard.behaviour)]
        return pa.concat_tables([arrow_schema(name).empty_table(), *(self.rows(shard, name) for shard in wanted)])

    def of_layer(self, name: str, layer: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of one layer that the shards by layer committed, of table `feature`, `activation`, …; `columns`: all by default."""
        shards = [shard for shard in self.shards if shard.kind in ("activations", "corpus") and layer in shard.layers]
        return pa.concat_tables(self.rows(shard.name, name, columns, layer=layer) for shard in shards)

    def rows(self, shard: str, name: str, columns: Sequence[str] | None = None, *, layer: int | None = None) -> pa.Table:
        """Read one table of a committed shard, its file compared with its hash once; only some columns, only one layer where asked."""
        schema = arrow_schema(name)
        wanted = schema if columns is None else pa.schema([schema.field(column) for column in columns])
        path = committed_file(self.writer, shard, name, self._verified)
        if path is None:
            return wanted.empty_table()
        return pq.read_table(path, schema=schema, columns=wanted.names, filters=None if layer is None else [("layer", "=", layer)])

    def rows_in(self, shard: str, name: str) -> int:
        """Count the rows of a table of a committed shard, from its record."""
        return sum(item.rows for item in committed(self.writer, shard).files if item.table == name)

    def draft(self, name: str) -> dict[str, pa.Table]:
        """Read a draft."""
        return read_draft(self._draft(name))

    def _draft(self, name: str) -> Path:
        return self.scratch / f"drafts-{self.writer.attempt}" / name


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


def committed(writer: RunWriter, shard: str) -> CommitRecord:
    """Return the commit record of a shard.

    Raises:
        DamagedError: it is not committed.
    """
    record = writer.record(shard)
    if record is None:
        raise DamagedError(f"shard {shard} of run {writer.run_id} is not committed", hint="Run the same command again.")
    return record


def committed_file(writer: RunWriter, shard: str, table: str, verified: set[Path]) -> Path | None:
    """Return the file of a table of a committed shard, compared with its hash unless it is in `verified`; None without rows.

    Raises:
        DamagedError: a file is missing or is another one than the commit record names.
    """
    for item in committed(writer, shard).files:
        if item.table == table and item.path is not None:
            path = writer.atlas.place.local(item)
            if path not in verified and sha256_file(path) != item.sha256:
                raise DamagedError(
                    f"{path} differs from its commit record", hint="`atlas check` names all damage; `atlas repair` mends it."
                )
            verified.add(path)
            return path
    return None


def read_back(writer: RunWriter, shard: str) -> dict[str, pa.Table]:
    """Read the tables of a committed shard, each compared with its hash.

    Raises:
        DamagedError: a file is missing or is another one than the commit record names.
    """
    tables = {}
    for item in committed(writer, shard).files:
        path = committed_file(writer, shard, item.table, set())
        tables[item.table] = arrow_schema(item.table).empty_table() if path is None else pq.read_table(path)
    return tables


def write_draft(folder: Path, tables: Tables) -> None:
    """Write tables of schema.sql into a folder that is there whole or not at all; one that is there already stays."""
    building = files.temporary_name(folder)
    files.make_folder(building)
    hashes = {}
    for name, rows in tables.items():
        written = write_parquet(building / f"{name}.parquet", name, rows)
        hashes[name] = None if written is None else written.sha256
    files.write_whole(building / "draft.json", sealed(hashes))
    try:
        files.move(building, folder)
    except StoreError:
        if not folder.is_dir():
            raise
        shutil.rmtree(building)


def read_draft(folder: Path) -> dict[str, pa.Table]:
    """Read a draft.

    Raises:
        DamagedError: a file is missing or differs from its hash.
    """
    tables = {}
    for name, digest in unseal(folder / "draft.json").items():
        path = folder / f"{name}.parquet"
        if digest is not None and (not path.exists() or sha256_file(path) != digest):
            raise DamagedError(f"{path} is not what was written", hint=f"Remove {folder} and run the same command again.")
        tables[name] = arrow_schema(name).empty_table() if digest is None else pq.read_table(path)
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
