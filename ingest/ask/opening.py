"""Which model an atlas speaks of, found again and loaded once.

In: an atlas (or none), a run, or a model and transcoders by name. Out: `Opened`: the model, its transcoders, the run whose cards belong to
them. Everything is checked by headers before a weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from atlas.errors import StoreError, UsageError
from ingest.ask.cards import Cards
from ingest.batches import ONE_THREAD_BELOW
from ingest.fit import check_fit
from ingest.model import LanguageModel, load_model
from ingest.sources import Source, resolve_source
from ingest.transcoder import TranscoderSet

if TYPE_CHECKING:
    from atlas.reader import Reader

_FINDABLE = re.compile(r"embedded:\w+|[\w.-]+/[\w.-]+")
"""Sources that can be found again by name; anything else was a directory on somebody's machine."""


@dataclass(frozen=True)
class Opened:
    """A model with its dictionary, ready to be asked."""

    model: LanguageModel
    transcoders: TranscoderSet
    sources: Mapping[str, Source]
    """`model` and `transcoders`."""
    run: str | None
    """Run of the atlas whose cards belong to these features."""
    run_name: str | None
    cards: Cards
    """Which languages and scores the cards of that run have; no card is in it."""
    layers: tuple[int, ...]
    dtype: str


def open_atlas(folder: Path | None) -> Reader | None:
    """Open a published atlas; None for none, or where nothing is published there yet.

    Raises:
        StoreError: it is damaged or of another version.
    """
    if folder is None:
        return None
    import atlas
    from atlas.settings import DATABASE

    if not (folder / DATABASE).exists():
        return None
    return atlas.open(folder)


def open_model(
    reader: Reader | None,
    *,
    run: str | None = None,
    model: str | None = None,
    transcoders: str | None = None,
    layers: Sequence[int] | None = None,
    dtype: str | None = None,
    device: str = "cpu",
    memory_budget: str = "",
) -> Opened:
    """Load what a run analysed, or what is named; the run's cards go with it where they are of the same model and dictionary.

    Raises:
        UsageError: nothing says which model, or the run's lay in a directory.
        InputError: files that are missing or do not fit each other.
    """
    known = _run_of(reader, run, model, transcoders)
    named = model or (known or {}).get("model_source")
    if named is None:
        raise UsageError(
            "there is no model to ask: the atlas has no run with features, and no --model is given",
            hint="Give --model embedded:bilingual, or --model DIR --transcoders DIR.",
        )
    sets = transcoders or (model if model and model.startswith("embedded:") else None)
    sets = sets or (None if model and known is None else (known or {}).get("transcoder_source"))
    if sets is None:
        raise UsageError(f"model {named!r} has no transcoders", hint="Give --transcoders: a directory or a Hugging Face id.")
    for text, given, flag in ((str(named), model, "--model"), (str(sets), transcoders or model, "--transcoders")):
        if given is None and not _FINDABLE.fullmatch(text):
            raise UsageError(
                f"run {(known or {}).get('name')} analysed {text!r}, a directory; the atlas keeps its name, not where it lies",
                hint=f"Give {flag} DIR.",
            )
    sources = {"model": resolve_source(str(named), "model"), "transcoders": resolve_source(str(sets), "transcoders")}
    wanted = tuple(layers or (known or {}).get("layers") or ())
    dtype = dtype or str((known or {}).get("dtype") or "float32")
    check_fit(sources["model"].path, sources["transcoders"].path, wanted, dtype=dtype)
    loaded = load_model(sources["model"].path, dtype=dtype, device=device, name=sources["model"].name, source=sources["model"].name)
    if loaded.device.type == "cpu" and loaded.d_model < ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    opened = TranscoderSet.open(
        sources["transcoders"].path,
        dtype=dtype,
        device=device,
        memory_budget=_bytes(memory_budget),
        name=sources["transcoders"].name,
        source=sources["transcoders"].name,
    )
    opened.bind(loaded, wanted)
    run_id, run_name = (None, None) if known is None else (str(known["run_id"]), str(known["name"]))
    row = known or {}
    cards = Cards(run_id, languages=tuple(row.get("languages") or ()), scores=tuple(row.get("scores") or ()))
    return Opened(loaded, opened, sources, run_id, run_name, cards, wanted or opened.layers, dtype)


def _bytes(text: str) -> int | None:
    """Parse a memory budget; the module that does is imported only then: it brings the whole store along."""
    if not text.strip():
        return None
    from ingest.workshop import parse_bytes

    return parse_bytes(text)


def _run_of(reader: Reader | None, run: str | None, model: str | None, transcoders: str | None) -> Mapping[str, Any] | None:
    """Return the row of `provenance/models` of the run to go by; None where no run is of the model that is named.

    Raises:
        UsageError: a run is named that the atlas does not have, or that analysed another model than the one named.
        StoreError: a run is named and there is no atlas.
    """
    if reader is None:
        if run is not None:
            raise StoreError(f"there is no published atlas to look for run {run!r} in", hint="Give --atlas DIR.")
        return None
    if model is None and transcoders is None:
        return _models(reader, run)
    names = {"model": model, "transcoder_set": transcoders or model}
    wanted = {key: name for key, text in names.items() for name in [text and (text if _FINDABLE.fullmatch(text) else Path(text).name)]}
    if run is not None:
        row = _models(reader, run)
        if row is not None and any(name and row[key] != name for key, name in wanted.items()):
            raise UsageError(
                f"run {run} analysed {row['model']} with {row['transcoder_set']}, not {wanted['model'] or row['model']}",
                hint="Leave out --run, or --model and --transcoders.",
            )
        return row
    for row in reader.ask("provenance/runs").arrow().to_pylist():
        if row["state"] == "complete" and all(not name or row[key] == name for key, name in wanted.items()):
            found = _models(reader, row["run_id"])
            if found is not None and found["layers"]:
                return found
    return None


def _models(reader: Reader, run: str | None) -> Mapping[str, Any] | None:
    rows = reader.ask("provenance/models", run=run).arrow().to_pylist()
    if not rows or rows[0]["model_source"] is None:
        return None
    row: Mapping[str, Any] = rows[0]
    return row
