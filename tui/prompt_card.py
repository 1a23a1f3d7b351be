"""What the atlas knows of one prompt, and of two prompts side by side.

In: reads of prompt, token, answer, baseline, activation_by_prompt. Out: sections of lines.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atlas.ids import feature_name
from tui import marks
from tui.columns import Part
from tui.data import Asker, Read, Where
from tui.text import fit, number, safe, signed, token
from tui.widgets.line_view import Line, Link, Section, text_line

Rows = list[dict[str, Any]]
Feature = tuple[int, int]
SHOWN = 30
PROMPT_COLUMNS = ("prompt", "behaviour", "language", "concept", "template", "split", "held_out", "text", "n_tokens", "operand", "variant")


@dataclass
class PromptCard:
    """Rows about one prompt."""

    row: dict[str, Any]
    tokens: Rows
    answers: Rows
    baseline: dict[str, Any] | None
    activations: Rows
    pairs: list[tuple[str, int]]
    """(kind, the other prompt)."""

    def strongest(self, position: int | None = None) -> dict[Feature, float]:
        """Return each active feature's largest activation, at one position or at all but the sink, the strongest first."""
        found: dict[Feature, float] = {}
        for row in self.activations:
            if row["position"] == position or (position is None and row["position"] > 0):
                key = (row["layer"], row["feature"])
                found[key] = max(found.get(key, 0.0), row["activation"])
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def read_prompt(ask: Asker, run_id: str, prompt: int) -> PromptCard | None:
    """Read all of a prompt."""
    run = Where("run_id", "=", run_id)
    at = (run, Where("prompt", "=", prompt))
    rows = ask(Read("prompt", "prompt", PROMPT_COLUMNS, at))
    if not rows:
        return None
    tokens = ask(
        Read(
            "tokens",
            "token",
            ("position", "token_id", "token", "role"),
            (run, Where("source", "=", "prompt"), Where("item", "=", prompt)),
            ("position",),
        )
    )
    answers = ask(Read("answers", "answer", ("answer", "role", "text", "logit", "logprob", "rank"), at, ("answer",)))
    base = ask(Read("baseline", "baseline", ("margin", "correct", "top1_token", "top1_logprob", "entropy"), at))
    order = ("position", "layer", "feature")
    active = ask(Read("active features", "activation_by_prompt", ("position", "layer", "feature", "activation"), at, order))
    pairs = []
    for mine, other in (("prompt_a", "prompt_b"), ("prompt_b", "prompt_a")):
        for row in ask(Read("pairs", "prompt_pair", ("kind", other), (run, Where(mine, "=", prompt)), ("kind", other))):
            pairs.append((row["kind"], row[other]))
    return PromptCard(rows[0], tokens, answers, base[0] if base else None, active, pairs)


def sections(card: PromptCard, position: int | None) -> list[Section]:
    """Return a prompt's sections; `position` narrows the features to one token."""
    return [_head(card), _tokens(card, position), _answers(card), _features(card, position)]


def _head(card: PromptCard) -> Section:
    row = card.row
    facts = [f"{name} {row[name]}" for name in ("concept", "template", "split", "held_out", "operand", "variant") if row[name] is not None]
    lines = [Line(((safe(row["text"]), "strong"),)), text_line(" · ".join(facts), "dim")]
    if card.baseline is not None:
        base = card.baseline
        verdict = f"{'correct' if base['correct'] else 'WRONG'} · top token {token(base['top1_token'])}"
        lines.append(
            Line(
                (
                    (f"margin {signed(base['margin'])} ", "positive" if base["correct"] else "negative"),
                    (
                        f"{verdict}, {number(base['top1_logprob'])} nats · entropy {number(base['entropy'])}",
                        "",
                    ),
                )
            )
        )
    if card.pairs:
        kinds = Counter(kind for kind, _ in card.pairs)
        lines.append(text_line(f"p compares it with a pair: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}", "dim"))
    return Section(f"Prompt {row['prompt']}", tuple(lines), f"{row['behaviour']} · {row['language']}")


def _tokens(card: PromptCard, position: int | None) -> Section:
    """Draw tokens with the number of active features per layer."""
    layers = sorted({row["layer"] for row in card.activations})
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for row in card.activations:
        counts[row["position"]][row["layer"]] += 1
    largest = max((count for at, per in counts.items() if at > 0 for count in per.values()), default=1)
    lines = []
    for row in card.tokens:
        per = counts[row["position"]]
        heat = "".join(marks.level(per.get(layer, 0), largest) for layer in layers)
        here = row["position"] == position
        parts: tuple[Part, ...] = (
            ("● " if here else "  ", "accent"),
            (fit(str(row["position"]), 3, "right") + " ", "dim"),
            (fit(token(row["token"]), 18), "strong"),
            (fit(row["role"], 10), "dim"),
            (fit(f"{sum(per.values()):,}", 6, "right") + " ▕", ""),
            (heat, "accent"),
            ("▏", ""),
        )
        lines.append(Line(parts, Link("go_prompts", {"prompt": card.row["prompt"], "position": row["position"]})))
    span = f"active features; one cell a layer, {layers[0]} to {layers[-1]}" if layers else "no activation stored"
    return Section("Tokens", tuple(lines), span)


