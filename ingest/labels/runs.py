"""Making, writing and scoring labels as runs of an atlas: planned, hashed, resumable, visible as a whole.

In: a `LabelSource` and what is to be done. Out: the id of a run with rows of label, feature_profile, label_score, intruder_score,
label_example, label_failure.

A run's features are divided into shards; each is committed when it is done, so that a run that was stopped goes on where it was, and
nothing half written is ever seen. A feature that a language model gives no usable answer for leaves a row that says why.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from atlas.catalogue import utc_now
from atlas.errors import ModelError, UsageError
from atlas.ids import canonical_json, feature_name, run_id, sha256_text
from atlas.schema import arrow_schema
from atlas.shards import RunWriter
from ingest.labels import mechanical, writer
from ingest.labels.endpoint import Endpoint
from ingest.labels.examples import ExampleConfig, LanguageExamples
from ingest.labels.judges import VERSIONS, Judge, JudgeFailure, Label
from ingest.labels.scoring import METHODS, Intruders, Measured, find_intruders, score_label
from ingest.labels.source import LabelSource, Name

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]
SHARD_FEATURES = {"rule": 2000, "logprob": 20, "chat": 10}
"""Features of a shard: what is lost at most when a run is stopped."""
GIVE_UP_AFTER = 8
"""Features in a row without a usable answer, after which a run stops: the server is not what it should be."""


@dataclass
class Done:
    """What a labelling run did."""

    run_id: str
    was_complete: bool
    rows: Mapping[str, int] = field(default_factory=dict)


def make_labels(source: LabelSource, *, again: bool = False, progress: Progress | None = None) -> Done:
    """Write mechanical labels and profiles of all features of a run."""
    plan = {"kind": "label", "step": "make", "version": mechanical.VERSION, "source_run": source.run_id}

    def work(_number: int, _names: Sequence[Name]) -> dict[str, pa.Table]:
        names = ["feature", "context" if source.is_corpus else "activation"]
        tables = {name: source.table(name) for name in names}
        return mechanical.mechanical_tables(
            tables, source.texts, transcoder_set=source.transcoder_set, source_run=source.run_id, now=utc_now()
        )

    return _do(source, plan, f"mechanical labels of {source.run.row.get('name')}", [[]], work, again, progress)


def write_labels(
    source: LabelSource,
    names: Sequence[Name],
    endpoint: Endpoint,
    config: ExampleConfig,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> Done:
    """Let a language model write a label for each feature.

    Raises:
        UsageError: a feature that the run does not have.
        ModelError: nobody listens, or GIVE_UP_AFTER features in a row failed; what was committed is kept.
    """
    source.require(names)
    names = sorted(set(names))
    own = {**_plan(source, "write", names), "model": endpoint.model, "version": writer.VERSION, "config": asdict(config)}
    watch = _Watch()

    def work(number: int, part: Sequence[Name]) -> dict[str, pa.Table]:
        labels, failures = [], _Failures(number)
        for name, examples in source.examples(part, config).items():
            if not examples:
                failures.add(name, "write", f"fires on fewer than {config.min_texts} texts of each language", 0)
                continue
            try:
                text = writer.write_label(endpoint, examples, source.promoted.get(name, []), source.texts)
            except JudgeFailure as error:
                failures.add(name, "write", error.message, error.attempts)
                watch.failed(error.message)
                continue
            watch.answered()
            labels.append(_label_row(source, name, text, endpoint.model, plan_hash))
        return {"label": _table("label", labels), "label_failure": _table("label_failure", failures.rows)}

    plan_hash = run_id(own)
    title = f"labels by {endpoint.model}"
    return _do(
        source, own, title, _parts(names, SHARD_FEATURES["chat"]), work, again, progress, f"written by {endpoint.model} at {endpoint.url}"
    )


def score_labels(
    source: LabelSource,
    labels: Sequence[Label],
    judge: Judge,
    config: ExampleConfig,
    *,
    methods: Sequence[str] = METHODS,
    languages: Sequence[str] = (),
    keep_examples: bool | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> Done:
    """Score labels (and, by intruder detection, their features) in each language with enough texts.

    `keep_examples`: store every example with its verdict; default: unless a rule judges, which can be asked again for nothing.

    Raises:
        UsageError: an unknown method, or no label to score.
        ModelError: GIVE_UP_AFTER features in a row failed; what was committed is kept.
    """
    if unknown := set(methods) - set(METHODS):
        raise UsageError(f"no scoring method {min(unknown)!r}", hint=f"Methods: {', '.join(METHODS)}.")
    if judge.kind == "rule":
        labels = [label for label in labels if label.rule is not None]
    if not labels:
        raise UsageError(
            "there is no label to score", hint="`atlas labels make` and `atlas labels write` make some; a rule scores labels with rules."
        )
    by_name: dict[Name, list[Label]] = {}
    for label in labels:
        by_name.setdefault((label.layer, label.feature), []).append(label)
    names = sorted(by_name)
    said = sha256_text(canonical_json([[label.label_id, label.text] for label in labels]))
    versions = {method: _version(method, judge, source) for method in methods}
    keep = judge.kind != "rule" if keep_examples is None else keep_examples
    plan = {**_plan(source, "score", names), "labels": said, "versions": versions, "languages": sorted(languages), "examples": keep}
    plan["config"] = asdict(config)
    scorer = _Scorer(source, judge, config, versions, set(languages), keep)

    def work(number: int, part: Sequence[Name]) -> dict[str, pa.Table]:
        return scorer.score(number, {name: by_name[name] for name in part})

    title = f"scores of labels by {judge.name or 'rule'}"
    return _do(source, plan, title, _parts(names, SHARD_FEATURES[judge.kind]), work, again, progress)


@dataclass
class _Scorer:
    """Scores the labels of a shard."""

    source: LabelSource
    judge: Judge
    config: ExampleConfig
    versions: Mapping[str, str]
    languages: set[str]
    keep: bool
    watch: _Watch = field(default_factory=lambda: _Watch())

    def score(self, number: int, by_name: Mapping[Name, Sequence[Label]]) -> dict[str, pa.Table]:
        rows: dict[str, list[Row]] = {"label_score": [], "intruder_score": [], "label_example": []}
        failures = _Failures(number)
        for name, every in self.source.examples(list(by_name), self.config).items():
            for examples in every:
                if not self.languages or examples.language in self.languages:
                    self._one(rows, failures, name, by_name[name], examples)
        found = {table: _table(table, some) for table, some in rows.items() if table != "label_example" or self.keep}
        return {**found, "label_failure": _table("label_failure", failures.rows)}

    def _one(
        self, rows: dict[str, list[Row]], failures: _Failures, name: Name, labels: Sequence[Label], examples: LanguageExamples
    ) -> None:
        """Score one feature in one language."""
        texts, seed = self.source.texts, self.config.seed
        for method in self.versions:
            for label in labels[:1] if method == "intruder" else labels:
                try:
                    if method == "intruder":
                        found = find_intruders(name, examples, self.judge, texts, seed)
                        if found is not None:
                            rows["intruder_score"].append(self._intruder_row(name, found))
                    else:
                        measured = score_label(label, examples, method, self.judge, texts, seed)
                        if measured is not None:
                            rows["label_score"].append(self._score_row(label, method, measured))
                            rows["label_example"] += self._example_rows(label, method, measured) if self.keep else []
                except JudgeFailure as error:
                    own = None if method == "intruder" else label.label_id
                    failures.add(name, method, error.message, error.attempts, examples.language, own)
                    self.watch.failed(error.message)
                else:
                    self.watch.answered()

    def _score_row(self, label: Label, method: str, found: Measured) -> Row:
        return {
            "label_id": label.label_id,
            "score": method,
            "language": found.language,
            "prompt_version": self.versions[method],
            "value": found.value,
            "n_examples": len(found.judged),
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "sensitivity": found.sensitivity,
            "specificity": found.specificity,
            "auc": found.auc,
            "n_activating": found.n_activating,
            "source_run": self.source.run_id,
            "model": self.judge.name,
        }

    def _intruder_row(self, name: Name, found: Intruders) -> Row:
        return {
            "source_run": self.source.run_id,
            "transcoder_set": self.source.transcoder_set,
            "layer": name[0],
            "feature": name[1],
            "language": found.language,
            "prompt_version": self.versions["intruder"],
            "value": found.value,
            "chance": found.chance,
            "n_trials": len(found.found),
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "model": self.judge.name,
        }

    def _example_rows(self, label: Label, method: str, found: Measured) -> list[Row]:
        return [
            {
                "label_id": label.label_id,
                "layer": label.layer,
                "feature": label.feature,
                "score": method,
                "language": found.language,
                "example": place,
                "source": self.source.texts.source,
                "item": each.example.item,
                "position": each.example.position,
                "activating": each.truth,
                "quantile": each.example.quantile,
                "predicted": each.verdict.yes,
                "probability": each.verdict.probability,
            }
            for place, each in enumerate(found.judged)
        ]


@dataclass
class _Failures:
    """Rows of label_failure of one shard; their ordinals are the run's."""

    shard: int
    rows: list[Row] = field(default_factory=list)

    def add(self, name: Name, step: str, reason: str, attempts: int, language: str | None = None, label_id: str | None = None) -> None:
        """Note a failure."""
        row: Row = {"failure": self.shard * 100_000 + len(self.rows), "layer": name[0], "feature": name[1], "step": step}
        self.rows.append({**row, "language": language, "label_id": label_id, "reason": reason[:500], "attempts": attempts})


