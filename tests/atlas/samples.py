"""Small runs for the store's tests: rows of every table, and synthetic activations."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from atlas.encoding import enum_values
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.schema import CATALOGUE_TABLES, STORE_TABLES, TABLES, arrow_schema, table_columns
from atlas.shards import RunWriter

RUN_ROW = {"kind": "ingest", "name": "sample", "model_id": "m", "seed": 1, "machine": "here"}
SHARDS = ("model", "prompts", "activations-0", "activations-1")


def plan(seed: int = 1) -> dict[str, Any]:
    """A plan; another seed is another run."""
    return {"name": "sample", "seed": seed, "model": {"hash": "abc", "layers": [0, 1, 2]}}


def activations(seed: int = 0, *, first_prompt: int = 0, n_prompts: int = 6, exact: bool = True, shuffled: bool = True) -> pa.Table:
    """Random activations of 3 layers, 20 features and 4 positions; `exact` values fit bfloat16."""
    random = np.random.default_rng([seed, first_prompt])
    layer, feature, prompt, position = np.nonzero(random.random((3, 20, n_prompts, 4)) < 0.3)
    values = (random.random(len(layer)) * 9 + 0.1).astype(np.float32)
    if exact:
        values = (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    order = random.permutation(len(layer)) if shuffled else np.arange(len(layer))
    columns = {"layer": layer, "feature": feature, "prompt": prompt + first_prompt, "position": position}
    typed = {name: pa.array(column[order], arrow_schema("activation").field(name).type) for name, column in columns.items()}
    return pa.table({**typed, "activation": values[order]})


def model_rows() -> pa.Table:
    """One model."""
    text = {"model_id": "m", "name": "tiny", "source": "embedded:tiny", "architecture": "Qwen3ForCausalLM", "dtype": "float32"}
    return pa.Table.from_pylist([{**text, "n_layers": 3, "d_model": 8, "vocab_size": 16}])


def prompt_rows(n_prompts: int = 12) -> pa.Table:
    """Prompts in two languages."""
    words = {"behaviour": "b", "prompt_hash": "h", "concept": "hot", "template": "t", "split": "train", "text": "hot is the opposite of"}
    return pa.Table.from_pylist(
        [{"prompt": index, **words, "language": ("en", "fr")[index % 2], "n_tokens": 4} for index in range(n_prompts)]
    )


def shard_tables(shard: str, seed: int = 1) -> dict[str, pa.Table]:
    """What the stage of a shard computes: the same for the same seed."""
    if shard == "model":
        return {"model": model_rows()}
    if shard == "prompts":
        return {"prompt": prompt_rows(), "token": arrow_schema("token").empty_table()}
    return {"activation": activations(seed, first_prompt=6 * int(shard.split("-")[1]))}


def write_run(atlas: Atlas, seed: int = 1, *, shards: tuple[str, ...] = SHARDS, finish: bool = True, again: bool = False) -> str:
    """Write a run as ingest does: what is missing, then the manifest; returns its id."""
    this = plan(seed)
    with RunWriter(atlas, this, run_id(this), again=again) as writer:
        for shard in shards:
            if not writer.is_done(shard):
                writer.commit(shard, shard_tables(shard, seed))
        if finish:
            writer.finish({**RUN_ROW, "seed": seed}, shards=SHARDS)
    return run_id(this)


def make_atlas(folder: Path, *seeds: int) -> Atlas:
    """An atlas with finished runs, not published."""
    atlas = Atlas.create(folder)
    for seed in seeds or (1,):
        write_run(atlas, seed)
    return atlas


def sample_value(table: str, column: str) -> Any:
    """A value that fits a column."""
    kind = str(table_columns(table)[column].info["duckdb"])
    allowed = enum_values(table, column)
    if allowed:
        return allowed[0]
    if column == "model_id":
        return "m"
    if column == "label_id":
        return "0123456789abcdef"
    values: Mapping[str, Any] = {"varchar": f"{column}-ü'", "float": 0.5, "double": 0.25, "boolean": True}
    values = {**values, "timestamp": datetime.datetime(2026, 1, 2, 3, 4, 5, 6)}
    value = values.get(kind.removesuffix("[]"), 3)
    return [value, value] if kind.endswith("[]") else value


def sample_row(table: str) -> dict[str, Any]:
    """One whole row of a table, without run_id where it is the run's."""
    return {column: sample_value(table, column) for column in arrow_schema(table).names if column != "run_id"}


def sample_tables() -> dict[str, pa.Table]:
    """One row of every table that a run can write."""
    # activation_by_prompt is activation once more, which publish writes; the catalogue's rows are people's.
    skipped = {*STORE_TABLES, *CATALOGUE_TABLES, "activation_by_prompt"}
    return {table: pa.Table.from_pylist([sample_row(table)], schema=arrow_schema(table)) for table in TABLES if table not in skipped}


def sample_catalogue() -> dict[str, dict[str, Any]]:
    """One row of every catalogue table."""
    return {table: sample_row(table) for table in CATALOGUE_TABLES}
