"""Import a run folder of the thesis project: one folder, one run.

In: a folder with any of prompts, attribution graph, node labels, communities, causal edges, circuits, interventions, IoU,
bridges, baselines, top-k arrays. Out: `ImportedRun`. What each file becomes stands in docs/import.md.

1. Find the files by name; hash all of them (the plan).
2. Prompts, keyed by content; every other file is checked against them.
3. Graph, labels, communities, causal edges; circuits and what was measured of them; interventions, with the place they were
   really made at; arrays, fillers dropped; baselines, with the model they were measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from atlas.errors import InputError
from ingest.importers.common import ImportedRun, existing, hash_files, make_plan, make_run_row, to_tables
from ingest.importers.models import model_row, transcoder_rows, transcoder_set
from ingest.importers.thesis.arrays import read_arrays
from ingest.importers.thesis.circuits import read_circuits
from ingest.importers.thesis.files import TRANSCODERS, Files, Rows, find_files
from ingest.importers.thesis.graphs import GraphRows, read_graphs
from ingest.importers.thesis.interventions import read_interventions
from ingest.importers.thesis.measures import read_measures
from ingest.importers.thesis.prompts import Prompts, read_prompts

VERSION = 1
ANALYSED_MODEL = "Qwen/Qwen3-4B"
ANALYSED_DTYPE = "bfloat16"
LAYERS = tuple(range(10, 26))
METHOD = (
    "Imported from a run folder of the thesis. Base model in bfloat16; edits at the last token. Star edges are a linear proxy "
    "(activation x regression slope), not a gradient. intervention_*.csv was written into the MLP input without the "
    "reconstruction error (hook mlp_in, sound = false); causal edges and circuits subtract a_i W_dec[i] at the MLP output "
    "(sound = true; with several layers at once the values are the clean run's). The baseline gate was measured on another model."
)


def read(path: str | Path) -> ImportedRun:
    """Read a run folder of the thesis.

    Raises InputError, with file, line, field and what was expected, for anything that does not fit.
    """
    root = existing(Path(path))
    if not root.is_dir():
        raise InputError(f"{root}: expected a run folder, got a file", hint="Give the folder that holds the prompts file.")
    files = find_files(root)
    notes: list[str] = [f"{name}: not a known file of a thesis run, left out" for name in files.unknown]
    prompts = read_prompts(files, notes.append)
    tables: Rows = prompts.rows()
    graphs = read_graphs(files, prompts, notes.append)
    _extend(tables, graphs.rows)
    _fill(tables, files, prompts, graphs, notes.append)
    model = model_row(ANALYSED_MODEL, ANALYSED_DTYPE)
    assert model is not None
    tables["model"] = [model]
    tables["transcoder"] = transcoder_rows(TRANSCODERS, LAYERS, model["model_id"])
    plan = make_plan("thesis", VERSION, hash_files(root, files.all))
    run_row = make_run_row(
        plan,
        prompts.behaviour,
        METHOD,
        model_id=model["model_id"],
        transcoder_set=transcoder_set(TRANSCODERS),
        prompt_set_hash=prompts.prompt_set_hash,
        seed=None,
    )
    return ImportedRun(plan, run_row, to_tables(tables), tuple(notes))


def _fill(tables: Rows, files: Files, prompts: Prompts, graphs: GraphRows, note: Callable[[str], None]) -> None:
    interventions = read_interventions(files, prompts, note)
    _extend(tables, interventions)
    n_interventions, n_clusters = len(interventions.get("intervention", [])), len(set(prompts.concepts))
    _extend(tables, read_circuits(files, graphs, n_clusters=n_clusters, first_intervention=n_interventions))
    measures = read_measures(files, prompts, interventions, note, first_evaluation=len(tables.get("evaluation", [])))
    _extend(tables, measures)
    _extend(tables, read_arrays(files, prompts, note))


def _extend(tables: Rows, more: dict[str, list[dict[str, Any]]]) -> None:
    for table, rows in more.items():
        tables.setdefault(table, []).extend(rows)
