"""The choice of the seed, and the card that publishes the spread."""

import json
from pathlib import Path
from typing import Any

from ingest.tiny import card, paths, seeds

DOCUMENT = Path(__file__).parents[3] / "docs" / "tiny-model.md"


def recorded(name: str) -> dict[str, Any]:
    """Return `metrics.json` of a shipped model."""
    record: dict[str, Any] = json.loads((paths.root(name) / "metrics.json").read_text(encoding="utf-8"))
    return record


def test_the_shipped_seed_is_the_one_that_the_criterion_chooses() -> None:
    rows = json.loads(seeds.SEEDS.read_text(encoding="utf-8"))
    assert seeds.choose(rows) == recorded("bilingual")["seed"]
    assert recorded("control")["seed"] == 0
    for name in paths.NAMES:
        assert seeds.summary(recorded(name)) in rows


def test_the_choice_reads_validation_figures_only() -> None:
    rows = json.loads(seeds.SEEDS.read_text(encoding="utf-8"))
    blind = [{**row, "test": None} for row in rows]
    assert seeds.choose(blind) == seeds.choose(rows)


def test_a_seed_below_a_gate_or_trained_after_the_choice_is_not_chosen() -> None:
    passing = dict.fromkeys(("en", "fr", "en_replaced", "fr_replaced"), 1.0) | {"en_fvu": 0.02, "fr_fvu": 0.02}
    rows = [
        {"variant": "bilingual", "seed": 1, "validation": {**passing, "fr": 0.97, "injection": 0.9}},
        {"variant": "bilingual", "seed": 2, "validation": {**passing, "injection": 0.5}},
        {"variant": "bilingual", "seed": 3, "validation": {**passing, "injection": 0.5}},
        {"variant": "bilingual", "seed": 4, "validation": {**passing, "injection": 0.9}},
        {"variant": "control", "seed": 0, "validation": {**passing, "injection": 1.0}},
    ]
    assert seeds.choose(rows) == 2
    assert seeds.choose(rows[:1]) is None


def test_the_card_holds_the_printed_tables() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text[text.index(card.BEGIN) + len(card.BEGIN) : text.index(card.END)].strip() == card.card().strip()
