"""Interventions of a thesis run: intervention_*.csv, stored with the place they were really made at.

In: the CSV files and the prompts. Out: rows of intervention, intervention_member, outcome and baseline.

A row is one intervention (its feature_indices edited together) on one prompt. In an ablation file `prompt_idx` is the prompt's
line; in a patching file it numbers the pair, and the target is found by its text. These files were written into the MLP *input*,
without the reconstruction error: hook mlp_in, keeps_error false, sound false. effect_size = intervened - baseline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atlas.ids import canonical_json, feature_name
from ingest.importers.common import HIGHEST_INT, Record
from ingest.importers.thesis.files import Files, Rows, literal, read_csv
from ingest.importers.thesis.prompts import Prompts

MARGINS = ("baseline_logit_diff", "intervened_logit_diff", "effect_size")
REQUIRED = {"experiment_type", "prompt_idx", "layer", "feature_indices", "metadata", *MARGINS}
RULES = {
    "ablation": "zero",
    "ablation_zero": "zero",
    "ablation_mean": "mean",
    "ablation_resample": "resample",
    "patching": "patch",
    "steering": "add",
}
Key = tuple[str, int, tuple[int, ...], str]
TOLERANCE = 1e-6
"""Of effect against margins, and of a prompt's baseline between rows; the values are bfloat16."""


def read_interventions(files: Files, prompts: Prompts, note: Callable[[str], None]) -> Rows:
    """Read every intervention file."""
    rows: Rows = {}
    numbers: dict[Key, int] = {}
    seen: dict[tuple[int, int, int], str] = {}
    margins: dict[int, float] = {}
    for path in files.of("interventions"):
        name = files.name(path)
        skipped = 0
        for record in read_csv(path, name, REQUIRED):
            if record.has("skipped_reason"):
                skipped += 1
                continue
            _add(rows, record, path.name, numbers, seen, margins, prompts)
        if skipped:
            note(f"{name}: {skipped} rows with a skipped_reason left out")
    for prompt, margin in sorted(margins.items()):
        rows.setdefault("baseline", []).append({"prompt": prompt, "margin": margin, "correct": margin > 0})
    return rows


def _add(
    rows: Rows,
    record: Record,
    file: str,
    numbers: dict[Key, int],
    seen: dict[tuple[int, int, int], str],
    margins: dict[int, float],
    prompts: Prompts,
) -> None:
    rule = RULES.get(record.text("experiment_type"))
    if rule is None:
        raise record.fail("experiment_type", f"one of {', '.join(RULES)}")
    key = _key(record)
    if key not in numbers:
        numbers[key] = len(numbers)
        _add_intervention(rows, numbers[key], key, rule, file, prompts.behaviour)
    prompt, source = _prompts_of(record, rule, prompts)
    row = _outcome(record, numbers[key], prompt, source)
    place = (numbers[key], prompt, source)
    if place in seen:
        raise record.fail("prompt_idx", f"one row for this intervention and prompt; {seen[place]} has it already")
    seen[place] = record.where
    if abs(margins.setdefault(prompt, row["margin_before"]) - row["margin_before"]) > TOLERANCE:
        raise record.fail("baseline_logit_diff", f"{margins[prompt]}, which earlier rows give for this prompt")
    rows.setdefault("outcome", []).append(row)


def _key(record: Record) -> Key:
    indices = literal(record, "feature_indices", list)
    if not indices or not all(type(index) is int and 0 <= index <= HIGHEST_INT for index in indices):
        raise record.fail("feature_indices", "a list of feature indices")
    if len(set(indices)) < len(indices):
        raise record.fail("feature_indices", "each feature once")
    source = str(record.values.get("feature_source") or "")
    return record.text("experiment_type"), record.layer("layer"), tuple(sorted(indices)), source


def _prompts_of(record: Record, rule: str, prompts: Prompts) -> tuple[int, int]:
    """Return (prompt, source prompt), source -1 where there is none."""
    metadata = Record(f"{record.where} metadata", literal(record, "metadata", dict))
    if rule != "patch":
        return prompts.by_line(record.integer("prompt_idx"), metadata.text("prompt"), record), -1
    known = {}
    for name, key in (("concept", "concept_index"), ("template", "template_idx")):
        value = metadata.values.get(key)
        known[name] = value if isinstance(value, int) and value >= 0 else None
    return (
        prompts.by_text(metadata.text("target_prompt"), record, "metadata.target_prompt", **known),
        prompts.by_text(metadata.text("source_prompt"), record, "metadata.source_prompt", **known),
    )


def _outcome(record: Record, intervention: int, prompt: int, source: int) -> dict[str, Any]:
    before, after, effect = (record.number(name) for name in MARGINS)
    if abs(after - before - effect) > TOLERANCE:
        raise record.fail("effect_size", f"intervened_logit_diff - baseline_logit_diff = {after - before:g}")
    return {
        "intervention": intervention,
        "prompt": prompt,
        "source_prompt": source,
        "margin_before": before,
        "margin_after": after,
        "effect": effect,
    }


def _add_intervention(rows: Rows, number: int, key: Key, rule: str, file: str, behaviour: str) -> None:
    experiment, layer, indices, source = key
    names = ", ".join(feature_name(layer, index) for index in indices[:3]) + (f" and {len(indices) - 3} more" if len(indices) > 3 else "")
    row = {
        "intervention": number,
        "name": f"{experiment} {names}",
        "behaviour": behaviour,
        "rule": rule,
        "mode": "free",
        "positions": "decision",
        "hook": "mlp_in",
        "keeps_error": False,
        "sound": False,
        "n_members": len(indices),
        "layer_low": layer,
        "layer_high": layer,
        "parameters": canonical_json({"experiment_type": experiment, "feature_source": source, "file": file}),
    }
    rows.setdefault("intervention", []).append(row)
    value = 0.0 if rule == "zero" else None
    for index in indices:
        member = {"intervention": number, "layer": layer, "feature": index, "position": -1, "value": value}
        rows.setdefault("intervention_member", []).append(member)
