"""`atlas plan`: stages, counts and refusals from headers and slopes, without loading large weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import ingest.estimate as subject
from atlas.errors import InputError, ModelError, StoreError
from atlas.folder import Atlas
from ingest.estimate import duration, estimate, size
from ingest.pipeline import run_plan
from ingest.plan import STAGES, Plan, read_plan
from ingest.rates import Rates
from tests.ingest.random_directory import write_config_of_qwen3_4b, write_headers, write_model, write_transcoders

SLOW = Rates(matmul=1e11, layer=1e-3, read=1e9, write=1e8, row_bytes=3.0, hashing=1e9)


@pytest.fixture
def given_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put fixed slopes in place of measured ones, so that what follows is arithmetic."""
    monkeypatch.setattr(subject, "layer_seconds", lambda *_: SLOW.layer)
    monkeypatch.setattr(subject, "matmul_rate", lambda *_: SLOW.matmul)
    monkeypatch.setattr(subject, "disk_rates", lambda *_: (SLOW.read, SLOW.write, SLOW.row_bytes, SLOW.hashing))


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Qwen3-4B's config.json and the headers of 36 layers of 163,840 features, in kilobytes of disk."""
    folder = tmp_path_factory.mktemp("full")
    return Plan(
        model=str(write_config_of_qwen3_4b(folder / "Qwen3-4B")),
        transcoders=str(write_headers(folder / "transcoders", layers=36, d_model=2560, width=163_840)),
        behaviours=("antonyms_qwen",),
        layers=tuple(range(10, 26)),
        dtype="bfloat16",
        memory_budget="4GB",
    )


def test_the_embedded_model_is_measured_and_fits(tmp_path: Path) -> None:
    found = estimate(read_plan(max_concepts=24), tmp_path / "new.atlas")
    found.refuse()
    assert [stage.stage for stage in found.stages] == list(STAGES)
    assert found.amount.counted
    assert found.active_from == "measured"
    assert 1 < found.active < 100
    assert all(stage.seconds >= 0 and stage.device_bytes > 0 for stage in found.stages)
    assert min(found.rates.matmul, found.rates.write, found.rates.read, found.rates.hashing, found.rates.row_bytes) > 0
    assert not (tmp_path / "new.atlas").exists()
    assert len(list(found.narration())) == 4


@pytest.mark.usefixtures("given_rates")
def test_rows_agree_with_a_run(tmp_path: Path) -> None:
    plan = Plan(
        model=str(write_model(tmp_path / "model")),
        transcoders=str(write_transcoders(tmp_path / "transcoders")),
        layers=(1, 2),
        max_concepts=8,
        gate=0.0,
        until="activations",
    )
    found = estimate(plan, tmp_path / "a.atlas")
    outcome = run_plan(tmp_path / "a.atlas", plan)
    records = {stage.stage: stage.rows for stage in found.stages}
    run = Atlas(tmp_path / "a.atlas").find_run(outcome.run_id)
    rows = dict.fromkeys(records, 0)
    for record in Atlas(tmp_path / "a.atlas").records(run):
        stage = record.shard.partition("-")[0].replace("neighbours", "activations")
        rows[stage] += sum(item.rows for item in record.files)
    for stage, expected in rows.items():
        assert expected / 2 < records[stage] < expected * 2, stage


@pytest.mark.usefixtures("given_rates")
def test_full_size_is_estimated_from_config_and_headers_alone(full_size: Plan, tmp_path: Path) -> None:
    found = estimate(full_size, tmp_path)
    assert found.shapes.parameters == 4_022_468_096
    assert found.shapes.matrix == 838_860_800
    assert found.shapes.set_layers == 36
    assert len(found.shapes.layers) == 16
    assert (found.active, found.active_from) == (subject.ASSUMED_ACTIVE, "assumed")
    assert not found.amount.counted
    assert estimate(full_size, tmp_path, active=40).active_from == "given"


@pytest.mark.usefixtures("given_rates")
def test_a_memory_budget_lowers_what_the_device_must_hold(full_size: Plan, tmp_path: Path) -> None:
    def needed(plan: Plan) -> int:
        return next(stage.device_bytes for stage in estimate(plan, tmp_path).stages if stage.stage == "activations")

    streaming, resident = needed(full_size), needed(replace(full_size, memory_budget=""))
    assert resident - streaming == 2 * 16 * 838_860_800 - 4_000_000_000


