"""The main job from the command line, as a user runs it, on the demo atlas: every answer is data on stdout, every error one message."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import atlas
from atlas.check import check
from atlas.runs import tables_equal
from ingest.demo import BILINGUAL, CONTROL, TASKS

ROOT = Path(__file__).parent.parent


def run(*arguments: str | Path, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `atlas` in a process of its own and compare the exit code."""
    command = [sys.executable, "-m", "atlas.cli", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, input=stdin, check=False)
    assert result.returncode == code, result.stderr
    return result


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


SMALL = ("--max-concepts", "4", "--until", "communities", "--gate", "0")


def test_the_demo_has_both_runs_and_is_whole(demo_atlas: Path) -> None:
    listed = rows(run("runs", "list", "--atlas", demo_atlas, "-f", "csv").stdout)
    names = [row["name"] for row in listed]
    assert (names[0], names[1]) == (CONTROL.name, TASKS.name)
    assert [name.partition(" of ")[0] for name in names[2:6]] == ["trace", "trace", "steering", "scores"]
    assert names[6:] == [BILINGUAL.name, "scores of labels by rule", "bilingual beside control"]
    assert check(demo_atlas) == []


def test_headlines_show_the_control_beside_each_answer(demo_atlas: Path) -> None:
    from atlas.commands.headlines import headlines

    text = headlines(demo_atlas)
    blocks = text.split("\n\n")
    assert len(blocks) == 5
    assert all("bilingual" in block and "control" in block for block in blocks)


def test_on_the_negative_control_no_transfer_is_found(demo_atlas: Path) -> None:
    with atlas.open(demo_atlas) as reader:
        share = {}
        for name in (BILINGUAL.name, CONTROL.name):
            table = reader.ask("interventions/transfer", run=name).arrow().to_pylist()
            share[name] = {row["control"]: row["preferred"] for row in table if row["source_language"] == "en"}
    assert share[CONTROL.name]["none"] <= 0.05
    assert share[BILINGUAL.name]["none"] > share[BILINGUAL.name]["matched_random"] + 0.2


def test_the_no_op_changes_nothing(demo_atlas: Path) -> None:
    answer = (
        "select max(abs(effect)) as largest, count(*) as n from outcome join intervention using (run_id, intervention) where rule = 'no_op'"
    )
    (row,) = rows(run("sql", answer, "--atlas", demo_atlas).stdout)
    assert float(row["largest"]) == 0.0
    assert int(row["n"]) > 0


def test_p_values_stand_only_where_a_hundred_controls_differ(demo_atlas: Path) -> None:
    text = """
        select e.n_controls, e.p_value, e.q_value, i.n_members
        from effect e
        join intervention i using (run_id, intervention)
        where e.control = 'matched_random'
    """
    with atlas.open(demo_atlas) as reader:
        found = reader.sql(text).rows()
    tested = [row for row in found if row[1] is not None]
    assert tested
    assert all(n_controls >= 100 and 1 / (1 + n_controls) <= p <= 1 and q >= p - 1e-12 for n_controls, p, q, _ in tested)
    assert any(row[1] is None and row[0] < 100 and row[3] == 1 for row in found)


def test_a_notebook_gets_arrow_polars_and_pandas(demo_atlas: Path) -> None:
    with atlas.open(demo_atlas) as reader:
        result = reader.ask("languages/bilingual_features", rate=0.2)
        assert result.arrow().num_rows == result.pl().height == len(result.df()) > 0
        counted = reader.sql("select count(*) as n from feature where layer = $layer", {"layer": 3}).rows()
    assert counted == [(1024,)]


def test_query_prints_csv_in_a_pipe(demo_atlas: Path) -> None:
    answer = rows(run("query", "languages/bilingual_features", "--param", "rate=0.5", "--atlas", demo_atlas).stdout)
    assert answer
    assert all(float(row["lowest"]) >= 0.5 for row in answer)


def test_sql_can_come_from_standard_input(demo_atlas: Path) -> None:
    assert rows(run("sql", "-", "--atlas", demo_atlas, stdin="select 1 as one").stdout) == [{"one": "1"}]