@dataclass
class _Watch:
    """Counts failures in a row."""

    in_a_row: int = 0

    def answered(self) -> None:
        """Take note of a usable answer."""
        self.in_a_row = 0

    def failed(self, reason: str) -> None:
        """Take note of a failure; raises ModelError when there were too many in a row."""
        self.in_a_row += 1
        if self.in_a_row >= GIVE_UP_AFTER:
            hint = "Nothing of it is shown; what was committed before is kept, and the same command goes on from there."
            raise ModelError(f"{self.in_a_row} questions in a row had no usable answer; the last: {reason}", hint=hint)


def _do(
    source: LabelSource,
    plan: Mapping[str, Any],
    title: str,
    parts: Sequence[Sequence[Name]],
    work: Callable[[int, Sequence[Name]], Mapping[str, pa.Table]],
    again: bool,
    progress: Progress | None,
    method: str | None = None,
) -> Done:
    """Do the shards of a run that are not done, then show it."""
    counts: dict[str, int] = {}
    shards = [f"labels-{number:05d}" for number in range(len(parts))]
    with RunWriter(source.atlas, plan, run_id(plan), again=again) as run:
        if run.is_complete:
            return Done(run.run_id, was_complete=True)
        total, done = sum(map(len, parts)), 0
        for number, (shard, part) in enumerate(zip(shards, parts, strict=True)):
            if not run.is_done(shard):
                run.commit(shard, work(number, part))
            record = run.record(shard)
            for item in record.files if record is not None else ():
                counts[item.table] = counts.get(item.table, 0) + item.rows
            done += len(part)
            if progress is not None:
                progress(str(plan["step"]) + " labels", done, total)
        run.finish(
            {
                "kind": "label",
                "name": title,
                "model_id": source.run.row.get("model_id"),
                "transcoder_set": source.transcoder_set,
                "machine": platform.machine(),
                "method": method,
            },
            shards=shards,
        )
        return Done(run.run_id, was_complete=False, rows=counts)


