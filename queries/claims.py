"""Check published figures: recompute each through a named question and say whether it holds.

In: claims files (TOML) and a connection. Out: `Checked` claims, and rows of table claim. A claim of a run that the atlas does not hold
is left out; it says nothing about the data that are here.

1. A claim names a question, its parameters, the rows meant (`where`), a column, and how many rows become one value (`reduce`).
2. Numbers and lists are equal within `tolerance` (absolute); text such as "< 0.05" or ">= 0.65" is a bound that the value must keep.
3. Equal: reproduced. Different: contradicted. No such row, a null, NaN, or no question that can give it: not reproducible.
   A count of no row is 0 only where the question has rows: an empty answer reproduces nothing.
4. A claim that cannot be checked as it is written (several rows where one is meant, a text against a number) is refused by name
   where a person gave the file. Of the claims that ship, which publish checks in every atlas, it is not reproducible, and its
   note says why.
"""

from __future__ import annotations

import json
import math
import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atlas.errors import AtlasError, InputError, UsageError
from queries.loader import ask, question, read_sql, resolve_run

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from atlas.reader import Reader

_SHAPE = "a claims file holds [[claim]] tables, see queries/claims/thesis.toml"
FOLDER = Path(__file__).parent / "claims"
Verdict = Literal["reproduced", "contradicted", "not_reproducible"]

_FIELDS = {
    "id": str,
    "statement": str,
    "source": str,
    "published": object,
    "run": str,
    "query": str,
    "parameters": dict,
    "where": dict,
    "column": str,
    "reduce": str,
    "tolerance": (int, float),
    "expected": str,
    "note": str,
}
_REQUIRED = ("id", "statement", "source", "published", "expected")
_VERDICTS = ("reproduced", "contradicted", "not_reproducible")
_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)\s*")
_LIKE_A_BOUND = re.compile(r"\s*[<>]")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def _one(values: Sequence[Any]) -> Any:
    if len(values) != 1:
        raise UsageError(f"{len(values)} rows where one is meant", hint="narrow `where`, or give a `reduce`")
    return values[0]


_REDUCE: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "one": _one,
    "list": list,
    "sorted": sorted,
    "count": len,
    "distinct": lambda values: len(set(values)),
    "sum": sum,
    "max": max,
    "min": min,
    "all": all,
    "sign": lambda values: ("negative", "zero", "positive")[(_one(values) > 0) - (_one(values) < 0) + 1],
}


@dataclass(frozen=True)
class Claim:
    """A published figure as a claims file states it."""

    id: str
    statement: str
    source: str
    published: Any
    expected: Verdict
    """What the file's author found; a check that finds another verdict is worth a look."""
    run: str | None = None
    query: str | None = None
    """None: nothing in the data recomputes it."""
    parameters: Mapping[str, Any] | None = None
    where: Mapping[str, Any] | None = None
    column: str | None = None
    reduce: str = "one"
    tolerance: float = 0.0
    note: str | None = None


@dataclass(frozen=True)
class Checked:
    """A claim with what the data say."""

    claim: Claim
    recomputed: Any
    verdict: Verdict
    note: str | None
    run_id: str | None
    source_hash: str | None

    @property
    def surprising(self) -> bool:
        """Whether the verdict is another one than the claims file expects."""
        return self.verdict != self.claim.expected


def claims_files() -> list[Path]:
    """Return the claims files that ship with the project."""
    return sorted(FOLDER.glob("*.toml"))


