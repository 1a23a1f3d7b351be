"""The drawings of figures, one function a kind.

In: an empty matplotlib figure and the columns of a result as Python lists. Out: the drawn figure. Nulls are left out, never drawn as 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from atlas.stats import wilson

Columns = Mapping[str, list[Any]]

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
"""Okabe and Ito 2008: colours that people with colour-blindness tell apart."""
LINE_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (5, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, LIGHT = "#6e6e6e", "#d9d9d9"
MOST_ROWS = 40
"""Rows of a forest plot; more are said, not drawn."""
MOST_LINES = 7
MOST_EDGES = 200
MOST_LABELS = 40
MOST_PROFILES = 3
"""Scores of a layer profile in one panel; more get a panel each."""
NARROW = 5.0
"""Inches: below this a figure is a column wide."""
SINGLE_CONTROLS = {"error_only": "D", "same_norm_direction": "v", "whole_mlp": "s"}
"""Controls of one draw -> marker. `other_concept` has the edit of its effect and another answer's margin: it is not on this axis."""
RESCALED = "matched_random_rescaled"
"""Drawn as a frame: it stands on the same line as the band of the controls as they were drawn."""
EDGE_DASHES = {"virtual_weight": "-", "attribution": "-", "star_total": "--", "star_direct": ":", "causal": "-."}
"""The same kind of edge looks the same in every graph."""
PROFILES = (
    ("n_leaning_a", "leaning to first"),
    ("n_balanced", "balanced"),
    ("n_leaning_b", "leaning to second"),
    ("n_insufficient", "too little"),
)
NODE_STYLES = {
    "feature": ("o", "white"),
    "error": ("D", LIGHT),
    "token": ("s", SKY),
    "input": ("s", SKY),
    "logit": ("s", ORANGE),
    "output": ("s", ORANGE),
}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _series(columns: Columns, *names: str) -> Iterator[tuple[str, list[int]]]:
    """Yield (label, rows) for each combination of the columns that are there and vary, in order of appearance."""
    present = [name for name in names if name in columns and len(set(columns[name])) > 1]
    groups: dict[tuple[Any, ...], list[int]] = {}
    n_rows = len(next(iter(columns.values())))
    for row in range(n_rows):
        groups.setdefault(tuple(columns[name][row] for name in present), []).append(row)
    for key, rows in groups.items():
        yield ", ".join(str(part).replace("_", " ") for part in key), rows


def _sorted(rows: Sequence[int], values: Sequence[Any]) -> list[int]:
    return sorted((row for row in rows if values[row] is not None), key=lambda row: values[row])


def _band(axes: Any, columns: Columns, rows: Sequence[int], x: str, low: str, high: str, **style: Any) -> bool:
    """Fill between two columns where both are there; say whether anything was drawn."""
    if low not in columns or high not in columns:
        return False
    kept = [row for row in rows if columns[low][row] is not None and columns[high][row] is not None]
    if kept:
        axes.fill_between(*[[columns[name][row] for row in kept] for name in (x, low, high)], linewidth=0, **style)
    return bool(kept)


def _style(number: int) -> dict[str, Any]:
    return {
        "color": LINE_COLOURS[number % len(LINE_COLOURS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def _legend(figure: Any, axes: Any, *, columns: int = 2, first: str = "") -> None:
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda number: not labels[number].startswith(first))  # stable
    handles, labels = [handles[number] for number in order], [labels[number] for number in order]
    if len(handles) > 1 or (labels and labels[0] not in ("", "all")):
        figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(handles)), handlelength=2.6, columnspacing=1.2)


