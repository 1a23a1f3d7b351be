"""The headline answers of the demo: named questions asked of the bilingual run and, beside it, of its negative control.

In: the demo atlas. Out: text for a terminal; every block names the question that gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas.reader import Reader

Row = Mapping[str, Any]
RUNS = ("bilingual", "control")
PARTS: tuple[tuple[str, Callable[[Reader], Iterator[str]]], ...]


def headlines(folder: Path) -> str:
    """Return the headline answers of a demo atlas."""
    import atlas as package

    blocks = []
    with package.open(folder) as reader:
        for title, part in PARTS:
            blocks.append("\n".join((title, *part(reader))))
    return "\n\n".join(blocks)


def _rows(reader: Reader, question: str, run: str, **parameters: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = reader.ask(question, run=run, **parameters).arrow().to_pylist()
    return rows


def _line(name: str, cells: Mapping[str, str]) -> str:
    return f"  {name:<26}" + "".join(f"{cells.get(run, '·'):<54}" for run in RUNS).rstrip()


def _header(name: str = "") -> str:
    return _line(name, {run: run for run in RUNS})


def _accuracy(reader: Reader) -> Iterator[str]:
    found: dict[str, dict[str, str]] = {}
    for run in RUNS:
        for row in _rows(reader, "behaviours/baseline", run):
            if row["language"] != "all" and row["split"] == "all":
                text = f"{row['accuracy']:.2f}  [{row['low']:.2f}, {row['high']:.2f}]  of {row['n_prompts']}"
                found.setdefault(row["language"], {})[run] = text
    yield _header("language")
    yield from (_line(language, cells) for language, cells in found.items())


def _bilingual(reader: Reader) -> Iterator[str]:
    found: dict[int, dict[str, str]] = {}
    for run in RUNS:
        for row in _rows(reader, "languages/bilingual_by_layer", run):
            if row["score"] == "bilingual_rate":
                bar = "█" * round(20 * row["share"])
                found.setdefault(row["layer"], {})[run] = f"{row['n_bilingual']:>3} of {row['n_features']:<4} {bar}"
    yield _header("layer")
    yield from (_line(str(layer), cells) for layer, cells in found.items())


def _overlap(reader: Reader) -> Iterator[str]:
    found: dict[int, dict[str, str]] = {}
    for run in RUNS:
        for row in _rows(reader, "languages/iou_by_layer", run):
            same, other = row["same_concept"], row["other_concept"]
            interval = f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
            found.setdefault(row["layer"], {})[run] = f"{same:.3f} {interval}  other {other:.3f}"
    yield _header("layer")
    yield from (_line(str(layer), cells) for layer, cells in found.items())


_DRAWN = {"matched_random": "random, as drawn", "matched_random_rescaled": "random, as long"}
"""Matched random sets: as they were drawn, and with changes as long as those of what they control."""


def _length(row: Row) -> str:
    """Say how long the changes of draws are beside what they control."""
    return "" if row["length_ratio"] is None else f"{row['length_ratio']:.2f} x as long"


def _ablation(reader: Reader) -> Iterator[str]:
    found: dict[str, dict[str, str]] = {}
    for run in RUNS:
        rows = _rows(reader, "interventions/effects", run, split="held_out", rule="zero")
        for row in rows:
            if not row["name"].endswith("of each concept") or row["language"] == "all":
                continue
            if row["control"] == "none":
                text = f"{row['mean']:+.2f} [{row['ci_low']:+.2f}, {row['ci_high']:+.2f}]"
                found.setdefault(f"{row['language']}: ten strongest", {})[run] = text
            elif row["control"] in _DRAWN and row["control_low"] is not None:
                text = f"{row['control_mean']:+.2f} [{row['control_low']:+.2f}, {row['control_high']:+.2f}]  {_length(row)}"
                found.setdefault(f"{row['language']}: {_DRAWN[row['control']]}", {})[run] = text
            elif row["control"] == "same_norm_direction":
                found.setdefault(f"{row['language']}: random direction", {})[run] = f"{row['control_mean']:+.2f}"
    yield _header("margin, logits")
    yield from (
        _line(name, found[name]) for name in sorted(found, key=lambda text: (text[:2], "random" in text, "direction" in text, text))
    )


_TRANSFER_NAMES = {
    "none": "shared features",
    **_DRAWN,
    "other_concept": "another concept's answer",
    "same_norm_direction": "random direction",
    "whole_mlp": "whole MLP output",
}


def _transfer(reader: Reader) -> Iterator[str]:
    found: dict[str, dict[str, str]] = {}
    for run in RUNS:
        for row in _rows(reader, "interventions/transfer", run):
            if (row["source_language"], row["target_language"]) != ("en", "fr"):
                continue
            name = _TRANSFER_NAMES.get(row["control"], row["control"])
            low, high = row["ci_low"], row["ci_high"]
            interval = "" if low is None or high is None else f" [{low:+.1f}, {high:+.1f}]"
            found.setdefault(name, {})[run] = f"{row['mean_rise']:+.2f}{interval}  preferred {row['preferred']:.2f}"
            if row["control"] in _DRAWN:
                found[name][run] += f"  {_length(row)}"
            if row["control"] == "none" and row["mean_rise_partner"] is not None:
                found.setdefault("  its antonym partner", {})[run] = f"{row['mean_rise_partner']:+.2f}"
    yield _header("rise, logits")
    yield from (_line(name, cells) for name, cells in found.items())


PARTS = (
    ("Does the model name opposites? Accuracy and 95 % Wilson interval  (behaviours/baseline)", _accuracy),
    ("Which features are bilingual? Active in English and in French, Wilson bound  (languages/bilingual_by_layer)", _bilingual),
    ("How much do translations share? Overlap of active features, against other concepts  (languages/iou_by_layer)", _overlap),
    (
        "What does ablation do? Ten features of each concept, prompts not used to choose them  (interventions/effects)",
        _ablation,
    ),
    ("What does injection do? English features into French prompts of another concept  (interventions/transfer)", _transfer),
)
