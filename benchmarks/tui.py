"""How fast the terminal browser is, on a synthetic atlas that `benchmarks/synthetic.py` makes.

    python benchmarks/tui.py                             5.9 million features and 2 million activations
    python benchmarks/tui.py --rows 100e6 --atlas DIR    with 100 million activations; the atlas in DIR is kept, and used again
    python benchmarks/tui.py --layers 4 --width 16384    a small one

Printed: first paint from the shell (`atlas tui DIR` in a terminal of its own, five starts), what a key costs from press to paint (median
and p95), sorting, filtering and searching all features, a page anywhere, cancelling, and memory, each beside its goal. The processor time
(of all threads) stands beside them, since it holds on a busy machine too, where the elapsed time does not.
"""

import argparse
import asyncio
import fcntl
import json
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
STEPS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("sort by max", "sort", {"column": "max"}),
    ("sort by density", "sort", {"column": "density"}),
    ("sort by promotes", "sort", {"column": "promotes"}),
    ("filter layer>=2 and density<0.001", "filter", {"text": "layer>=2 and density<0.001"}),
    ("filter rate.en>0.2 and rate.fr>0.2", "filter", {"text": "rate.en>0.2 and rate.fr>0.2"}),
    ("filter lape<0.1", "filter", {"text": "lape<0.1"}),
    ("search 'token777'", "filter", {"text": "token777"}),
    ("search 'froid'", "filter", {"text": "froid"}),
    ("search 'hot cold', several tokens", "filter", {"text": "hot cold"}),
    ("no filter (still sorted)", "filter", {"text": ""}),
    ("sort by rate.en", "sort", {"column": "rate.en"}),
    ("sort by lape", "sort", {"column": "lape"}),
    ("sort by suppresses", "sort", {"column": "suppresses"}),
    ("sort by label", "sort", {"column": "label"}),
)


STOPPED = (
    "select count(*) from feature a, feature b where a.n_active < b.n_active",
    "select feature, layer, rank, list(item) from context group by all",
    "select * from feature order by promoted_tokens[1], max_activation",
)
"""Statements that take long: a join, an aggregate and a sort of much."""


def first_paint(folder: Path) -> tuple[float, float, float]:
    """Start the browser in a terminal of its own: seconds until it shows the atlas, its processor time then, its peak memory in MB."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 45, 140, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(folder.parent / "state")}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas.cli", "tui", str(folder)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    os.close(follower)
    seen, painted, used = b"", 0.0, 0.0
    while time.perf_counter() - started < 60 and process.poll() is None and not painted:
        if select.select([leader], [], [], 0.05)[0]:
            seen += os.read(leader, 65536)
            if b"Overview" in seen and b"This atlas" in seen:
                painted, used = time.perf_counter() - started, _processor(process.pid)
    end = time.perf_counter() + 2.5
    while time.perf_counter() < end:
        if select.select([leader], [], [], 0.05)[0]:
            os.read(leader, 65536)
    memory = memory_of(process.pid)["VmHWM"]
    process.terminate()
    process.wait(10)
    os.close(leader)
    return painted, used, memory


def _processor(pid: int) -> float:
    """Return the processor seconds of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int | str = "self") -> dict[str, float]:
    """Return resident memory now (VmRSS) and at most (VmHWM), in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))}


async def drive(folder: Path) -> dict[str, Any]:
    """Drive the browser in this process and time what a person does."""
    from tui.app import settle_allocator
    from tui.browser import Browser
    from tui.session import Session

    settle_allocator()
    found: dict[str, Any] = {"processor": {}, "resident": {}}
    app = Browser(Session.open(folder), state=folder.parent / "state-bench")
    async with app.run_test(size=(140, 45)):
        await app.settle()
        await app.perform("go_features")
        await app.settle()
        table = app.front.tables()[0]
        found["rows"] = table.source.count
        keys = [*(["down"] * 60), *(["pagedown"] * 30), "end", "home", *(["up", "pagedown"] * 15), "right", "left"]
        found["key"] = await _presses(app, keys)
        await app.settle()
        found["page, natural order"] = await _pages(table)
        for name, action, arguments in STEPS:
            found["memory"] = max(found.get("memory", 0.0), memory_of()["VmHWM"])
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            start, used = time.perf_counter(), time.process_time()
            await app.perform(action, **arguments)
            while any(worker.is_running and worker.group == "load" for worker in app.workers):
                await asyncio.sleep(0.002)
            found[name] = (time.perf_counter() - start) * 1000
            found["processor"][name] = (time.process_time() - used) * 1000
            await app.settle()
            found["resident"][name] = memory_of()["VmHWM"]
            if name == "sort by max":
                found["page, sorted"] = await _pages(table)
                found["key, sorted"] = await _presses(app, [*(["down"] * 30), *(["pagedown"] * 20), *(["up"] * 10)])
                await app.settle()
        start = time.perf_counter()
        await app.perform("jump", feature="L1_F10")
        while any(worker.is_running and worker.group == "load" for worker in app.workers):
            await asyncio.sleep(0.002)
        found["feature card"] = (time.perf_counter() - start) * 1000
        found["resident"]["feature card"] = memory_of()["VmHWM"]
        found["memory"] = max(found["memory"], memory_of()["VmHWM"])  # the heavy statement below may take what it needs
        found["key, while a search runs"] = await _presses_during(app, ["down", "pagedown", "up", "right", "left"] * 12)
        found["cancel"], found["cancel, engine"] = [], []
        for statement in STOPPED * 2:
            if (stopped := await _stop(app, statement)) is not None:
                found["cancel"].append(stopped[0])
                found["cancel, engine"].append(stopped[1])
    return found


async def _stop(app: Any, statement: str) -> tuple[float, float] | None:
    """Press esc in a long statement: milliseconds until the screen says so, and until the engine has let go; None if it was too short."""
    await app.perform("go_console")
    await app.settle()
    await app.perform("ask", sql=statement)
    await asyncio.sleep(0.4)
    start = time.perf_counter()
    told = await _press(app, "escape")
    if app.front.status.text != "stopped":
        return None
    while not all(job.has_ended() for job in app.session.data.jobs()):
        await asyncio.sleep(0.001)
    return told or 0.0, (time.perf_counter() - start) * 1000


async def _presses_during(app: Any, keys: Sequence[str]) -> list[float]:
    """Press keys in the features table while searches run one after another."""
    await app.perform("go_features")
    await app.perform("filter", text="")
    await app.settle()

    async def search() -> None:
        while True:
            for text in ("froid", "token1"):
                source = open_features(app.session.data, app.session.info, app.session.view(("layer",), filter=filters.parse(text)))
                await source.result()

    from atlas import filters
    from tui.data.pages import open_features

    searching = asyncio.create_task(search())
    times = await _presses(app, keys)
    searching.cancel()
    await asyncio.gather(searching, return_exceptions=True)
    return times


async def _pages(table: Any) -> list[float]:
    """Return the milliseconds that three pages of a table take: the first rows, rows in the midst, the last ones."""
    times = []
    for place in (0, table.source.count // 3, table.source.count - 100):
        start = time.perf_counter()
        await table.source.load(place, place + 64).result()
        times.append((time.perf_counter() - start) * 1000)
    return times


async def _presses(app: Any, keys: Sequence[str]) -> list[float]:
    """Press keys, 20 ms apart; return the milliseconds of those after which something was painted."""
    times = [await _press(app, key) for key in keys]
    return [took for took in times if took is not None]


async def _press(app: Any, key: str) -> float | None:
    """Send a key as the terminal's driver does; return the milliseconds until the screen has been written again, None where it is not."""
    from textual import events

    painted = asyncio.Event()
    display = app._display

    def watch(*arguments: Any) -> None:
        display(*arguments)
        painted.set()

    app._display = watch
    start = time.perf_counter()
    app.post_message(events.Key(key, None))
    try:
        await asyncio.wait_for(painted.wait(), 1.0)
    except TimeoutError:
        return None
    finally:
        app._display = display
    took = (time.perf_counter() - start) * 1000
    await asyncio.sleep(0.02)
    return took


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


