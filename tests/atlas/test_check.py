"""Damage of every kind is found, named, set aside or rebuilt, and never served."""

import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from atlas.check import check
from atlas.errors import AtlasError, DamagedError, LockedError, StoreError
from atlas.folder import Atlas, CommitRecord
from atlas.ids import run_id, sha256_file
from atlas.maintain import compact, gc, repair
from atlas.publish import Audit, BuildStep, publish
from atlas.reader import Reader
from atlas.runs import remove_run, tables_equal
from atlas.seals import sealed, unseal
from atlas.shards import RunWriter
from tests.atlas.samples import RUN_ROW, activations, model_rows, plan, prompt_rows, write_run

RUN = run_id(plan())


def flip(path: Path, seed: int = 0) -> None:
    """Flip one bit somewhere."""
    choice = random.Random(seed)
    content = bytearray(path.read_bytes())
    content[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
    path.chmod(0o644)
    path.write_bytes(content)


def cut(path: Path, seed: int = 0) -> None:
    """Cut a file off somewhere."""
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[: random.Random(seed).randrange(len(content))])


def lose(path: Path, seed: int = 0) -> None:
    """Remove a file."""
    path.unlink()


DAMAGES = [flip, cut, lose]


def one_file(atlas: Atlas, kind: str) -> Path:
    """A file of each kind that an atlas consists of."""
    return {
        "shard": next((atlas.path / "data" / "activation" / RUN).glob("activations-0-*.parquet")),
        "record": atlas.record_path(RUN, 1, "prompts"),
        "plan": atlas.run_folder(RUN) / "plan.json",
        "manifest": atlas.manifest_path(1),
        "database": atlas.database,
        "catalogue": atlas.catalogue_path,
    }[kind]


