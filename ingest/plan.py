"""What a run is: a validated, hashed description of model, transcoders, behaviours, thresholds and seeds.

In: a TOML file, command-line flags, or both (flags override). Out: a frozen `Plan`, its canonical JSON (`plan.json`), and with the
hashes of what it reads the run's id.

Two kinds of field: those that decide the numbers are the plan's identity and go into the run id; those that only say how to run
(device, batch size, memory budget, where the files lie) do not, so that a copied folder or a larger card gives the same run.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas.errors import InputError, UsageError
from ingest.prompts.behaviour import SPLITS

STAGES = ("prompts", "baseline", "activations", "graph", "communities", "attribution", "interventions", "circuits")
"""Stages in order; a plan over prompts runs up to `until`."""
CORPUS_STAGES = ("corpus",)
"""Stages of a plan over a corpus. It is a run of its own: counts of a feature (tables feature, feature_language, histogram, context,
transcoder_quality) have one denominator a run, prompts or documents, and a run over prompts must agree with its raw activations."""


@dataclass(frozen=True)
class Plan:
    """What an ingest does; every field can stand in a plan file and as a flag."""

    model: str = "embedded:bilingual"
    """A directory, a Hugging Face id, or `embedded:NAME`."""
    transcoders: str = ""
    """A directory, a Hugging Face id, or `embedded:NAME`; empty takes the embedded model's own."""
    behaviours: tuple[str, ...] = ("antonyms",)
    """Shipped names or paths of .toml files."""
    name: str = ""
    """Name of the run for people; empty makes one from behaviours and model."""
    languages: tuple[str, ...] = ("en", "fr")
    """Languages of the prompts; empty keeps all of the behaviours."""
    splits: tuple[str, ...] = SPLITS
    """Splits to run; discovery reads train only."""
    layers: tuple[int, ...] = ()
    """Layers whose features are analysed; empty means all of the transcoder set."""
    max_concepts: int = 0
    """Keep this many concepts a behaviour; 0 keeps all."""
    corpus: str = ""
    """Read a corpus instead of prompts: a Parquet, JSON-lines or text file, a folder of them or of `datasets`, or `embedded`."""
    corpus_tokens: int = 0
    """Tokens after which reading the corpus stops; 0 reads all of it."""
    text_column: str = "text"
    """Column of the corpus that holds the text."""
    language_column: str = "language"
    """Column of the corpus that holds the language."""
    until: str = "circuits"
    """Last stage to run over prompts."""
    seed: int = 0
    """Base seed of every draw."""
    dtype: str = "float32"
    """Floating type the model runs in."""
    gate: float = -1.0
    """Baseline accuracy per language below which the run stops; -1 takes each behaviour's own."""
    graph_features: int = 150
    """Feature nodes of the prompt-set graph, the strongest by |star_total|."""
    attributed_prompts: int = 48
    """Train prompts whose attribution graphs are added up; 0 leaves them out."""
    ablated_features: int = 60
    """Features that are ablated one by one."""
    edited_prompts: int = 600
    """Prompts of a behaviour that are edited, balanced over languages, splits and concepts."""
    top_features: int = 10
    """Size of the set that is ablated together."""
    control_draws: int = 100
    """Matched random sets beside each headline intervention: n of them give p-values from 1/(1+n), fewer than 100 none."""
    circuit_prompts: int = 24
    """Prompts a split on which circuits are searched and measured."""
    random_circuits: int = 100
    """Matched random circuits beside each figure of a circuit."""
    transfer_concepts: int = 8
    """Concepts whose features are injected into each other's prompts."""
    steering: tuple[float, ...] = (0.0, 0.5, 2.0, 4.0)
    """Strengths of the dose-response of steering (multiples of the clean activation)."""
    drop_multitoken: bool = field(default=False, metadata={"identity": False})
    """Leave out prompts with an answer that is not one token, instead of refusing the plan (the prompts' hash says which are in)."""
    device: str = field(default="cpu", metadata={"identity": False})
    """torch device."""
    batch_size: int = field(default=32, metadata={"identity": False})
    """Prompts a forward pass; halved when memory runs out."""
    memory_budget: str = field(default="", metadata={"identity": False})
    """Memory for transcoder layers on the device, e.g. 20GB; empty keeps all layers resident where they fit."""

    @property
    def title(self) -> str:
        """Name of the run for people."""
        about = f"corpus {Path(self.corpus).name}" if self.corpus else ", ".join(Path(b).stem for b in self.behaviours)
        return self.name or f"{about} on {Path(self.model).name}"

    def stages(self) -> tuple[str, ...]:
        """Stages that run, in order."""
        return CORPUS_STAGES if self.corpus else STAGES[: STAGES.index(self.until) + 1]

    def identity(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """Return what decides the numbers: fields of identity and the hashes of model, transcoders, prompts."""
        named = {"model", "transcoders", "behaviours", "name", "corpus"}
        fields = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("identity", True) and f.name not in named
        }
        if self.corpus:
            return {"name": self.title, **{name: fields[name] for name in _OF_CORPUS}, "hashes": dict(sorted(hashes.items()))}
        fields = {name: value for name, value in fields.items() if name not in _ONLY_OF_CORPUS}
        behaviours = [Path(behaviour).stem for behaviour in self.behaviours]
        return {"name": self.title, "behaviours": behaviours, **fields, "hashes": dict(sorted(hashes.items()))}