def _layers(axes: Any, layers: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
    axes.set_xlabel("layer")
    axes.set_xlim(min(layers) - 0.4, max(layers) + 0.4)


def n_panels(columns: Columns) -> int:
    """Count the panels of a layer profile: a score each where lines would hide each other."""
    n_scores = len(set(columns["score"]))
    return n_scores if n_scores > MOST_PROFILES else 1


def n_panel_columns(width: float) -> int:
    """Count the panels side by side in a figure of this width (inches)."""
    return 2 if width < NARROW else 4


def layer_profile(figure: Any, columns: Columns) -> None:
    """Draw the share of bilingual features by layer with Wilson's band: a panel a score, or one panel where there are few scores."""
    n = n_panels(columns)
    across = min(n, n_panel_columns(figure.get_figwidth()))
    down = math.ceil(n / across)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for number, (label, rows) in enumerate(_series(columns, "score")):
        axes = panels.flat[number if n > 1 else 0]
        _profile(axes, columns, rows, label, _style(number))
        if n > 1:
            axes.set_title(label, fontsize=7)
    for number, axes in enumerate(panels.flat):
        axes.set_visible(number < n)
        _layers(axes, columns["layer"])
        axes.set_xlabel("")
        axes.tick_params(labelbottom=True)
    top = max(0.05, panels[0, 0].get_ylim()[1])
    panels[0, 0].set_ylim(-0.03 * top, top)  # a line at 0 is seen whole
    if n == 1:
        panels[0, 0].set_xlabel("layer")
        panels[0, 0].set_ylabel("share of features")
        _legend(figure, panels[0, 0], columns=2)
        return
    figure.supylabel("share of features", fontsize=8)
    figure.supxlabel("layer", fontsize=8)


def _profile(axes: Any, columns: Columns, rows: Sequence[int], label: str, style: Mapping[str, Any]) -> None:
    ordered = [row for row in _sorted(rows, columns["layer"]) if columns["share"][row] is not None]
    layers, shares = [columns["layer"][row] for row in ordered], [float(columns["share"][row]) for row in ordered]
    axes.plot(layers, shares, label=label, **style)
    if "n_features" in columns:
        totals = [columns["n_features"][row] for row in ordered]
        low, high = wilson([round(share * total) for share, total in zip(shares, totals, strict=True)], totals)
        axes.fill_between(layers, low, high, color=style["color"], alpha=0.18, linewidth=0)


def language_iou(figure: Any, columns: Columns) -> None:
    """Draw IoU by layer with its interval, the null band, and the comparisons that are there."""
    axes = figure.subplots()
    comparisons = (("other_concept", "other concept"), ("antonym_partner", "antonym partner"), ("split_half", "split half of one language"))
    for number, (label, rows) in enumerate(_series(columns, "languages", "parameter_set")):
        ordered = _sorted(rows, columns["layer"])
        layers = [columns["layer"][row] for row in ordered]
        style = _style(number)
        prefix = f"{label}: " if label else ""
        if _band(axes, columns, ordered, "layer", "null_low", "null_high", color=LIGHT, alpha=0.9, label=f"{prefix}null, 95 %", zorder=0):
            axes.plot(layers, [_number(value) for value in _pick(columns, "null_mean", ordered)], color=GREY, linewidth=0.8, zorder=1)
        _band(axes, columns, ordered, "layer", "ci_low", "ci_high", color=style["color"], alpha=0.2)
        # An overlap that stands beside no other concept's may be one of whole languages (an imported one is).
        told_apart = any(_pick(columns, name, [row])[0] is not None for name in ("other_concept", "null_mean") for row in ordered)
        words = "same concept" if told_apart else "both languages"
        axes.plot(layers, [_number(columns["same_concept"][row]) for row in ordered], label=f"{prefix}{words}", **style)
        if label:
            continue  # several language pairs: their comparisons would hide each other
        for other, (name, words) in enumerate(comparisons, start=1):
            values = [_number(value) for value in _pick(columns, name, ordered)]
            if any(not math.isnan(value) for value in values):
                axes.plot(layers, values, label=words, **{**_style(other), "linewidth": 0.9})
    _layers(axes, columns["layer"])
    axes.set_ylim(0, None)
    axes.set_ylabel("intersection over union")
    _legend(figure, axes, columns=2)


def _pick(columns: Columns, name: str, rows: Sequence[int]) -> list[Any]:
    return [columns[name][row] for row in rows] if name in columns else [None] * len(rows)


def effect_groups(columns: Columns) -> list[list[int]]:
    """Return the rows of each effect: those that differ in the kind of control alone belong to one."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in range(len(columns["mean"])):
        identity = [columns[name][row] for name in ("intervention", "name", "language", "split") if name in columns]
        groups.setdefault(tuple(identity) if "control" in columns else (row,), []).append(row)
    return list(groups.values())


def effects(figure: Any, columns: Columns) -> None:
    """Draw a forest plot: mean and interval of each effect; behind it the band and mean of random controls, and single controls."""
    axes = figure.subplots()
    groups = effect_groups(columns)
    shown = groups[:MOST_ROWS]
    narrow = figure.get_figwidth() < NARROW
    languages = list(dict.fromkeys(columns.get("language", ["all"])))
    said: set[str] = set()

    def once(label: str) -> str | None:
        new = label not in said
        said.add(label)
        return label if new else None

    for place, rows in enumerate(shown):
        for row in rows:
            _draw_control(axes, columns, row, place, once)
        row = rows[0]
        language = columns["language"][row] if "language" in columns else "all"
        style = _style(languages.index(language))
        ends = [_number(_pick(columns, name, [row])[0]) for name in ("ci_low", "ci_high")]
        axes.plot(ends, [place, place], color=style["color"], linewidth=1.1, zorder=3)
        mark = {"color": style["color"], "marker": style["marker"], "linestyle": "none", "zorder": 3}
        label = "effect, 95 %" if language == "all" else str(language)
        axes.plot(_number(columns["mean"][row]), place, label=once(label), **mark)
    axes.axvline(0, color=BLACK, linewidth=0.6, zorder=0.5)
    names = [_shorter(str(columns["name"][rows[0]]), 26 if narrow else 44) for rows in shown]
    axes.set_yticks(range(len(shown)), names, parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("effect on the margin, logits" + ("\n" if narrow else " ") + "(after − before)")
    if len(groups) > MOST_ROWS:
        axes.set_title(f"first {MOST_ROWS} of {len(groups)}", loc="right", fontsize=7, color=GREY)
    _legend(figure, axes, columns=1 if narrow else 3, first="effect")


def _draw_control(axes: Any, columns: Columns, row: int, place: int, once: Callable[[str], str | None]) -> None:
    """Draw a control of many draws as a band with its mean, one of a single draw as a hollow mark."""
    low, high, middle = (_number(_pick(columns, name, [row])[0]) for name in ("control_low", "control_high", "control_mean"))
    kind = str(_pick(columns, "control", [row])[0] or "control")
    if not math.isnan(low) and not math.isnan(high):
        words = "controls" if kind == "control" else kind.replace("_", " ")
        filled = (
            {"color": LIGHT, "zorder": 0} if kind != RESCALED else {"facecolor": "none", "edgecolor": GREY, "linewidth": 0.7, "zorder": 1}
        )
        axes.barh(place, high - low, left=low, height=0.62, label=once(f"{words}, 95 % and mean"), **filled)
        axes.plot([middle, middle], [place - 0.31, place + 0.31], color=GREY, linewidth=1.0, zorder=1)
    elif kind in SINGLE_CONTROLS and not math.isnan(middle):
        mark = {"marker": SINGLE_CONTROLS[kind], "markerfacecolor": "none", "markeredgecolor": GREY, "markeredgewidth": 0.8}
        axes.plot(middle, place, linestyle="none", label=once(kind.replace("_", " ").replace("mlp", "MLP")), zorder=2, **mark)


def _shorter(text: str, length: int) -> str:
    """Cut the middle out: names of interventions differ at both ends."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half].rstrip()}…{text[-half:].lstrip()}"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def dose_response(figure: Any, columns: Columns) -> None:
    """Draw the mean effect by strength, one line for each set of members and language."""
    axes = figure.subplots()
    series = list(_series(columns, "members", "language"))
    for number, (label, rows) in enumerate(series[:MOST_LINES]):
        ordered = _sorted(rows, columns["strength"])
        style = _style(number)
        _band(axes, columns, ordered, "strength", "ci_low", "ci_high", color=style["color"], alpha=0.18)
        axes.plot(*([_number(columns[name][row]) for row in ordered] for name in ("strength", "mean")), label=_short(label, 30), **style)
    axes.axhline(0, color=BLACK, linewidth=0.6, zorder=0)
    axes.set_xlabel("strength")
    axes.set_ylabel("effect on the margin, logits\n(after − before)")
    if len(series) > MOST_LINES:
        axes.set_title(f"first {MOST_LINES} of {len(series)}", loc="right", fontsize=7, color=GREY)
    _legend(figure, axes, columns=2)


def community_language(figure: Any, columns: Columns) -> None:
    """Draw a heat map: communities by language profile, colour is the share of nodes, the number is the count."""
    axes = figure.subplots()
    order = sorted(range(len(columns["community"])), key=lambda row: (columns.get("graph", [0] * 10**6)[row], columns["community"][row]))
    counts = [[int(columns[name][row] or 0) for name, _ in PROFILES] for row in order]
    shares = [[count / max(1, int(columns["n_nodes"][row])) for count in line] for row, line in zip(order, counts, strict=True)]
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for y, (line, colours) in enumerate(zip(counts, shares, strict=True)):
        for x, count in enumerate(line):
            axes.text(x, y, str(count), ha="center", va="center", fontsize=7, color="black" if colours[x] > 0.55 else "white")
    languages = {"first": columns.get("language_a", ["first"])[0], "second": columns.get("language_b", ["second"])[0]}
    words = [" ".join(languages.get(word, word) for word in said.split()) for _, said in PROFILES]
    axes.set_xticks(range(len(PROFILES)), [said.replace(" ", "\n") for said in words])
    axes.set_yticks(range(len(order)), [f"{columns['community'][row]}  (n = {columns['n_nodes'][row]})" for row in order])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("community")
    figure.colorbar(image, ax=axes, label="share of nodes", shrink=0.9, aspect=25, pad=0.03).outline.set_visible(False)


def faithfulness(figure: Any, columns: Columns) -> None:
    """Draw f against the share of nodes kept, with the whole model (1), nothing (0) and the random circuits; thin: f of all others."""
    axes = figure.subplots()
    series = list(_series(columns, "name" if "name" in columns else "circuit", "language", "split", "reference", "error_mode"))
    for number, (label, rows) in enumerate(series[:MOST_LINES]):
        ordered = _sorted(rows, columns["share_kept"])
        x = [columns["share_kept"][row] for row in ordered]
        style = _style(number)
        axes.plot(x, [_number(columns["faithfulness"][row]) for row in ordered], label=label or "circuit", **style)
        without = [row for row in ordered if columns.get("completeness") and columns["completeness"][row] is not None]
        if without:
            words = "everything else (completeness)" if number == 0 else None
            thin = {**style, "linewidth": 0.7, "linestyle": "-."}
            left = [_number(columns["completeness"][row]) for row in without]
            axes.plot([columns["share_kept"][row] for row in without], left, label=words, **thin)
        controls = [_number(value) for value in _pick(columns, "control_mean", ordered)]
        if any(not math.isnan(value) for value in controls):
            words = "random circuits, mean" if number == 0 else None
            axes.plot(x, controls, color=GREY, linestyle=":", linewidth=1.0, label=words)
        highs = [_number(value) for value in _pick(columns, "control_high", ordered)]
        if any(not math.isnan(value) for value in highs):
            words = "random circuits, up to 97.5 %" if number == 0 else None
            axes.fill_between(x, controls, highs, color=LIGHT, linewidth=0, label=words, zorder=0)
    for level in (0, 1):
        axes.axhline(level, color=BLACK, linewidth=0.5, zorder=0)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of nodes kept")
    axes.set_ylabel("faithfulness")
    _legend(figure, axes, columns=1 if figure.get_figwidth() < NARROW else 3)


def attribution_graph(figure: Any, columns: Columns) -> None:
    """Draw the strongest edges between nodes in rows by layer: tokens at the bottom, logits on top, blue positive, orange negative."""
    axes = figure.subplots()
    strongest = sorted(range(len(columns["weight"])), key=lambda row: -abs(columns["weight"][row]))[:MOST_EDGES]
    nodes = _graph_nodes(columns, strongest)
    places = _place_nodes(nodes, [(columns["source"][row], columns["target"][row]) for row in strongest])
    kind_of = columns.get("kind", [None] * len(columns["weight"]))
    kinds = list(dict.fromkeys(kind_of[row] for row in strongest))
    top = {kind: _largest(columns, [row for row in strongest if kind_of[row] == kind]) for kind in kinds}
    for row in reversed(strongest):
        kind = kind_of[row]
        (x0, y0), (x1, y1) = places[columns["source"][row]], places[columns["target"][row]]
        strength = abs(columns["weight"][row]) / top[kind]
        style = {"color": BLUE if columns["weight"][row] > 0 else VERMILION, "linestyle": EDGE_DASHES.get(kind, "-")}
        axes.plot([x0, x1], [y0, y1], linewidth=0.3 + 1.9 * strength, alpha=0.25 + 0.6 * strength, zorder=1, **style)
    for name, node in nodes.items():
        marker, colour = NODE_STYLES.get(node["kind"], NODE_STYLES["feature"])
        face = {"markerfacecolor": colour, "markeredgecolor": BLACK, "markeredgewidth": 0.6, "markersize": 4.5}
        axes.plot(*places[name], marker=marker, linestyle="none", zorder=2, **face)
    _graph_labels(axes, nodes, places, figure.get_figwidth())
    _graph_axes(figure, axes, nodes, len(columns["weight"]), len(strongest))
    for kind in kinds if len(kinds) > 1 else []:  # kinds are not comparable: each has its own widths
        axes.plot([], [], color=GREY, linestyle=EDGE_DASHES.get(kind, "-"), linewidth=1.2, label=str(kind).replace("_", " "))
    _legend(figure, axes, columns=2)


def _largest(columns: Columns, rows: Sequence[int]) -> float:
    return max((abs(columns["weight"][row]) for row in rows), default=1.0) or 1.0


def _graph_nodes(columns: Columns, rows: Sequence[int]) -> dict[Any, dict[str, Any]]:
    """Return what is known of each node at an end of these edges, and the sum of its absolute weights."""
    nodes: dict[Any, dict[str, Any]] = {}
    for row in rows:
        for end in ("source", "target"):
            layer = columns[f"{end}_layer"][row] if f"{end}_layer" in columns else _layer_of(str(columns[f"{end}_name"][row]))
            kind = _pick(columns, f"{end}_kind", [row])[0] or _kind_of(str(columns[f"{end}_name"][row]), layer, end)
            node = nodes.setdefault(columns[end][row], {"kind": str(kind), "layer": layer, "total": 0.0})
            node["name"] = str(columns[f"{end}_name"][row])
            node["position"] = _pick(columns, f"{end}_position", [row])[0]
            node["total"] += abs(columns["weight"][row])
    return nodes


def _layer_of(name: str) -> int | None:
    """Read the layer from `L20_F1454 @7` or `error L3 @7`; anything else has none."""
    match = re.match(r"^(?:error )?L(\d+)(?:_F\d+)?(?: @\d+)?$", name)
    return int(match.group(1)) if match else None


def _kind_of(name: str, layer: int | None, end: str) -> str:
    if layer is not None:
        return "error" if name.startswith("error ") else "feature"
    return "token" if end == "source" else "logit"


def _level(node: Mapping[str, Any]) -> float:
    if node["kind"] in ("logit", "output"):
        return math.inf
    return -1.0 if node["layer"] is None else float(node["layer"])


def _place_nodes(nodes: Mapping[Any, Mapping[str, Any]], edges: Sequence[tuple[Any, Any]]) -> dict[Any, tuple[float, float]]:
    """Give each node a place: y by layer (only layers that are there), x by position, nodes of one cell side by side.

    Outputs all stand at one position: they take the whole width. Within a cell nodes stand in the order of their neighbours' mean
    place (three sweeps from both ends, Sugiyama 1981), so that fewer edges cross.
    """
    levels = sorted({_level(node) for node in nodes.values()})
    positions = sorted({node["position"] for node in nodes.values() if node["position"] is not None})
    cells: dict[tuple[float, Any], list[Any]] = {}
    for name, node in nodes.items():
        level = _level(node)
        cells.setdefault((level, None if math.isinf(level) else node["position"]), []).append(name)
    neighbours: dict[Any, list[Any]] = {name: [] for name in nodes}
    for source, target in edges:
        neighbours[source].append(target)
        neighbours[target].append(source)
    places: dict[Any, tuple[float, float]] = {}

    def place(cell: tuple[float, Any]) -> None:
        level, position = cell
        width = 1.0 / max(1, len(positions))
        centre = 0.5 if position is None else (positions.index(position) + 0.5) * width
        spread = 0.96 if position is None else 0.82 * width
        if position is None and level >= 0 and not math.isinf(level) and len(cells[cell]) < 4:
            # Layers of few nodes are moved against each other (golden ratio): edges through several layers do not hide each other.
            centre, spread = centre + 0.4 * ((0.618 * levels.index(level)) % 1 - 0.5), 0.6
        for number, name in enumerate(cells[cell]):
            places[name] = (centre + spread * ((number + 0.5) / len(cells[cell]) - 0.5), float(levels.index(level)))

    for cell, names in cells.items():
        names.sort(key=lambda name: (nodes[name]["position"] or 0, nodes[name]["name"]))
        place(cell)
    order = sorted(cells, key=lambda cell: cell[0])
    for sweep in range(6):
        for cell in order if sweep % 2 else order[::-1]:
            means = {name: sum(places[other][0] for other in neighbours[name]) / max(1, len(neighbours[name])) for name in cells[cell]}
            cells[cell].sort(key=lambda name: (nodes[name]["position"] or 0, means[name], nodes[name]["name"]))
            place(cell)
    return places


def _graph_labels(
    axes: Any, nodes: Mapping[Any, Mapping[str, Any]], places: Mapping[Any, tuple[float, float]], figure_width: float
) -> None:
    """Name tokens and logits, then the strongest features; a label that would lie on another one is left out."""
    ends = [name for name, node in nodes.items() if node["layer"] is None and node["kind"] != "error"]
    features = [name for name in nodes if name not in ends and nodes[name]["kind"] == "feature"]
    features.sort(key=lambda name: -nodes[name]["total"])
    taken: list[tuple[float, float, float]] = []
    for name in [*ends, *features[:MOST_LABELS]]:
        x, y = places[name]
        text = _short(nodes[name]["name"].split(" @")[0].strip(" "), 18)
        half = (0.034 * len(text) + 0.02) / figure_width  # of the width, at this size of letters
        if any(y == other_y and abs(x - other_x) < half + other_half for other_x, other_y, other_half in taken):
            continue
        taken.append((x, y, half))
        below = name in ends and y == 0
        style: dict[str, Any] = {"ha": "center", "va": "top" if below else "bottom", "fontsize": 5.5, "parse_math": False, "zorder": 3}
        style["bbox"] = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        axes.annotate(text, (x, y), xytext=(0, -6 if below else 4), textcoords="offset points", **style)


def _graph_axes(figure: Any, axes: Any, nodes: Mapping[Any, Mapping[str, Any]], n_edges: int, n_shown: int) -> None:
    levels = sorted({_level(node) for node in nodes.values()})
    names = ["input" if level < 0 else "output" if math.isinf(level) else str(int(level)) for level in levels]
    axes.set_yticks(range(len(levels)), names)
    axes.set_ylim(-0.8, len(levels) - 0.4)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([])
    axes.set_ylabel("layer")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=2)
    if n_shown < n_edges:
        axes.set_title(f"strongest {n_shown} of {n_edges} edges", loc="right", fontsize=7, color=GREY)
    axes.plot([], [], color=BLUE, linewidth=1.5, label="positive weight")
    axes.plot([], [], color=VERMILION, linewidth=1.5, label="negative weight")
