"""Run jobs (an intervention on prompts) in bulk and keep what each did.

In: an `Engine`, clean activations, jobs. Out: one `Measured` per job, in order.

Jobs of one mode are joined and run together, whatever their rule: the engine sorts rows by edited layer and window, so that a hundred
random controls cost little more than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from atlas.errors import UsageError
from ingest.batches import Progress
from ingest.intervene.activity import Activity, Doubles, slopes
from ingest.intervene.edits import Edits, Integers, concatenate
from ingest.intervene.engine import Engine, Floats, Outcomes
from ingest.intervene.rules import Intervention, Places, build_edits, edited_places

_MEMBERS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Job:
    """An intervention on R rows."""

    work: Intervention
    prompts: Integers
    """(R,) ordinals."""
    sources: Integers
    """(R,) ordinals, -1 for none."""
    number: int
    """Ordinal of the intervention within the run; rows of one ordinal must be in one job."""
    control_of: int | None = None
    control: str | None = None
    draw: int | None = None
    n_pool: int | None = None
    distinct_sets: float | None = None
    extra_tokens: Integers | None = None
    """(R, 3) expected answer, source's own answer, partner; -1 for none: answers -1, -2, -3 of outcome_answer."""
    keep_answers: bool = True
    predict: bool = False
    """Whether predicted effects are stored beside."""
    only_changed: bool = False
    """Whether prompts on which no member is active are left out."""
    pooled: tuple[PooledControls, ...] = field(default=())
    length_of: int | None = None
    """Number of an intervention of the same call whose change is as long, layer by layer, as this one's is made."""


@dataclass(frozen=True)
class PooledControls:
    """Controls of a single-feature ablation: exact effects of matched features on the same prompts."""

    effects: Doubles
    """(R, k) effects of up to k matched features on each row's prompt, NaN beyond."""
    features: Integers
    """(R, k) these features, -1 beyond."""
    norms: Doubles
    """(R, k) lengths of their changes, NaN beyond."""
    n_pool: int
    distinct_sets: float
    """Distinct matched features: one feature is one draw."""


@dataclass(frozen=True)
class Measured:
    """What a job did."""

    job: Job
    outcomes: Outcomes
    predicted_gradient: Floats
    """(R,) NaN where not asked for."""
    predicted_integrated: Floats
    tokens: Integers
    """(R, A + 3) asked tokens: the prompt's answers, then the extra ones; -1 for none."""

    @property
    def effect(self) -> Doubles:
        """Margin after - before, (R,)."""
        return self.outcomes.effect.astype(np.float64)


def run_jobs(
    engine: Engine, clean: Activity, jobs: Sequence[Job], *, integrated_steps: int = 4, progress: Progress | None = None
) -> list[Measured]:
    """Run all jobs; results are in their order.

    Predicted effects (METHODS, section 5): `predicted_gradient` is the sum of (a' - a) x slope over members with nothing frozen,
    `predicted_integrated` the midpoint rule of d margin / d strength along the edit.
    """
    total, done = sum(len(job.prompts) for job in jobs), 0
    results: dict[int, Measured] = {}
    places = _PlacesOnce(engine)
    for group in _groups(jobs):
        parts = [build_edits(engine, clean, jobs[i].work, jobs[i].prompts, jobs[i].sources, places.of(jobs[i])) for i in group]
        lengths = [_length(jobs[i], results, jobs) for i in group]
        parts = [part if length is None else replace(part, length=length) for part, length in zip(parts, lengths, strict=True)]
        joined = concatenate(parts)
        tokens = np.concatenate([_tokens(engine, jobs[i]) for i in group])
        first = jobs[group[0]]
        strengths = [(step + 0.5) / integrated_steps for step in range(integrated_steps)] if first.predict and integrated_steps else ()
        begin = done

        def step(rows: int, _rows: int, begin: int = begin) -> None:
            if progress is not None:
                progress(begin + rows, total)

        outcomes = engine.run(
            joined, mode=first.work.mode, frozen_layers=first.work.frozen_layers, tokens=tokens, strengths=strengths, progress=step
        )
        done += len(joined)
        gradient = _predicted_gradient(engine, clean, joined) if first.predict else np.full(len(joined), np.nan, dtype=np.float32)
        start = 0
        for i, part in zip(group, parts, strict=True):
            rows = np.arange(start, start + len(part))
            start += len(part)
            results[i] = _keep(jobs[i], outcomes, rows, gradient, tokens)
    return [results[i] for i in range(len(jobs))]


