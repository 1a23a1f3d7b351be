"""The pipeline on a random-weight Qwen3 directory saved by transformers: all stages, a plan's layers, faults, resuming, streaming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load_file, save_file

import ingest.features
import ingest.model
import ingest.stages
import queries
from atlas.errors import AtlasError, InputError, ModelError
from atlas.folder import Atlas
from atlas.publish import publish
from atlas.runs import list_runs, tables_equal
from atlas.schema import arrow_schema
from atlas.shards import RunWriter
from ingest.pipeline import Outcome, run_plan
from ingest.plan import STAGES, Plan
from ingest.residency import Residency
from ingest.workshop import read_back
from tests.ingest.random_directory import break_weights, write_model, write_transcoders


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan over layers 1 and 2 of 3, small in every respect."""
    folder = tmp_path_factory.mktemp("random")
    return Plan(
        model=str(write_model(folder / "model")),
        transcoders=str(write_transcoders(folder / "transcoders")),
        behaviours=("antonyms",),
        layers=(1, 2),
        max_concepts=24,
        gate=0.0,
        graph_features=20,
        attributed_prompts=4,
        ablated_features=4,
        edited_prompts=160,
        top_features=3,
        control_draws=4,
        circuit_prompts=8,
        random_circuits=4,
        transfer_concepts=2,
        steering=(0.0, 2.0),
    )


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """An atlas with the whole run."""
    folder = tmp_path_factory.mktemp("finished") / "random.atlas"
    return folder, run_plan(folder, plan)


def short(plan: Plan, until: str = "activations", **changes: object) -> Plan:
    """The same plan up to a stage, with fewer prompts."""
    return replace(plan, until=until, max_concepts=2, **changes)  # type: ignore[arg-type]


def test_all_stages_run_and_the_atlas_is_published(finished: tuple[Path, Outcome], plan: Plan) -> None:
    folder, outcome = finished
    assert not outcome.was_complete
    names = sorted(path.stem for path in (folder / "runs" / outcome.run_id / "done").glob("*.json"))
    of_behaviour = [f"{stage}-antonyms" for stage in STAGES[3:]]
    assert names == sorted(["prompts", "baseline", "activations-L1-2", "activations-replaced", "neighbours-L1-2", *of_behaviour])
    assert not (folder / "runs" / outcome.run_id / "scratch").exists()
    publish(folder, build=queries.build_steps(), audits=queries.audits())
    (row,) = list_runs(folder).to_pylist()
    assert (row["name"], row["state"]) == ("antonyms on model", "complete")
    assert run_plan(folder, plan).was_complete


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        ("prompts", "transcoder"),
        ("activations", "activation"),
        ("activations", "feature"),
        ("activations", "neighbour"),
        ("interventions", "intervention_member"),
        ("graph", "node"),
    ],
)
def test_the_layers_of_a_plan_reach_every_stage(finished: tuple[Path, Outcome], stage: str, table: str) -> None:
    folder, outcome = finished
    found = Written(folder, outcome.run_id).table(stage, table)
    assert set(pc.unique(found["layer"]).to_pylist()) <= {1, 2, None}
    assert found.num_rows > 0