@pytest.fixture(scope="module")
def lived_in_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published atlas with words in the catalogue, the first of them published."""
    atlas = Atlas(shutil.copytree(template / "finished.atlas", tmp_path_factory.mktemp("lived in") / "a.atlas"))
    atlas.catalogue.add_note("published", transcoder_set="s", layer=0, feature=1)
    publish(atlas.path)
    atlas.catalogue.add_note("newer")
    return atlas.path


@pytest.fixture
def lived_in(lived_in_template: Path, tmp_path: Path) -> Atlas:
    return Atlas(shutil.copytree(lived_in_template, tmp_path / "lived_in.atlas"))


def test_an_atlas_that_is_well_has_no_findings(lived_in: Atlas) -> None:
    assert check(lived_in.path) == []
    assert repair(lived_in.path) == []
    write_run(lived_in, 2, shards=("model",), finish=False)
    assert check(lived_in.path) == [], "an unfinished run is no damage"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["shard", "record", "plan", "manifest", "database", "catalogue"])
def test_damage_is_found_named_and_mended(lived_in: Atlas, template: Path, kind: str, damage: Callable[[Path], None]) -> None:
    victim = one_file(lived_in, kind)
    if kind == "catalogue" and damage is flip:
        victim.write_bytes(victim.read_bytes().replace(b"newer", b"neweR"))
    else:
        damage(victim)
    findings = check(lived_in.path)
    if kind == "database" and damage is lose:
        assert findings == [], "nothing refers to it: publish builds it"
    else:
        assert victim.relative_to(lived_in.path) in {finding.path for finding in findings}
        assert all(finding.problem and finding.next_step for finding in findings)
        assert repair(lived_in.path)
    assert check(lived_in.path) == []
    notes = {row["text"] for row in lived_in.catalogue.rows("note")}
    assert notes == ({"published", "newer"} if kind != "catalogue" else {"published"})
    if damage is flip:
        write_run(lived_in)
        publish(lived_in.path)
        assert check(lived_in.path) == []
        assert tables_equal(lived_in.path, template / "finished.atlas", RUN) == []


@pytest.mark.parametrize("kind", ["shard", "record", "manifest"])
def test_a_flipped_bit_anywhere_is_never_published(template: Path, tmp_path: Path, kind: str) -> None:
    """Twenty places each: the hash finds what no reader of the format would."""
    for seed in range(20):
        atlas = Atlas(shutil.copytree(template / "finished.atlas", tmp_path / f"{seed}.atlas"))
        flip(one_file(atlas, kind), seed)
        with pytest.raises((DamagedError, StoreError)):
            publish(atlas.path)
        assert check(atlas.path) != []
        assert not atlas.database.exists()


def test_a_shard_of_an_unfinished_run_is_checked_and_mended_too(tmp_path: Path, template: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    write_run(atlas, finish=False)
    flip(one_file(atlas, "shard"))
    (finding,) = check(atlas.path)
    assert (finding.kind, finding.run_id, finding.shard) == ("shard", RUN, "activations-0")
    repair(atlas.path)
    assert not RunWriter(atlas, plan(), RUN).is_done("activations-0")
    write_run(atlas)
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []


def test_a_run_that_is_not_whole_is_hidden_until_it_is_ingested_again(lived_in: Atlas) -> None:
    write_run(lived_in, 2)
    flip(one_file(lived_in, "shard"))
    actions = repair(lived_in.path)
    assert [run.run_id for run in lived_in.manifest().runs] == [run_id(plan(2))]
    assert any(f"Ingest run {RUN} again" in action.next_step for action in actions)
    assert len(list((lived_in.path / "quarantine").iterdir())) == 2, "the shard and its record; nothing is deleted"
    with Reader(lived_in.path) as reader:
        assert reader.sql("select count(*) from run").rows() == [(1,)], "what is published stays"


def test_the_newest_manifest_is_rebuilt_under_a_new_number(lived_in: Atlas) -> None:
    write_run(lived_in, 2)
    cut(lived_in.manifest_path(2))
    with pytest.raises(DamagedError):
        lived_in.manifest()
    repair(lived_in.path)
    assert lived_in.manifest().number == 3
    assert [run.run_id for run in lived_in.manifest().runs] == [RUN, run_id(plan(2))]
    assert check(lived_in.path) == []


def test_all_manifests_lost_are_rebuilt_from_the_finished_runs(lived_in: Atlas) -> None:
    for path in lived_in.versions.glob("0*.json"):
        path.unlink()
    assert any(finding.kind == "manifest" for finding in check(lived_in.path))
    repair(lived_in.path)
    assert [run.run_id for run in lived_in.manifest().runs] == [RUN]


def test_the_catalogue_is_rebuilt_row_by_row(lived_in: Atlas) -> None:
    with sqlite3.connect(lived_in.catalogue_path) as connection:
        connection.execute("update note set text = 'forged'")
    connection.close()
    findings = check(lived_in.path)
    assert {finding.kind for finding in findings} == {"catalogue"}
    assert len(findings) == 2
    (action,) = repair(lived_in.path)
    assert "1 rows were rebuilt" in action.next_step
    assert [row["text"] for row in lived_in.catalogue.rows("note")] == ["published"]


@pytest.mark.parametrize("emptied", [False, True])
def test_words_that_only_the_published_file_has_are_not_published_away(lived_in: Atlas, emptied: bool) -> None:
    lived_in.catalogue_path.write_bytes(b"") if emptied else lived_in.catalogue_path.unlink()
    with pytest.raises(DamagedError, match="still has 1 rows of note"):
        publish(lived_in.path)
    repair(lived_in.path)
    publish(lived_in.path)
    assert [row["text"] for row in lived_in.catalogue.rows("note")] == ["published"]


def test_words_that_are_whole_outlive_the_repair_of_others(lived_in: Atlas) -> None:
    with sqlite3.connect(lived_in.catalogue_path) as connection:
        connection.execute("update note set text = 'forged' where text = 'published'")
    connection.close()
    repair(lived_in.path)
    assert {row["text"] for row in lived_in.catalogue.rows("note")} == {"published", "newer"}


def test_a_changed_database_is_found_although_it_opens(lived_in: Atlas) -> None:
    os.chmod(lived_in.database, 0o644)
    with duckdb.connect(str(lived_in.database)) as connection:
        connection.execute("update prompt set concept = 'forged' where prompt = 0")
    (finding,) = check(lived_in.path)
    assert (finding.kind, finding.path) == ("database", Path("atlas.duckdb"))
    assert "atlas publish" in finding.next_step


def test_a_forged_record_whose_own_hash_is_right_is_found(atlas: Atlas) -> None:
    path = atlas.record_path(RUN, 1, "prompts")
    record = CommitRecord.read(path)
    path.write_bytes(sealed({"run_id": RUN, "shard": "prompts", "attempt": 1, "files": [vars(item) for item in record.files[:1]]}))
    assert "is not the commit record that the manifest names" in {finding.problem for finding in check(atlas.path)}
    with pytest.raises(DamagedError, match="not the commit record"):
        publish(atlas.path)


def test_references_and_keys_are_checked(tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas")
    with RunWriter(atlas, plan(), RUN) as writer:
        writer.commit("first", {"model": model_rows(), "prompt": prompt_rows(4), "activation": activations()})
        writer.commit("second", {"activation": activations()})
        writer.finish(RUN_ROW)
    publish(atlas.path)
    problems = [finding.problem for finding in check(atlas.path)]
    assert any(problem.startswith("two rows of activation share a key") for problem in problems)
    assert any(problem.startswith("activation.prompt names a prompt that is not there") for problem in problems)
    findings = check(atlas.path, audits=[Audit("few prompts", "select count(*) from prompt having count(*) < 5")])
    assert [finding.problem for finding in findings if "audit" in finding.problem] == ["audit few prompts: (4,)"]


def test_a_damaged_derived_file_is_found_and_made_again(atlas: Atlas) -> None:
    publish(atlas.path, inline_rows=0)
    (derived,) = (atlas.path / "derived" / "activation_by_prompt").rglob("*.parquet")
    flip(derived)
    assert "derived" in {finding.kind for finding in check(atlas.path)}
    repair(atlas.path)
    publish(atlas.path, inline_rows=0)
    assert check(atlas.path) == []


def test_pages_of_a_damaged_database_are_never_answers(published: Atlas) -> None:
    """A flipped bit in the published file gives an error or the right rows; the engine's own checksums see to it."""
    with Reader(published.path) as reader:
        right = reader.sql("select * from activation").arrow()
    content = published.database.read_bytes()
    published.database.chmod(0o644)
    choice = random.Random(3)
    for _ in range(30):
        damaged = bytearray(content)
        damaged[choice.randrange(len(content))] ^= 1 << choice.randrange(8)
        published.database.write_bytes(damaged)
        try:
            with Reader(published.path) as reader:
                found = reader.sql("select * from activation").arrow()
        except AtlasError:
            continue
        assert found.equals(right)
    assert isinstance(right, pa.Table)


