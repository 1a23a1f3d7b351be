"""Exported figures: every kind draws its data and only its data, in every format, the same bytes for the same rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from atlas.errors import UsageError
from atlas.export import drawing
from atlas.export.figure import FIGURES, FORMATS, WIDTHS, write_figure
from atlas.export.provenance import sidecar_path

LAYERS = [10, 11, 12, 13]
SAMPLES: dict[str, dict[str, list[Any]]] = {
    "layer_profile": {
        "layer": LAYERS * 2,
        "score": ["lape"] * 4 + ["bridge"] * 4,
        "share": [0.1, 0.4, None, 0.3, 0.0, 1.0, 0.5, 0.25],
        "n_features": [40] * 8,
    },
    "language_iou": {
        "layer": LAYERS,
        "languages": ["en+fr"] * 4,
        "same_concept": [0.3, 0.4, 0.35, 0.2],
        "ci_low": [0.2, 0.3, None, 0.1],
        "ci_high": [0.4, 0.5, None, 0.3],
        "null_low": [0.1] * 4,
        "null_high": [0.15] * 4,
        "null_mean": [0.12] * 4,
        "other_concept": [0.12, None, 0.13, 0.11],
    },
    "effects": {
        "name": ["zero L10_F1", "zero $L_11$", "patch L12_F3"],
        "language": ["en", "fr", "en"],
        "mean": [-0.5, 0.25, 1.0],
        "ci_low": [-0.7, 0.1, None],
        "ci_high": [-0.3, 0.4, None],
        "control_mean": [0.0, 0.01, None],
        "control_low": [-0.1, -0.1, None],
        "control_high": [0.1, 0.1, None],
    },
    "dose_response": {
        "members": ["L20_F7"] * 3,
        "strength": [2.0, 0.0, 1.0],
        "mean": [0.8, -0.4, 0.0],
        "ci_low": [0.5, -0.6, 0.0],
        "ci_high": [1.1, -0.2, 0.0],
    },
    "community_language": {
        "community": [0, 1],
        "n_nodes": [10, 4],
        "n_leaning_a": [1, 0],
        "n_balanced": [8, 1],
        "n_leaning_b": [1, 3],
        "n_insufficient": [0, 0],
    },
    "faithfulness": {
        "circuit": [0] * 3 + [1] * 3,
        "share_kept": [0.0, 0.1, 1.0] * 2,
        "faithfulness": [0.0, 0.8, 1.0, 0.0, 0.3, 1.0],
        "control_mean": [0.0, 0.1, 1.0] * 2,
        "control_high": [0.0, 0.2, 1.0] * 2,
        "completeness": [1.0, None, 0.0] * 2,
    },
    "attribution_graph": {
        "source": [0, 1, 2],
        "target": [1, 2, 3],
        "weight": [0.5, -1.0, 2.0],
        "source_layer": [None, 3, 7],
        "target_layer": [3, 7, None],
        "source_name": [" small", "L3_F1 @2", "L7_F9 @2"],
        "target_name": ["L3_F1 @2", "L7_F9 @2", " large"],
        "source_position": [1, 2, 2],
        "target_position": [2, 2, 2],
    },
}


def drawn(kind: str) -> Figure:
    figure = Figure()
    FIGURES[kind].draw(figure, SAMPLES[kind])
    return figure


def test_every_kind_has_a_sample() -> None:
    assert set(SAMPLES) == set(FIGURES)


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("ending", FORMATS)
def test_every_kind_is_written_in_every_format_with_its_sidecar(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"figure.{ending}"
    assert write_figure(kind, pa.table(SAMPLES[kind]), path, title="A title") == [path, sidecar_path(path)]
    start = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[ending]
    content = path.read_bytes()
    assert content.startswith(start)
    if ending == "svg":
        assert sidecar_path(path).name.encode() in content
        assert b"A title" in content


@pytest.mark.parametrize("ending", FORMATS)
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    contents = set()
    for name in ("a", "a"):
        write_figure("dose_response", pa.table(SAMPLES["dose_response"]), tmp_path / f"{name}.{ending}")
        contents.add((tmp_path / f"{name}.{ending}").read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize(("width", "pixels"), [("column", 1005), ("page", 2070)])
def test_a_figure_is_as_wide_as_a_column_or_a_page(tmp_path: Path, width: str, pixels: int) -> None:
    write_figure("dose_response", pa.table(SAMPLES["dose_response"]), tmp_path / "a.png", width=width)
    assert int.from_bytes((tmp_path / "a.png").read_bytes()[16:20], "big") == pytest.approx(pixels, abs=1)
    assert set(WIDTHS) == {"column", "page"}


def test_lines_are_the_data_in_order_and_nulls_are_left_out() -> None:
    axes = drawn("layer_profile").axes[0]
    lines = {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert lines == {"lape": ([10, 11, 13], [0.1, 0.4, 0.3]), "bridge": (LAYERS, [0.0, 1.0, 0.5, 0.25])}
    line = drawn("dose_response").axes[0].lines[0]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.0, 1.0, 2.0], [-0.4, 0.0, 0.8])


def test_the_overlap_stands_beside_its_null_and_comparisons() -> None:
    axes = drawn("language_iou").axes[0]
    labels = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert labels == ["null, 95 %", "same concept", "other concept"]
    same = next(line for line in axes.lines if line.get_label() == "same concept")
    assert list(same.get_ydata()) == [0.3, 0.4, 0.35, 0.2]
    other = next(line for line in axes.lines if line.get_label() == "other concept")
    assert math.isnan(list(other.get_ydata())[1])


def test_a_forest_plot_has_one_row_an_effect_with_its_controls_behind() -> None:
    axes = drawn("effects").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zero L10_F1", "zero $L_11$", "patch L12_F3"]
    assert [(bar.get_x(), round(bar.get_width(), 9)) for bar in axes.patches] == [(-0.1, 0.2), (-0.1, 0.2)]
    means = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_linestyle() == "None"]
    assert means == [(-0.5, 0), (0.25, 1), (1.0, 2)]


def test_a_heat_map_shows_counts_and_shares() -> None:
    axes = drawn("community_language").axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "8", "1", "0", "0", "1", "3", "0"]
    assert axes.images[0].get_array().tolist() == [[0.1, 0.8, 0.1, 0.0], [0.0, 0.25, 0.75, 0.0]]


def test_a_heat_map_names_its_languages_where_they_are_known() -> None:
    figure = Figure()
    FIGURES["community_language"].draw(figure, {**SAMPLES["community_language"], "language_a": ["en"] * 2, "language_b": ["fr"] * 2})
    said = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_xticklabels()]
    assert said == ["leaning to en", "balanced", "leaning to fr", "too little"]


def test_an_overlap_beside_no_other_concept_is_not_called_one_of_concepts() -> None:
    sample = {
        **SAMPLES["language_iou"],
        "null_low": [None] * 4,
        "null_high": [None] * 4,
        "null_mean": [None] * 4,
        "other_concept": [None] * 4,
    }
    figure = Figure()
    FIGURES["language_iou"].draw(figure, sample)
    assert [str(line.get_label()) for line in figure.axes[0].lines] == ["both languages"]


def test_controls_as_long_as_the_set_are_a_frame_and_not_another_grey_band() -> None:
    rows: dict[str, list[Any]] = {
        "intervention": [7, 7],
        "name": ["ablate"] * 2,
        "mean": [-1.0] * 2,
        "control": ["matched_random", "matched_random_rescaled"],
        "control_mean": [0.1, 0.2],
        "control_low": [-0.2, -0.4],
        "control_high": [0.4, 0.8],
    }
    figure = Figure()
    FIGURES["effects"].draw(figure, rows)
    assert [bar.get_facecolor()[3] for bar in figure.axes[0].patches] == [1.0, 0.0]
    assert figure.axes[0].get_xlabel().startswith("effect on the margin, logits")


def test_one_panel_has_its_axis_named_above_the_legend() -> None:
    figure = drawn("layer_profile")
    assert (figure.axes[0].get_xlabel(), figure.get_supxlabel()) == ("layer", "")


def test_a_graph_stands_in_layers_with_the_sign_as_colour() -> None:
    axes = drawn("attribution_graph").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["input", "3", "7", "output"]
    edges = [line for line in axes.lines if len(line.get_xdata()) == 2]
    heights = sorted((tuple(line.get_ydata()), line.get_color()) for line in edges)
    assert heights == [((0.0, 1.0), drawing.BLUE), ((1.0, 2.0), drawing.VERMILION), ((2.0, 3.0), drawing.BLUE)]
    assert {text.get_text() for text in axes.texts} == {"small", "L3_F1", "L7_F9", "large"}


def test_what_is_not_drawn_is_said() -> None:
    n = drawing.MOST_ROWS + 5
    figure = Figure()
    FIGURES["effects"].draw(figure, {"name": [f"e{i}" for i in range(n)], "mean": [0.1] * n})
    assert figure.axes[0].get_title(loc="right") == f"first {drawing.MOST_ROWS} of {n}"


def test_controls_of_one_effect_stand_on_its_line() -> None:
    rows: dict[str, list[Any]] = {
        "intervention": [7, 7, 7, 8],
        "name": ["ablate", "ablate", "ablate", "scale"],
        "mean": [-1.0, -1.0, -1.0, 0.5],
        "control": ["matched_random", "none", "whole_mlp", "none"],
        "control_mean": [0.1, None, -2.0, None],
        "control_low": [-0.2, None, None, None],
        "control_high": [0.4, None, None, None],
    }
    figure = Figure()
    FIGURES["effects"].draw(figure, rows)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ablate", "scale"]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(-0.2, pytest.approx(0.6))]
    marks = {line.get_label(): float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() not in ("None", "")}
    assert marks["whole MLP"] == -2.0
    assert marks["effect, 95 %"] == -1.0


def test_many_scores_get_a_panel_each() -> None:
    n = drawing.MOST_PROFILES + 1
    rows = {"layer": [0, 1] * n, "score": [f"score_{i // 2}" for i in range(2 * n)], "share": [0.0, 0.5] * n, "n_features": [4] * (2 * n)}
    figure = Figure(figsize=(3.35, 3))
    FIGURES["layer_profile"].draw(figure, rows)
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [f"score {i}" for i in range(n)]
    assert all(len(axes.lines) == 1 for axes in figure.axes if axes.get_visible())


def test_edges_of_several_kinds_have_a_dash_and_widths_of_their_own() -> None:
    edges = {"source": [0, 1], "target": [2, 2], "weight": [10.0, 0.1], "kind": ["virtual_weight", "star_total"]}
    edges |= {"source_name": ["L0_F1", "L0_F2"], "target_name": ["margin"] * 2}
    figure = Figure()
    FIGURES["attribution_graph"].draw(figure, edges)
    drawn_edges = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert len({line.get_linewidth() for line in drawn_edges}) == 1
    assert {line.get_linestyle() for line in drawn_edges} == {"-", "--"}
    figure = Figure()  # in whatever order the kinds come
    FIGURES["attribution_graph"].draw(figure, {name: values[::-1] for name, values in edges.items()})
    legend = {str(line.get_label()): line.get_linestyle() for line in figure.axes[0].lines if not len(line.get_xdata())}
    assert (legend["virtual weight"], legend["star total"]) == ("-", "--")


def test_a_figure_goes_to_a_pipe(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert write_figure("dose_response", pa.table(SAMPLES["dose_response"]), "-", "png") == []
    assert capfdbinary.readouterr().out.startswith(b"\x89PNG")


def test_what_a_figure_cannot_draw_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    table = pa.table(SAMPLES["dose_response"])
    with pytest.raises(UsageError, match="figure dose_response needs column 'strength'"):
        write_figure("dose_response", table.drop_columns(["strength"]), tmp_path / "a.png")
    with pytest.raises(UsageError, match="no figure 'pie'"):
        write_figure("pie", table, tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"The ending of .*a\.gif names no format"):
        write_figure("dose_response", table, tmp_path / "a.gif")
    with pytest.raises(UsageError, match="no figure format 'gif'"):
        write_figure("dose_response", table, tmp_path / "a.png", "gif")
    with pytest.raises(UsageError, match="There is no folder"):
        write_figure("dose_response", table, tmp_path / "nowhere" / "a.png")
    with pytest.raises(UsageError, match="no width 'poster'"):
        write_figure("dose_response", table, tmp_path / "a.png", width="poster")
    with pytest.raises(UsageError, match="has no rows"):
        write_figure("dose_response", table.slice(0, 0), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
