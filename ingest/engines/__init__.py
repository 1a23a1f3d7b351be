"""Engines: who computes the shards of a plan.

In: a `Workshop`. Out: nothing; when an engine returns, all shards of the plan are committed. `alone` is one process, `Together` one of
several that share the folder (Slurm arrays, torchrun, two terminals), `ingest.engines.cluster` a Ray cluster.
"""

from __future__ import annotations

from collections.abc import Callable

from ingest.engines.alone import alone
from ingest.engines.together import Together
from ingest.workshop import Workshop

Engine = Callable[[Workshop], None]

__all__ = ["Engine", "Together", "alone"]
