"""Results of other tools, as runs of an atlas.

In: a kind and a path. Out: `ImportedRun`; the caller writes its tables as one run or not at all. `KINDS` says what there is.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from atlas.errors import UsageError
from ingest.importers.common import ImportedRun

KINDS: dict[str, str] = {
    "thesis": "a run folder of the thesis project: prompts, graph, labels, circuits, interventions, arrays",
    "graph": "an attribution graph of circuit-tracer or Neuronpedia (.json, .pt), or a folder of them",
    "neuronpedia": "a Neuronpedia export: features, activations, explanations as JSON Lines, gzipped or not",
}
"""Kind -> what it reads."""

__all__ = ["KINDS", "ImportedRun", "read"]


def read(kind: str, path: str | Path) -> ImportedRun:
    """Read a foreign result.

    Raises UsageError for an unknown kind, InputError (file, line, field, what was expected) for bad input.
    """
    if kind not in KINDS:
        raise UsageError(f"no importer for {kind!r}", hint=f"Kinds: {', '.join(KINDS)}.")
    result: ImportedRun = import_module(f"ingest.importers.{kind}").read(path)
    return result
