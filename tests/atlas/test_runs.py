import json
from pathlib import Path

import pyarrow as pa
import pytest

from atlas.errors import UsageError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.runs import diff_runs, list_runs, remove_run, resolve_run, show_run, table_difference, tables_equal, unfinished_runs
from atlas.shards import write_parquet
from tests.atlas.samples import activations, make_atlas, plan, prompt_rows, write_run

FIRST, SECOND = run_id(plan(1)), run_id(plan(2))


def test_runs_are_listed_in_the_order_in_which_they_became_visible(tmp_path: Path) -> None:
    assert list_runs(Atlas.create(tmp_path / "empty.atlas").path).num_rows == 0
    rows = list_runs(make_atlas(tmp_path / "a.atlas", 2, 1).path).to_pylist()
    assert [row["run_id"] for row in rows] == [SECOND, FIRST]
    n_activations = sum(activations(2, first_prompt=first).num_rows for first in (0, 6))
    assert (rows[0]["kind"], rows[0]["attempt"], rows[0]["seed"], rows[0]["rows"]) == ("ingest", 1, 2, n_activations + 12 + 1)


def test_a_run_is_shown_by_the_first_digits_of_its_id(atlas: Atlas) -> None:
    shown = json.loads(show_run(atlas.path, FIRST[:4]))
    assert shown["run_id"] == FIRST
    assert shown["plan"] == plan()
    assert shown["tables"]["prompt"] == {"shards": 1, "rows": 12, "bytes": shown["tables"]["prompt"]["bytes"]}
    assert resolve_run(atlas.path, FIRST[:4]) == FIRST


@pytest.mark.parametrize("text", ["", "zzzz"])
def test_an_unknown_run_is_named_with_those_that_are_there(atlas: Atlas, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_run(atlas.path, text)
    assert FIRST in str(caught.value) or text == ""


def test_two_seeds_differ_in_plan_row_and_tables(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas", 1, 2)
    rows = {(row["part"], row["name"]): row for row in diff_runs(atlas.path, FIRST, SECOND).to_pylist()}
    assert set(rows) == {("plan", "seed"), ("run", "seed"), ("table", "activation")}
    assert (rows["plan", "seed"]["first"], rows["plan", "seed"]["second"]) == ("1", "2")
    keys = [
        {
            (r["layer"], r["feature"], r["prompt"], r["position"], r["activation"])
            for f in (0, 6)
            for r in activations(s, first_prompt=f).to_pylist()
        }
        for s in (1, 2)
    ]
    difference = rows["table", "activation"]
    assert (difference["only_first"], difference["only_second"]) == (len(keys[0] - keys[1]), len(keys[1] - keys[0]))
    assert diff_runs(atlas.path, FIRST, FIRST).num_rows == 0


def test_equal_tables_leave_out_order_shards_time_and_attempt(tmp_path: Path) -> None:
    first, second = make_atlas(tmp_path / "a.atlas"), Atlas.create(tmp_path / "b.atlas")
    write_run(second, shards=("activations-1", "activations-0", "prompts", "model"))
    write_run(second, again=True)
    assert tables_equal(first.path, second.path, FIRST) == []
    assert tables_equal(first.path, second.path, FIRST, tables=["prompt"]) == []


def test_one_changed_value_is_a_difference(tmp_path: Path) -> None:
    from atlas.shards import RunWriter
    from tests.atlas.samples import RUN_ROW, SHARDS, shard_tables

    first, second = make_atlas(tmp_path / "a.atlas"), Atlas.create(tmp_path / "b.atlas")
    with RunWriter(second, plan(), FIRST) as writer:
        for shard in SHARDS:
            tables = shard_tables(shard)
            if shard == "prompts":
                changed = tables["prompt"].to_pylist()
                changed[3]["text"] += "."
                tables["prompt"] = tables["prompt"].from_pylist(changed)
            writer.commit(shard, tables)
        writer.finish(RUN_ROW)
    assert tables_equal(first.path, second.path, FIRST) == ["prompt"]


def test_a_removed_run_is_hidden_and_comes_back_with_its_plan(tmp_path: Path) -> None:
    atlas = make_atlas(tmp_path / "a.atlas", 1, 2)
    assert remove_run(atlas.path, FIRST[:6]) == FIRST
    assert [run.run_id for run in atlas.manifest().runs] == [SECOND]
    with pytest.raises(UsageError):
        remove_run(atlas.path, FIRST)
    before = sorted((atlas.path / "data").rglob("*.parquet"))
    write_run(atlas, 1)
    assert sorted((atlas.path / "data").rglob("*.parquet")) == before, "nothing was computed again"
    assert [run.run_id for run in atlas.manifest().runs] == [SECOND, FIRST]


def test_a_row_that_is_there_twice_is_a_difference(tmp_path: Path) -> None:
    rows = prompt_rows(2)
    for name, table in (("once", rows), ("twice", pa.concat_tables([rows, rows.slice(0, 1)]))):
        write_parquet(tmp_path / f"{name}.parquet", "prompt", table)
    once, twice = [str(tmp_path / "once.parquet")], [str(tmp_path / "twice.parquet")]
    assert table_difference("prompt", once, twice) == ((2, 3), (0, 1))
    assert table_difference("prompt", twice, once) == ((3, 2), (1, 0))


def test_a_run_that_was_stopped_just_before_it_was_shown_is_listed_as_unfinished(atlas: Atlas) -> None:
    atlas.manifest_path(1).unlink()
    (row,) = unfinished_runs(atlas.path).to_pylist()
    assert (row["run_id"], row["done"]) == (FIRST, 4)
    write_run(atlas)
    assert unfinished_runs(atlas.path).num_rows == 0
    remove_run(atlas.path, FIRST)
    assert unfinished_runs(atlas.path).num_rows == 0, "it was finished, shown and removed"
