"""Facts about published models and transcoder sets that imported files name but do not describe.

In: a name. Out: rows of model and transcoder. Unknown names give no row: an import then leaves `run.model_id` null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atlas.ids import sha256_text

Row = dict[str, Any]

MODELS: dict[str, Row] = {
    "Qwen/Qwen3-4B": {"architecture": "Qwen3ForCausalLM", "n_layers": 36, "d_model": 2560, "vocab_size": 151936},
    "google/gemma-2-2b": {"architecture": "Gemma2ForCausalLM", "n_layers": 26, "d_model": 2304, "vocab_size": 256000},
}
"""From each model's published config.json."""
SCANS: dict[str, str] = {"gemma-2-2b": "google/gemma-2-2b", "qwen3-4b": "Qwen/Qwen3-4B"}
"""Neuronpedia's model id -> hub id."""
TRANSCODERS: dict[str, Row] = {
    "mwhanna/qwen3-4b-transcoders": {
        "transcoder_set": "mwhanna/qwen3-4b-transcoders",
        "model": "Qwen/Qwen3-4B",
        "d_transcoder": 163840,
        "activation": "relu",
        "dtype": "bfloat16",
        "has_skip": False,
        "neuronpedia": "qwen3-4b/{layer}-transcoder-hp",
    },
}
"""Per-layer transcoders by hub id; the widths are those of the published files."""


def model_row(name: str, dtype: str) -> Row | None:
    """Return a row of table model, or None for a model that is not listed here. Hashes are not known: the id is of name and dtype."""
    facts = MODELS.get(name)
    if facts is None:
        return None
    return {"model_id": sha256_text(f"import:{name}:{dtype}")[:16], "name": name, "source": name, "dtype": dtype, **facts}


def transcoder_rows(source: str, layers: Sequence[int], model_id: str | None) -> list[Row]:
    """Return rows of table transcoder for the layers of a listed set, else none."""
    facts = TRANSCODERS.get(source)
    if facts is None:
        return []
    return [
        {
            "transcoder_set": facts["transcoder_set"],
            "layer": layer,
            "model_id": model_id,
            "source": source,
            "d_transcoder": facts["d_transcoder"],
            "activation": facts["activation"],
            "dtype": facts["dtype"],
            "has_skip": facts["has_skip"],
            "hook_in": "mlp_in",
            "hook_out": "mlp_out",
            "gain_folded": False,
            "neuronpedia": facts["neuronpedia"].format(layer=layer),
        }
        for layer in layers
    ]


def transcoder_set(source: str) -> str:
    """Return the name of a set in tables: the `scan` of its config, else the source itself."""
    facts = TRANSCODERS.get(source)
    return source if facts is None else str(facts["transcoder_set"])