def test_manifests_and_run_rows_lost_are_rebuilt_from_the_published_file(lived_in: Atlas, template: Path) -> None:
    shutil.rmtree(lived_in.versions)
    for row in (lived_in.path / "runs").glob("*/run-*.json"):
        row.unlink()
    (finding,) = check(lived_in.path)
    assert "atlas repair" in finding.next_step, "not that there is no atlas"
    with pytest.raises(DamagedError, match="is missing"):
        Atlas.create(lived_in.path)
    repair(lived_in.path)
    assert [run.run_id for run in lived_in.manifest().runs] == [RUN]
    publish(lived_in.path)
    assert check(lived_in.path) == []
    assert tables_equal(lived_in.path, template / "finished.atlas", RUN) == []


def test_runs_of_which_only_commit_records_are_left_are_named_and_come_back_with_their_plan(atlas: Atlas, template: Path) -> None:
    for path in [*atlas.versions.glob("0*.json"), *atlas.run_folder(RUN).glob("run-*.json")]:
        path.unlink()
    before = sorted((atlas.path / "data").rglob("*.parquet"))
    named = next(action for action in repair(atlas.path) if action.path == Path("runs") / RUN)
    assert "4 committed shards" in named.what
    assert "again" in named.next_step
    assert atlas.manifest().runs == ()
    write_run(atlas)
    assert sorted((atlas.path / "data").rglob("*.parquet")) == before, "nothing was computed again"
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []


def test_a_published_run_whose_shards_are_not_all_there_is_not_called_whole(lived_in: Atlas) -> None:
    for path in [*lived_in.versions.glob("0*.json"), *lived_in.run_folder(RUN).glob("run-*.json")]:
        path.unlink()
    lived_in.record_path(RUN, 1, "activations-1").unlink()
    assert any("3 committed shards" in action.what for action in repair(lived_in.path))
    assert lived_in.manifest().runs == ()


def test_a_compacted_run_is_rebuilt_when_manifests_are_lost(atlas: Atlas, template: Path) -> None:
    compact(atlas.path)
    publish(atlas.path)
    gc(atlas.path, dry_run=False, keep_manifests=1, keep_days=0)
    for path in atlas.versions.glob("0*.json"):
        path.unlink()
    repair(atlas.path)
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []
    publish(atlas.path)
    assert check(atlas.path) == []


def test_a_run_whose_records_are_not_all_there_is_not_rebuilt_as_a_whole_one(lived_in: Atlas) -> None:
    lived_in.record_path(RUN, 1, "activations-1").unlink()
    lived_in.database.unlink()
    for path in lived_in.versions.glob("0*.json"):
        path.unlink()
    actions = repair(lived_in.path)
    assert lived_in.manifest().runs == ()
    assert any("3 committed shards" in action.what for action in actions)


def test_a_later_attempt_whose_manifest_is_lost_is_rebuilt(atlas: Atlas) -> None:
    write_run(atlas, again=True)
    write_run(atlas, 2)
    remove_run(atlas.path, run_id(plan(2)))
    for number in atlas.manifest_numbers()[2:]:
        atlas.manifest_path(number).write_bytes(b"[]")
    repair(atlas.path)
    assert {(run.run_id, run.attempt) for run in atlas.manifest().runs} == {(RUN, 2), (run_id(plan(2)), 1)}


def test_damage_to_what_was_merged_hides_no_run(atlas: Atlas) -> None:
    compact(atlas.path)
    flip(one_file(atlas, "shard"))
    assert {finding.kind for finding in check(atlas.path)} == {"shard"}
    assert any("does not need it" in action.next_step for action in repair(atlas.path))
    assert [run.run_id for run in atlas.manifest().runs] == [RUN]
    assert check(atlas.path) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_row_of_a_run_is_written_again_from_the_manifest(lived_in: Atlas, damage: Callable[[Path], None]) -> None:
    row = lived_in.row_path(RUN, 1)
    before = row.read_bytes()
    damage(row)
    assert [(finding.kind, finding.path.name) for finding in check(lived_in.path)] == [("row", "run-1.json")]
    repair(lived_in.path)
    assert check(lived_in.path) == []
    assert row.read_bytes() == before


def test_the_plan_of_an_unfinished_run_is_checked_and_written_anew(tmp_path: Path, template: Path) -> None:
    for by_repair in (False, True):
        atlas = Atlas.create(tmp_path / f"{by_repair}.atlas")
        write_run(atlas, finish=False)
        path = atlas.run_folder(RUN) / "plan.json"
        path.write_bytes(path.read_bytes().replace(b"sample", b"s\xe4mple"))
        assert [finding.kind for finding in check(atlas.path)] == ["plan"]
        if by_repair:
            repair(atlas.path)
        write_run(atlas)
        assert check(atlas.path) == []
        assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []
        assert len(list((atlas.path / "quarantine").iterdir())) == 1