def read_claims(path: Path) -> list[Claim]:
    """Read a claims file; raise InputError that names file and claim."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: {error}", hint=_SHAPE) from error
    entries = document.get("claim")
    if set(document) != {"claim"} or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: expected [[claim]] tables and nothing else, got {', '.join(document) or 'an empty file'}", hint=_SHAPE)
    claims = [_claim(f"{path}: claim {entry.get('id', number)!r}", entry) for number, entry in enumerate(entries)]
    names = [claim.id for claim in claims]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: claim {name!r} stands twice")
    return claims


def _claim(name: str, entry: Mapping[str, Any]) -> Claim:
    for field in _REQUIRED:
        if entry.get(field, "") == "":
            raise InputError(f"{name} has no {field!r}")
    for field, value in entry.items():
        if field not in _FIELDS:
            raise InputError(f"{name}: unknown field {field!r}", hint=f"fields: {', '.join(_FIELDS)}")
        if not isinstance(value, _FIELDS[field]):  # type: ignore[arg-type]
            raise InputError(f"{name}: {field} = {value!r} has the wrong type")
    if entry["expected"] not in _VERDICTS:
        raise InputError(f"{name}: expected = {entry['expected']!r} is not one of {', '.join(_VERDICTS)}")
    if entry.get("reduce", "one") not in _REDUCE:
        raise InputError(f"{name}: reduce = {entry['reduce']!r} is not one of {', '.join(_REDUCE)}")
    tolerance = entry.get("tolerance", 0.0)
    if isinstance(tolerance, bool) or not 0 <= tolerance < math.inf:
        raise InputError(
            f"{name}: tolerance = {tolerance!r}: expected a finite number of 0 or more, the largest difference that counts as equal"
        )
    _check_values(name, entry)
    _check_question(name, entry)
    return Claim(**entry)


def _check_values(name: str, entry: Mapping[str, Any]) -> None:
    """Refuse a figure that nothing can equal, and bounds that are none."""
    published = entry["published"]
    for value in published if isinstance(published, list) else [published]:
        if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            raise InputError(f"{name}: published = {value!r}: expected a finite number, a text, true or false, or a list of these")
    for value in [published, *entry.get("where", {}).values()]:
        if isinstance(value, str) and _LIKE_A_BOUND.match(value) and not _BOUND.fullmatch(value):
            raise InputError(f"{name}: {value!r} is no bound", hint='a bound is one of <, <=, >, >= and a number, such as ">= 0.65"')


def _check_question(name: str, entry: Mapping[str, Any]) -> None:
    if "query" not in entry:
        if "column" in entry or entry["expected"] != "not_reproducible":
            raise InputError(f"{name} has no 'query'", hint="without a query a claim can only be expected = 'not_reproducible'")
        return
    try:
        found = question(entry["query"])
    except UsageError as error:
        raise InputError(f"{name}: {error.message}", hint=error.hint) from error
    columns = [column.name for column in found.columns]
    if "column" not in entry:
        raise InputError(f"{name} has no 'column'", hint=f"{found.name} has: {', '.join(columns)}")
    for column in [entry["column"], *entry.get("where", {})]:
        if column not in columns:
            raise InputError(f"{name}: {found.name} has no column {column!r}", hint=f"it has: {', '.join(columns)}")
    if "run" in entry.get("parameters", {}):
        raise InputError(f"{name}: a run among the parameters", hint="the run of a claim stands in its field `run`")
    try:
        found.parse(entry.get("parameters", {}))
    except UsageError as error:
        raise InputError(f"{name}: {error.message}", hint=error.hint) from error


def check_claims(con: duckdb.DuckDBPyConnection | Reader, file: Path | None = None) -> pa.Table:
    """Recompute the claims of a file, by default all that ship, and return what was found as a table, a row a claim.

    Raise InputError where none of them speaks of a run of this atlas.
    """
    import pyarrow as pa

    checked = check(con) if file is None else check(con, read_claims(file), strict=True)
    if not checked:
        raise InputError("no claim speaks of a run of this atlas", hint="`atlas runs` lists runs; a claim names its run in field `run`")
    return pa.Table.from_pylist(
        [
            {
                "claim": item.claim.id,
                "verdict": item.verdict,
                "expected": item.claim.expected,
                "published": _text(item.claim.published),
                "recomputed": _text(item.recomputed),
                "tolerance": item.claim.tolerance,
                "query": item.claim.query,
                "run": item.claim.run,
                "statement": item.claim.statement,
                "source": item.claim.source,
                "note": item.note,
            }
            for item in checked
        ]
    )


def check(con: duckdb.DuckDBPyConnection | Reader, claims: Iterable[Claim] | None = None, *, strict: bool = False) -> list[Checked]:
    """Recompute claims, by default all that ship; those of runs that are not here are left out.

    Raise InputError, where `strict`, for a claim that cannot be checked as it is written.
    """
    if claims is None:
        claims = [claim for path in claims_files() for claim in read_claims(path)]
    data = _Data(con)
    return [_check(data, claim, strict) for claim in claims if claim.run is None or data.run_id(claim.run) is not None]


class _Data:
    """Answers and runs, each asked for once: many claims rest on one answer."""

    def __init__(self, con: duckdb.DuckDBPyConnection | Reader) -> None:
        self._con = con
        self._runs: dict[str, str | None] = {}
        self._answers: dict[str, list[dict[str, Any]]] = {}

    def run_id(self, name: str) -> str | None:
        """Return the id of a run, None where there is none."""
        if name not in self._runs:
            try:
                self._runs[name] = resolve_run(self._con, "run", name)
            except UsageError:
                self._runs[name] = None
        return self._runs[name]

    def answer(self, name: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a question."""
        key = json.dumps([name, parameters], sort_keys=True)
        if key not in self._answers:
            self._answers[key] = ask(self._con, name, **parameters).arrow().to_pylist()
        return self._answers[key]

    def source_hash(self, run_id: str | None) -> str | None:
        """Return the hash of the plan of a run, which holds the hashes of its files."""
        runs = [] if run_id is None else self.answer("provenance/runs", {})
        return next((str(row["plan_hash"]) for row in runs if row["run_id"] == run_id), None)