def _answers(card: PromptCard) -> Section:
    lines = []
    least = min((row["logit"] for row in card.answers if row["logit"] is not None), default=0.0)
    span = max((row["logit"] - least for row in card.answers if row["logit"] is not None), default=0.0)
    for row in card.answers:
        above = None if row["logit"] is None else row["logit"] - least
        lines.append(
            Line(
                (
                    (fit(row["role"], 16), "dim"),
                    (fit(token(row["text"]), 16), "strong" if row["answer"] == 0 else ""),
                    (fit(number(row["logit"]), 8, "right") + " ", ""),
                    (marks.bar(above, span, 12), "accent"),
                    (f" rank {number(row['rank'])}, {number(row['logprob'])} nats", "dim"),
                )
            )
        )
    return Section("Answers", tuple(lines) or (Line((("none", "dim"),)),))


def _features(card: PromptCard, position: int | None) -> Section:
    found = card.strongest(position)
    largest = max(found.values(), default=0.0)
    lines = [
        Line(
            (
                (fit(feature_name(*key), 14), "link"),
                (fit(number(value), 8, "right") + " ", ""),
                (marks.bar(value, largest, 20), "accent"),
            ),
            Link("jump", {"feature": feature_name(*key)}),
        )
        for key, value in list(found.items())[:SHOWN]
    ]
    where = "at all positions but the first" if position is None else f"at position {position}"
    return Section("Strongest features", tuple(lines) or (Line((("none", "dim"),)),), f"{len(found):,} active {where}")


def compare(one: PromptCard, two: PromptCard) -> list[Section]:
    """Return two prompts feature by feature: what they share, what only one has, layer by layer."""
    a, b = one.strongest(), two.strongest()
    both = sorted(a.keys() & b.keys(), key=lambda key: -min(a[key], b[key]))
    only_a = [key for key in a if key not in b]
    only_b = [key for key in b if key not in a]
    largest = max([*a.values(), *b.values()], default=0.0)
    names = (f"{one.row['language']} {one.row['prompt']}", f"{two.row['language']} {two.row['prompt']}")
    head = [
        Line(((fit(name, 8), "accent"), (safe(card.row["text"]), "strong"), (f"  margin {_margin(card)}", "dim")))
        for name, card in zip(names, (one, two), strict=True)
    ]
    return [
        Section("Two prompts", tuple(head), "intersection over union, layer by layer"),
        Section("Overlap", tuple(_overlap(a, b))),
        Section(
            "In both",
            tuple(_both(key, a, b, largest) for key in both[:SHOWN]) or _none(),
            f"{len(both):,} features; {names[0]} left, {names[1]} right",
        ),
        Section(f"Only in {names[0]}", tuple(_both(key, a, b, largest) for key in only_a[:SHOWN]) or _none(), f"{len(only_a):,} features"),
        Section(f"Only in {names[1]}", tuple(_both(key, a, b, largest) for key in only_b[:SHOWN]) or _none(), f"{len(only_b):,} features"),
    ]


def _none() -> tuple[Line, ...]:
    return (Line((("none", "dim"),)),)


def _margin(card: PromptCard) -> str:
    return "·" if card.baseline is None else signed(card.baseline["margin"])


def _overlap(a: Mapping[Feature, float], b: Mapping[Feature, float]) -> list[Line]:
    lines = []
    for layer in sorted({key[0] for key in a} | {key[0] for key in b}):
        left, right = {key for key in a if key[0] == layer}, {key for key in b if key[0] == layer}
        union = len(left | right)
        share = len(left & right) / union if union else 0.0
        figures = f" {len(left & right):,} of {union:,}"
        lines.append(
            Line(
                (
                    (fit(f"layer {layer}", 10), ""),
                    (fit(number(share, 2), 6, "right") + " ", ""),
                    (marks.bar(share, 1.0, 20), "accent"),
                    (figures, "dim"),
                )
            )
        )
    return lines


def _both(key: Feature, a: Mapping[Feature, float], b: Mapping[Feature, float], largest: float) -> Line:
    left, right = a.get(key), b.get(key)
    return Line(
        (
            (fit(feature_name(*key), 14), "link"),
            (fit(number(left), 7, "right") + " ", ""),
            (marks.bar(left, largest, 10), "accent"),
            (fit(number(right), 7, "right") + " ", ""),
            (marks.bar(right, largest, 10), "accent"),
        ),
        Link("jump", {"feature": feature_name(*key)}),
    )
