"""Make text from data safe to draw: one line, no control characters, widths that the terminal agrees on.

In: any string that a tokenizer or a person produced. Out: text whose every character is visible and whose width `width()` knows.
Nothing here is ever parsed as markup.

1. C0 and C1 controls become their pictures (newline ↵, tab ⇥, others ␀ to ␟), so a token can neither move the cursor nor ring.
2. Direction controls, joiners and variation selectors become nothing: with them a terminal reorders a line, or draws one emoji where
   two cells were counted. Flags become their two letters. Letters of right-to-left scripts stay.
3. At most two combining marks stay on a letter; characters that are unassigned, private or surrogates become �.
"""

import unicodedata
from functools import lru_cache

from rich.cells import cell_len

_PICTURES = {0x0A: "↵", 0x0D: "␍", 0x09: "⇥", 0x7F: "␡", 0x2028: "↵", 0x2029: "¶", 0xAD: "‐", 0xA0: " "}
_PICTURES |= {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x0A, 0x0D, 0x09)}
_PICTURES |= dict.fromkeys(range(128, 160), "�")
_MOST_MARKS = 2


def _clean(text: str) -> str:
    out: list[str] = []
    marks = 0
    for char in text:
        code = ord(char)
        if picture := _PICTURES.get(code):
            out.append(picture)
            marks = 0
            continue
        if 0x1F1E6 <= code <= 0x1F1FF:
            out.append(chr(code - 0x1F1E6 + ord("A")))
            marks = 0
            continue
        category = unicodedata.category(char)
        if category in ("Mn", "Me", "Mc"):
            marks += 1
            if marks <= _MOST_MARKS and out and not 0xFE00 <= code <= 0xFE0F:
                out.append(char)
            continue
        marks = 0
        if category == "Cf":
            continue
        out.append("�" if category in ("Cc", "Cs", "Co", "Cn") else char)
    return "".join(out)


@lru_cache(maxsize=65536)
def safe(text: str) -> str:
    """Return the text as one drawable line."""
    return text if text.isascii() and text.isprintable() else _clean(text)


def token(text: str) -> str:
    """Return a token as shown in a list: leading and trailing spaces made visible, an empty one as ∅."""
    shown = safe(text)
    if not shown:
        return "∅"
    body = shown.strip(" ")
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - left - len(body) if body else 0
    return "␣" * left + body + "␣" * right


def width(text: str) -> int:
    """Return the number of terminal cells of a safe text."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, cells: int) -> str:
    """Return the text shortened to at most `cells` cells, with … where something is missing."""
    if cells <= 0:
        return ""
    if width(text) <= cells:
        return text
    out: list[str] = []
    used = 0
    for char in text:
        size = cell_len(char)
        if used + size > cells - 1:
            break
        out.append(char)
        used += size
    return "".join(out) + "…"


def fit(text: str, cells: int, align: str = "left") -> str:
    """Return the text in exactly `cells` cells; `align` is left or right."""
    shown = cut(text, cells)
    pad = " " * max(0, cells - width(shown))
    return pad + shown if align == "right" else shown + pad


def wrap(text: str, cells: int, most: int) -> list[str]:
    """Return the text in at most `most` lines of at most `cells` cells, broken between words; the last ends in … where more was said."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and width(longer) > cells:
            lines.append(line)
            line = word
        else:
            line = longer
    lines.append(line)
    if len(lines) > most:
        lines[most - 1 :] = [" ".join(lines[most - 1 :])]
    return [cut(line, cells) for line in lines]


def figure(value: object, cells: int, digits: int = 3, *, sign: bool = False) -> str:
    """Return a number that fits: with fewer digits, else as a power of ten, before anything is cut off it."""
    tries = [signed(value, left) if sign and isinstance(value, (int, float)) else number(value, left) for left in range(digits, 0, -1)]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        tries += [f"{value:{'+' if sign else ''}.{left}e}" for left in (2, 1, 0)]
    return next((text for text in tries if width(text) <= cells), tries[-1])


def number(value: object, digits: int = 3) -> str:
    """Return a number as people read it: `digits` significant digits, thousands separated, null as ·."""
    if value is None:
        return "·"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return safe(str(value))
    if value != value:
        return "nan"
    size = abs(value)
    value = value or 0.0  # no -0
    if size != 0 and (size < 1e-4 or size >= 1e6):
        return f"{value:.{max(0, digits - 1)}e}"
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e" in text else text


def signed(value: float | None, digits: int = 3) -> str:
    """Return a number that always shows its sign."""
    if value is None:
        return "·"
    text = number(float(value), digits)
    return f"+{text}" if value > 0 else text
