"""A Ray cluster does the shards of a plan: an actor per GPU (per CPU where there is none), each with one copy of the model.

In: a `Workshop`. Out: committed shards, written by the actors where they are, so that the folder must be one that all nodes see.

1. Connect to a cluster (`--address`, RAY_ADDRESS) or start one on this machine; make the actors.
2. Hand each idle actor shards that are ready: of activations, neighbours and the like an equal part, so that layers share a pass of the
   model; of other kinds one at a time. An actor commits every shard as soon as it is computed.
3. An actor that dies is replaced; what it had committed stays, what is left of its part is handed out again. A shard that loses its
   actor more than RETRIES times stops the run: it is the shard then, not the machine.

Nothing of a shard passes through Ray's object store. Ray is optional: pip install 'feature-atlas[ray]'.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas.errors import AtlasError, InputError, ModelError, UsageError
from atlas.folder import Atlas
from atlas.shards import RunWriter
from ingest import hashing
from ingest.engines.alone import compute
from ingest.job import prepare
from ingest.plan import Plan
from ingest.plan_shards import Shard, ready
from ingest.workshop import Workshop

RETRIES = 3
WAIT_SECONDS = 1.0
"""Time between two looks at the progress of the actors."""
OBJECT_STORE_BYTES = 100_000_000
"""Of a cluster that is started here: rows never go there."""
SHARED_PASS = ("activations", "corpus", "labels", "neighbours", "replaced")
"""Kinds whose shards share work when one actor does several."""


@dataclass(frozen=True)
class Assignment:
    """What an actor needs to know to open the same run."""

    folder: str
    """The atlas, as all nodes see it."""
    plan: Plan
    hashes: Mapping[str, str]
    digests: Mapping[tuple[hashing.Stamp, ...], str]
    """Hashes of files that the driver has read."""
    sizes: Mapping[str, Mapping[str, int]]
    """Names and sizes of the model's and the transcoders' files on the driver's machine."""
    run_id: str
    again: bool

    @classmethod
    def of(cls, shop: Workshop) -> Assignment:
        """Describe a workshop's run, with absolute paths."""
        plan, job = shop.plan, shop.job
        elsewhere = dataclasses.replace(
            plan,
            name=plan.title,
            model=_absolute(plan.model),
            transcoders=_absolute(plan.transcoders),
            corpus=_absolute(plan.corpus),
            behaviours=tuple(_absolute(behaviour) for behaviour in plan.behaviours),
            device="cuda" if plan.device.startswith("cuda") else plan.device,
        )
        folder = str(shop.writer.atlas.path.absolute())
        return cls(folder, elsewhere, job.hashes, hashing.known(), _sizes(shop), job.run_id, shop.writer.attempt > 1)

    def open(self) -> Workshop:
        """Open the run in this process.

        Raises:
            InputError: this machine has other files than the driver's.
        """
        hashing.remember(self.digests)
        job = prepare(self.plan, self.hashes)
        writer = RunWriter(Atlas(self.folder), job.identity, job.run_id, again=self.again)
        shop = Workshop(job, writer)
        same_prompts = self.plan.corpus or job.prompts.prompt_set_hash == self.hashes["prompts"]
        if job.run_id != self.run_id or _sizes(shop) != self.sizes or not same_prompts:
            raise InputError(
                f"{socket.gethostname()} has other files of model, transcoders or behaviours than the machine that started the run.",
                hint="Give folders that all nodes share, or copy the same files to the same place on each.",
            )
        return shop


def _absolute(text: str) -> str:
    path = Path(text).expanduser()
    return str(path.absolute()) if text and path.exists() else text


def _sizes(shop: Workshop) -> dict[str, dict[str, int]]:
    return {
        kind: {path.name: path.stat().st_size for path in sorted(source.path.glob("*.safetensors"))}
        for kind, source in shop.job.sources.items()
    }


class Worker:
    """One process of the cluster: a Ray actor is made of it."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.shop: Workshop | None = None

    def where(self) -> str:
        """Name this process for people."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def work(self, names: Sequence[str]) -> None:
        """Compute and commit what is not done of these shards, which are of one kind."""
        if self.shop is None:
            self.shop = self.assignment.open()
        shop = self.shop
        left = [shard for shard in shop.shards if shard.name in names and not shop.is_done(shard)]
        for _ in compute(shop, left) if left else ():
            pass