def test_an_exported_table_leads_back_to_run_query_and_atlas(demo_atlas: Path, tmp_path: Path) -> None:
    out = tmp_path / "iou.csv"
    run("export", "table", "languages/iou_by_layer", "--out", out, "--atlas", demo_atlas)
    provenance = json.loads((tmp_path / "iou.csv.provenance.json").read_text())
    assert len(rows(out.read_text())) == 6
    with atlas.open(demo_atlas) as reader:
        newest = [row[0] for row in reader.sql("select run_id from run where name = 'bilingual'").rows()]
        assert provenance["manifest_hash"] == reader.manifest_hash
    assert provenance["run_ids"] == newest
    assert "layer_score" in provenance["sql"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("query", "languages/nothing"), 2, "no question 'languages/nothing'"),
        (("query", "languages/bilingual_features", "-p", "rte=1"), 2, "no parameter 'rte'"),
        (("query", "languages/bilingual_features", "-p", "rate=much"), 2, "rate"),
        (("sql", "delete from run"), 5, "DELETE is not allowed"),
        (("sql", "copy run to 'stolen.csv'"), 5, "COPY is not allowed"),
        (("sql", "attach 'other.duckdb'"), 5, "ATTACH is not allowed"),
        (("sql", "select * from read_csv('README.md')"), 5, "read_csv"),
        (("sql", "select * from 'README.md'"), 5, ""),
        (("sql", "install httpfs"), 5, "not allowed"),
        (("sql", "set lock_configuration = false"), 5, "not allowed"),
        (("sql", "select 1; select 2"), 5, "one"),
        (("sql", "select nothing from run"), 5, "nothing"),
        (("sql", ""), 2, "no SQL"),
        (("runs", "show", "zzzz"), 2, "no run begins with 'zzzz'"),
        (("schema", "tabel"), 2, "tabel"),
        (("export", "table"), 2, "question or --sql"),
    ],
)
def test_bad_questions_get_one_clear_error(demo_atlas: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo_atlas.rglob("*")}
    place = () if arguments[0] == "schema" else ("--atlas", str(demo_atlas))
    result = run(*arguments, *place, code=code)
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert {path: path.stat().st_mtime_ns for path in demo_atlas.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--behaviour", "antonym"), 3, "There is no behaviour 'antonym'"),
        (("--model", "nowhere", "--transcoders", "nowhere"), 3, "There is no model at 'nowhere'"),
        (("--layers", "3-40"), 3, "layer"),
        (("--layers", "a"), 2, "layers are 'a'"),
        (("--until", "lunch"), 2, "until is 'lunch'"),
        (("--gate", "1.1"), 2, "gate is 1.1"),
        (("--gate", "1", "--max-concepts", "24", "--until", "baseline"), 7, "accuracy"),
        (("absent.toml",), 3, "no plan file"),
    ],
)
def test_a_bad_plan_gets_one_clear_error_and_shows_no_run(tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    small = ("--max-concepts", "4", "--until", "baseline")
    folder = tmp_path / "bad.atlas"
    result = run("ingest", *arguments, *(() if "--until" in arguments else small), "--atlas", folder, code=code)
    assert "Traceback" not in result.stderr
    assert message in result.stderr
    assert not (folder / "atlas.duckdb").exists()


def test_wrong_shapes_are_named_before_anything_is_computed(tmp_path: Path) -> None:
    folder = tmp_path / "narrow"
    folder.mkdir()
    shapes = {"W_enc": (16, 32), "W_dec": (16, 32), "b_enc": (16,), "b_dec": (32,)}
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, folder / "layer_0.safetensors")
    (folder / "config.yaml").write_text("model_kind: transcoder_set\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: mlp.hook_out\n")
    result = run("ingest", "--transcoders", folder, "--atlas", tmp_path / "x.atlas", *SMALL, code=3)
    assert "d_model 32" in result.stderr
    assert "64" in result.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small atlas that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "small.atlas"
    run("ingest", *SMALL, "--atlas", folder, "--no-publish")
    return folder


def run_ids(folder: Path) -> list[str]:
    return [row["run_id"] for row in rows(run("runs", "list", "--atlas", folder, "-f", "csv").stdout)]