@pytest.mark.usefixtures("given_rates")
@pytest.mark.parametrize(
    ("changes", "free", "error", "message"),
    [
        ({"memory_budget": "500MB"}, {}, InputError, "the memory budget is 500MB, one encoder of bfloat16 is 839MB"),
        ({"memory_budget": ""}, {"free_device": 24_000_000_000}, ModelError, "on cpu, 24.0GB are free"),
        ({}, {"free_device": 1 << 50, "free_host": 2_000_000_000}, ModelError, "of host memory, 2.0GB are free"),
        ({}, {"free_device": 1 << 50, "free_host": 1 << 50, "free_disk": 1_000_000}, StoreError, "of disk, 1.0MB are free"),
    ],
)
def test_what_cannot_fit_is_refused_with_a_next_step(
    full_size: Plan, tmp_path: Path, changes: dict[str, str], free: dict[str, int], error: type[Exception], message: str
) -> None:
    found = estimate(replace(full_size, **changes), tmp_path)  # type: ignore[arg-type]
    for name, value in free.items():
        setattr(found, name, value)
    with pytest.raises(error, match=message) as caught:
        found.refuse()
    assert "--" in str(caught.value)


@pytest.mark.usefixtures("given_rates")
def test_one_card_of_24_gigabytes_is_told_to_stream(full_size: Plan, tmp_path: Path) -> None:
    resident = estimate(replace(full_size, memory_budget="", until="interventions", attributed_prompts=0), tmp_path)
    resident.free_device = 24_000_000_000
    with pytest.raises(ModelError, match="let layers stream: --memory-budget"):
        resident.refuse()
    streaming = estimate(replace(full_size, until="interventions", attributed_prompts=0), tmp_path)
    streaming.free_device, streaming.free_host = 24_000_000_000, 64_000_000_000
    streaming.refuse()


@pytest.mark.usefixtures("given_rates")
def test_a_corpus_is_one_stage(tmp_path: Path) -> None:
    found = estimate(read_plan(corpus="embedded", corpus_tokens=5000), tmp_path)
    assert [stage.stage for stage in found.stages] == ["corpus"]
    assert found.amount.tokens == 5000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (3, 40)}, "have no layer 40"),
        ({"model": "nobody/nothing", "transcoders": "nobody/nothing"}, "not on this machine, and a plan downloads nothing"),
        ({"model": "embedded:huge"}, "no embedded model"),
    ],
)
def test_wrong_plans_are_named_before_anything_is_measured(full_size: Plan, tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(replace(full_size, **changes), tmp_path)  # type: ignore[arg-type]


def test_transcoders_of_another_model_are_named(full_size: Plan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have d_model 64, the model Qwen3-4B has 2560"):
        estimate(replace(full_size, transcoders=str(write_transcoders(tmp_path / "small")), layers=()), tmp_path)


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no device 'cuda:63'"):
        estimate(read_plan(device="cuda:63"), tmp_path)


def test_another_machine_can_be_assumed(full_size: Plan, tmp_path: Path) -> None:
    plan = replace(full_size, device="cuda")
    slow, fast = (estimate(plan, tmp_path, tflops=tflops, device_memory=24_000_000_000) for tflops in (10, 100))
    first, second = (next(stage for stage in found.stages if stage.stage == "interventions") for found in (slow, fast))
    assert first.device_bytes == second.device_bytes
    assert 9 < first.seconds / second.seconds < 10.1
    assert slow.free_device == 24_000_000_000
    assert "given, not measured: matrix products 10.0 TFLOP/s" in " ".join(slow.narration())


def test_sizes_and_times_are_written_for_people() -> None:
    assert [size(n) for n in (12, 1500, 838_860_800, 6e10, 2e12)] == ["12B", "1.5kB", "839MB", "60.0GB", "2.0TB"]
    assert [duration(n) for n in (3, 600, 7200, 1e6)] == ["3 s", "10 min", "2.0 h", "11.6 d"]