@dataclass(frozen=True)
class Cluster:
    """The engine: `workers` actors (None: one for each GPU, or CPU) of a Ray cluster at `address` (None: this machine)."""

    workers: int | None = None
    address: str | None = None
    narrate: Callable[[str], None] = lambda _: None

    def __call__(self, shop: Workshop) -> None:
        """Have all shards computed.

        Raises:
            UsageError: Ray is not installed, or has not the resources.
            AtlasError: what a shard raised.
        """
        ray = _ray()
        with _connected(ray, self.address, self.workers):
            on_gpu = shop.plan.device.startswith("cuda")
            n_workers = _n_workers(ray, self.workers, on_gpu, shop.plan.device)
            options = {"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": 1}
            assignment = ray.put(Assignment.of(shop))
            actor = ray.remote(**options, max_restarts=0)(Worker)
            _Run(ray, shop, lambda: actor.remote(assignment), n_workers, self.narrate).until_done()


class _Run:
    """The scheduling of one plan."""

    def __init__(self, ray: Any, shop: Workshop, start: Callable[[], Any], n_workers: int, narrate: Callable[[str], None]) -> None:
        self.ray, self.shop, self.start, self.n_workers, self.narrate = ray, shop, start, n_workers, narrate
        self.done: set[str] = set()
        self.running: dict[Any, tuple[Any, tuple[str, ...]]] = {}
        self.lost: Counter[str] = Counter()

    def until_done(self) -> None:
        self._look()
        idle = [self.start() for _ in range(min(self.n_workers, len(self.shop.shards) - len(self.done)))]
        for number, where in enumerate(self.ray.get([actor.where.remote() for actor in idle])):
            self.narrate(f"worker {number + 1} of {len(idle)}: {where}")
        while len(self.done) < len(self.shop.shards):
            while idle and (part := next_part(self.shop.shards, self.done, self._under_way(), self.n_workers)):
                actor = idle.pop()
                self.running[actor.work.remote(part)] = actor, part
            finished, _ = self.ray.wait(list(self.running), timeout=WAIT_SECONDS)
            idle += [self._result(reference) for reference in finished]
            self._look()

    def _under_way(self) -> set[str]:
        return {name for _, part in self.running.values() for name in part}

    def _look(self) -> None:
        self.done |= {shard.name for shard in self.shop.shards if shard.name not in self.done and self.shop.is_done(shard)}
        self.shop.report_shards(len(self.done))

    def _result(self, reference: Any) -> Any:
        """Return the actor that is idle now: the one that did its part, or a new one in the place of one that died."""
        actor, part = self.running.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AtlasError):
                raise error.cause from error
            raise
        except self.ray.exceptions.RayActorError as error:
            self._look()
            left = [name for name in part if name not in self.done]
            self.lost.update(left)
            if left and max(self.lost[name] for name in left) > RETRIES:
                raise ModelError(
                    f"the worker of shard {left[0]} died {RETRIES + 1} times",
                    hint="Its machine may lack memory: fewer --workers, or another --memory-budget. What is committed stays.",
                ) from error
            self.narrate(f"a worker died; {len(left)} of its {len(part)} shards are done again: {', '.join(left[:5])}")
            return self.start()
        return actor


def next_part(shards: Sequence[Shard], done: Collection[str], under_way: Collection[str], n_workers: int) -> tuple[str, ...]:
    """Return the shards, of one kind, that an idle actor does next; none where all that is ready is under way."""
    waiting = [shard for shard in ready(shards, done) if shard.name not in under_way]
    if not waiting:
        return ()
    kind = waiting[0].kind
    if kind not in SHARED_PASS:
        return (waiting[0].name,)
    of_kind = [shard.name for shard in waiting if shard.kind == kind]
    share = -(-sum(shard.kind == kind for shard in shards) // n_workers)
    return tuple(of_kind[:share])


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray, which is not installed.", hint="pip install 'feature-atlas[ray]'") from error
    return ray


@contextmanager
def _connected(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """Use the cluster that this process is connected to, or connect to one, or start one here; leave what was there before."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, logging_level="warning")
        else:
            ray.init(num_cpus=workers, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, logging_level="warning")
    except ConnectionError as error:
        raise UsageError(f"there is no Ray cluster at {address}: {error}", hint="`ray start --head` starts one.") from error
    try:
        yield
    finally:
        ray.shutdown()


def _n_workers(ray: Any, wanted: int | None, on_gpu: bool, device: str) -> int:
    resource = "GPU" if on_gpu else "CPU"
    there = int(ray.cluster_resources().get(resource, 0))
    if there < (wanted or 1):
        raise UsageError(
            f"{wanted or 1} workers on {device} need {wanted or 1} {resource}s; the Ray cluster has {there}.",
            hint="Give fewer --workers, or another --device.",
        )
    return wanted or there