def test_a_complete_plan_does_nothing_and_another_seed_is_another_run(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small.atlas"
    shutil.copytree(undisturbed, folder)
    manifests = sorted(folder.glob("versions/*"))
    assert "was complete" in run("ingest", *SMALL, "--atlas", folder, "--no-publish").stderr
    assert sorted(folder.glob("versions/*")) == manifests
    run("ingest", *SMALL, "--seed", "1", "--atlas", folder, "--no-publish")
    first, second = run_ids(folder)
    assert first != second
    assert "seed" in run("runs", "diff", first, second, "--atlas", folder, "-f", "csv").stdout


def _killed_after(arguments: tuple[str | Path, ...], watched: Path, pattern: str) -> None:
    """Start `atlas`, wait until files of a pattern appear, and kill it with SIGKILL."""
    command = [sys.executable, "-m", "atlas.cli", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not any(watched.glob(pattern)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it finished before it could be killed"


@pytest.mark.parametrize("stage", ["prompts", "activations"])
def test_a_killed_ingest_goes_on_to_the_same_atlas(undisturbed: Path, tmp_path: Path, stage: str) -> None:
    killed = tmp_path / "killed.atlas"
    _killed_after(("ingest", *SMALL, "--atlas", killed), killed, f"runs/*/done/{stage}*.json")
    assert not (killed / "atlas.duckdb").exists()
    assert run_ids(killed) == []
    run("ingest", *SMALL, "--atlas", killed, "--no-publish")
    (same,) = run_ids(killed)
    assert run_ids(undisturbed) == [same]
    assert tables_equal(killed, undisturbed, same) == []
    assert check(killed) == []


def test_a_killed_publish_leaves_the_old_atlas_and_its_readers(demo_atlas: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo.atlas"
    shutil.copytree(demo_atlas, folder)
    question = "select count(*) from activation"
    with atlas.open(folder) as reader:
        before = reader.sql(question).rows()
        _killed_after(("publish", folder), folder, "atlas.duckdb.next*")
        assert reader.sql(question).rows() == before
        with atlas.open(folder) as second:
            assert second.sql(question).rows() == before
        run("publish", folder)
        assert reader.sql(question).rows() == before
        assert reader.newer_available()
    with atlas.open(folder) as reader:
        assert reader.sql(question).rows() == before
    assert check(folder) == []


def test_a_damaged_shard_is_named_and_not_published(demo_atlas: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo.atlas"
    shutil.copytree(demo_atlas, folder)
    shard = max(folder.glob("data/activation/*/*.parquet"), key=lambda path: path.stat().st_size)
    shard.chmod(0o644)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert shard.name in run("check", folder, "-f", "csv", code=4).stdout
    assert shard.name in run("publish", folder, code=4).stderr
    with atlas.open(folder) as reader:
        assert reader.sql("select count(*) from run").rows() == [(9,)]


def test_a_damaged_database_is_damage_and_not_a_wrong_question(demo_atlas: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo.atlas"
    shutil.copytree(demo_atlas, folder)
    database = folder / "atlas.duckdb"
    database.chmod(0o644)
    content = bytearray(database.read_bytes())
    for place in range(1 << 18, len(content), 1 << 18):
        content[place + 5000 : place + 5064] = bytes(64)
    database.write_bytes(content)
    result = run("sql", "select sum(activation) from activation", "--atlas", folder, code=4)
    assert "atlas publish" in result.stderr
    assert "atlas.duckdb" in run("check", folder, "-f", "csv", code=4).stdout


def test_another_format_version_is_refused(demo_atlas: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo.atlas"
    shutil.copytree(demo_atlas, folder)
    newest = max(folder.glob("versions/" + 8 * "[0-9]" + ".json"))
    text = newest.read_text()
    changed = re.sub(r'"format_version": \d+', '"format_version": 99', text)
    assert changed != text
    newest.chmod(0o644)
    newest.write_text(changed)
    result = run("runs", "list", "--atlas", folder, code=4)
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("atlas: ")


def test_there_is_no_atlas_here(tmp_path: Path) -> None:
    assert "There is no atlas at" in run("query", "features/card", "--atlas", tmp_path / "none.atlas", code=4).stderr
