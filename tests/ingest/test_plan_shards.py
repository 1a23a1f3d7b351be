"""The shards of a plan: how it is divided, and that the division changes no row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

import ingest.rates
from atlas.runs import tables_equal
from ingest import plan_shards as subject
from ingest.pipeline import run_plan
from ingest.plan import Plan
from ingest.plan_shards import plan_shards
from ingest.stages import renumbered
from tests.ingest.random_directory import write_model, write_transcoders


def names(plan: Plan, behaviours: list[str], widths: dict[int, int], *, cross_layer: bool = False) -> list[str]:
    return [shard.name for shard in plan_shards(plan, behaviours, widths, cross_layer=cross_layer)]


def test_a_wide_layer_is_a_shard_and_narrow_ones_share_one() -> None:
    plan = Plan(until="activations")
    wide = dict.fromkeys((10, 11, 12), 163_840)
    layers = ["L10", "L11", "L12"]
    apart = [*(f"activations-{layer}" for layer in layers), "activations-replaced", *(f"neighbours-{layer}" for layer in layers)]
    assert names(plan, ["a"], wide) == ["prompts", "baseline", *apart]
    assert "activations-L10-12" in names(plan, ["a"], dict.fromkeys((10, 11, 12), 512))
    assert "activations-L10-12" in names(plan, ["a"], wide, cross_layer=True)


def test_behaviours_get_file_names_of_their_own() -> None:
    found = names(Plan(until="graph"), ["a b", "a/b", "antonyms"], {0: 4})
    assert [name for name in found if name.startswith("graph")] == ["graph-a_b-0", "graph-a_b-1", "graph-antonyms"]


def test_numbers_of_later_behaviours_come_from_a_draft() -> None:
    shards = {shard.name: shard for shard in plan_shards(Plan(), ["a", "b", "c"], {0: 4})}
    assert not shards["circuits-a"].draft
    assert shards["circuits-c=draft"].draft
    assert shards["circuits-c"].needs == ("circuits-c=draft", "circuits-a", "circuits-b")


def test_numbers_are_moved_with_everything_that_refers_to_them() -> None:
    offsets = {"circuit": 10, "evaluation": 100}
    circuit = pa.table({"circuit": pa.array([0, 1], pa.int32()), "control_of": pa.array([None, 0], pa.int32()), "graph": [0, 0]})
    assert renumbered("circuit", circuit, offsets).to_pydict() == {"circuit": [10, 11], "control_of": [None, 10], "graph": [0, 0]}
    evaluation = pa.table({"evaluation": pa.array([0], pa.int32()), "circuit": pa.array([None], pa.int32()), "control_mean": [0.5]})
    moved = renumbered("evaluation", evaluation, offsets)
    assert moved.to_pydict() == {"evaluation": [100], "circuit": [None], "control_mean": [0.5]}
    assert moved.schema == evaluation.schema
    path = pa.table({"graph": [3]})
    assert renumbered("path", path, offsets) is path


@pytest.mark.parametrize(
    "changes", [{"until": "activations", "max_concepts": 2}, {"corpus": "embedded", "corpus_tokens": 1000}], ids=["prompts", "corpus"]
)
def test_the_division_changes_no_row(changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, transcoders = write_model(tmp_path / "model"), write_transcoders(tmp_path / "transcoders")
    plan = replace(Plan(model=str(model), transcoders=str(transcoders), gate=0.0), **changes)  # type: ignore[arg-type]
    together = run_plan(tmp_path / "together.atlas", plan)
    monkeypatch.setattr(subject, "FEATURES_A_SHARD", 1)
    monkeypatch.setattr(ingest.rates, "total_memory", lambda _: 1)  # a pass of the corpus for each layer
    apart = run_plan(tmp_path / "apart.atlas", plan)
    assert together.run_id == apart.run_id
    done = [len(list((tmp_path / f"{name}.atlas" / "runs" / apart.run_id / "done").iterdir())) for name in ("together", "apart")]
    assert done[1] > done[0]
    assert tables_equal(tmp_path / "together.atlas", tmp_path / "apart.atlas", apart.run_id) == []