def _plan(source: LabelSource, step: str, names: Sequence[Name]) -> dict[str, Any]:
    """What decides a run on some features; many names stand as their hash."""
    listed = [feature_name(*name) for name in names]
    shown = listed if len(listed) <= 50 else {"n": len(listed), "sha256": sha256_text(canonical_json(listed))}
    return {"kind": "label", "step": step, "source_run": source.run_id, "features": shown}


def _parts(names: Sequence[Name], size: int) -> list[Sequence[Name]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _version(method: str, judge: Judge, source: LabelSource) -> str:
    """Name question, judge and run of the examples, so that scores of another stand beside these."""
    by = judge.kind if judge.name is None else f"{judge.kind}/{judge.name}"
    return f"{VERSIONS[method]}/{by}@{source.run_id[:8]}"


def _label_row(source: LabelSource, name: Name, text: str, model: str, plan_hash: str) -> Row:
    identity = f"{plan_hash}:{source.transcoder_set}:{name[0]}:{name[1]}:{text}"
    return {
        "label_id": sha256_text(identity)[:16],
        "transcoder_set": source.transcoder_set,
        "layer": name[0],
        "feature": name[1],
        "text": text,
        "method": "language_model",
        "model": model,
        "author": None,
        "source_run": source.run_id,
        "version": writer.VERSION,
        "rule": None,
        "created_at": utc_now(),
        "retired": False,
    }


def _table(name: str, rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=arrow_schema(name))
