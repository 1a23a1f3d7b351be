"""Weights are read once to be hashed, whatever asks for their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from ingest import hashing
from ingest.model import load_model
from ingest.sources import Source
from tests.ingest.random_directory import write_model


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that hashing opens, from an empty memory on."""
    names: list[str] = []
    real = Path.open

    def watched(self: Path, *arguments: Any, **options: Any) -> Any:
        names.append(self.name)
        return real(self, *arguments, **options)

    monkeypatch.setattr(hashing, "_DIGESTS", {})
    monkeypatch.setattr(Path, "open", watched)
    return names


def test_the_run_and_the_table_read_the_weights_once(tmp_path: Path, opened: list[str]) -> None:
    path = write_model(tmp_path / "model")
    model, expected = load_model(path), hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    opened.clear()
    Source("model", path).content_hash("model")
    assert opened.count("model.safetensors") == 1
    assert model.row()["weights_hash"] == expected
    assert opened.count("model.safetensors") == 1


def test_weights_in_several_files_are_read_once(tmp_path: Path, opened: list[str]) -> None:
    for number in (1, 2):
        (tmp_path / f"model-{number}.safetensors").write_bytes(bytes([number]) * 1000)
    opened.clear()
    Source("model", tmp_path).content_hash("model")
    both = sorted(tmp_path.glob("*.safetensors"))
    assert hashing.hash_files(both) == hashlib.sha256(bytes([1]) * 1000 + bytes([2]) * 1000).hexdigest()
    assert hashing.file_hash(both[1]) == hashlib.sha256(bytes([2]) * 1000).hexdigest()
    assert opened.count("model-1.safetensors") == opened.count("model-2.safetensors") == 1


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    before = hashing.file_hash(file)
    file.write_bytes(b"three")
    assert hashing.file_hash(file) == hashlib.sha256(b"three").hexdigest() != before
