"""A paper's folder: all tables and figures of a run, a results.tex that compiles by itself, a data dictionary, CITATION.cff.

In: the questions, a function that asks one of them, the run. Out: a folder.

1. Every question that takes a run and needs nothing else is asked of this run. Those without an answer are listed with the reason.
2. Each answer: `tables/<topic>-<question>.csv`, whole, and `.tex`, its first rows, columns that never vary moved into the note.
3. Each kind of figure whose question was answered with rows: `figures/<kind>.pdf`.
4. `results.tex` inputs them by topic; `data-dictionary.csv` and `.md`; `CITATION.cff`; `contents.json` says what there is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from atlas import __version__, files
from atlas.catalogue import utc_now
from atlas.errors import UsageError
from atlas.export.cells import escape_latex, text
from atlas.export.dictionary import data_dictionary
from atlas.export.drawing import n_panels
from atlas.export.figure import FIGURES, write_figure
from atlas.export.latex import PREAMBLE, width_of
from atlas.export.provenance import Provenance
from atlas.export.table import write_table

MAX_ROWS = 25
MAX_TEXT = 44
"""Characters of a cell in the printed table; the csv has all."""
WIDEST = 190
"""Characters of a printed row: a table wider than this would be scaled until nobody can read it."""
SHORT_TEXT = 24
"""Characters of a cell in a table that is too wide otherwise."""
KEPT_COLUMNS = 3
"""First columns, which name the row: never left out."""
MOST_COLUMNS = 12
"""A table of one row and more columns than this stands upright."""
FLOATS_A_PAGE_BREAK = 6
"""LaTeX holds a limited number of floats: flush before it runs out."""
PAGE_WIDE = ("effects", "attribution_graph", "community_language")
FIGURE_FALLBACKS: Mapping[str, Mapping[str, Any]] = {"attribution_graph": {"kind": "attribution", "top": 200}}
"""Parameters for a figure whose question has no rows with its defaults: a run of attribution graphs has no star edges."""
REPOSITORY = "feature-atlas"


class Asked(Protocol):
    """What is needed of a question's parameter."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def required(self) -> bool: ...  # noqa: D102
    @property
    def default(self) -> Any: ...  # noqa: D102


class Question(Protocol):
    """What is needed of a question; `queries.Question` has it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def sql(self) -> str: ...  # noqa: D102
    @property
    def parameters(self) -> Sequence[Asked]: ...  # noqa: D102


Ask = Callable[..., pa.Table]
"""`ask(question name, **parameters)` -> the answer as an Arrow table; raises UsageError where there is none."""
Progress = Callable[[int, int], None]


@dataclass
class Contents:
    """What a paper's folder holds."""

    tables: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Question or figure -> why."""
    files: list[Path] = field(default_factory=list)


def write_paper(
    folder: Path | str,
    *,
    questions: Mapping[str, Question],
    ask: Ask,
    run: Mapping[str, Any],
    schema_sql: str,
    provenance: Provenance | None = None,
    title: str | None = None,
    authors: Sequence[str] = (),
    progress: Progress | None = None,
) -> Contents:
    """Write the folder and say what it holds. `run`: the run's row of table run, run_id at least. `authors`: `Family, Given` each.

    A question without an answer is left out with its reason. Raises UsageError if no question has one, AtlasError when the disk refuses.
    """
    root = Path(folder)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file.", hint="Give a folder; it is made if it is not there.")
    contents = Contents()
    title = title or f"Results of run {run.get('name', run['run_id'])}"
    base = provenance or Provenance()
    answers = _ask_all(questions, ask, str(run["run_id"]), contents, progress)
    if not answers:
        raise UsageError(f"no question has an answer from run {run['run_id']}", hint="`atlas runs` lists the runs and what they hold.")
    for part in (root, root / "tables", root / "figures"):
        files.make_folder(part)
    for name, result in answers.items():
        _write_answer(root, questions[name], result, _provenance(base, questions[name], run), contents)
    drawable = _add_fallbacks(answers, questions, ask, str(run["run_id"]))
    for kind in FIGURES:
        _write_figure(root, kind, drawable, base, questions, run, contents)
    _write(root / "results.tex", results_tex(title, run, contents, questions), contents)
    dictionary = data_dictionary(schema_sql)
    for ending in ("csv", "md"):
        contents.files += write_table(dictionary, root / f"data-dictionary.{ending}", title="Data dictionary", provenance=base)
    _write(root / "CITATION.cff", citation(title, authors, run), contents)
    said = {"run_id": run["run_id"], "tables": contents.tables, "figures": contents.figures, "left_out": contents.left_out}
    _write(root / "contents.json", json.dumps(said, indent=2, ensure_ascii=False) + "\n", contents)
    return contents


def _write(path: Path, content: str, contents: Contents) -> None:
    files.write_whole(path, content.encode())
    contents.files.append(path)


def _provenance(base: Provenance, question: Question, run: Mapping[str, Any], **given: Any) -> Provenance:
    """Name all parameters, those at their defaults too, so that the sidecar's query can be run as it stands there."""
    run_id = str(run["run_id"])
    defaults = {parameter.name: parameter.default for parameter in question.parameters}
    parameters = {**defaults, **given, "run": run_id}
    return Provenance(question.name, question.sql, parameters, (run_id,), base.manifest, base.manifest_hash, base.code_version)


