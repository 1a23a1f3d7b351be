"""What both graph formats become: `ForeignGraph`, and its prompt, tokens and nodes as rows.

In: values read from a file. Out: rows of schema.sql without run_id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atlas.ids import feature_name, sha256_text
from ingest.importers.thesis.files import Rows

BEHAVIOUR = "imported_graphs"
UNDETERMINED = "und"
"""ISO 639 code for a language that the file does not say."""


@dataclass(frozen=True)
class ForeignGraph:
    """One graph file."""

    name: str
    prompt: str
    tokens: Sequence[str]
    token_ids: Sequence[int | None]
    scan: str | None
    """Neuronpedia's or circuit-tracer's name of the model."""
    transcoder_set: str | None
    tables: Mapping[str, Any]
    """graph, node, edge, and where there are supernodes partition and supernode."""
    notes: tuple[str, ...]

    @property
    def prompt_hash(self) -> str:
        """SHA-256 (16 hex) of language and text: these files name no answers."""
        return sha256_text(f"{UNDETERMINED}\x1f{self.prompt}")[:16]


def prompt_rows(graphs: Sequence[ForeignGraph]) -> Rows:
    """Return rows of behaviour, prompt and token: one prompt a graph."""
    behaviour = {
        "behaviour": BEHAVIOUR,
        "title": "Prompts of imported attribution graphs",
        "languages": [UNDETERMINED],
        "n_prompts": len(graphs),
        "prompt_set_hash": sha256_text("\n".join(graph.prompt_hash for graph in graphs)),
    }
    prompts = [
        {
            "prompt": ordinal,
            "behaviour": BEHAVIOUR,
            "prompt_hash": graph.prompt_hash,
            "language": UNDETERMINED,
            "concept": graph.name,
            "template": "imported",
            "split": "train",
            "text": graph.prompt,
            "n_tokens": len(graph.tokens),
        }
        for ordinal, graph in enumerate(graphs)
    ]
    tokens = [
        {
            "source": "prompt",
            "item": ordinal,
            "position": position,
            "token_id": token_id,
            "token": token,
            "role": "sink" if position == 0 else "decision" if position == len(graph.tokens) - 1 else "other",
        }
        for ordinal, graph in enumerate(graphs)
        for position, (token, token_id) in enumerate(zip(graph.tokens, graph.token_ids, strict=True))
    ]
    return {"behaviour": [behaviour], "prompt": prompts, "token": tokens}


def node_label(kind: str, layer: int | None, feature: int | None, position: int, text: str) -> str:
    """Name a node as ingest does: `L20_F1454 @7`, `error L3 @7`, or the token's text."""
    if kind == "feature" and layer is not None and feature is not None:
        return f"{feature_name(layer, feature)} @{position}"
    return f"error L{layer} @{position}" if kind == "error" else text


def cantor(layer: int, feature: int) -> int:
    """Pair layer and feature as graph files with a schema_version do; the result can exceed 32 bits."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature
