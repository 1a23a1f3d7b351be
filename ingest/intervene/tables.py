"""Rows of schema.sql for what interventions did: intervention, intervention_member, outcome, outcome_answer, transfer.

In: `Measured` jobs. Out: Arrow tables without run_id, in the exact schema of `atlas.schema.arrow_schema`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from atlas.schema import arrow_schema
from ingest.intervene.engine import Engine
from ingest.intervene.measure import Job, Measured
from ingest.prompts import Prompt

EXPECTED, SOURCE_OWN, PARTNER = 0, 1, 2
"""Columns of a job's extra tokens: answers -1, -2 and -3 of outcome_answer."""


def table(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """Build a table of schema.sql from columns; nullable ones may be left out; NaN becomes null in floating columns."""
    schema = arrow_schema(name)
    length = len(next(iter(columns.values())))
    arrays = []
    for column in schema:
        if column.name not in columns:
            arrays.append(pa.nulls(length, column.type))
            continue
        values = columns[column.name]
        if isinstance(values, np.ndarray):
            nullable = column.nullable and np.issubdtype(values.dtype, np.floating)
            arrays.append(pa.array(values, from_pandas=nullable).cast(column.type))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def intervention_tables(engine: Engine, measured: Sequence[Measured], behaviour: str, noise: float) -> dict[str, pa.Table]:
    """Return intervention, intervention_member, outcome, outcome_answer and transfer."""
    jobs = [item.job for item in measured]
    return {
        "intervention": _interventions(jobs, behaviour, noise),
        "intervention_member": _members(jobs),
        "outcome": _outcomes(engine, measured),
        "outcome_answer": _answers(engine, measured),
        "transfer": _transfers(engine, measured),
    }


def _interventions(jobs: Sequence[Job], behaviour: str, noise: float) -> pa.Table:
    rows: dict[str, list[Any]] = {column.name: [] for column in arrow_schema("intervention")}
    for job in jobs:
        work = job.work
        layers = [layer for layer, _ in work.features]
        rows_of = {
            "intervention": job.number,
            "name": work.name,
            "behaviour": behaviour,
            "rule": work.rule,
            "mode": work.mode,
            "positions": work.positions,
            "strength": work.strength,
            "hook": "mlp_out",
            "keeps_error": work.rule not in ("whole_mlp", "error_only"),
            "sound": True,
            "n_members": max(len(members) for members in work.sets.values()),
            "layer_low": min(layers),
            "layer_high": max(layers),
            "control_of": job.control_of,
            "control": job.control,
            "draw": job.draw,
            "n_pool": job.n_pool,
            "distinct_sets": job.distinct_sets,
            "seed": work.seed,
            "noise_floor": noise,
            "parameters": _parameters(job),
        }
        for name, values in rows.items():
            values.append(rows_of.get(name))
    return table("intervention", rows)


def _parameters(job: Job) -> str | None:
    parameters = dict(job.work.parameters)
    if job.work.frozen_layers:
        parameters["frozen_layers"] = list(job.work.frozen_layers)
    if job.work.base_rule is not None:
        parameters["base_rule"] = job.work.base_rule
    return json.dumps(parameters, sort_keys=True) if parameters else None


def _members(jobs: Sequence[Job]) -> pa.Table:
    numbers: list[int] = []
    concepts: list[str | None] = []
    layers: list[int] = []
    features: list[int] = []
    positions: list[int] = []
    values: list[float | None] = []
    for job in jobs:
        fixed = {"zero": 0.0}.get(job.work.rule)
        for concept, members in job.work.sets.items():
            for position in job.work.explicit or (-1,):
                for layer, feature in members:
                    numbers.append(job.number)
                    concepts.append(concept)
                    layers.append(layer)
                    features.append(feature)
                    positions.append(position)
                    values.append(job.work.values.get((layer, feature)) if job.work.rule == "mean" else fixed)
    return table(
        "intervention_member",
        {"intervention": numbers, "layer": layers, "feature": features, "position": positions, "value": values, "concept": concepts},
    )


def _ordinals(engine: Engine, places: np.ndarray) -> np.ndarray:
    """Turn places in the engine's list into ordinals of the run; -1 stays."""
    ordinals = np.array([prompt.prompt for prompt in engine.prompts], dtype=np.int64)
    return np.where(places < 0, -1, ordinals[places])


def _outcomes(engine: Engine, measured: Sequence[Measured]) -> pa.Table:
    def joined(pick: Any) -> np.ndarray:
        return np.concatenate([np.asarray(pick(item)) for item in measured])

    return table(
        "outcome",
        {
            "intervention": joined(lambda item: np.full(len(item.job.prompts), item.job.number)),
            "prompt": _ordinals(engine, joined(lambda item: item.job.prompts)),
            "source_prompt": _ordinals(engine, joined(lambda item: item.job.sources)),
            "margin_before": joined(lambda item: item.outcomes.margin_before),
            "margin_after": joined(lambda item: item.outcomes.margin_after),
            "effect": joined(lambda item: item.outcomes.effect),
            "kl": joined(lambda item: item.outcomes.kl),
            "top1_before": joined(lambda item: item.outcomes.top1_before),
            "top1_after": joined(lambda item: item.outcomes.top1_after),
            "predicted_gradient": joined(lambda item: item.predicted_gradient),
            "predicted_integrated": joined(lambda item: item.predicted_integrated),
            "n_edited": joined(lambda item: item.outcomes.n_edited),
            "delta_norm": joined(lambda item: item.outcomes.delta_norm),
        },
    )


def _answers(engine: Engine, measured: Sequence[Measured]) -> pa.Table:
    columns: dict[str, list[np.ndarray]] = {column.name: [] for column in arrow_schema("outcome_answer")}
    for item in measured:
        if not item.job.keep_answers:
            continue
        n_answers = item.tokens.shape[1] - 3
        row, place = np.nonzero(item.tokens >= 0)
        columns["intervention"].append(np.full(len(row), item.job.number))
        columns["prompt"].append(_ordinals(engine, item.job.prompts)[row])
        columns["source_prompt"].append(_ordinals(engine, item.job.sources)[row])
        columns["answer"].append(np.where(place < n_answers, place, n_answers - 1 - place))
        columns["token_id"].append(item.tokens[row, place])
        for name in ("logit_before", "logit_after", "logprob_before", "logprob_after"):
            columns[name].append(getattr(item.outcomes, name)[row, place])
    if not columns["prompt"]:
        return arrow_schema("outcome_answer").empty_table()
    return table("outcome_answer", {name: np.concatenate(parts) for name, parts in columns.items()})


def _transfers(engine: Engine, measured: Sequence[Measured]) -> pa.Table:
    columns: dict[str, list[Any]] = {column.name: [] for column in arrow_schema("transfer")}
    for item in measured:
        if item.job.extra_tokens is None:
            continue
        rise = transfer_rises(item)
        for row, (prompt, source) in enumerate(zip(item.job.prompts.tolist(), item.job.sources.tolist(), strict=True)):
            target_prompt, source_prompt = engine.prompts[prompt], engine.prompts[source]
            columns["intervention"].append(item.job.number)
            columns["prompt"].append(target_prompt.prompt)
            columns["source_prompt"].append(source_prompt.prompt)
            columns["source_language"].append(source_prompt.language)
            columns["target_language"].append(target_prompt.language)
            columns["source_concept"].append(source_prompt.concept)
            columns["target_concept"].append(target_prompt.concept)
            columns["expected_token_id"].append(int(item.job.extra_tokens[row, EXPECTED]))
            columns["rise"].append(float(rise[row, EXPECTED]))
            columns["rise_source_language"].append(_or_none(rise[row, SOURCE_OWN]))
            columns["rise_partner"].append(_or_none(rise[row, PARTNER]))
            columns["prefers_expected"].append(bool(prefers_expected(item)[row]))
            columns["control"].append(item.job.control)
    return table("transfer", columns)


def transfer_rises(item: Measured) -> np.ndarray:
    """Return (R, 3) the rise of logit(extra token) - logit(the target's own answer), NaN where there is no such token."""
    after, before = item.outcomes.logit_after.astype(np.float64), item.outcomes.logit_before.astype(np.float64)
    rises: np.ndarray = (after[:, -3:] - after[:, :1]) - (before[:, -3:] - before[:, :1])
    return rises


def prefers_expected(item: Measured) -> np.ndarray:
    """Return (R,) bool: the expected answer beats the target's own after the swap."""
    preferred: np.ndarray = item.outcomes.logit_after[:, -3 + EXPECTED] > item.outcomes.logit_after[:, 0]
    return preferred


def partner_token(target: Prompt) -> int:
    """Return the token of the operand as an answer (the antonym partner of the prompt's own answer), -1 where it is none."""
    for answer in target.answers[1:]:
        if answer.role == "partner" or answer.text.strip() == target.operand:
            return answer.token_id
    return -1


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