def _ask_all(
    questions: Mapping[str, Question], ask: Ask, run_id: str, contents: Contents, progress: Progress | None
) -> dict[str, pa.Table]:
    answers = {}
    for done, (name, question) in enumerate(questions.items(), start=1):
        needed = [parameter.name for parameter in question.parameters if parameter.required and parameter.name != "run"]
        if "run" not in [parameter.name for parameter in question.parameters]:
            contents.left_out[name] = "speaks of the whole atlas, not of one run"
        elif needed:
            contents.left_out[name] = f"needs {needed[0]}"
        else:
            try:
                result = ask(name, run=run_id)
            except UsageError as error:  # it cannot be asked of this run; a query that fails is a fault and goes on
                contents.left_out[name] = error.message
            else:
                if result.num_rows:
                    answers[name] = result
                else:
                    contents.left_out[name] = "no rows"
        if progress is not None:
            progress(done, len(questions))
    return answers


def _file_stem(name: str) -> str:
    return name.replace("/", "-")


def _write_answer(root: Path, question: Question, result: pa.Table, provenance: Provenance, contents: Contents) -> None:
    stem = _file_stem(question.name)
    words = {"title": question.title, "caption": question.title, "label": f"tab:{stem}"}
    contents.files += write_table(result, root / "tables" / f"{stem}.csv", provenance=provenance, title=question.title)
    printed, constants = printable(result)
    printed, left_out = narrowed(printed)
    caption = question.title + (f" ({constants})" if constants else "")
    caption += f" Columns that only the csv has: {', '.join(name.replace('_', ' ') for name in left_out)}." if left_out else ""
    contents.files += write_table(
        printed, root / "tables" / f"{stem}.tex", provenance=provenance, max_rows=MAX_ROWS, **{**words, "caption": caption}
    )
    contents.tables.append(question.name)


def printable(result: pa.Table) -> tuple[pa.Table, str]:
    """Return the columns that vary, long texts cut, and the others as words: `rule = zero, split = all`; empty columns go."""
    varying, constants = [], []
    for name in result.column_names:
        values = result[name].to_pylist()
        distinct = {text(value) for value in values}
        if distinct == {""}:
            continue
        if len(distinct) == 1 and result.num_rows > 1:
            constants.append(f"{name.replace('_', ' ')} = {next(iter(distinct))[:MAX_TEXT]}")
        else:
            varying.append(name)
    kept = result.select(varying) if varying else result
    if result.num_rows == 1 and kept.num_columns > MOST_COLUMNS:
        return _upright(kept), ", ".join(constants)
    for index, name in enumerate(kept.column_names):
        kind = kept.schema.field(name).type
        if pa.types.is_list(kind) or pa.types.is_string(kind):
            cut = [None if value is None else _cut(_rounded(value)) for value in kept[name].to_pylist()]
            kept = kept.set_column(index, name, pa.array(cut, pa.string()))
    return kept, ", ".join(constants)


def narrowed(printed: pa.Table) -> tuple[pa.Table, list[str]]:
    """Return a table that can be read on a page, and the columns that were left out: texts are cut first, then the widest texts go."""
    names = [item.name for item in printed.schema if pa.types.is_string(item.type)]
    left_out: list[str] = []
    if _printed_width(printed) > WIDEST:
        for name in names:
            cut = [value if value is None else _cut(value, SHORT_TEXT) for value in printed[name].to_pylist()]
            printed = printed.set_column(printed.column_names.index(name), name, pa.array(cut, pa.string()))
    while _printed_width(printed) > WIDEST:
        others = printed.column_names[KEPT_COLUMNS:]
        if not others:
            break
        left_out.append(max(others, key=lambda name: (name in names, _printed_width(printed.select([name])))))
        printed = printed.drop_columns(left_out[-1:])
    return printed, left_out


def _printed_width(table: pa.Table) -> int:
    return width_of(table.slice(0, MAX_ROWS))


def _upright(row: pa.Table) -> pa.Table:
    """Return one row of many columns as a table of two: what, value."""
    values = [_rounded(value) for value in row.to_pylist()[0].values()]
    names = [name.replace("_", " ") for name in row.column_names]
    return pa.table({"column": names, "value": [value if len(value) <= 2 * MAX_TEXT else _cut(value) for value in values]})


def _rounded(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, float) for item in value):
        return ", ".join(f"{item:.4g}" for item in value)
    return f"{value:.4g}" if isinstance(value, float) else text(value)


def _cut(value: str, length: int = MAX_TEXT) -> str:
    return value if len(value) <= length else value[: length - 1] + "…"


def _add_fallbacks(answers: dict[str, pa.Table], questions: Mapping[str, Question], ask: Ask, run_id: str) -> dict[str, pa.Table]:
    """Return the answers figures are drawn from: those of the tables, and other parameters where a figure's question gave no rows."""
    found = dict(answers)
    for kind, parameters in FIGURE_FALLBACKS.items():
        name = FIGURES[kind].question
        if name in questions and name not in found:
            result = ask(name, run=run_id, **parameters)
            if result.num_rows:
                found[name] = result
    return found


def _write_figure(
    root: Path,
    kind: str,
    answers: Mapping[str, pa.Table],
    base: Provenance,
    questions: Mapping[str, Question],
    run: Mapping[str, Any],
    contents: Contents,
) -> None:
    name = FIGURES[kind].question
    if name not in answers:
        contents.left_out[f"figure {kind}"] = contents.left_out.get(name, f"no answer to {name}")
        return
    asked_again = name not in contents.tables
    provenance = _provenance(base, questions[name], run, **(FIGURE_FALLBACKS.get(kind, {}) if asked_again else {}))
    try:
        result = figure_rows(kind, answers[name], provenance.parameters)
        panels = n_panels(result.to_pydict()) if kind == "layer_profile" else 1
        width = "page" if kind in PAGE_WIDE or panels > 1 else "column"
        contents.files += write_figure(kind, result, root / "figures" / f"{kind}.pdf", width=width, provenance=provenance)
        contents.figures.append(kind)
    except UsageError as error:
        contents.left_out[f"figure {kind}"] = error.message


def figure_rows(kind: str, result: pa.Table, parameters: Mapping[str, Any]) -> pa.Table:
    """Return the rows a figure is drawn from: values that are there, one graph, languages together where they are pooled.

    The question's parameters name the languages where its columns do not.
    """
    needed = {"language_iou": "same_concept", "layer_profile": "share", "faithfulness": "faithfulness"}.get(kind)
    if needed in result.column_names:
        result = result.filter(pc.is_valid(result[needed]))
    if kind == "community_language" and result.num_rows:
        first = result["graph"][0]
        result = result.filter(pc.equal(result["graph"], first))
        for name in ("language_a", "language_b"):
            if parameters.get(name) is not None:
                result = result.append_column(name, pa.repeat(str(parameters[name]), result.num_rows))
    if kind in ("dose_response", "effects", "faithfulness") and "language" in result.column_names:
        pooled = result.filter(pc.equal(result["language"], "all"))
        result = pooled if pooled.num_rows else result
    return result


def results_tex(title: str, run: Mapping[str, Any], contents: Contents, questions: Mapping[str, Question]) -> str:
    """Write the document that inputs every table and figure, a section a topic."""
    lines = [
        r"\documentclass[10pt,a4paper]{article}",
        r"\usepackage[hmargin=1.7cm,vmargin=2cm]{geometry}",
        PREAMBLE.strip(),
        rf"\title{{{escape_latex(title)}}}",
        rf"\author{{feature-atlas {escape_latex(__version__)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
        rf"\noindent Run \texttt{{{escape_latex(str(run['run_id']))}}}"
        + (f" ({escape_latex(str(run['name']))})" if run.get("name") else "")
        + ". Every table and figure has its provenance beside it; tables are cut to their first rows here and whole as csv.",
        *([rf"\par\medskip\noindent {escape_latex(str(run['method']))}"] if run.get("method") else []),
    ]
    floats = 0
    for topic in dict.fromkeys(
        name.partition("/")[0] for name in [*contents.tables, *(FIGURES[kind].question for kind in contents.figures)]
    ):
        lines.append(rf"\section{{{escape_latex(topic.capitalize())}}}")
        for kind in [kind for kind in contents.figures if FIGURES[kind].question.startswith(f"{topic}/")]:
            lines += _figure_tex(kind)
        for name in [name for name in contents.tables if name.startswith(f"{topic}/")]:
            lines.append(rf"\input{{tables/{_file_stem(name)}.tex}}")
            floats += 1
            if floats % FLOATS_A_PAGE_BREAK == 0:
                lines.append(r"\clearpage")
        lines.append(r"\clearpage")
    return "\n".join([*lines, r"\end{document}", ""])


def _figure_tex(kind: str) -> list[str]:
    found = FIGURES[kind]
    return [
        r"\begin{figure}[htbp]",
        r"  \centering",
        rf"  \includegraphics{{figures/{kind}.pdf}}",
        rf"  \caption{{{escape_latex(found.title)}. From \texttt{{{escape_latex(found.question)}}}.}}",
        rf"  \label{{fig:{kind.replace('_', '-')}}}",
        r"\end{figure}",
    ]


def citation(title: str, authors: Sequence[str], run: Mapping[str, Any]) -> str:
    """Write CITATION.cff 1.2.0 for this data set; without authors the maker of the run is named by its run id."""
    people = []
    for author in authors:
        family, _, given = (part.strip() for part in author.partition(","))
        people.append({"family-names": family, "given-names": given} if given else {"name": family})
    people = people or [{"name": f"The authors of run {run['run_id']}"}]
    lines = [
        "cff-version: 1.2.0",
        "message: If you use these results, please cite them as below.",
        "type: dataset",
        f"title: {_quoted(title)}",
        "authors:",
    ]
    for person in people:
        pairs = [f"{key}: {_quoted(value)}" for key, value in person.items()]
        lines += [f"  - {pairs[0]}", *(f"    {pair}" for pair in pairs[1:])]
    finished = run.get("finished_at")
    date = str(finished)[:10] if finished else utc_now().date().isoformat()
    lines += [
        f"date-released: {date}",
        f"version: {_quoted(str(run['run_id']))}",
        "references:",
        "  - type: software",
        f"    title: {REPOSITORY}",
        f"    version: {_quoted(__version__)}",
        "    authors:",
        '      - name: "The feature atlas founders"',
    ]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
