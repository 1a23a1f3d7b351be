"""Names of things: run ids from plans, feature names, hashes.

In: plain values. Out: text. Nothing here reads an atlas.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atlas.errors import InputError, UsageError
from atlas.files import reading

FEATURE_PATTERN = re.compile(r"^\s*[Ll](\d+)[_./ -]?[Ff](\d+)\s*$")
"""`L20_F1454`: this project's spelling."""
NEURONPEDIA_PATTERN = re.compile(r"^\s*(?:[^/\s]+/)?(\d+)-[^/\s]+/(\d+)\s*$")
"""`qwen3-4b/20-transcoder-hp/1454`: Neuronpedia's."""
TRACER_PATTERN = re.compile(r"^\s*(\d+)_(\d+)(?:_\d+)?\s*$")
"""`20_1454_7`: circuit-tracer's (layer, feature, position)."""
RUN_ID_PATTERN = re.compile(r"^[0-9a-f]{16}$")
SHARD_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.=-]{0,127}$")


def canonical_json(value: Any) -> str:
    """Write a value as the one JSON text that equal values share: sorted keys, no spaces, no NaN.

    Raises InputError for what JSON cannot hold.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"not representable as canonical JSON: {error}") from error


def sha256_text(text: str) -> str:
    """Give the SHA-256 of a text's UTF-8 bytes, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Give the SHA-256 of a file's bytes, 64 hex digits.

    Raises FileNotFoundError, DamagedError where the disk cannot give them, StoreError where only this process may not have them.
    """
    with reading(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def run_id(plan: Mapping[str, Any]) -> str:
    """Give a plan's run id: the first 16 hex digits of the SHA-256 of its canonical JSON.

    The plan holds the hashes of model, transcoders and prompts, so equal ids mean equal inputs.
    """
    return sha256_text(canonical_json(plan))[:16]


def new_id() -> str:
    """Give 16 random hex digits, for labels and notes."""
    return secrets.token_hex(8)


def check_run_id(text: str) -> str:
    """Return a well-formed run id; raise UsageError for anything else."""
    if not RUN_ID_PATTERN.match(text):
        raise UsageError(f"not a run id: {text!r}", hint="A run id is 16 hex digits; `atlas runs` lists them.")
    return text


def check_shard(text: str) -> str:
    """Return a well-formed shard name; raise UsageError for one that could leave its folder."""
    if not SHARD_PATTERN.match(text):
        raise UsageError(f"not a shard name: {text!r}", hint="Letters, digits, '_', '.', '=' and '-', at most 128.")
    return text


def feature_name(layer: int, feature: int) -> str:
    """Name a feature as people write it: `L20_F1454`."""
    return f"L{layer}_F{feature}"


def parse_feature(text: str) -> tuple[int, int]:
    """Read (layer, feature) from `L20_F1454`, `qwen3-4b/20-transcoder-hp/1454` or `20_1454_7`.

    Raises UsageError for anything else.
    """
    for pattern in (FEATURE_PATTERN, NEURONPEDIA_PATTERN, TRACER_PATTERN):
        if match := pattern.match(text):
            return int(match.group(1)), int(match.group(2))
    raise UsageError(
        f"not a feature: {text!r}",
        hint="Write L20_F1454, qwen3-4b/20-transcoder-hp/1454 or 20_1454_7.",
    )