def main() -> None:
    """Make the atlas, time the browser, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--width", type=int, default=163_840, help="features a layer")
    parser.add_argument("--rows", type=float, default=2e6, help="activations")
    parser.add_argument("--atlas", type=Path, help="use (and keep) the atlas in this folder; it is made where there is none")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        print(json.dumps(asyncio.run(drive(given.atlas))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.atlas or Path(temporary) / "bench.atlas"
        if not folder.exists():
            from benchmarks.synthetic import Size, make

            make(folder, Size(int(given.rows), given.layers, given.width))
        report(folder)


def report(folder: Path) -> None:
    """Run the parts and print them."""
    paints = [first_paint(folder) for _ in range(5)]
    result = subprocess.run([sys.executable, __file__, "--drive", "--atlas", str(folder)], capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    print(f"{found['rows']:,} features; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    seconds, used, memory = ([paint[place] for paint in paints] for place in range(3))
    rows: list[tuple[str, str, str, str, str]] = [
        ("first paint from the shell, median of 5", f"{statistics.median(seconds):.2f} s", "1.0 s", f"{statistics.median(used):.2f} s", ""),
        ("first paint, best", f"{min(seconds):.2f} s", "", f"{min(used):.2f} s", ""),
        ("memory at the overview, at most", "", "250 MB", "", f"{max(memory):.0f} MB"),
        ("memory in all steps below, at most", "", "250 MB", "", f"{found['memory']:.0f} MB"),
    ]
    for name in ("key", "key, sorted", "key, while a search runs"):
        rows.append((f"{name}, press to paint: median", f"{statistics.median(found[name]):.1f} ms", "", "", ""))
        rows.append((f"{name}, press to paint: p95", f"{_p95(found[name]):.1f} ms", "50 ms", "", ""))
    for name in ("page, natural order", "page, sorted"):
        rows.append((f"{name}: slowest", f"{max(found[name]):.0f} ms", "", "", ""))
    rows.append(("esc to 'stopped' on the screen: slowest of 6", f"{max(found['cancel']):.0f} ms", "100 ms", "", ""))
    rows.append(("esc until the engine has let go: slowest", f"{max(found['cancel, engine']):.0f} ms", "", "", ""))
    for name, value in found.items():
        if isinstance(value, float) and name != "memory":
            processor, resident = found["processor"].get(name), found["resident"].get(name)
            extra = ("" if processor is None else f"{processor:.0f} ms", "" if resident is None else f"{resident:.0f} MB")
            rows.append((name, f"{value:.0f} ms", "1000 ms", *extra))
    print(f"{'':44} {'measured':>12} {'goal':>10} {'processor':>12} {'memory':>10}")
    for name, value, goal, processor, resident in rows:
        print(f"{name:44} {value:>12} {goal:>10} {processor:>12} {resident:>10}")


if __name__ == "__main__":
    main()
