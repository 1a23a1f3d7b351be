"""Plans: validated, hashed descriptions of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.errors import AtlasError, InputError
from atlas.ids import canonical_json
from ingest.hashing import file_hash
from ingest.plan import Plan, parse_layers, read_plan
from ingest.sources import resolve_source


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('layers = "1-3"\nseed = 4\nlanguages = ["en"]\n')
    plan = read_plan(path, seed=5, languages=None)
    assert (plan.layers, plan.seed, plan.languages) == ((1, 2, 3), 5, ("en",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("laeyrs = '1'", "unknown field 'laeyrs'"),
        ("seed = 'one'", "seed is 'one', expected int"),
        ("behaviours = 'antonyms'", "expected a list"),
        ("top_features = 0", "top_features is 0, expected at least 1"),
        ("until = 'lunch'", "until is 'lunch'"),
        ("dtype = 'int8'", "dtype is 'int8'"),
        ("splits = []", "splits are"),
        ("layers = '5-2'", "layers are '5-2'"),
        ("model = 'some/where'", "has no transcoders"),
        ("= 3", "not a TOML file"),
    ],
)
def test_a_wrong_plan_is_refused_by_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(AtlasError, match=message):
        read_plan(path)


def test_a_missing_plan_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no plan file"):
        read_plan(tmp_path / "absent.toml")


def test_layers_are_ranges_and_lists() -> None:
    assert parse_layers("10-12, 30") == (10, 11, 12, 30)


def test_identity_leaves_out_how_and_where_to_run() -> None:
    hashes = {"model": "a", "transcoders": "b", "prompts": "c"}
    here = Plan(model="/data/x", transcoders="/data/y", name="n", device="cpu", batch_size=1)
    there = Plan(model="/other/x", transcoders="/other/y", name="n", device="cuda", batch_size=64)
    assert canonical_json(here.identity(hashes)) == canonical_json(there.identity(hashes))
    assert here.identity(hashes) != Plan(model="/data/x", name="n", seed=1).identity(hashes)
    assert here.identity(hashes) != here.identity(hashes | {"model": "z"})


def test_a_blob_of_the_hub_cache_is_not_hashed_again(tmp_path: Path) -> None:
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"weights")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert file_hash(link) == "0" * 64
    assert file_hash(blob) != "0" * 64


@pytest.mark.parametrize("text", ["embedded:huge", "./nowhere", "nowhere"])
def test_a_source_that_is_not_there_says_what_can_be_given(text: str) -> None:
    with pytest.raises(InputError, match=r"(?i)embedded|directory"):
        resolve_source(text, "model")
