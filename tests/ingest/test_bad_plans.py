"""Plans that cannot work, from the command line: one clear error that names what is wrong, before any work where that can be known."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import ingest.model
from atlas.cli import main
from atlas.errors import InputError
from ingest.design import check_design, design_lines
from ingest.job import prepare
from ingest.plan import Plan, read_plan
from tests.ingest.random_directory import break_weights, write_model, write_transcoders

RARE = """name = "rare"
title = "t"
computation_type = "abstract_mapping"
n_distractors = 1
[[template]]
name = "a"
language = "en"
text = "The opposite of {operand} is"
"""


def atlas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Run the command line in this process; return the exit code and what it said."""
    monkeypatch.setattr(sys, "argv", ["atlas", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--layers", "3-40"), 3, "layer"),
        (("--max-concepts", "2"), 3, "antonyms has 1 train concepts, too few for a test of causal edges: at least 3"),
        (("--max-concepts", "2", "--until", "interventions"), 3, "by the stage interventions"),
    ],
)
def test_it_fails_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(ingest.model, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    found, said = atlas(monkeypatch, capsys, "ingest", *arguments, "--atlas", tmp_path / "a.atlas")
    assert (found, said.count("atlas: ")) == (code, 1)
    assert message in said
    assert not (tmp_path / "a.atlas").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("top_features = 0", "top_features is 0, expected at least 1"), ("control_draws = -1", "control_draws is -1, expected at least 0")],
)
def test_an_empty_set_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "plan.toml").write_text(text)
    code, said = atlas(monkeypatch, capsys, "ingest", tmp_path / "plan.toml", "--atlas", tmp_path / "a.atlas")
    assert code == 2
    assert message in said


def test_an_answer_of_several_tokens_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    concepts = "".join(
        f'[[concept]]\nname = "{operand}"\nen = {{ operand = "{operand}", answer = "{answer}" }}\n'
        for operand, answer in (("hot", "cold"), ("big", "small"), ("clear", "opaque"))
    )
    (tmp_path / "rare.toml").write_text(RARE + concepts)
    code, said = atlas(monkeypatch, capsys, "ingest", "-b", tmp_path / "rare.toml", "--languages", "", "--atlas", tmp_path / "a.atlas")
    assert code == 3
    assert "' opaque' is 7 tokens, not one" in said


@pytest.mark.parametrize(
    ("change", "message"), [("L1_F99999=0", "L1_F99999: layer 1 of embedded:bilingual has 512 features"), ("L9_F1=0", "layer 9")]
)
def test_an_unknown_feature_or_layer_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    asked = ("--model", "embedded:bilingual", "--prompt", "The opposite of hot is", "--set", change)
    code, said = atlas(monkeypatch, capsys, "steer", *asked)
    assert code in (2, 3)
    assert message in said


def test_weights_that_are_not_numbers_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model, transcoders = write_model(tmp_path / "model"), write_transcoders(tmp_path / "transcoders")
    small = ("--max-concepts", "2", "--until", "activations", "--gate", "0", "--atlas", tmp_path / "a.atlas")
    tensors = load_file(transcoders / "layer_2.safetensors")
    tensors["W_enc"][3, 3] = float("nan")
    save_file(tensors, transcoders / "layer_2.safetensors")
    code, said = atlas(monkeypatch, capsys, "ingest", "--model", model, "--transcoders", transcoders, *small)
    assert code == 6
    assert "the encoder of layer 2 of transcoders has NaN or infinite weights" in said
    break_weights(model, "model.layers.1.mlp.down_proj.weight")
    code, said = atlas(monkeypatch, capsys, "ingest", "--model", model, "--transcoders", transcoders, *small)
    assert code == 6
    assert "NaN or infinite values in the" in said


def test_what_a_plan_can_show_is_said_from_its_own_numbers() -> None:
    job = prepare(read_plan(max_concepts=24, edited_prompts=128, control_draws=999))
    (line,) = design_lines(job.plan, job.prompts)
    assert line.startswith("antonyms: 72 held-out prompts; 8 concepts: smallest two-sided p of a sign flip 0.0078")
    assert "999 matched random controls (control_draws): smallest p 0.001 one-sided, 0.002 two-sided" in line
    assert "power .8 at p < .05: 1.2 standard deviations" in line
    (few,) = design_lines(replace(job.plan, control_draws=99), job.prompts)
    assert "99 matched random controls (control_draws): no p-value against them, which takes 100" in few


def test_concepts_are_counted_by_what_the_stages_measure() -> None:
    job = prepare(read_plan(max_concepts=2, until="communities"))

    def checked(**changes: object) -> None:
        check_design(replace(job.plan, **changes), job.prompts)  # type: ignore[arg-type]

    checked()
    with pytest.raises(InputError, match="has 1 train concepts, too few for a test of causal edges"):
        checked(until="circuits")
    many = prepare(Plan(max_concepts=24, until="communities", transcoders="embedded:bilingual"))
    check_design(replace(many.plan, until="circuits"), many.prompts)
    with pytest.raises(InputError, match="measured on 2 held-out concepts"):
        check_design(replace(many.plan, until="circuits", circuit_prompts=2), many.prompts)
    held_out = tuple(replace(prompt, split="test") for prompt in many.prompts.prompts)
    with pytest.raises(InputError, match="no prompt of the train split"):
        check_design(replace(many.plan, until="circuits"), replace(many.prompts, prompts=held_out))