def _check(data: _Data, claim: Claim, strict: bool) -> Checked:
    run_id = None if claim.run is None else data.run_id(claim.run)
    result = Checked(claim, None, "not_reproducible", claim.note, run_id, data.source_hash(run_id))
    if claim.query is None or claim.column is None:
        return result
    try:
        recomputed = _recompute(data, claim, run_id)
        if recomputed is None:
            return replace(result, note=_join(claim.note, "the data give no value"))
        verdict: Verdict = "reproduced" if _equal(claim.published, recomputed, claim.tolerance) else "contradicted"
    except (AtlasError, TypeError) as error:
        reason = error.message if isinstance(error, AtlasError) else f"{claim.reduce} of these values, or their comparison: {error}"
        if strict:
            raise InputError(f"claim {claim.id!r}: {reason}", hint=error.hint if isinstance(error, AtlasError) else None) from error
        return replace(result, note=_join(claim.note, f"not checked: {reason}"))
    return replace(result, recomputed=recomputed, verdict=verdict)


def _recompute(data: _Data, claim: Claim, run_id: str | None) -> Any:
    """Return what the data say, None where they say nothing."""
    assert claim.query is not None
    assert claim.column is not None
    parameters = dict(claim.parameters or {})
    if run_id is not None and question(claim.query).main is not None:
        parameters["run"] = run_id
    table = data.answer(claim.query, parameters)
    rows = [row for row in table if all(_holds(row[name], wanted) for name, wanted in (claim.where or {}).items())]
    values = [row[claim.column] for row in rows]
    empty = not table if claim.reduce in ("count", "distinct") else not values
    if empty or any(value is None or value != value for value in values):
        return None
    return _REDUCE[claim.reduce](values)


def _join(*notes: str | None) -> str:
    return "; ".join(note for note in notes if note)


def _holds(value: Any, wanted: Any) -> bool:
    """Say whether a cell is the wanted value, keeps the wanted bound, or is not what stands after `!`."""
    if isinstance(wanted, str) and wanted.startswith("!"):
        return bool(value != wanted[1:])
    bound = _BOUND.fullmatch(wanted) if isinstance(wanted, str) else None
    if bound is not None:
        return value is not None and _COMPARE[bound[1]](value, float(bound[2]))
    return bool(value == wanted)


def _equal(published: Any, recomputed: Any, tolerance: float) -> bool:
    if isinstance(published, list) != isinstance(recomputed, list):
        raise UsageError(f"published = {published!r} and the recomputed {recomputed!r} are of different types")
    if isinstance(published, list):
        return len(published) == len(recomputed) and all(
            _equal(one, other, tolerance) for one, other in zip(published, recomputed, strict=True)
        )
    bound = isinstance(published, str) and _BOUND.fullmatch(published) is not None
    if isinstance(published, bool) != isinstance(recomputed, bool) or (isinstance(published, str) and not bound) != isinstance(
        recomputed, str
    ):
        raise UsageError(f"published = {published!r} and the recomputed {recomputed!r} are of different types")
    if bound:
        return _holds(recomputed, published)
    if isinstance(published, bool | str):
        return bool(published == recomputed)
    # Decimal fractions such as .5877 are not exact in binary: a tolerance of half the last digit must admit its own bound.
    return bool(abs(recomputed - published) <= tolerance + 1e-12 * max(1.0, abs(published)))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(float(f"{value:.7g}") if isinstance(value, float) else value)


def claim_row(item: Checked) -> dict[str, Any]:
    """Return a checked claim as a row of table claim, in the order of its columns."""
    claim = item.claim
    return {
        "claim_id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "source_hash": item.source_hash,
        "published": _text(claim.published),
        "query": claim.query or "none",
        "parameters": json.dumps(dict(claim.parameters or {}) | ({} if claim.run is None else {"run": claim.run})),
        "recomputed": _text(item.recomputed),
        "tolerance": claim.tolerance,
        "verdict": item.verdict,
        "note": item.note,
        "run_id": item.run_id,
    }


def write_claims(con: duckdb.DuckDBPyConnection, checked: Sequence[Checked]) -> None:
    """Put checked claims into table claim; a claim of the same name is replaced."""
    for item in checked:
        con.execute(read_sql("build", "claim"), list(claim_row(item).values()))


def summary(checked: Sequence[Checked]) -> dict[str, int]:
    """Count verdicts."""
    return {verdict: sum(item.verdict == verdict for item in checked) for verdict in _VERDICTS}
