"""What a plan's prompts can show: said before a run, and refused where it is too little for an interval.

In: a plan and its prompts. Out: lines for a person; `InputError` where a behaviour has too few concepts (METHODS, section 8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atlas import stats
from atlas.errors import InputError
from ingest.plan import Plan
from ingest.prompts import Prompt, PromptSet

TESTING = ("interventions", "circuits")
"""Stages whose figures stand with an interval over concepts."""


def check_design(plan: Plan, prompts: PromptSet) -> None:
    """Refuse a plan with a behaviour whose concepts are too few for the intervals of its stages.

    Raises:
        InputError: naming the behaviour, its concepts, the least number and the stage.
    """
    stages = [stage for stage in plan.stages() if stage in TESTING]
    if not stages:
        return
    for behaviour, own in _chosen(plan, prompts):
        train, tested = _clusters([p for p in own if p.split == "train"]), _clusters(_tested(own))
        measured = min(tested, plan.circuit_prompts) if "circuits" in stages else tested
        least = stats.MINIMUM_CLUSTERS
        if not train:
            raise InputError(f"{behaviour} has no prompt of the train split, from which features are chosen.", hint="Add it to the plan.")
        if "circuits" in stages and train < least:
            raise InputError(f"{behaviour} has {train} train concepts, too few for a test of causal edges: at least {least}.", hint=_HINT)
        if measured < least:
            kind = "held-out" if _tested(own) is not own else "train"
            text = f"{behaviour} is measured on {measured} {kind} concepts, too few for an interval: at least {least} are needed"
            raise InputError(f"{text} by the stage {stages[-1]}.", hint=_HINT)


_HINT = "Raise max_concepts (--max-concepts), edited_prompts or circuit_prompts, add concepts, or stop earlier (--until attribution)."


def design_lines(plan: Plan, prompts: PromptSet) -> Iterator[str]:
    """Say for each behaviour what the plan's held-out concepts and controls can show: smallest p, smallest detectable effect."""
    for behaviour, own in _chosen(plan, prompts):
        tested = _tested(own)
        kind = "held-out" if tested is not own else "train (none are held out)"
        yield f"{behaviour}: {len(tested)} {kind} prompts; " + "; ".join(stats.describe_design(_clusters(tested), plan.control_draws))


def _chosen(plan: Plan, prompts: PromptSet) -> Iterator[tuple[str, Sequence[Prompt]]]:
    """Yield each behaviour with the prompts that interventions edit."""
    from ingest.interventions import choose_prompts

    for behaviour in prompts.behaviours:
        own = [prompt for prompt in prompts.prompts if prompt.behaviour == behaviour.name]
        if own:
            yield behaviour.name, choose_prompts(own, plan.edited_prompts, plan.seed)


def _tested(own: Sequence[Prompt]) -> Sequence[Prompt]:
    """Return the prompts that discovery does not see; all where every one is of the train split."""
    held_out = [prompt for prompt in own if prompt.split != "train"]
    return held_out or own


def _clusters(prompts: Sequence[Prompt]) -> int:
    return len({prompt.cluster for prompt in prompts})
