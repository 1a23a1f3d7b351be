"""A result as a LaTeX table: booktabs, siunitx columns, caption, label.

In: an Arrow table. Out: text to `\\input`. `PREAMBLE` is what the document needs; all of it is in a standard TeX Live
(Debian: texlive-latex-recommended and texlive-science).
"""

from __future__ import annotations

import re

import pyarrow as pa

from atlas.export.cells import escape_latex, heading, numeric, readable_columns, transpose

PREAMBLE = r"""\usepackage[T1]{fontenc}
\usepackage{textcomp}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage{booktabs}
\usepackage{siunitx}
\usepackage{graphicx}
"""
NUMBER = re.compile(r"^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?)0*(\d+))?$")
FULL_WIDTH = 105
"""Characters of a row that fit the text width in \\small; a wider table is scaled down."""


def latex_table(table: pa.Table, *, title: str, caption: str, label: str, comment: str, note: str = "") -> str:
    """Write the table environment. `comment` names the sidecar; `note` goes under the table, e.g. which rows are left out."""
    columns = readable_columns(table)
    fields = list(table.schema)
    rows = transpose(columns, table.num_rows)
    specification = " ".join(_column(item, values) for item, values in zip(fields, columns, strict=True))
    header = " & ".join(_header(item) for item in fields)
    body = "\n".join("    " + " & ".join(_cell(item, value) for item, value in zip(fields, row, strict=True)) + r" \\" for row in rows)
    begin = f"  \\begin{{tabular}}{{@{{}}{specification}@{{}}}}"
    head = [begin, r"    \toprule", rf"    {header} \\", r"    \midrule"]
    tabular = "\n".join([*head, *([body] if body else []), r"    \bottomrule", r"  \end{tabular}"])
    if width_of(table) > FULL_WIDTH:
        tabular = f"  \\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}%\n  }}"
    lines = [
        f"% {_one_line(title)}",
        f"% {_one_line(comment)}",
        r"% needs: booktabs, siunitx, graphicx, textcomp, fontenc T1",
        r"\begin{table}[htbp]",
        r"  \centering\small",
        f"  \\caption{{{escape_latex(caption)}}}",
        f"  \\label{{{_label(label)}}}",
        tabular,
        *([f"\n  \\vspace{{2pt}}\\footnotesize {escape_latex(note)}"] if note else []),
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _one_line(value: str) -> str:
    return " ".join(value.split())


def _label(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9:.-]", "-", value)


def _header(item: pa.Field) -> str:
    name = escape_latex(heading(item.name))
    return f"{{{name}}}" if numeric(item) else name


def _cell(item: pa.Field, value: str | None) -> str:
    if value is None:
        return "{--}" if numeric(item) else "--"
    if numeric(item):
        return value if NUMBER.match(value) else f"{{{escape_latex(value)}}}"
    return escape_latex(value)


def _column(item: pa.Field, values: list[str | None]) -> str:
    """Return `l`, or an S column wide enough for every number: sign, digits, decimals, exponent."""
    if not numeric(item):
        return "l"
    parts = [match.groups() for value in values if value is not None and (match := NUMBER.match(value))]
    sign = "-" if any(part[0] for part in parts) else ""
    whole = max((len(part[1]) for part in parts), default=1)
    decimals = max((len(part[2] or "") for part in parts), default=0)
    exponents = [(part[3], part[4]) for part in parts if part[4] is not None]
    exponent = ""
    if exponents:
        exponent = f"e{'-' if any(sign == '-' for sign, _ in exponents) else ''}{max(len(digits) for _, digits in exponents)}"
    grouping = "" if pa.types.is_floating(item.type) else ", group-digits=none"  # feature 163840 is a name
    return f"S[table-format={sign}{whole}{f'.{decimals}' if decimals else ''}{exponent}{grouping}]"


def width_of(table: pa.Table) -> int:
    """Return the characters of a printed row."""
    columns = readable_columns(table)
    widths = [max([len(item.name), *(len(value or "--") for value in values)]) for item, values in zip(table.schema, columns, strict=True)]
    return sum(widths) + 2 * len(widths)
