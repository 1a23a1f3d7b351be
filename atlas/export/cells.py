"""The text of a value in formats that people read, and escaping by format.

In: Python values of Arrow cells. Out: text. Data is never markup: every format escapes what it would take for its own.
"""

from __future__ import annotations

import datetime
import html
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from atlas.export.numbers import formatted_floats

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "'": r"'", "`": r"\textasciigrave{}", "\n": r"\textbackslash{}n", "\t": r"\textbackslash{}t",
    "\r": r"\textbackslash{}r", "–": "--", "—": "---", "…": r"\ldots{}", "“": "``", "”": "''", "‘": "`", "’": "'",
    "«": r"\guillemotleft{}", "»": r"\guillemotright{}", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$", "±": r"$\pm$",
    "−": r"$-$", "→": r"$\rightarrow$", "←": r"$\leftarrow$", "∞": r"$\infty$", "≈": r"$\approx$", "≠": r"$\neq$",
    "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "μ": r"$\mu$", "σ": r"$\sigma$", "τ": r"$\tau$", "Δ": r"$\Delta$",
    "\u00a0": "~", "␣": r"\textvisiblespace{}", "€": r"\texteuro{}", "-": r"-{}",
}  # fmt: skip
"""`-{}` keeps two hyphens of data from becoming a dash."""
T1_LETTERS = "ĂăĄąĆćČčĎďĐđĘęĚěĞğĹĺĽľŁłŃńŇňŐőŔŕŘřŚśŠšŞşŤťŰűŮůŹźŽžŻżŒœŸ¡¿£§©®°·"
"""Letters beyond Latin-1 that the T1 font encoding has, and signs of textcomp."""
MARKDOWN_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~])")


def text(value: Any) -> str:
    """Write a value as people read it; null is empty, lists are JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    return str(value)


def shortest_float32(value: float) -> float:
    """Return the double with the fewest digits that is this float32: 0.1, not 0.10000000149."""
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", value):
            return short
    return value


def python_columns(table: pa.Table) -> list[list[Any]]:
    """Return the columns as Python values; float32 as its shortest decimal."""
    columns = []
    for item in table.schema:
        values = table[item.name].to_pylist()
        if pa.types.is_float32(item.type):
            values = [value if value is None or value != value or abs(value) > 3e38 else shortest_float32(value) for value in values]
        columns.append(values)
    return columns


def readable_columns(table: pa.Table) -> list[list[str | None]]:
    """Return the columns as text for readers: floats rounded by their uncertainty, None for null."""
    floats = formatted_floats(table)
    return [
        floats[item.name] if item.name in floats else [None if value is None else text(value) for value in table[item.name].to_pylist()]
        for item in table.schema
    ]


def numeric(item: pa.Field) -> bool:
    """Whether a column holds numbers."""
    return bool(pa.types.is_floating(item.type) or pa.types.is_integer(item.type) or pa.types.is_decimal(item.type))


def escape_latex(value: str) -> str:
    """Escape a text for LaTeX; a space at either end becomes visible, characters that a standard pdflatex lacks become their code."""
    core = value.strip(" ")
    lead = len(value) - len(value.lstrip(" ")) if core else len(value)
    trail = len(value) - len(value.rstrip(" ")) if core else 0
    visible = "␣" * lead + core + "␣" * trail
    return "".join(_latex_character(character) for character in visible)


def _latex_character(character: str) -> str:
    if character in LATEX_SPECIAL:
        return LATEX_SPECIAL[character]
    code = ord(character)
    if 0x20 <= code < 0x7F or 0xC0 <= code <= 0xFF or character in T1_LETTERS:
        return character
    return rf"\texttt{{[U+{code:04X}]}}"


def escape_markdown(value: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    escaped = MARKDOWN_SPECIAL.sub(r"\\\1", CONTROL.sub("\ufffd", value))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "").replace("\n", "<br>")


def escape_html(value: str) -> str:
    """Escape a text for HTML."""
    return html.escape(CONTROL.sub("\ufffd", value))


def heading(name: str) -> str:
    """Write a column's name for a header."""
    return name.replace("_", " ")


def transpose(columns: Sequence[Sequence[Any]], n_rows: int) -> list[tuple[Any, ...]]:
    """Turn columns into rows; a table without columns has none."""
    return list(zip(*columns, strict=True)) if columns else [()] * n_rows