def _groups(jobs: Sequence[Job]) -> Iterator[list[int]]:
    """Put together jobs of one mode, kind of edit and prediction, up to a bound on members; those that take over a length come last."""
    keys: dict[tuple[object, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        vector = job.work.rule if job.work.rule in ("error_only", "whole_mlp") else "members"
        keys.setdefault((job.length_of is not None, job.work.mode, job.work.frozen_layers, vector, job.predict), []).append(i)
    for group in sorted(keys.values(), key=lambda group: jobs[group[0]].length_of is not None):
        current: list[int] = []
        members = 0
        for i in group:
            size = len(jobs[i].prompts) * len(jobs[i].work.features)
            if current and members + size > _MEMBERS_AT_ONCE:
                yield current
                current, members = [], 0
            current.append(i)
            members += size
        yield current


class _PlacesOnce:
    """Edited places, found once for all jobs at the same positions of the same rows: a hundred controls share them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.known: dict[tuple[object, ...], Places] = {}

    def of(self, job: Job) -> Places:
        """Return the edited places of a job."""
        key = (job.work.positions, job.work.explicit, job.prompts.tobytes(), job.sources.tobytes())
        if key not in self.known:
            self.known[key] = edited_places(self.engine, job.work, job.prompts, job.sources)
        return self.known[key]


def rows_in(job: Job, other: Job) -> Integers:
    """Return for each row of `other` the row of `job` on the same prompt from the same source.

    Raises:
        UsageError: there is none.
    """
    place = {key: row for row, key in enumerate(zip(job.prompts.tolist(), job.sources.tolist(), strict=True))}
    try:
        return np.array([place[key] for key in zip(other.prompts.tolist(), other.sources.tolist(), strict=True)], dtype=np.int64)
    except KeyError as error:
        raise UsageError(f"{other.work.name!r} runs on prompts on which {job.work.name!r} does not.") from error


def _length(job: Job, results: Mapping[int, Measured], jobs: Sequence[Job]) -> Doubles | None:
    """Return the lengths (R, L) that a job's changes take over, None where it takes over none."""
    if job.length_of is None:
        return None
    for i, measured in results.items():
        if jobs[i].number == job.length_of:
            return measured.outcomes.norms[rows_in(measured.job, job)].astype(np.float64)
    raise UsageError(f"{job.work.name!r} takes its length from intervention {job.length_of}, which is not measured with it.")


def _tokens(engine: Engine, job: Job) -> Integers:
    width = max(len(prompt.answers) for prompt in engine.prompts)
    tokens = np.full((len(job.prompts), width + 3), -1, dtype=np.int64)
    if job.keep_answers or job.extra_tokens is not None:
        for row, prompt in enumerate(job.prompts.tolist()):
            answers = [answer.token_id for answer in engine.prompts[prompt].answers]
            tokens[row, : len(answers)] = answers
    if job.extra_tokens is not None:
        tokens[:, width:] = job.extra_tokens
    return tokens


def _predicted_gradient(engine: Engine, clean: Activity, edits: Edits) -> Floats:
    """Sum (a' - a) x slope over the members of each row; NaN where an edit has no members (vectors) or a random direction."""
    prompt = edits.prompt[edits.row]
    current = clean.values(edits.layer, prompt, edits.position, edits.feature)
    change = np.where(np.isnan(edits.value), 0.0, edits.value - current)
    moved = np.flatnonzero(change)
    slope = np.zeros(len(change))
    slope[moved] = slopes(engine, edits.layer[moved], prompt[moved], edits.position[moved], edits.feature[moved])
    total = np.bincount(edits.row, weights=change * slope, minlength=len(edits))
    unknown = np.zeros(len(edits), dtype=bool)
    unknown[edits.vector_row] = True
    if edits.direction is not None:
        unknown |= edits.direction >= 0
    return np.where(unknown, np.nan, total).astype(np.float32)


def _keep(job: Job, outcomes: Outcomes, rows: Integers, gradient: Floats, tokens: Integers) -> Measured:
    if job.only_changed:
        rows_kept = outcomes.n_edited[rows] > 0
        job = _subset(job, rows_kept)
        rows = rows[rows_kept]
    columns = {name: getattr(outcomes, name) for name in Outcomes.__dataclass_fields__}
    part = Outcomes(**{name: column[rows] if len(column) else column for name, column in columns.items()})
    integrated = part.slope if len(part.slope) else np.full(len(rows), np.nan, dtype=np.float32)
    return Measured(job, part, gradient[rows], integrated, tokens[rows])


def _subset(job: Job, keep: NDArray[np.bool_]) -> Job:
    extra = None if job.extra_tokens is None else job.extra_tokens[keep]
    return replace(job, prompts=job.prompts[keep], sources=job.sources[keep], extra_tokens=extra)


def noise_floor(engine: Engine, prompts: Integers, layers: Sequence[int]) -> float:
    """Return the largest change of a no-op's margin over batch shapes and over runs with and without cached positions."""
    margins = []
    first = min(layers)
    for cache, rows_at_once in ((True, engine.rows_at_once), (True, 1), (True, 7), (False, engine.rows_at_once)):
        other = Engine(engine.model, engine.transcoders, [engine.prompts[p] for p in prompts], rows_at_once=rows_at_once, cache=cache)
        n = len(prompts)
        here = np.arange(n)
        edits = Edits(here, here, np.full(n, first), other.lengths - 1, np.zeros(n, dtype=np.int64), np.full(n, np.nan))
        margins.append(other.run(edits).margin_after)
    stacked = np.stack(margins).astype(np.float64)
    return float((stacked.max(0) - stacked.min(0)).max())
