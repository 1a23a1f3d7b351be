"""Import attribution graphs of circuit-tracer and Neuronpedia: `.json` files, `.pt` files, or a folder of them, as one run.

In: a file or folder. Out: `ImportedRun` with one graph, prompt and token list a file. See graph_json.py and graph_pt.py for the two
formats. All graphs of a folder must be of one model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atlas.errors import InputError
from atlas.ids import sha256_text
from ingest.importers.common import ImportedRun, existing, hash_files, make_plan, make_run_row, to_tables
from ingest.importers.graph_json import read_graph_json
from ingest.importers.graph_pt import read_graph_pt
from ingest.importers.graph_rows import BEHAVIOUR, ForeignGraph, prompt_rows
from ingest.importers.models import SCANS, model_row

VERSION = 1
METHOD = "Imported attribution graphs, pruned by the tool that made them: nodes and edges below its thresholds are absent."
METADATA = "graph-metadata.json"
"""circuit-tracer's list of a folder's graphs; it repeats what the graphs say."""


def read(path: str | Path) -> ImportedRun:
    """Read graph files.

    Raises InputError, with file, node or link, field and what was expected, for anything that does not fit.
    """
    root = existing(Path(path))
    files = [root] if root.is_file() else sorted([*root.glob("*.json"), *root.glob("*.pt")])
    files = [file for file in files if file.name != METADATA]
    if not files:
        raise InputError(f"{root}: expected graph files (.json, .pt), got none")
    graphs = [_read_one(file, ordinal) for ordinal, file in enumerate(files)]
    scans = sorted({graph.scan for graph in graphs if graph.scan})
    if len(scans) > 1:
        raise InputError(f"{root.name}: expected graphs of one model, got {', '.join(scans)}", hint="Import each model's graphs apart.")
    plan = make_plan("graph", VERSION, hash_files(root, files))
    model = model_row(SCANS.get(scans[0], scans[0]), "bfloat16") if scans else None
    rows = prompt_rows(graphs)
    rows["model"] = [model] if model else []
    tables: dict[str, Any] = to_tables(rows)
    for table in ("graph", "node", "edge", "partition", "supernode"):
        parts = [graph.tables[table] for graph in graphs if table in graph.tables]
        if parts:
            tables[table] = _chained(parts)
    sets = {graph.transcoder_set for graph in graphs} - {None}
    run_row = make_run_row(
        plan,
        graphs[0].name if len(graphs) == 1 else f"{BEHAVIOUR} ({len(graphs)})",
        METHOD,
        model_id=model["model_id"] if model else None,
        transcoder_set=sets.pop() if len(sets) == 1 else None,
        prompt_set_hash=sha256_text("\n".join(graph.prompt_hash for graph in graphs)),
    )
    return ImportedRun(plan, run_row, tables, tuple(note for graph in graphs for note in graph.notes))


def _read_one(file: Path, ordinal: int) -> ForeignGraph:
    if file.suffix == ".json":
        return read_graph_json(file, ordinal)
    if file.suffix == ".pt":
        return read_graph_pt(file, ordinal)
    raise InputError(f"{file.name}: expected a graph file (.json or .pt), got {file.suffix or 'no ending'}")


def _chained(parts: list[Any]) -> Any:
    """Join tables; streams stay streams."""
    import pyarrow as pa

    if all(isinstance(part, pa.Table) for part in parts):
        return pa.concat_tables(parts)
    return (batch for part in parts for batch in (part.to_batches() if isinstance(part, pa.Table) else part))
