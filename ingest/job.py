"""A plan with everything looked up: where its files lie, its prompts, the hashes, the run's id, and its shards. No weight is loaded.

In: a plan. Out: a `Job`. Every process that makes one of the same plan, on the same files, gets the same id and the same shards.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atlas.errors import InputError, UsageError
from atlas.ids import run_id
from ingest.corpus_source import corpus_hash
from ingest.design import check_design
from ingest.fit import check_fit
from ingest.plan import STAGES, Plan
from ingest.plan_shards import Shard, plan_shards
from ingest.prompts import PromptSet, build_prompt_set, load_behaviour
from ingest.sources import Source, resolve_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A plan that is ready to run."""

    plan: Plan
    sources: Mapping[str, Source]
    prompts: PromptSet
    hashes: Mapping[str, str]
    shards: tuple[Shard, ...]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the numbers: plan.json of the run."""
        return self.plan.identity(self.hashes)

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return run_id(self.identity)


def prepare(plan: Plan, hashes: Mapping[str, str] | None = None) -> Job:
    """Look up what a plan names; `hashes`: those of its files where another process has them already.

    Raises:
        InputError: model, transcoders or behaviours are missing or do not fit, or have too few concepts for the plan's stages.
    """
    sources = {"model": resolve_source(plan.model, "model"), "transcoders": resolve_source(plan.transcoders, "transcoders")}
    _, opened = check_fit(sources["model"].path, sources["transcoders"].path, plan.layers)
    prompts = PromptSet((), (), ()) if plan.corpus else tokenised(plan, sources["model"])
    check_design(plan, prompts)
    _check_answers(plan, prompts)
    widths = {layer: opened.d_transcoder(layer) for layer in plan.layers or opened.layers}
    behaviours = list(dict.fromkeys(prompt.behaviour for prompt in prompts.prompts))
    found = hashes or {
        "model": sources["model"].content_hash("model"),
        "transcoders": sources["transcoders"].content_hash("transcoders"),
        **({"corpus": corpus_hash(plan)} if plan.corpus else {"prompts": prompts.prompt_set_hash}),
    }
    return Job(plan, sources, prompts, found, plan_shards(plan, behaviours, widths, cross_layer=opened.cross_layer))


def _check_answers(plan: Plan, prompts: PromptSet) -> None:
    """Raise UsageError where a stage needs single-token answers and there are others: its margin is a difference of two logits."""
    if prompts.has_sequences and not plan.corpus and STAGES.index(plan.until) > STAGES.index("activations"):
        long = next(prompt for prompt in prompts.prompts if prompt.has_sequences)
        answer = next(answer for answer in long.answers if answer.token_ids)
        raise UsageError(
            f"answer {answer.text!r} of behaviour {long.behaviour} is {len(answer.token_ids)} tokens; graphs, interventions and circuits "
            "follow the difference of two logits, which only single tokens have",
            hint="Run it with --until activations, or choose single-token answers.",
        )


def tokenised(plan: Plan, source: Source) -> PromptSet:
    """Spell out the plan's behaviours with the model's tokenizer (no weights are read)."""
    from transformers import AutoTokenizer

    if not any(source.path.glob("tokenizer*")) and not (source.path / "vocab.json").exists():
        raise InputError(
            f"Model {source.name} has no tokenizer beside it (tokenizer.json).",
            hint="Download it with the model; `atlas trace --tokens` works without one.",
        )
    tokenizer = AutoTokenizer.from_pretrained(str(source.path))
    prompts = build_prompt_set(
        [load_behaviour(behaviour) for behaviour in plan.behaviours],
        tokenizer,
        languages=plan.languages or None,
        splits=plan.splits,
        max_concepts=plan.max_concepts or None,
        seed=plan.seed,
        drop_multitoken=plan.drop_multitoken,
    )
    if prompts.dropped:
        log.warning(
            "%d of %d prompts are left out, because an answer is not one token; the first: %s",
            len(prompts.dropped),
            len(prompts.dropped) + len(prompts.prompts),
            prompts.dropped[0],
        )
    return prompts
