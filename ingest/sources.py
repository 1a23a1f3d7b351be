"""Where a plan's model and transcoders lie, and what their files' contents are.

In: `embedded:NAME`, a directory, or a Hugging Face id. Out: a `Source` with the local folder, the name that tables show (never a
local path), and the SHA-256 over its files.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atlas.errors import InputError
from ingest.hashing import file_hash, hash_files

Kind = Literal["model", "transcoders"]

_PATTERNS: dict[Kind, tuple[str, ...]] = {
    "model": ("config.json", "*.safetensors", "tokenizer*", "vocab.json", "merges.txt", "generation_config.json"),
    "transcoders": ("config.yaml", "*.safetensors"),
}


@dataclass(frozen=True)
class Source:
    """A model or a transcoder set on this machine."""

    name: str
    """For tables: `embedded:bilingual`, a hub id, or a directory's name."""
    path: Path

    def content_hash(self, kind: Kind) -> str:
        """SHA-256 over names and contents of the files that matter, in sorted order.

        Weights in several files are read in one go with the hash over all of them, which table `model` shows.
        """
        digest = hashlib.sha256()
        weights = sorted(self.path.glob("*.safetensors"))
        if kind == "model" and len(weights) > 1 and not any(path.is_symlink() for path in weights):
            hash_files(weights)
        files = sorted({file for pattern in _PATTERNS[kind] for file in self.path.glob(pattern) if file.is_file()})
        for file in files:
            digest.update(f"{file.name}\0{file_hash(file)}\n".encode())
        return digest.hexdigest()


def resolve_source(text: str, kind: Kind) -> Source:
    """Find a model or a transcoder set.

    Raises:
        InputError: nothing is there, or the hub cannot be reached and has not been before.
    """
    if text.startswith("embedded:"):
        from ingest.tiny import paths

        name = text.removeprefix("embedded:")
        if name not in paths.NAMES:
            raise InputError(f"There is no embedded model {name!r}.", hint=f"Embedded are: {', '.join(paths.NAMES)}.")
        paths.verify(paths.root(name))
        return Source(text, paths.model_path(name) if kind == "model" else paths.transcoder_path(name))
    path = Path(text).expanduser()
    if path.is_dir():
        return Source(path.resolve().name, path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not path.is_absolute() and not text.startswith("."):
        return Source(text, _download(text, kind))
    raise InputError(
        f"There are no {kind} at {text!r}." if kind == "transcoders" else f"There is no model at {text!r}.",
        hint="Give a directory, a Hugging Face id such as Qwen/Qwen3-4B, or embedded:bilingual.",
    )


def _download(repository: str, kind: Kind) -> Path:
    """Return the local snapshot of a hub repository, fetching what is missing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*_PATTERNS[kind], "*.json"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{repository!r} is not a directory here and cannot be fetched from the Hugging Face hub.",
            hint="Check the id and the network, or download it elsewhere and give the directory.",
        ) from error