_ONLY_OF_CORPUS = ("corpus_tokens", "text_column", "language_column")
_OF_CORPUS = (*_ONLY_OF_CORPUS, "languages", "layers", "seed", "dtype")
"""What decides the numbers of a corpus pass, beside the files."""

_INTEGER_BOUNDS = {
    **dict.fromkeys(("corpus_tokens",), 0),
    **dict.fromkeys(("max_concepts", "attributed_prompts", "random_circuits", "ablated_features", "control_draws", "transfer_concepts"), 0),
    **dict.fromkeys(("graph_features", "top_features", "batch_size"), 1),
    **dict.fromkeys(("circuit_prompts", "edited_prompts"), 2),
}


def read_plan(path: Path | None = None, **overrides: Any) -> Plan:
    """Read a plan from a TOML file and apply overrides (None leaves a field alone).

    Raises:
        InputError: the file is missing, no TOML, or has an unknown or wrong field.
        UsageError: an override is out of bounds.
    """
    fields: dict[str, Any] = {}
    if path is not None:
        try:
            fields = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"There is no plan file {path}.", hint="`atlas ingest --help` shows an example of one.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a TOML file: {error}.") from error
    where = str(path) if path is not None else "the command line"
    known = {f.name for f in dataclasses.fields(Plan)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}.", hint=f"Known fields: {', '.join(sorted(known))}.")
    fields |= {key: value for key, value in overrides.items() if value is not None}
    return _validated(fields, where)


def _validated(fields: dict[str, Any], where: str) -> Plan:
    defaults = Plan()
    for key, value in fields.items():
        default = getattr(defaults, key)
        if key == "layers" and isinstance(value, str):
            value = parse_layers(value)
        if isinstance(default, tuple):
            if isinstance(value, str) or not isinstance(value, list | tuple):
                raise UsageError(f"{where}: {key} is {value!r}, expected a list.")
            value = tuple(value)
        elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        elif type(value) is not type(default):
            raise UsageError(f"{where}: {key} is {value!r}, expected {type(default).__name__}.")
        fields[key] = value
    plan = Plan(**fields)
    for key, bound in _INTEGER_BOUNDS.items():
        if getattr(plan, key) < bound:
            raise UsageError(f"{where}: {key} is {getattr(plan, key)}, expected at least {bound}.")
    if not (plan.gate == -1 or 0 <= plan.gate <= 1):
        raise UsageError(f"{where}: gate is {plan.gate}, expected an accuracy from 0 to 1 (-1: each behaviour's own).")
    if plan.until not in STAGES:
        raise UsageError(f"{where}: until is {plan.until!r}.", hint=f"One of: {', '.join(STAGES)}.")
    if plan.dtype not in ("float32", "float64", "bfloat16"):
        raise UsageError(f"{where}: dtype is {plan.dtype!r}.", hint="One of: float32, float64, bfloat16.")
    bad = [split for split in plan.splits if split not in SPLITS]
    if bad or not plan.splits:
        raise UsageError(f"{where}: splits are {list(plan.splits)}.", hint=f"Any of: {', '.join(SPLITS)}.")
    if not plan.behaviours:
        raise UsageError(f"{where}: no behaviour.", hint="`atlas prompts list` names those that ship.")
    if not plan.transcoders and not plan.model.startswith("embedded:"):
        raise UsageError(f"{where}: model {plan.model!r} has no transcoders.", hint="Give --transcoders: a directory or a Hugging Face id.")
    return dataclasses.replace(plan, transcoders=plan.transcoders or plan.model)


def parse_layers(text: str) -> tuple[int, ...]:
    """Parse `10-25` or `0,3,5-7` into layers.

    Raises:
        UsageError: when it is something else.
    """
    layers: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or (dash and int(high) < int(low)):
            raise UsageError(f"layers are {text!r}.", hint="Write 10-25, or 0,3,5-7.")
        layers.update(range(int(low), int(high if dash else low) + 1))
    return tuple(sorted(layers))
