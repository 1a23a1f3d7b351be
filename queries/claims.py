"""Check published figures: recompute each through a named question and say whether it holds.

In: claims files (TOML) and a connection. Out: `Checked` claims, and rows of table claim. A claim of a run that the atlas does not hold
is left out; it says nothing about the data that are here.

1. A claim names a question, its parameters, the rows meant (`where`), a column, and how many rows become one value (`reduce`).
2. Numbers and lists are equal within `tolerance` (absolute); text such as "< 0.05" or ">= 0.65" is a bound that the value must keep.
3. Equal: reproduced. Different: contradicted. No such row, or no question can give it: not reproducible.
"""

from __future__ import annotations

import json
import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atlas.errors import InputError, UsageError
from queries.loader import ask, question, read_sql, resolve_run

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from atlas.reader import Reader

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
_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*(-?[\d.]+(?:e-?\d+)?)\s*")
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
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: {error}", hint="a claims file holds [[claim]] tables, see queries/claims/thesis.toml") from error
    claims = [_claim(path, entry) for entry in document.get("claim", [])]
    names = [claim.id for claim in claims]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: claim {name!r} stands twice")
    return claims


def _claim(path: Path, entry: Mapping[str, Any]) -> Claim:
    name = f"{path}: claim {entry.get('id', '?')!r}"
    for field in _REQUIRED:
        if field not in entry:
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
    if "query" in entry:
        columns = [column.name for column in question(entry["query"]).columns]
        for column in [entry.get("column"), *entry.get("where", {})]:
            if column not in columns:
                raise InputError(f"{name}: {entry['query']} has no column {column!r}", hint=f"it has: {', '.join(columns)}")
    return Claim(**entry)


def check_claims(con: duckdb.DuckDBPyConnection | Reader, file: Path | None = None) -> pa.Table:
    """Recompute the claims of a file, by default all that ship, and return what was found as a table, a row a claim.

    Raise InputError where none of them speaks of a run of this atlas.
    """
    import pyarrow as pa

    checked = check(con, None if file is None else read_claims(file))
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


def check(con: duckdb.DuckDBPyConnection | Reader, claims: Iterable[Claim] | None = None) -> list[Checked]:
    """Recompute claims, by default all that ship; those of runs that are not here are left out."""
    if claims is None:
        claims = [claim for path in claims_files() for claim in read_claims(path)]
    data = _Data(con)
    return [_check(data, claim) for claim in claims if claim.run is None or data.run_id(claim.run) is not None]


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


def _check(data: _Data, claim: Claim) -> Checked:
    run_id = None if claim.run is None else data.run_id(claim.run)
    result = Checked(claim, None, "not_reproducible", claim.note, run_id, data.source_hash(run_id))
    if claim.query is None or claim.column is None:
        return result
    parameters = dict(claim.parameters or {})
    if run_id is not None and question(claim.query).main is not None:
        parameters["run"] = run_id
    table = data.answer(claim.query, parameters)
    rows = [row for row in table if all(_holds(row[name], wanted) for name, wanted in (claim.where or {}).items())]
    values = [row[claim.column] for row in rows]
    if (not values and claim.reduce not in ("count", "distinct", "list")) or any(value is None for value in values):
        return replace(result, note=_join(claim.note, "the data give no value"))
    recomputed = _REDUCE[claim.reduce](values)
    verdict: Verdict = "reproduced" if _equal(claim.published, recomputed, claim.tolerance) else "contradicted"
    return replace(result, recomputed=recomputed, verdict=verdict)


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
    if isinstance(published, list):
        return (
            isinstance(recomputed, list)
            and len(published) == len(recomputed)
            and all(_equal(one, other, tolerance) for one, other in zip(published, recomputed, strict=True))
        )
    if isinstance(published, bool) or isinstance(recomputed, bool | str):
        return bool(published == recomputed)
    if isinstance(published, str):
        return _holds(recomputed, published)
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
