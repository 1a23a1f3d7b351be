"""Draw a feature's card: sections of lines from its rows.

In: a `Card`, people's newest words, the width there is. Out: two lists of sections: what it fires on; what it does and what is said of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atlas.ids import feature_name
from tui import marks
from tui.card import Card, Rows
from tui.columns import Part
from tui.text import cut, figure, fit, number, safe, signed, token, width
from tui.widgets.line_view import Line, Link, Section, text_line

LONG = 24
"""Cells of a promoted token at most."""
NOTHING = (Line((("none measured", "dim"),)),)


def head(card: Card, words: Mapping[str, Any]) -> list[Section]:
    """Return the first section: what it is, in figures."""
    row = card.row or {}
    star = "★ " if words.get("starred") else ""
    label = words.get("label")
    first: list[Part] = [(star, "accent"), (safe(label) if label else "no label yet: l writes one", "strong" if label else "dim")]
    figures = (
        f"active on {number(row.get('n_active'))} of {number(row.get('n_tokens'))} tokens ({number(row.get('density'))}), "
        f"in {number(row.get('n_prompts_active'))} prompts"
    )
    sizes = (
        f"max {number(row.get('max_activation'))} · mean {number(row.get('mean_activation'))} ± {number(row.get('sd_activation'))} · "
        f"norms: encoder {number(row.get('encoder_norm'))}, decoder {number(row.get('decoder_norm'))}"
    )
    lines = [Line(tuple(first)), text_line(figures), text_line(sizes)]
    lines += [_tokens_line("raises ", row.get("promoted_tokens"), row.get("promoted_weights"), "positive")]
    lines += [_tokens_line("lowers ", row.get("suppressed_tokens"), row.get("suppressed_weights"), "negative")]
    note = f"{card.neuronpedia}/{card.feature}" if card.neuronpedia else ""
    return [Section(feature_name(card.layer, card.feature), tuple(lines), note)]


def _tokens_line(title: str, tokens: Sequence[str] | None, weights: Sequence[float] | None, style: str) -> Line:
    parts: list[Part] = [(title, "dim")]
    for text, weight in zip(tokens or (), weights or (), strict=False):
        parts += [(cut(token(text), LONG), "strong"), (f" {signed(weight, 2)}  ", style)]
    return Line(tuple(parts))


def contexts(card: Card, cells: int) -> list[Section]:
    """Return the contexts: top, by quantile, and where it is silent."""
    largest = float((card.row or {}).get("max_activation") or 0.0)
    titles = (("top", "Top contexts"), ("quantile", "Over its range"), ("non_activating", "Where it is silent"))
    sections = []
    for kind, title in titles:
        rows = [row for row in card.contexts if row["kind"] == kind]
        if rows:
            lines = tuple(_context(row, card.tokens.get((row["source"], row["item"]), {}), largest, cells) for row in rows)
            sections.append(Section(title, lines, "shade, underline and block height show the activation"))
    return sections or [Section("Top contexts", (Line((("none stored", "dim"),)),))]


def _context(row: dict[str, Any], tokens: Mapping[int, str], largest: float, cells: int) -> Line:
    """Return one context on one line, its token always inside the width."""
    values = row["window_activations"] or []
    start = row["window_start"]
    decile = f"q{row['quantile']}" if row["quantile"] is not None and row["kind"] == "quantile" else "  "
    lead: list[Part] = [
        (fit(figure(row["activation"], 6), 6, "right") + " ", ""),
        (fit(safe(row["language"]), 3), "dim"),
        (decile + " ", "dim"),
    ]
    room = max(10, cells - sum(width(text) for text, _ in lead) - 3)
    pieces: list[tuple[list[Part], bool]] = []
    for position in range(start, row["window_end"] + 1):
        text = cut(safe(tokens.get(position, "?")), room - 1)  # a token longer than the line leaves room for its block
        value = values[position - start] if position - start < len(values) else (row["activation"] if position == row["position"] else 0.0)
        pieces.append((shaded(text, float(value or 0.0), largest), position == row["position"]))
    link = Link("go_prompts", {"prompt": row["item"]}) if row["source"] == "prompt" else None
    return Line((*lead, *_crop(pieces, room)), link)


def shaded(text: str, value: float, largest: float) -> list[Part]:
    """Return a token with its activation: shade and underline on the text, a block of that height behind it."""
    level = marks.shade(value, largest)
    if level == 0:
        return [(text, "")]
    body = text.lstrip(" ")
    lead = text[: len(text) - len(body)]
    return [(lead, ""), (body or "␣", f"shade{level}"), (marks.level(value, largest), "accent")]


def _crop(pieces: list[tuple[list[Part], bool]], room: int) -> list[Part]:
    """Return the pieces around the marked one that fit; … where some were left out."""
    sizes = [sum(width(text) for text, _ in parts) for parts, _ in pieces]
    center = next((place for place, (_, marked) in enumerate(pieces) if marked), 0)
    first = last = center
    used = sizes[center] if sizes else 0
    grew = True
    while grew and sizes:
        grew = False
        for place in (first - 1, last + 1):
            if 0 <= place < len(pieces) and used + sizes[place] <= room:
                used += sizes[place]
                first, last = min(first, place), max(last, place)
                grew = True
    out: list[Part] = [("…", "dim")] if first > 0 else []
    for parts, _ in pieces[first : last + 1]:
        out += parts
    return out + ([("…", "dim")] if last + 1 < len(pieces) else [])


def languages(card: Card) -> Section:
    """Return languages side by side."""
    heads = (("", 4), ("prompts", 12), ("rate", 15), ("tokens", 17), ("mean", 7), ("max", 8))
    lines = [Line((("".join(fit(name, cells, "right" if name in ("mean", "max") else "left") for name, cells in heads), "dim"),))]
    for row in card.languages:
        rate = row["n_prompts_active"] / row["n_prompts"] if row["n_prompts"] else None
        share = row["n_active"] / row["n_tokens"] if row["n_tokens"] else None
        mean = row["sum_activation"] / row["n_active"] if row["n_active"] else None
        lines.append(
            Line(
                (
                    (fit(safe(row["language"]), 4), "strong"),
                    (fit(f"{row['n_prompts_active']:,}/{row['n_prompts']:,}", 11) + " ", ""),
                    (fit(figure(rate, 5, 2), 6), ""),
                    (marks.bar(rate, 1.0, 8) + " ", "accent"),
                    (fit(f"{figure(share, 6, 2)} of {figure(row['n_tokens'], 7)}", 17), ""),
                    (fit(figure(mean, 6), 7, "right") + fit(figure(row["max_activation"], 6), 8, "right"), ""),
                )
            )
        )
    return Section("Languages", tuple(lines) if card.languages else NOTHING)


def histogram(card: Card) -> Section:
    """Return the histogram of positive activations."""
    if not card.histogram:
        return Section("Activations", NOTHING)
    counts = [float(row["n"]) for row in card.histogram]
    stretch = max(1, 48 // len(counts))
    lines = [Line((("".join(char * stretch for char in line), "accent"),)) for line in marks.columns(counts, 4)]
    low, high = number(card.histogram[0]["low"]), number(card.histogram[-1]["high"])
    room = max(1, stretch * len(counts) - width(low) - width(high))
    return Section("Activations", (*lines, Line(((low + " " * room + high, "dim"),))), f"{int(sum(counts)):,} above zero")


def scores(card: Card) -> Section:
    """Return all scores with parameters, intervals and nulls."""
    lines = []
    for row in card.scores:
        flag = "" if row["flag"] is None else "yes" if row["flag"] else "no"
        interval = f" [{number(row['ci_low'])}, {number(row['ci_high'])}]" if row["ci_low"] is not None else ""
        null = f" null {number(row['null_mean'])}" if row["null_mean"] is not None else ""
        null += f" (95 %: {number(row['null_high'])})" if row["null_high"] is not None else ""
        tests = f" p={number(row['p_value'])}" if row["p_value"] is not None else ""
        tests += f" q={number(row['q_value'])}" if row["q_value"] is not None else ""
        count = f" n={number(row['n'])}" if row["n"] is not None else ""
        lines.append(
            Line(
                (
                    (fit(safe(row["score"]), 17), "strong"),
                    (fit(safe(row["languages"]), 6), "dim"),
                    (fit(figure(row["value"], 8), 8, "right") + " ", ""),
                    (fit(flag, 4), "positive" if row["flag"] else "dim"),
                    (fit(safe(row["parameter_set"]), 9) + interval + null + tests + count, "dim"),
                )
            )
        )
    return Section("Scores", tuple(lines) or NOTHING)


def edges(card: Card) -> list[Section]:
    """Return edges out and in, kind by kind, signed, with bars."""
    return [
        Section("Edges out", tuple(_edges(card, card.outgoing, "target")) or NOTHING),
        Section("Edges in", tuple(_edges(card, card.incoming, "source")) or NOTHING),
    ]


def _edges(card: Card, rows: Rows, end: str) -> Iterable[Line]:
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        largest = max(abs(row["weight"]) for row in of_kind)
        for row in of_kind[:12]:
            layer, feature = row[f"{end}_layer"], row[f"{end}_feature"]
            is_feature = layer is not None and feature is not None
            name = feature_name(layer, feature) if is_feature else card.nodes.get((row["graph"], row[end]), f"node {row[end]}")
            link = Link("jump", {"feature": name}) if is_feature else Link("go_graph", {"graph": row["graph"], "node": row[end]})
            yield Line(edge_parts(kind, name, row, largest), link)


def edge_parts(kind: str, name: str, row: Mapping[str, Any], largest: float) -> tuple[Part, ...]:
    """Return one edge: kind, other end, signed weight and bar, support."""
    weight = row["weight"]
    support = f" n={row['n_prompts']}" if row.get("n_prompts") is not None else ""
    support += f" q={number(row['q_value'])}" if row.get("q_value") is not None else ""
    support += "" if row.get("accepted", True) else " rejected"
    sign = "negative" if weight < 0 else "positive"
    return (
        (fit(kind, 15), "dim"),
        (fit(safe(name), 16), "link"),
        (fit(figure(weight, 9, sign=True), 9, "right") + " ", sign),
        (marks.signed_bar(weight, largest, 17), sign),
        (support, "dim"),
    )


def interventions(card: Card) -> Section:
    """Return what changing it did, beside matched controls."""
    rows = [row for row in card.interventions if row["n_members"] == 1] or card.interventions
    rows = [row for row in rows if row["split"] == "all"] or rows
    values = [row[name] for row in rows for name in ("mean", "ci_low", "ci_high", "control_low", "control_high") if row[name] is not None]
    least, largest = min([*values, 0.0]), max([*values, 0.0])
    lines = []
    for row in rows[:40]:
        strength = f" x {number(row['strength'])}" if row["strength"] is not None else ""
        what = f"{row['rule']}{strength} {row['mode']}" + (f" with {row['n_members'] - 1} more" if row["n_members"] > 1 else "")
        link = Link("go_interventions", {"intervention": row["intervention"]})
        sound = "" if row["sound"] else " UNSOUND: wrong place, see the run's method"
        lines.append(
            Line(
                (
                    (fit(what, 24), "strong"),
                    (fit(safe(row["language"]), 4), "dim"),
                    (fit(figure(row["mean"], 8, sign=True), 8, "right") + " ", "negative" if row["mean"] < 0 else "positive"),
                    (marks.interval(row["ci_low"], row["mean"], row["ci_high"], least, largest, 24), "accent"),
                    (sound, "negative"),
                ),
                link,
            )
        )
        if row["control_mean"] is not None:
            tests = f" p={number(row['p_value'])} q={number(row['q_value'])}" if row["p_value"] is not None else ""
            lines.append(
                Line(
                    (
                        (fit(f"  {row['n_controls']} x {row['control']}", 28), "dim"),
                        (fit(figure(row["control_mean"], 8, sign=True), 8, "right") + " ", "dim"),
                        (marks.interval(row["control_low"], row["control_mean"], row["control_high"], least, largest, 24), "dim"),
                        (tests, "dim"),
                    )
                )
            )
    return Section("Interventions", tuple(lines) or NOTHING, "effect on the margin, with its controls below it" if lines else "")


def groups(card: Card) -> list[Section]:
    """Return communities and supernodes, circuits, neighbours."""
    in_groups = [
        Line(
            (
                (fit(f"{row['kind']} {row['group']}", 16), "strong"),
                (f"of partition {row['partition']}, graph {row['graph']}", ""),
                (f" · {safe(row['name'])}" if row.get("name") else "", ""),
                (f" · stays in {number(row['stability'])}" if row["stability"] is not None else "", "dim"),
            ),
            Link("go_graph", {"graph": row["graph"], "node": row["node"]}),
        )
        for row in card.groups
    ]
    in_circuits = [
        Line(
            (
                (fit(safe(row["name"]), 34), "strong"),
                (f" {row['n_features']} features, {row['n_edges']} edges", ""),
                (f" · {safe(row['method'])}", "dim"),
            ),
            Link("go_interventions", {"circuit": row["circuit"]}),
        )
        for row in card.circuits
        if row["control_of"] is None
    ]
    near = [
        Line(
            (
                (fit(row["kind"], 16), "dim"),
                (fit(feature_name(row["neighbour_layer"], row["neighbour_feature"]), 14), "link"),
                (fit(figure(row["similarity"], 8, sign=True), 8, "right") + " ", ""),
                (marks.signed_bar(row["similarity"], 1.0, 17), "accent"),
            ),
            Link("jump", {"feature": feature_name(row["neighbour_layer"], row["neighbour_feature"])}),
        )
        for row in card.neighbours
    ]
    return [
        Section("Communities", tuple(in_groups) or NOTHING),
        Section("Circuits", tuple(in_circuits) or (Line((("in none", "dim"),)),)),
        Section("Similar features", tuple(near) or NOTHING),
    ]


def words(labels: Rows, notes: Rows) -> list[Section]:
    """Return labels with scores, and notes, the newest first."""
    label_lines = []
    for row in labels:
        scored = "".join(
            f" · {safe(score['score'])} {number(score['value'])} ({safe(score['language'])})" for score in row.get("scores", ())
        )
        by = f"  {row['method']}, {safe(str(row.get('author') or row.get('model') or 'unknown'))}{' (retired)' if row['retired'] else ''}"
        label_lines.append(Line(((safe(row["text"]), "dim" if row["retired"] else "strong"), (by + scored, "dim"))))
    note_lines = []
    for row in notes:
        for place, text in enumerate(row["text"].splitlines() or [""]):
            by = f"  {safe(str(row.get('author') or 'unknown'))}, {str(row['created_at'])[:16]}" if place == 0 else ""
            note_lines.append(Line(((safe(text), ""), (by, "dim"))))
    return [
        Section("Labels", tuple(label_lines) or (Line((("none: l writes one", "dim"),)),)),
        Section("Notes", tuple(note_lines) or (Line((("none: n writes one", "dim"),)),)),
    ]
