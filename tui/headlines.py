"""The headline answers of the overview: named questions, drawn as bars and intervals.

In: rows of a question, as dicts. Out: a section each; every line leads to its question.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tui import marks
from tui.columns import Part
from tui.text import fit, number, safe, signed
from tui.widgets.line_view import Line, Link, Section

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Headline:
    """One question and how its answer is drawn."""

    question: str
    title: str
    parameters: Mapping[str, object]
    draw: Callable[[list[Row]], list[tuple[Part, ...]]]
    most: int = 12


def _bars(rows: list[tuple[str, float | None, str]], largest: float | None = None) -> list[tuple[Part, ...]]:
    top = largest or max((value for _, value, _ in rows if value is not None), default=0.0)
    return [
        (
            (fit(safe(name), 16), ""),
            (fit(number(value, 2), 6, "right") + " ", ""),
            (marks.bar(value, top, 16) + " ", "accent"),
            (text, "dim"),
        )
        for name, value, text in rows
    ]


def bilingual(rows: list[Row]) -> list[tuple[Part, ...]]:
    """Draw bilingual features by layer, by the first score that has a verdict."""
    names = list(dict.fromkeys(row["score"] for row in rows))
    score = next((name for name in ("bilingual_rate", "language_profile", "shared_k") if name in names), names[0] if names else "")
    shown = [row for row in rows if row["score"] == score]
    return _bars([(f"layer {row['layer']}", row["share"], f"{row['n_bilingual']:,} of {row['n_features']:,} by {score}") for row in shown])


def baseline(rows: list[Row]) -> list[tuple[Part, ...]]:
    """Draw accuracy by behaviour and language, with its interval."""
    lines: list[tuple[Part, ...]] = []
    for row in rows:
        if row["split"] != "all" or row["language"] == "all":
            continue
        name = f"{row['behaviour']} {row['language']}"
        line = marks.interval(row["low"], row["accuracy"], row["high"], 0.0, 1.0, 24)
        gate = f"  gate {number(row['gate'])} {'passed' if row['passes'] else 'FAILED'}" if row["gate"] is not None else ""
        figure = (fit(number(row["accuracy"], 3), 6, "right") + " ", "")
        lines.append(((fit(safe(name), 20), ""), figure, (line, "accent"), (f" n={row['n_prompts']:,}{gate}", "dim")))
    return lines


def overlap(rows: list[Row]) -> list[tuple[Part, ...]]:
    """Draw the overlap of translations by layer, beside other concepts."""
    first = rows[0]["parameter_set"] if rows else None
    shown = [row for row in rows if row["parameter_set"] == first]
    return _bars(
        [
            (
                f"layer {row['layer']} {row['languages']}",
                row["same_concept"],
                f"other concepts {number(row['other_concept'], 2)}, chance {number(row['null_mean'], 2)}",
            )
            for row in shown
        ],
        1.0,
    )


def edges(rows: list[Row]) -> list[tuple[Part, ...]]:
    """Draw the strongest edges, signed."""
    largest = max((abs(row["weight"]) for row in rows), default=0.0)
    return [
        (
            (fit(f"{safe(row['source_name'])} → {safe(row['target_name'])}", 26), ""),
            (fit(signed(row["weight"]), 8, "right") + " ", "negative" if row["weight"] < 0 else "positive"),
            (marks.signed_bar(row["weight"], largest, 15), "negative" if row["weight"] < 0 else "positive"),
            (f" n={number(row['n_prompts'])}", "dim"),
        )
        for row in rows
    ]


def transfer(rows: list[Row]) -> list[tuple[Part, ...]]:
    """Draw how often a swap makes the expected answer preferred, swaps beside their controls."""
    return [
        (
            (fit(f"{row['source_language']} → {row['target_language']}", 10), ""),
            (fit(safe(row["control"]), 20), "strong" if row["control"] == "none" else "dim"),
            (fit(number(row["preferred"], 2), 6, "right") + " ", ""),
            (marks.bar(row["preferred"], 1.0, 16), "accent"),
            (f" rise {signed(row['mean_rise'])}, {row['n_pairs']:,} pairs", "dim"),
        )
        for row in rows
    ]


def claims(rows: list[Row]) -> list[tuple[Part, ...]]:
    """Draw claims that the data contradict."""
    wrong = [row for row in rows if row["verdict"] != "reproduced"]
    lines: list[tuple[Part, ...]] = [
        (
            (fit(str(row["verdict"]).replace("_", " "), 18), "negative" if row["verdict"] == "contradicted" else "dim"),
            (fit(safe(str(row["claim_id"])), 26), ""),
            (f" published {safe(str(row['published']))}, recomputed {safe(str(row['recomputed']))}", "dim"),
        )
        for row in wrong
    ]
    return lines or ([((f"all {len(rows)} claims are reproduced", "positive"),)] if rows else [])


HEADLINES = (
    Headline("languages/bilingual_by_layer", "Which layers are bilingual?", {}, bilingual),
    Headline("behaviours/baseline", "Does the model do it?", {}, baseline),
    Headline("languages/iou_by_layer", "How much is shared between translations?", {}, overlap),
    Headline("interventions/transfer", "Does a concept carry over into another language?", {}, transfer, 10),
    Headline("graphs/strongest_edges", "Strongest causal edges", {"kind": "causal", "top": 8}, edges, 8),
    Headline("provenance/claims", "Claims that disagree", {}, claims, 10),
)


def section(headline: Headline, rows: list[Row] | None) -> Section:
    """Return a headline's section; None while it is being asked."""
    link = Link("go_queries", {"question": headline.question})
    if rows is None:
        return Section(headline.title, (Line((("asking …", "dim"),)),), headline.question)
    lines = headline.draw(rows)
    drawn = [Line(parts, link) for parts in lines[: headline.most]]
    if len(lines) > headline.most:
        drawn.append(Line(((f"… {len(lines) - headline.most} more: enter asks", "dim"),), link))
    return Section(headline.title, tuple(drawn) or (Line((("nothing of the kind in this run", "dim"),), link),), headline.question)
