"""What people do with an atlas beside the ingest, once each, so that the demo shows it: trace, steer, score labels, compare two runs.

In: the folder of the demo. Out: runs in it. None of them decides a headline. Everything is measured: the model judges badly, and the rows
say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from atlas.folder import Atlas

if TYPE_CHECKING:
    from ingest.compare import Side

BILINGUAL, CONTROL, TASKS = "bilingual", "control", "tasks"
"""Names of the runs that examples are about: the two that are compared, and the one with longer prompts."""
MODEL = "embedded:bilingual"
TRACED = (("en", "The opposite of the word hot is"), ("fr", "Le contraire exact du mot chaud est"))
"""Prompts (language, text) whose attribution graphs stand in the demo, each a run of its own, traced on the bilingual model."""
STEERED = ("fr", "Le contraire de « chaud » est")
"""Language and text of the prompt that is continued with a changed feature (docs/ask.md)."""
STEERED_SET, STRENGTHS, ANSWERS, NEW_TOKENS = "L4_F361", (0.0, 1.0, 4.0), (" froid", " cold"), 8
SCORED_FEATURES = 60
"""Features whose mechanical labels are scored by their rules: those that fire on most prompts."""
JUDGED_FEATURES, JUDGED_LANGUAGE = 3, "fr"
"""Features whose coherence the model itself judges, in one language: those that fire on most of the longer prompts."""


def trace_and_steer(folder: Path) -> None:
    """Put the attribution graphs of the traced prompts, and a steered continuation, into the atlas."""
    from ingest.ask.generation import Sampling
    from ingest.ask.keep import keep
    from ingest.ask.opening import open_model
    from ingest.ask.session import Session
    from ingest.trace import trace_loaded
    from ingest.trace_run import commit_trace

    opened = open_model(None, model=MODEL)
    for language, text in TRACED:
        commit_trace(folder, trace_loaded(opened.model, opened.transcoders, prompt=text), opened.sources, language)
    language, text = STEERED
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    result = Session(opened, None).steer(text, STEERED_SET, strengths=STRENGTHS, sampling=sampling, answers=ANSWERS)
    keep(folder, opened, result, [language])


def judge_by_model(folder: Path) -> None:
    """Let the model look for intruders among texts of run TASKS; some questions are longer than it reads, which stands in label_failure."""
    from ingest.labels.examples import ExampleConfig
    from ingest.labels.judges import LocalJudge
    from ingest.labels.runs import score_labels
    from ingest.labels.source import LabelSource
    from ingest.model import load_model
    from ingest.sources import resolve_source

    source = LabelSource.open(Atlas(folder), TASKS)
    found = resolve_source(MODEL, "model")
    judge = LocalJudge(load_model(found.path, name=found.name, source=found.name))
    labels = source.labels(methods=("mechanical",), names=source.most_active(JUDGED_FEATURES))
    score_labels(source, labels, judge, ExampleConfig(), methods=("intruder",), languages=(JUDGED_LANGUAGE,))


def score_by_rule(folder: Path) -> None:
    """Score mechanical labels of the bilingual run by their rules."""
    from ingest.labels.examples import ExampleConfig
    from ingest.labels.judges import RuleJudge
    from ingest.labels.runs import score_labels
    from ingest.labels.source import LabelSource

    source = LabelSource.open(Atlas(folder), BILINGUAL)
    labels = source.labels(methods=("mechanical",), names=source.most_active(SCORED_FEATURES))
    score_labels(source, labels, RuleJudge(), ExampleConfig())


def compare_models(folder: Path) -> None:
    """Put the features of the model and of its control side by side."""
    from ingest.compare import CompareConfig, compare, keep

    first, second, config = _side(folder, BILINGUAL), _side(folder, CONTROL), CompareConfig()
    keep(Atlas(folder), compare(first, second, config), first, second, config)


def _side(folder: Path, run: str) -> Side:
    from ingest.compare import Side
    from ingest.labels.source import LabelSource
    from ingest.sources import resolve_source
    from ingest.transcoder import TranscoderSet

    found = resolve_source(f"embedded:{run}", "transcoders")
    return Side(LabelSource.open(Atlas(folder), run), TranscoderSet.open(found.path, name=found.name, source=found.name))
