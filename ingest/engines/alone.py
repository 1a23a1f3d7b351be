"""One process does all shards of a plan, in order.

In: a `Workshop`. Out: committed shards. Shards of one kind that are ready are computed together, so that they share passes of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingest import stages
from ingest.plan_shards import Shard, ready
from ingest.workshop import Workshop


def alone(shop: Workshop) -> None:
    """Compute and commit every shard that is not done."""
    done = {shard.name for shard in shop.shards if shop.is_done(shard)}
    while waiting := ready(shop.shards, done):
        for shard in compute(shop, [other for other in waiting if other.kind == waiting[0].kind]):
            done.add(shard.name)
            shop.report_shards(len(done))


def compute(shop: Workshop, shards: Sequence[Shard]) -> Iterator[Shard]:
    """Compute shards of one kind, which are ready, and commit each as soon as it is computed; yield each when it is committed."""
    kind = shards[0].kind
    if kind not in ("activations", "replaced"):
        shop.extraction = None
    for shard, tables in stages.FUNCTIONS[kind](shop, shards):
        shop.commit(shard, tables)
        yield shard
