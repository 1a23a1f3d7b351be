"""A result as a file: csv, tsv, json, jsonl, parquet, arrow, latex, markdown, html, xlsx.

In: an Arrow table, a path or `-` for stdout. Out: the file and its sidecar. Formats for machines keep every digit; formats for
readers (latex, markdown, html) round by the interval's columns; a workbook keeps every digit and shows the rounded number.

JSON has no NaN and no infinity: they become null there. CSV writes them as nan, inf.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas import files
from atlas.errors import UsageError
from atlas.export.cells import CONTROL, escape_html, escape_markdown, heading, numeric, python_columns, readable_columns, text, transpose
from atlas.export.latex import latex_table
from atlas.export.provenance import STDOUT, Provenance, checked_target, format_of, sidecar_path, write_sidecar

ENDINGS = {"tex": "latex", "md": "markdown", "htm": "html", "feather": "arrow", "ndjson": "jsonl"}
"""Ending -> format, where they differ."""


@dataclass(frozen=True)
class Words:
    """What stands around a table."""

    title: str
    caption: str
    label: str
    comment: str
    """Names the sidecar."""
    note: str
    """Which rows were left out, empty if none."""


def write_table(
    result: pa.Table,
    target: Path | str,
    format: str | None = None,
    *,
    title: str = "",
    caption: str = "",
    label: str = "",
    provenance: Provenance | None = None,
    max_rows: int | None = None,
) -> list[Path]:
    """Write a result to a file with its sidecar, or to stdout (`-`) without; returns the files written.

    `format`: one of `FORMATS`, else by the file's ending, csv on stdout. `max_rows`: leave the rest out and say so (formats for readers).
    Raises UsageError for an unknown format or a missing optional package.
    """
    name = format or ("csv" if str(target) == STDOUT else format_of(target, FORMATS, ENDINGS))
    if name not in FORMATS:
        raise UsageError(f"no table format {name!r}", hint=f"Formats: {', '.join(FORMATS)}.")
    provenance = (provenance or Provenance()).of(result)
    shown = result if max_rows is None or name not in READERS else result.slice(0, max_rows)
    note = "" if shown.num_rows == result.num_rows else f"First {shown.num_rows} of {result.num_rows} rows."
    path = None if str(target) == STDOUT else checked_target(target)
    comment = _inline(provenance) if path is None else f"Provenance: {sidecar_path(path).name}"
    data = FORMATS[name](shown, Words(title, caption or title, label, comment, note))
    if path is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return []
    files.write_whole(path, data)
    facts = {"title": title, "format": name, "n_rows": shown.num_rows, "columns": shown.column_names}
    return [path, write_sidecar(path, provenance, **facts)]


def _inline(provenance: Provenance) -> str:
    runs = ", ".join(provenance.run_ids) or "unknown"
    asked = f"{provenance.question or 'SQL'} of manifest {provenance.manifest}, runs {runs}"
    return f"Provenance: {asked}, feature-atlas {provenance.code_version}"


def _delimited(delimiter: str) -> Callable[[pa.Table, Words], bytes]:
    """Write null as nothing and an empty text as `""`. The csv module leaves a lone carriage return bare, which ends a row for readers."""
    special = re.compile(f'[{delimiter}"\r\n]')

    def cell(value: Any) -> str:
        content = text(value)
        return f'"{content.replace(chr(34), chr(34) * 2)}"' if special.search(content) or value == "" else content

    def write(table: pa.Table, words: Words) -> bytes:
        rows = [table.column_names, *transpose(python_columns(table), table.num_rows)]
        lines = [delimiter.join(map(cell, row)) for row in rows]
        # A row of one null would be a blank line, which readers skip.
        return "".join((line or '""') + "\n" for line in lines).encode()

    return write


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _records(table: pa.Table) -> list[str]:
    rows = transpose(python_columns(table), table.num_rows)
    return [
        json.dumps(dict(zip(table.column_names, map(_finite, row), strict=True)), ensure_ascii=False, default=text, allow_nan=False)
        for row in rows
    ]


def _jsonl(table: pa.Table, words: Words) -> bytes:
    return "".join(record + "\n" for record in _records(table)).encode()


def _json(table: pa.Table, words: Words) -> bytes:
    return ("[\n" + ",\n".join(_records(table)) + "\n]\n").encode()


def _with_metadata(table: pa.Table, words: Words) -> pa.Table:
    said = {"title": words.title, "caption": words.caption, "provenance": words.comment}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **{key.encode(): value.encode() for key, value in said.items()}})


def _parquet(table: pa.Table, words: Words) -> bytes:
    import pyarrow.parquet as pq

    stream = pa.BufferOutputStream()
    pq.write_table(_with_metadata(table, words), stream, compression="zstd")
    return stream.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _arrow(table: pa.Table, words: Words) -> bytes:
    stream = pa.BufferOutputStream()
    described = _with_metadata(table, words)
    with pa.ipc.new_file(stream, described.schema) as writer:
        writer.write_table(described)
    return stream.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _latex(table: pa.Table, words: Words) -> bytes:
    label = words.label or "tab:atlas"
    return latex_table(table, title=words.title, caption=words.caption, label=label, comment=words.comment, note=words.note).encode()


def _markdown(table: pa.Table, words: Words) -> bytes:
    fields = list(table.schema)
    lines = [f"<!-- {words.comment.replace('--', '- -')} -->"]
    lines += [f"**{escape_markdown(words.caption)}**", ""] if words.caption else [""]
    lines.append("| " + " | ".join(escape_markdown(heading(item.name)) for item in fields) + " |")
    lines.append("| " + " | ".join("---:" if numeric(item) else "---" for item in fields) + " |")
    for row in transpose(readable_columns(table), table.num_rows):
        lines.append("| " + " | ".join(escape_markdown(value or "") for value in row) + " |")
    return ("\n".join([*lines, *(["", words.note] if words.note else [])]) + "\n").encode()


STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
    "caption{text-align:left;padding:.4em 0;font-weight:600}th,td{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd}"
    "th{border-bottom:2px solid #333}.n{text-align:right;"
    "font-variant-numeric:tabular-nums}"
)


def _html(table: pa.Table, words: Words) -> bytes:
    fields = list(table.schema)
    classes = [' class="n"' if numeric(item) else "" for item in fields]
    head = "".join(f"<th{kind}>{escape_html(heading(item.name))}</th>" for item, kind in zip(fields, classes, strict=True))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape_html(value or '')}</td>" for value, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in transpose(readable_columns(table), table.num_rows)
    )
    title, caption = escape_html(words.title or words.caption), escape_html(words.caption)
    note = f"<p>{escape_html(words.note)}</p>" if words.note else ""
    page = (
        f'<!doctype html>\n<html lang="en">\n<!-- {escape_html(words.comment).replace("--", "- -")} -->\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n<table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>\n{note}\n</html>\n"
    )
    return page.encode()


def _xlsx(table: pa.Table, words: Words) -> bytes:
    try:
        from openpyxl import Workbook
        from openpyxl.styles import Font
    except ImportError as error:
        raise UsageError("a workbook needs openpyxl", hint="pip install 'feature-atlas[excel]', or export csv.") from error
    workbook = Workbook()
    sheet = workbook.active
    sheet.title = "data"
    sheet.append(list(table.column_names))
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    sheet.freeze_panes = "A2"
    shown = transpose(readable_columns(table), table.num_rows)
    for number, row in enumerate(transpose(python_columns(table), table.num_rows), start=2):
        for column, value in enumerate(row, start=1):
            _fill_cell(sheet.cell(number, column), value, shown[number - 2][column - 1])
    about = workbook.create_sheet("provenance")
    for line in (words.title, words.caption, words.comment):
        about.append([CONTROL.sub("\ufffd", line)])
        about.cell(about.max_row, 1).data_type = "s"
    stream = io.BytesIO()
    workbook.save(stream)
    return _timeless(stream)


def _timeless(workbook: io.BytesIO) -> bytes:
    """Return a workbook whose bytes depend on its content alone: the sidecar's hash speaks of the same answer at any time."""
    rewritten = io.BytesIO()
    with zipfile.ZipFile(workbook) as source, zipfile.ZipFile(rewritten, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:(?:created|modified)[^>]*>)[^<]*", rb"\g<1>1980-01-01T00:00:00Z", content)
            target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return rewritten.getvalue()


def _fill_cell(cell: Any, value: Any, shown: str | None) -> None:
    """Fill a cell: numbers keep every digit and show the rounded one; a text that begins with `=` is a text, not a formula."""
    if value is None:
        return
    if isinstance(value, bool | int):
        cell.value = value
    elif isinstance(value, float) and math.isfinite(value):
        cell.value = value
        decimals = len((shown or "").partition(".")[2].partition("e")[0])
        cell.number_format = "0.0E+00" if "e" in (shown or "") else "0." + "0" * decimals if decimals else "0"
    else:
        cell.value = CONTROL.sub("\ufffd", text(value))[:32767]
        cell.data_type = "s"


FORMATS: dict[str, Callable[[pa.Table, Words], bytes]] = {
    "csv": _delimited(","),
    "tsv": _delimited("\t"),
    "json": _json,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "arrow": _arrow,
    "latex": _latex,
    "markdown": _markdown,
    "html": _html,
    "xlsx": _xlsx,
}
"""Format -> writer. `READERS` are those that round."""
READERS = ("latex", "markdown", "html")
