"""A result as a figure: pdf, svg, png; the width of a column or of a page.

In: a kind of figure, an Arrow table with the columns that the kind states, a path. Out: the file and its sidecar.
`FIGURES` says which kinds there are and which columns each takes; the names are those of the questions that fit.

matplotlib is imported at the first figure, with the Agg backend and without touching anybody's settings. Colours are Okabe and Ito's,
which people with colour-blindness tell apart; lines also differ in dash and marker. Text in pdf and svg stays text.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas import files
from atlas.errors import UsageError
from atlas.export import drawing
from atlas.export.provenance import STDOUT, Provenance, checked_target, format_of, sidecar_path, write_sidecar

WIDTHS = {"column": 3.35, "page": 6.9}
"""Inches: a column and the text of a two-column page."""
FORMATS = ("pdf", "svg", "png")
DPI = 300
STYLE: Mapping[str, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "feature-atlas",
    "figure.constrained_layout.use": True,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class FigureKind:
    """One kind of figure."""

    title: str
    columns: Mapping[str, str]
    """Column -> what it means; all are needed."""
    optional: Mapping[str, str]
    """Column -> what is drawn where it is there."""
    draw: Callable[[Any, drawing.Columns], None]
    """Draws into an empty matplotlib figure."""
    height: Callable[[drawing.Columns, float], float]
    """Inches, from the rows and the width."""
    question: str
    """A question whose answer has these columns; empty if several have to be joined."""


def _ratio(ratio: float) -> Callable[[drawing.Columns, float], float]:
    return lambda columns, width: width * ratio


def _profile_height(columns: drawing.Columns, width: float) -> float:
    n = drawing.n_panels(columns)
    return 0.72 * width if n == 1 else 0.5 + 1.15 * -(-n // drawing.n_panel_columns(width))


FIGURES: dict[str, FigureKind] = {
    "layer_profile": FigureKind(
        "Share of bilingual features by layer",
        {"layer": "layer", "score": "score", "share": "share of features that are bilingual by the score"},
        {"n_features": "denominator: Wilson's 95 % band"},
        drawing.layer_profile,
        _profile_height,
        "languages/bilingual_by_layer",
    ),
    "language_iou": FigureKind(
        "Overlap of active features between languages, by layer",
        {"layer": "layer", "same_concept": "mean IoU of translations"},
        {
            "languages": "one panel line a language pair",
            "ci_low": "interval",
            "ci_high": "interval",
            "null_low": "null band",
            "null_high": "null band",
            "null_mean": "null",
            "other_concept": "IoU with another concept",
            "antonym_partner": "IoU with the opposite pole",
            "split_half": "IoU within one language",
        },
        drawing.language_iou,
        _ratio(0.72),
        "languages/iou_by_layer",
    ),
    "effects": FigureKind(
        "Effects of interventions beside their controls",
        {"name": "intervention", "mean": "mean effect on the margin"},
        {
            "language": "one marker a language",
            "ci_low": "interval",
            "ci_high": "interval",
            "control_mean": "mean of controls",
            "control_low": "2.5 % quantile of controls",
            "control_high": "97.5 % quantile of controls",
            "intervention": "rows of one intervention that differ in control are one effect",
            "control": "kind of control; one of a single draw is a mark",
        },
        drawing.effects,
        lambda columns, width: 1.1 + 0.2 * min(drawing.MOST_ROWS, len(drawing.effect_groups(columns))),
        "interventions/effects",
    ),
    "dose_response": FigureKind(
        "Effect by strength",
        {"strength": "strength", "mean": "mean effect on the margin", "members": "what was edited: one line each"},
        {"language": "one line a language", "ci_low": "interval", "ci_high": "interval"},
        drawing.dose_response,
        _ratio(0.75),
        "interventions/dose_response",
    ),
    "community_language": FigureKind(
        "Language profile of communities",
        {
            "community": "community",
            "n_nodes": "its nodes",
            "n_balanced": "balanced nodes",
            "n_leaning_a": "nodes leaning to the first language",
            "n_leaning_b": "nodes leaning to the second language",
            "n_insufficient": "nodes with too little support",
        },
        {"language_a": "name of the first language", "language_b": "name of the second language"},
        drawing.community_language,
        lambda columns, width: 0.95 + 0.22 * len(columns["community"]),
        "languages/communities",
    ),
    "faithfulness": FigureKind(
        "Faithfulness by share of nodes kept",
        {"share_kept": "share of nodes kept", "faithfulness": "f at this share"},
        {
            "circuit": "one line a circuit",
            "name": "its name",
            "reference": "and reference",
            "error_mode": "and treatment of the error",
            "control_mean": "random circuits",
            "control_high": "their 97.5 % quantile",
            "completeness": "f of everything but these nodes",
        },
        drawing.faithfulness,
        _ratio(0.75),
        "circuits/faithfulness",
    ),
    "attribution_graph": FigureKind(
        "Attribution graph in layers",
        {"source": "node", "target": "node", "weight": "weight", "source_name": "text", "target_name": "text"},
        {
            "source_layer": "layer; null for tokens and inputs; without it names such as L20_F1454 say it",
            "target_layer": "layer; null for logits and outputs",
            "source_kind": "feature, error, token, logit, input or output",
            "target_kind": "the same",
            "kind": "kind of edge: a dash and a scale of widths each",
            "source_position": "position: nodes stand in columns by it",
            "target_position": "position",
        },
        drawing.attribution_graph,
        _ratio(0.85),
        "graphs/strongest_edges",
    ),
}
"""Kind -> what it takes and draws."""


def write_figure(
    kind: str,
    result: pa.Table,
    target: Path | str,
    format: str | None = None,
    *,
    width: str = "column",
    title: str | None = None,
    provenance: Provenance | None = None,
) -> list[Path]:
    """Draw a result into a file with its sidecar, or to stdout (`-`, with a format) without; returns the files written.

    `title`: above the figure; None leaves it to the caption, as papers want. `width`: `column` or `page`.
    Raises UsageError for an unknown kind, format or width, for a missing column, and for a result without rows.
    """
    ending = format or format_of(target, FORMATS, {})
    figure_kind = _check(kind, result, ending, width)
    path = checked_target(target)
    columns = {name: result[name].to_pylist() for name in result.column_names}
    provenance = (provenance or Provenance()).of(result)
    data = render(figure_kind, columns, ending, WIDTHS[width], title, sidecar_path(path).name)
    if str(target) == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return []
    files.write_whole(path, data)
    facts = {
        "title": title or figure_kind.title,
        "figure": kind,
        "format": ending,
        "n_rows": result.num_rows,
        "columns": result.column_names,
    }
    return [path, write_sidecar(path, provenance, **facts)]


def _check(kind: str, result: pa.Table, ending: str, width: str) -> FigureKind:
    if kind not in FIGURES:
        raise UsageError(f"no figure {kind!r}", hint=f"Figures: {', '.join(FIGURES)}.")
    if ending not in FORMATS:
        raise UsageError(f"no figure format {ending!r}", hint=f"Formats: {', '.join(FORMATS)}.")
    if width not in WIDTHS:
        raise UsageError(f"no width {width!r}", hint=f"Widths: {', '.join(WIDTHS)}.")
    found = FIGURES[kind]
    missing: Sequence[str] = [name for name in found.columns if name not in result.column_names]
    if missing:
        where = f" `{found.question}` gives them." if found.question else ""
        raise UsageError(
            f"figure {kind} needs column {missing[0]!r}; the result has {', '.join(result.column_names)}",
            hint=f"It takes {', '.join(found.columns)}.{where}",
        )
    if result.num_rows == 0:
        raise UsageError(f"figure {kind}: the result has no rows", hint="Ask with other parameters, or of another run.")
    return found


def render(kind: FigureKind, columns: drawing.Columns, ending: str, width: float, title: str | None, comment: str) -> bytes:
    """Draw and encode; the same rows give the same bytes (no time is written into the file)."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(width, kind.height(columns, width)), dpi=DPI)
        FigureCanvasAgg(figure)
        kind.draw(figure, columns)
        if title:
            figure.suptitle(title, fontsize=9)
        stream = io.BytesIO()
        said = {
            "pdf": {"Subject": comment, "CreationDate": None},
            "svg": {"Description": comment, "Date": None},
            "png": {"Comment": comment},
        }
        figure.savefig(stream, format=ending, metadata=said[ending])
    return stream.getvalue()
