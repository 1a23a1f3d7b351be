"""The process that holds the model for the Ask screen: torch lives there, never here.

In: requests. Out: the answers of `python -m ingest.ask.serve`, which speaks JSON lines (its docstring names them all).

1. The process starts at the first request, and again at the next one after it has died.
2. One task reads its lines: progress goes to whoever asked, an answer ends the wait, an error becomes an `AtlasError` here.
3. When it dies, every wait ends with one sentence that says so, with the last line it wrote to stderr.
"""

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from atlas.errors import AtlasError, ModelError, StoreError, UsageError
from tui.data import Cancelled

COMMAND = (sys.executable, "-m", "ingest.ask.serve")
LONGEST_LINE = 1 << 28
"""Bytes of one answer at most: 256 MiB."""
PATIENCE = 2.0
"""Seconds that a worker has to end by itself."""
Told = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""
Answer = Mapping[str, Any]


class AskWorker:
    """One process, one model; requests are answered in order."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self.command = tuple(command or COMMAND)
        self.process: asyncio.subprocess.Process | None = None
        self.hello: Mapping[str, Any] | None = None
        """What the running process was told to load."""
        self.title = ""
        self._number = 0
        self._waits: dict[int, tuple[asyncio.Future[Answer], Told | None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._complaints: deque[str] = deque(maxlen=20)
        self._starting = asyncio.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether a process is there to be asked."""
        return self.process is not None and self.process.returncode is None

    async def ready(self, hello: Mapping[str, Any], told: Told | None = None) -> None:
        """Start the process if there is none, and have it load what `hello` says (atlas, run, model, …).

        Raises:
            AtlasError: it cannot be started, or cannot load that.
        """
        async with self._starting:
            if not self.is_alive:
                await self._start()
            if self.hello != hello:
                self.hello = None
                if told is not None:
                    told("loading the model", 0, 0)
                answer = await self._request({"do": "hello", **hello}, told)
                self.hello, self.title = dict(hello), str(answer.get("title", ""))

    async def ask(self, hello: Mapping[str, Any], request: Mapping[str, Any], told: Told | None = None) -> Answer:
        """Return the answer to a request, loading the model first where it is not loaded yet.

        A wait that is cancelled cancels the work.

        Raises:
            AtlasError: what the worker says went wrong, or that it has died.
        """
        await self.ready(hello, told)
        return await self._request(request, told)

    async def close(self) -> None:
        """End the process: politely, then not."""
        process, self.process = self.process, None
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.write(b'{"do": "quit"}\n')
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), PATIENCE)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    # ---- inside -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await self.close()
        pipe = asyncio.subprocess.PIPE
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=pipe, stdout=pipe, stderr=pipe, limit=LONGEST_LINE, env=_environment()
            )
        except OSError as error:
            raise ModelError(f"the process for the model cannot be started: {error.strerror}", hint=" ".join(self.command)) from error
        self.hello = None
        self._complaints.clear()
        self._tasks = [asyncio.create_task(self._listen(self.process)), asyncio.create_task(self._overhear(self.process))]

    async def _request(self, request: Mapping[str, Any], told: Told | None) -> Answer:
        process = self.process
        if process is None or process.returncode is not None or process.stdin is None:
            raise self._died(process)
        self._number += 1
        number = self._number
        wait: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waits[number] = (wait, told)
        try:
            process.stdin.write(json.dumps({**request, "id": number}).encode() + b"\n")
            await process.stdin.drain()
            return await wait
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._died(process) from error
        except asyncio.CancelledError:
            with suppress(OSError, RuntimeError):
                process.stdin.write(json.dumps({"id": number, "do": "cancel"}).encode() + b"\n")
            raise
        finally:
            self._waits.pop(number, None)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Hand out what the process says until it ends; then end every wait."""
        assert process.stdout is not None
        with suppress(ValueError):  # a line longer than the limit: the worker is not one of ours
            async for text in process.stdout:
                with suppress(ValueError):
                    self._hear(json.loads(text))
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:  # it closed its stdout and lives on: nothing more can come of it
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await asyncio.sleep(0.05)  # its last words on stderr
        for wait, _ in list(self._waits.values()):
            if not wait.done():
                wait.set_exception(self._died(process))

    def _hear(self, line: Any) -> None:
        """Take one line of the process; anything that belongs to no wait is passed over."""
        if not isinstance(line, dict) or line.get("id") not in self._waits:
            return
        wait, told = self._waits[line["id"]]
        match line.get("event"):
            case "progress":
                if told is not None and not wait.done():
                    told(str(line.get("stage")), int(line.get("done") or 0), int(line.get("total") or 0))
                return
            case "error":
                known = {"UsageError": UsageError, "ModelError": ModelError}
                kind = known.get(str(line.get("kind")), AtlasError)
                error: BaseException | None = kind(str(line.get("message")), hint=line.get("hint"))
            case "cancelled":
                error = Cancelled()
            case _:
                error = None
        if wait.done():
            return
        if error is None:
            wait.set_result(line)
        else:
            wait.set_exception(error)

    async def _overhear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        with suppress(ValueError):
            async for line in process.stderr:
                self._complaints.append(line.decode("utf-8", "replace").strip())

    def _died(self, process: asyncio.subprocess.Process | None) -> ModelError:
        code = None if process is None else process.returncode
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        last = next((line for line in reversed(self._complaints) if line), "")
        said = f": {last}" if last else ""
        return ModelError(f"the process that held the model has ended{how}{said}", hint="The next question starts it again.")


async def publish(folder: Path) -> None:
    """Publish an atlas in a process of its own.

    Raises:
        StoreError: it cannot be published.
    """
    command = (sys.executable, "-m", "atlas.cli", "publish", str(folder))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=_environment())
    try:
        _, complaints = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.terminate()
        raise
    if process.returncode != 0:
        last = complaints.decode("utf-8", "replace").strip().splitlines()
        raise StoreError(f"the run is kept, but could not be published: {last[-1] if last else 'no reason given'}", hint="atlas publish")


def _environment() -> dict[str, str]:
    """Return the environment of a process that must find the packages this one was started from."""
    here = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}