def test_attribution_graphs_span_all_layers(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    nodes = Written(folder, outcome.run_id).table("attribution", "node")
    features = nodes.filter(pc.equal(nodes["kind"], "feature"))
    assert set(pc.unique(features["layer"]).to_pylist()) == {0, 1, 2}


def test_a_set_without_every_layer_gets_no_attribution_graphs_and_it_is_said(
    plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transcoders = write_transcoders(tmp_path / "two", layers=2)
    folder = tmp_path / "a.atlas"
    outcome = run_plan(folder, short(plan, "attribution", transcoders=str(transcoders), layers=()))
    assert "no attribution graphs: two has no layers 2" in caplog.text
    assert not Written(folder, outcome.run_id).tables("attribution")


def test_nan_weights_are_one_clear_error(plan: Plan, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    break_weights(model, "model.layers.1.mlp.down_proj.weight")
    with pytest.raises(ModelError, match=r"NaN or infinite values in the (MLP input|MLP output|final)") as caught:
        run_plan(tmp_path / "a.atlas", short(plan, model=str(model)))
    assert caught.value.hint
    assert list_runs(tmp_path / "a.atlas").num_rows == 0


def test_nan_in_an_encoder_names_its_layer(plan: Plan, tmp_path: Path) -> None:
    transcoders = write_transcoders(tmp_path / "transcoders")
    path = transcoders / "layer_2.safetensors"
    tensors = load_file(path)
    tensors["W_enc"][3, 3] = float("inf")
    save_file(tensors, path)
    with pytest.raises(ModelError, match="the encoder of layer 2 of transcoders has NaN or infinite weights"):
        run_plan(tmp_path / "a.atlas", short(plan, transcoders=str(transcoders)))


def test_a_tokenizer_without_the_answers_is_refused_or_does_without(plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    behaviour = tmp_path / "rare.toml"
    text = 'name = "rare"\ntitle = "t"\ncomputation_type = "abstract_mapping"\nn_distractors = 1\n'
    text += '[[template]]\nname = "a"\nlanguage = "en"\ntext = "The opposite of {operand} is"\n'
    for operand, answer in (("hot", "cold"), ("big", "small"), ("clear", "opaque")):
        text += f'[[concept]]\nname = "{operand}"\nen = {{ operand = "{operand}", answer = "{answer}" }}\n'
    behaviour.write_text(text)
    asked = short(plan, "baseline", behaviours=(str(behaviour),))
    asked = replace(asked, max_concepts=0)
    with pytest.raises(InputError, match="' opaque' is 7 tokens, not one") as caught:
        run_plan(tmp_path / "a.atlas", asked)
    assert "--drop-multitoken" in str(caught.value)
    assert not (tmp_path / "a.atlas").exists()
    run_plan(tmp_path / "b.atlas", replace(asked, drop_multitoken=True))
    assert "1 of 3 prompts are left out" in caplog.text
    (row,) = list_runs(tmp_path / "b.atlas").to_pylist()
    assert row["state"] == "complete"


def test_a_model_without_a_tokenizer_is_named(plan: Plan, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    for file in model.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(InputError, match="Model model has no tokenizer"):
        run_plan(tmp_path / "a.atlas", short(plan, model=str(model)))


def test_transcoders_that_do_not_fit_are_named_before_the_model_loads(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.model, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    wide = write_transcoders(tmp_path / "wide", d_model=32)
    with pytest.raises(InputError, match="have d_model 32, the model model has 64"):
        run_plan(tmp_path / "a.atlas", short(plan, transcoders=str(wide)))
    deep = write_transcoders(tmp_path / "deep", layers=4)
    with pytest.raises(InputError, match="have a layer 3, the model model has 3 layers"):
        run_plan(tmp_path / "a.atlas", short(plan, transcoders=str(deep)))
    with pytest.raises(InputError, match="have no layer 7"):
        run_plan(tmp_path / "a.atlas", short(plan, layers=(1, 7)))
    assert not (tmp_path / "a.atlas").exists()


def test_batches_halve_when_memory_runs_out(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_plan(tmp_path / "roomy.atlas", short(plan, batch_size=8))
    decode = ingest.model.LanguageModel._decode

    def cramped(self: ingest.model.LanguageModel, tokens: torch.Tensor, mask: torch.Tensor, gradients: bool) -> torch.Tensor:
        if len(tokens) > 2:
            error = torch.cuda.OutOfMemoryError("CUDA out of memory")
            raise ModelError(f"out of memory with {len(tokens)} prompts", hint="use a smaller --batch-size") from error
        return decode(self, tokens, mask, gradients)

    monkeypatch.setattr(ingest.model.LanguageModel, "_decode", cramped)
    outcome = run_plan(tmp_path / "cramped.atlas", short(plan, until="baseline", batch_size=8))
    assert "going on with 2" in caplog.text
    whole = run_plan(tmp_path / "roomy.atlas", short(plan, until="baseline", batch_size=8))
    first = Written(tmp_path / "cramped.atlas", outcome.run_id).table("baseline", "baseline")
    second = Written(tmp_path / "roomy.atlas", whole.run_id).table("baseline", "baseline")
    assert first["prompt"].equals(second["prompt"])
    assert max(abs(a - b) for a, b in zip(first["margin"].to_pylist(), second["margin"].to_pylist(), strict=True)) < 1e-4


def test_an_interrupted_run_goes_on_to_the_same_tables(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = short(plan, "communities")
    whole = run_plan(tmp_path / "whole.atlas", asked)
    calls: list[str] = []
    functions = dict(ingest.stages.FUNCTIONS)

    def stop(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    def counted(kind: str) -> Any:
        def compute(shop: Any, shards: Any) -> Any:
            calls.extend(shard.name for shard in shards)
            return functions[kind](shop, shards)

        return compute

    monkeypatch.setattr(ingest.stages, "FUNCTIONS", {**functions, "graph": stop})
    with pytest.raises(KeyboardInterrupt):
        run_plan(tmp_path / "stopped.atlas", asked)
    assert list_runs(tmp_path / "stopped.atlas").num_rows == 0
    monkeypatch.setattr(ingest.stages, "FUNCTIONS", {kind: counted(kind) for kind in functions})
    resumed = run_plan(tmp_path / "stopped.atlas", asked)
    assert calls == ["graph-antonyms", "communities-antonyms"]
    assert resumed.run_id == whole.run_id
    assert tables_equal(tmp_path / "whole.atlas", tmp_path / "stopped.atlas", whole.run_id) == []


def test_a_memory_budget_bounds_what_is_resident_and_changes_no_number(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = 128 * 64 * 4
    most: list[int] = []
    make_room = Residency._make_room

    def watched(self: Residency, size: int) -> None:
        make_room(self, size)
        most.append(self.used + size)

    monkeypatch.setattr(Residency, "_make_room", watched)
    free = run_plan(tmp_path / "free.atlas", short(plan))
    assert max(most) > matrix
    most.clear()
    tight = run_plan(tmp_path / "tight.atlas", short(plan, memory_budget=str(matrix)))
    assert 0 < max(most) <= matrix
    assert free.run_id == tight.run_id
    assert tables_equal(tmp_path / "free.atlas", tmp_path / "tight.atlas", free.run_id) == []


def test_a_corpus_is_a_run_of_its_own_that_resumes(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(plan, corpus="embedded", corpus_tokens=2000)
    cards = ingest.features.cards

    def stop(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest.features, "cards", stop)
    folder = tmp_path / "corpus.atlas"
    with pytest.raises(KeyboardInterrupt):
        run_plan(folder, asked)
    monkeypatch.setattr(ingest.features, "cards", cards)
    outcome = run_plan(folder, asked)
    written = Written(folder, outcome.run_id)
    assert set(pc.unique(written.table("corpus", "feature")["layer"]).to_pylist()) == {1, 2}
    assert set(pc.unique(written.table("corpus", "document")["language"]).to_pylist()) == {"en", "fr", "xx"}
    assert set(pc.unique(written.table("corpus", "context")["source"]).to_pylist()) == {"document"}
    assert not (folder / "runs" / outcome.run_id / "scratch").exists()
    run_plan(folder, short(plan))
    publish(folder, build=queries.build_steps(), audits=queries.audits())
    assert [row["name"] for row in list_runs(folder).to_pylist()] == ["corpus embedded on model", "antonyms on model"]


def test_a_corpus_that_is_not_there_is_named(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match=r"corpus file nothing\.parquet does not exist"):
        run_plan(tmp_path / "a.atlas", replace(plan, corpus=str(tmp_path / "nothing.parquet")))


def test_a_table_without_rows_is_read_back_without_rows(plan: Plan, tmp_path: Path) -> None:
    plan_row = {"any": "plan"}
    with RunWriter(Atlas.create(tmp_path / "a.atlas"), plan_row, "0123456789abcdef") as writer:
        writer.commit("graph", {"edge": arrow_schema("edge").empty_table()})
        assert read_back(writer, "graph")["edge"].num_rows == 0


class Written:
    """Reads back what a run committed, the shards of a stage joined."""

    def __init__(self, folder: Path, run_id: str) -> None:
        path = folder / "runs" / run_id / "plan.json"
        self.writer = RunWriter(Atlas(folder), json.loads(path.read_text()), run_id)

    def tables(self, stage: str) -> dict[str, pa.Table]:
        prefixes = (stage, "neighbours", "labels") if stage in ("activations", "corpus") else (stage,)
        found: dict[str, list[pa.Table]] = {}
        for shard in self.writer.done_shards():
            if shard.startswith(prefixes):
                for name, table in read_back(self.writer, shard).items():
                    found.setdefault(name, []).append(table)
        return {name: pa.concat_tables(parts) for name, parts in found.items()}

    def table(self, stage: str, name: str) -> pa.Table:
        return self.tables(stage)[name]