def test_json_that_is_no_object_is_damage(lived_in: Atlas) -> None:
    record, manifest = one_file(lived_in, "record"), one_file(lived_in, "manifest")
    for content in (b"[]", b"null", b'"x"', b"[" * 100_000, b'{"sha256": 1}', b"\xff"):
        for path in (record, manifest):
            path.write_bytes(content)
            with pytest.raises(DamagedError):
                unseal(path)
    assert {path.relative_to(lived_in.path) for path in (record, manifest)} <= {finding.path for finding in check(lived_in.path)}
    repair(lived_in.path)
    assert check(lived_in.path) == []


def test_sealed_json_of_another_shape_is_damage(atlas: Atlas) -> None:
    atlas.record_path(RUN, 1, "prompts").write_bytes(sealed({"files": [{"table": "prompt"}]}))
    atlas.manifest_path(1).write_bytes(sealed({"number": 1, "format_version": 1, "runs": [{"run_id": RUN}]}))
    assert {"record", "manifest"} <= {finding.kind for finding in check(atlas.path)}


def fail_to_open(monkeypatch: pytest.MonkeyPatch, victim: Path, error: OSError) -> None:
    """Let one file be there and not be opened."""
    opened = Path.open

    def fail(path: Path, *arguments: Any, **named: Any) -> Any:
        if path == victim:
            raise error
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", fail)


@pytest.mark.parametrize("kind", ["shard", "record", "plan", "manifest", "database", "catalogue"])
def test_what_may_not_be_read_is_no_damage(lived_in: Atlas, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission says nothing about content: neither `check` nor `repair` may take it for damage."""
    fail_to_open(monkeypatch, one_file(lived_in, kind), PermissionError(errno.EACCES, "Permission denied"))
    for command in (check, repair):
        with pytest.raises(StoreError, match=r"cannot read .*Permission denied") as caught:
            command(lived_in.path)
        assert not isinstance(caught.value, DamagedError)
    assert not (lived_in.path / "quarantine").exists()


def test_a_sector_that_cannot_be_read_is_damage(lived_in: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = one_file(lived_in, "shard")
    fail_to_open(monkeypatch, victim, OSError(errno.EIO, "Input/output error"))
    assert [finding.path for finding in check(lived_in.path)] == [victim.relative_to(lived_in.path)]
    with pytest.raises(DamagedError, match="Input/output error"):
        publish(lived_in.path)


def test_a_catalogue_that_somebody_holds_is_not_damaged(lived_in: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas.catalogue.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(lived_in.catalogue_path, isolation_level=None)
    holder.execute("begin exclusive")
    for command in (check, repair):
        with pytest.raises(LockedError):
            command(lived_in.path)
    holder.execute("rollback")
    holder.close()
    assert {row["text"] for row in lived_in.catalogue.rows("note")} == {"published", "newer"}


def test_a_file_that_is_swapped_in_meanwhile_is_not_damaged(lived_in: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the hash of the file and the look at what it should be, a publish ends."""
    left = [write_run(lived_in, 2)]

    def slow(path: Path) -> str:
        digest = sha256_file(path)
        if left and path == lived_in.database:
            left.pop()
            publish(lived_in.path)
        return digest

    monkeypatch.setattr("atlas.check.sha256_file", slow)
    assert check(lived_in.path) == []
    assert left == []


def test_counts_are_checked_in_shards_and_in_the_published_file(atlas: Atlas) -> None:
    publish(atlas.path, build=[BuildStep("loses a row", lambda connection: connection.execute("delete from prompt where prompt = 3"))])
    assert "count" in {finding.kind for finding in check(atlas.path)}
    write_run(atlas, 2, shards=("prompts",), finish=False)
    path = atlas.record_path(run_id(plan(2)), 1, "prompts")
    record = CommitRecord.read(path)
    told = tuple(replace(item, rows=item.rows + 1) for item in record.files)
    path.write_bytes(replace(record, files=told).seal())
    assert "has 12 rows; the commit record says 13" in {finding.problem for finding in check(atlas.path)}
