"""Put what was asked into the atlas, as a run of kind `ask`.

In: a folder, the opened model, an `Asked` or a `SteeredResult`. Out: the run's id. The plan holds texts, settings and the hashes of model
and transcoders, so that the same question again is the same run and writes nothing.

What fires on texts: model, transcoder, behaviour (`own text`), prompt, token, activation (everything, filters or not, sinks included), and
a translation pair where two texts of different languages stand side by side.
What steering did: model, transcoder, behaviour, prompt, token; an intervention a strength, after a no-op, with its members (one row a
position, with the absolute value it got), continuation, next_token, feature_change; with two answers or more also answer, baseline and
outcome, whose margins are differences of summed log-probabilities (`ingest.ask.sequence`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.schema import arrow_schema
from atlas.shards import RunWriter
from ingest.ask.opening import Opened
from ingest.ask.results import Asked, SteeredResult
from ingest.ask.sequence import Score, margin
from ingest.ask.steer import Point, Steered
from ingest.ask.text import Active, OwnText

BEHAVIOUR = "own text"
SHARD = "ask"
NO_SOURCE = -1
UNSTEERED = 0
"""Ordinal of the intervention that stands for the unedited model (rule no_op, no member); strengths follow."""
Tables = dict[str, pa.Table]


def keep(folder: Path, opened: Opened, result: Asked | SteeredResult, languages: Sequence[str] = ("und",)) -> str:
    """Commit a result and return its run's id; languages are those of the texts in order, the last one goes on.

    Raises:
        StoreError: the atlas cannot be written.
    """
    texts = result.texts if isinstance(result, Asked) else (result.steered.prompt,)
    spoken = [languages[min(number, len(languages) - 1)] for number in range(len(texts))]
    plan = {
        "kind": "ask",
        "texts": [{"tokens": list(text.token_ids), "language": language} for text, language in zip(texts, spoken, strict=True)],
        "dtype": opened.dtype,
        "layers": list(opened.layers),
        "hashes": {name: opened.sources[name].content_hash(name) for name in ("model", "transcoders")},
        **(_asked_plan(result) if isinstance(result, Asked) else _steered_plan(result.steered)),
    }
    with RunWriter(Atlas.create(folder), plan, run_id(plan)) as writer:
        if writer.is_complete:
            return writer.run_id
        tables = {**_model_tables(opened), **_text_tables(texts, spoken)}
        if isinstance(result, Asked):
            tables |= _asked_tables(result.active, spoken if result.overlap is not None else [])
        else:
            tables |= _steered_tables(result.steered)
        if not writer.is_done(SHARD):
            writer.commit(SHARD, tables)
        about = "what fires on" if isinstance(result, Asked) else "steering of"
        first = texts[0].text if len(texts[0].text) <= 60 else texts[0].text[:59] + "…"
        more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
        writer.finish(
            {
                "kind": "ask",
                "name": f"{about} {first!r}{more}",
                "model_id": opened.model.row()["model_id"],
                "transcoder_set": opened.transcoders.name,
                "seed": None if isinstance(result, Asked) else result.steered.sampling.seed,
            },
            shards=[SHARD],
        )
        return writer.run_id


def _asked_plan(result: Asked) -> dict[str, Any]:
    layers = None if result.asking.layers is None else sorted(set(result.asking.layers))
    return {"asked": "features", "asked_layers": layers, "side_by_side": result.overlap is not None}


def _steered_plan(steered: Steered) -> dict[str, Any]:
    sampling = steered.sampling
    return {
        "asked": "steering",
        "sets": [point.name for point in steered.points],
        "strengths": [point.strength for point in steered.points],
        "positions": steered.positions,
        "answers": list(steered.answer_texts),
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "samples": sampling.n_samples,
        "seed": sampling.seed,
        "top": max((len(point.gains) for point in steered.points), default=0),
    }


def _model_tables(opened: Opened) -> Tables:
    row = opened.model.row()
    sets = [item for item in opened.transcoders.rows(str(row["model_id"])) if item["layer"] in opened.layers]
    return {"model": pa.Table.from_pylist([row]), "transcoder": pa.Table.from_pylist(sets)}


def _text_tables(texts: Sequence[OwnText], languages: Sequence[str]) -> Tables:
    hashes = [hashlib.sha256(f"{language}\x1f{text.text}".encode()).hexdigest() for text, language in zip(texts, languages, strict=True)]
    behaviour = {
        "behaviour": BEHAVIOUR,
        "title": "A text of one's own",
        "languages": list(dict.fromkeys(languages)),
        "n_prompts": len(texts),
        "prompt_set_hash": hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
    }
    prompts = [
        {
            "prompt": number,
            "behaviour": BEHAVIOUR,
            "prompt_hash": hashes[number][:16],
            "language": languages[number],
            "concept": text.text,
            "template": BEHAVIOUR,
            "split": "test",
            "text": text.text,
            "n_tokens": len(text),
        }
        for number, text in enumerate(texts)
    ]
    tokens = [
        {
            "source": "prompt",
            "item": number,
            "position": position,
            "token_id": token_id,
            "token": text.tokens[position],
            "role": "sink" if position == 0 else "decision" if position == len(text) - 1 else "other",
            "char_start": span[0] if span else None,
            "char_end": span[1] if span else None,
        }
        for number, text in enumerate(texts)
        for position, (token_id, span) in enumerate(zip(text.token_ids, text.offsets, strict=True))
    ]
    return {
        "behaviour": pa.Table.from_pylist([behaviour]),
        "prompt": pa.Table.from_pylist(prompts),
        "token": _table("token", tokens),
    }


def _asked_tables(active: Active, compared: Sequence[str]) -> Tables:
    """Return activations in the order of the table, and the pair where two languages stand side by side."""
    import numpy as np

    order = np.lexsort((active.position, active.text, active.feature, active.layer))
    rows = active.select(order)
    activation = pa.table(
        {
            "layer": pa.array(rows.layer, pa.int16()),
            "feature": pa.array(rows.feature, pa.int32()),
            "prompt": pa.array(rows.text, pa.int32()),
            "position": pa.array(rows.position, pa.int16()),
            "activation": pa.array(rows.activation, pa.float32()),
        }
    )
    known = len(set(compared)) == 2 and "und" not in compared
    pairs = [{"pair": 0, "kind": "translation", "prompt_a": 0, "prompt_b": 1}] if known else []
    return {"activation": activation, "prompt_pair": _table("prompt_pair", pairs)}


# ---- steering ---------------------------------------------------------------------------------------------------


def _steered_tables(steered: Steered) -> Tables:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("intervention", "intervention_member", "next_token", "feature_change")}
    rows["intervention"] = [_intervention_row(UNSTEERED, steered.unsteered, steered)]
    rows["continuation"] = _continuation_rows(UNSTEERED, steered.unsteered, steered)
    for number, point in enumerate(steered.points, UNSTEERED + 1):
        rows["intervention"].append(_intervention_row(number, point, steered))
        rows["intervention_member"] += _member_rows(number, point, steered)
        rows["continuation"] += _continuation_rows(number, point, steered)
        rows["next_token"] += [
            {
                "intervention": number,
                "prompt": 0,
                "token_id": shift.token_id,
                "token": shift.token,
                "logprob_before": shift.before,
                "logprob_after": shift.after,
            }
            for shift in (*point.gains, *point.losses)
        ]
        rows["feature_change"] += [{"intervention": number, "prompt": 0, **vars(moved)} for moved in point.moved]
    return {name: _table(name, found) for name, found in (rows | _answer_rows(steered)).items()}


def _rule(point: Point) -> str:
    kinds = {change.kind for change in point.changes}
    if all(change.does_nothing for change in point.changes):
        return "no_op"
    return str(kinds.pop()) if len(kinds) == 1 else "mixed"


def _intervention_row(number: int, point: Point, steered: Steered) -> dict[str, Any]:
    places = [place for change in point.changes for place in change.places]
    values = {change.value for change in point.changes if change.kind in ("scale", "add", "clamp")}
    rules = {"all": "all", "decision": "decision"}
    return {
        "intervention": number,
        "name": f"steer {point.name}" if places else point.name,
        "behaviour": BEHAVIOUR,
        "rule": _rule(point),
        "mode": "free",
        "positions": rules.get(steered.positions, "explicit"),
        "strength": values.pop() if len(values) == 1 else None,
        "hook": "mlp_out",
        "keeps_error": True,
        "sound": True,
        "n_members": len(places),
        "layer_low": min((layer for layer, _ in places), default=None),
        "layer_high": max((layer for layer, _ in places), default=None),
        "seed": steered.sampling.seed if steered.sampling.temperature > 0 else None,
        "parameters": json.dumps({"set": [change.name for change in point.changes], "positions": steered.positions}),
    }


def _member_rows(number: int, point: Point, steered: Steered) -> list[dict[str, Any]]:
    """Return a row per edited position of the prompt; rules that edit new tokens too say so by position -1 and no value."""
    rows: list[dict[str, Any]] = [
        {"intervention": number, "layer": m.layer, "feature": m.feature, "position": m.position, "value": m.target} for m in point.members
    ]
    if steered.positions in ("all", "last", "new"):
        places = [place for change in point.changes for place in change.places]
        rows += [{"intervention": number, "layer": layer, "feature": feature, "position": -1, "value": None} for layer, feature in places]
    return rows


def _continuation_rows(number: int, point: Point, steered: Steered) -> list[dict[str, Any]]:
    sampled = steered.sampling.temperature > 0
    return [
        {
            "intervention": number,
            "prompt": 0,
            "sample": written.sample,
            "temperature": steered.sampling.temperature,
            "seed": steered.sampling.seed if sampled else None,
            "text": written.text,
            "token_ids": list(written.token_ids),
            "tokens": list(written.tokens),
            "token_logprobs": list(written.logprobs),
            "kl": None if number == UNSTEERED else point.kl,
        }
        for written in point.continuations
    ]


def _answer_rows(steered: Steered) -> dict[str, list[dict[str, Any]]]:
    """Return answer, baseline and outcome; nothing without at least two answers, since a margin needs a contrast."""
    before = steered.unsteered.answers
    if len(before) < 2:
        return {}
    rows: dict[str, list[dict[str, Any]]] = {"answer": [], "baseline": [], "outcome": []}
    for number, (text, score) in enumerate(zip(steered.answer_texts, before, strict=True)):
        rows["answer"].append(
            {"prompt": 0, "answer": number, "role": "contrast" if number else "correct", "text": text, **answer_columns(score)}
        )
    base = _margin(before)
    top = steered.unsteered.top_before
    rows["baseline"].append(
        {
            "prompt": 0,
            "margin": base,
            "correct": base > 0,
            "top1_token_id": top.token_id,
            "top1_token": top.token,
            "top1_logprob": top.logprob,
        }
    )
    for number, point in enumerate(steered.points, UNSTEERED + 1):
        after = _margin(point.answers)
        rows["outcome"].append(
            {
                "intervention": number,
                "prompt": 0,
                "source_prompt": NO_SOURCE,
                "margin_before": base,
                "margin_after": after,
                "effect": after - base,
                "kl": point.kl,
                "top1_before": point.top_before.token_id,
                "top1_after": point.top_after.token_id,
                "n_edited": point.n_edited,
            }
        )
    return rows


def _margin(scores: Sequence[Score]) -> float:
    value = margin(scores)
    assert value is not None
    return value


def answer_columns(score: Score) -> dict[str, Any]:
    """Return the columns of table `answer` that a teacher-forced score fills (logit and rank are not known from it)."""
    several = len(score.token_ids) > 1
    return {
        "token_id": score.token_ids[0],
        "logprob": score.total,
        "token_ids": list(score.token_ids) if several else None,
        "token_logprobs": list(score.logprobs) if several else None,
    }


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows with the columns of schema.sql that they have."""
    schema = arrow_schema(name)
    if not rows:
        return schema.empty_table()
    chosen = [field for field in schema if field.name in rows[0]]
    return pa.table({field.name: pa.array([row[field.name] for row in rows], field.type) for field in chosen})
