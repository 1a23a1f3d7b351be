"""Keeping the store from the command line: check, repair, compact, gc, runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from atlas.folder import Atlas as Folder
from tests.atlas.commands.conftest import Atlas
from tests.atlas.samples import write_run


def shards(folder: Folder) -> list[Path]:
    return sorted(folder.path.glob("data/**/*.parquet"))


def test_a_whole_atlas_has_nothing_to_repair(run: Atlas, published: Folder) -> None:
    assert "are right" in run("check", published.path).err
    assert "nothing is damaged" in run("repair", published.path).err


def test_a_damaged_shard_is_found_set_aside_and_computed_again(run: Atlas, atlas: Folder) -> None:
    run("publish", atlas.path)
    shard = shards(atlas)[0]
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:-7])
    found = run("check", atlas.path, code=4)
    assert any(shard.name in row["path"] for row in found.rows)
    repaired = run("repair", atlas.path)
    assert any("next_step" in row and row["what"] for row in repaired.rows)
    assert list((atlas.path / "quarantine").rglob("*.parquet"))
    assert "atlas.duckdb is whole and stays" in repaired.err
    assert run("sql", "--atlas", atlas.path, "select count(*) as n from run").rows == [{"n": "1"}]
    run("check", atlas.path)
    assert run("runs", "list", "--atlas", atlas.path).rows == []
    write_run(atlas)
    assert len(run("runs", "list", "--atlas", atlas.path).rows) == 1


def test_compact_merges_and_gc_removes_what_is_not_referred_to(run: Atlas, atlas: Folder) -> None:
    before = shards(atlas)
    said = run("compact", atlas.path)
    assert "parts became" in said.rows[0]["what"]
    assert "one file a table already" in run("compact", atlas.path).err
    assert set(before) < set(shards(atlas))

    now = ("--keep-days", "0", "--keep-manifests", "1")
    listed = run("gc", atlas.path, "--dry-run", *now)
    assert "would go" in listed.err
    assert set(before) < set(shards(atlas)), "a dry run removes nothing"
    assert "Aborted" in run("gc", atlas.path, *now, code=1).err
    assert "are gone" in run("gc", atlas.path, "--yes", *now).err
    assert not set(before) & set(shards(atlas))
    assert "nothing to remove" in run("gc", atlas.path, *now).err
    run("publish", atlas.path)
    assert "are right" in run("check", atlas.path).err


def test_a_removed_run_comes_back(run: Atlas, atlas: Folder) -> None:
    (row,) = run("runs", "list", "--atlas", atlas.path).rows
    run("runs", "rm", row["run_id"][:6], "--yes", "--atlas", atlas.path)
    assert run("runs", "list", "--atlas", atlas.path).rows == []
    assert "nothing to remove" in run("gc", atlas.path, "--dry-run").err, "what is young stays"


def test_the_folder_can_be_an_argument_or_an_option(run: Atlas, published: Folder, tmp_path: Path) -> None:
    for command in ("publish", "check", "repair", "compact", "gc"):
        refused = run(command, published.path, "--atlas", tmp_path, code=2)
        assert "Two atlases are named" in refused.err
    assert run("gc", "--atlas", published.path, "--dry-run").code == 0


def test_a_parameter_without_a_value_says_how_to_give_it(run: Atlas, published: Folder) -> None:
    said = run("sql", "select $layer + $feature", "-a", published.path, code=5)
    assert "-p feature=VALUE -p layer=VALUE" in said.err


def test_an_answer_that_cannot_be_written_is_one_line(published: Folder) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "atlas.cli", "sql", "--atlas", str(published.path), "select * from activation"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr.strip()) == (1, "atlas: cannot write the answer: No space left on device")
