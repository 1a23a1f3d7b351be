"""Choose the seed that is shipped, and show the spread over seeds.

In: `metrics.json` of every trained seed, or the shipped summary `data/seeds.json`. Out: the choice by the criterion of
docs/tiny-model.md, which reads validation figures only, and a Markdown table with the test figures of all seeds.
`python -m ingest.tiny.seeds` prints the shipped table; `python -m ingest.tiny.seeds FOLDER... --write` adds folders that
training wrote.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ingest.tiny import paths

SEEDS: Final = paths.DATA / "seeds.json"

CANDIDATES: Final = (0, 1, 2)
"""Seeds of the bilingual model among which the choice was made; later ones only widen the spread."""

MIN_ACCURACY: Final = 0.98
MIN_REPLACED: Final = 0.95
MAX_FVU: Final = 0.10

COLUMNS: Final = {
    "en": "English, test templates",
    "fr": "French, test templates",
    "fr_pairs": "French, test pairs",
    "fr_replaced": "French, MLPs replaced",
    "l0": "L0",
    "fvu": "FVU",
    "same_other": "overlap same / other concept",
    "partner_other": "overlap partner / other concept",
    "injection": "injection succeeds",
}
"""Key of a test figure -> heading."""


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the choice looks at (`validation`) and what the table shows (`test`) of one `metrics.json`."""
    return {
        "variant": record["variant"],
        "seed": record["seed"],
        "validation": _validation(record["metrics"]),
        "test": _test(record["metrics"]),
    }


def eligible(row: dict[str, Any]) -> bool:
    """Say whether a seed passes the gates of the criterion."""
    seen = row["validation"]
    accurate = min(seen["en"], seen["fr"]) >= MIN_ACCURACY
    replaceable = min(seen["en_replaced"], seen["fr_replaced"]) >= MIN_REPLACED
    explained = max(seen["en_fvu"], seen["fr_fvu"]) <= MAX_FVU
    return bool(accurate and replaceable and explained)


def choose(rows: Sequence[dict[str, Any]]) -> int | None:
    """Return the seed of the bilingual model to ship: eligible, highest injection on validation, then the smaller seed."""
    candidates = [row for row in rows if row["variant"] == "bilingual" and row["seed"] in CANDIDATES and eligible(row)]
    if not candidates:
        return None
    best = min(candidates, key=lambda row: (-row["validation"]["injection"], row["seed"]))
    return int(best["seed"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the test figures, one row a seed, the shipped ones marked."""
    chosen = {"bilingual": choose(rows), "control": 0}
    lines = ["| model | seed | " + " | ".join(COLUMNS.values()) + " |", "|---|---" + "|---" * len(COLUMNS) + "|"]
    for row in sorted(rows, key=lambda row: (row["variant"], row["seed"])):
        mark = " (shipped)" if row["seed"] == chosen[row["variant"]] else ""
        figures = " | ".join(f"{row['test'][key]:.2f}" for key in COLUMNS)
        lines.append(f"| {row['variant']} | {row['seed']}{mark} | {figures} |")
    return "\n".join(lines) + "\n"


def _validation(metrics: dict[str, Any]) -> dict[str, float]:
    seen = {"injection": metrics["injection"]["validation"]["success"]}
    for language in ("en", "fr"):
        cell = f"{language} template=validation pair=train"
        seen[language] = metrics["accuracy"][cell]["accuracy"]
        seen[f"{language}_replaced"] = metrics["accuracy_replaced"][cell]["accuracy"]
        seen[f"{language}_fvu"] = _mean(metrics["transcoders"][language]["fvu"])
    return seen


def _test(metrics: dict[str, Any]) -> dict[str, float]:
    decision = metrics["overlap"]["test"]["decision"]
    known = "template=test pair=train"
    return {
        "en": metrics["accuracy"][f"en {known}"]["accuracy"],
        "fr": metrics["accuracy"][f"fr {known}"]["accuracy"],
        "fr_pairs": metrics["accuracy"]["fr template=train pair=test"]["accuracy"],
        "fr_replaced": metrics["accuracy_replaced"][f"fr {known}"]["accuracy"],
        "l0": _mean([*metrics["transcoders"]["en"]["l0"], *metrics["transcoders"]["fr"]["l0"]]),
        "fvu": _mean([*metrics["transcoders"]["en"]["fvu"], *metrics["transcoders"]["fr"]["fvu"]]),
        "same_other": sum(decision["same"]) / sum(decision["other"]),
        "partner_other": sum(decision["partner"]) / sum(decision["other"]),
        "injection": metrics["injection"]["test"]["success"],
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    """Print the table over seeds; `--write` also writes `data/seeds.json`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="folders that training wrote, added to the shipped summary")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rows = json.loads(SEEDS.read_text(encoding="utf-8")) if SEEDS.exists() else []
    known = {(row["variant"], row["seed"]): row for row in rows}
    for folder in arguments.folders:
        row = summary(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
        known[row["variant"], row["seed"]] = row
    rows = [known[key] for key in sorted(known)]
    if arguments.write:
        SEEDS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(rows))
    sys.stdout.write(f"\nchosen by the criterion: seed {choose(rows)}\n")


if __name__ == "__main__":
    main()
