"""Engines: who computes the shards of a plan.

In: a `Workshop`. Out: nothing; when an engine returns, all shards of the plan are committed. `alone` is one process, `Together` one of
several that share the folder (Slurm arrays, torchrun, two terminals), `ingest.engines.cluster` a Ray cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from atlas.errors import UsageError
from ingest.engines.alone import alone
from ingest.engines.together import Together
from ingest.workshop import Workshop

Engine = Callable[[Workshop], None]

__all__ = ["Engine", "Together", "alone", "together"]


def together(text: str, environment: Mapping[str, str]) -> Together:
    """Parse `--shard-of`: `I/N`, I from 0; or `auto`, which asks Slurm's array and torchrun.

    Raises:
        UsageError: it is something else, I is not in 0 … N - 1, or `auto` where nothing says it.
    """
    if text == "auto":
        for index, count, first in (("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"), ("RANK", "WORLD_SIZE", "")):
            if index in environment and count in environment:
                return _checked(int(environment[index]) - int(environment.get(first, 0)), int(environment[count]), text)
        raise UsageError(
            "--shard-of auto: neither SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT nor RANK and WORLD_SIZE are set.",
            hint="Run it in a Slurm array (sbatch --array=0-7) or under torchrun, or write --shard-of I/N.",
        )
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None:
        raise UsageError(f"--shard-of is {text!r}.", hint="Write I/N with I from 0 to N - 1, e.g. 0/8; or auto.")
    return _checked(int(match[1]), int(match[2]), text)


def _checked(index: int, count: int, text: str) -> Together:
    if not 0 <= index < count:
        raise UsageError(f"--shard-of {text}: process {index} of {count}.", hint="Processes count from 0 to N - 1.")
    return Together(index, count)
