"""How fast the terminal browser is, on a synthetic atlas that this script makes.

    python benchmarks/tui.py                             5.9 million features, two activations each
    python benchmarks/tui.py --activations 100           with 100 million activations; half an hour to make, so keep it: --atlas DIR
    python benchmarks/tui.py --layers 4 --width 16384    a small one, in seconds

Printed: first paint from the shell (in a terminal of its own, five starts), what a key costs from press to paint (median and p95), sorting,
filtering and searching all features, a page anywhere, cancelling, and memory, each beside its goal. The processor time (of all threads)
stands beside them, since it holds on a busy machine too, where the elapsed time does not.
"""

import argparse
import asyncio
import os
import pty
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def make(folder: Path, layers: int, width: int, activations: int) -> None:
    """Publish a synthetic atlas, as a run on so many layers and features would leave it."""
    from benchmarks import synthetic

    synthetic.make(folder, synthetic.Size(activations, layers, width))


def first_paint(folder: Path) -> tuple[float, float]:
    """Start the browser in a terminal of its own; return seconds until rows stand there, and the peak memory in MB."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "45", "XDG_STATE_HOME": str(folder.parent / "state")}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tui", str(folder)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
    )
    os.close(follower)
    seen, painted = b"", 0.0
    while time.perf_counter() - started < 60 and process.poll() is None:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                seen += os.read(leader, 65536)
            except OSError:
                break
            if not painted and b"Overview" in seen and (b"This atlas" in seen or b"features" in seen):
                painted = time.perf_counter() - started
                break
    time.sleep(1.5)
    memory = _memory(process.pid)
    os.write(leader, b"q")
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
    os.close(leader)
    return painted, memory


def _memory(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return float("nan")


async def drive(folder: Path) -> dict[str, Any]:
    """Drive the browser in this process and time what a person does."""
    from tui.browser import Browser
    from tui.session import Session

    found: dict[str, Any] = {"processor": {}}
    app = Browser(Session.open(folder), state=folder.parent / "state-bench")
    async with app.run_test(size=(140, 45)):
        await app.settle()
        await app.perform("go_features")
        await app.settle()
        table = app.front.tables()[0]
        found["rows"] = table.source.count
        times = []
        for key in [*(["down"] * 60), *(["pagedown"] * 30), "end", "home", *(["up", "pagedown"] * 15), "right", "left"]:
            times.append(await _press(app, key))
        found["key"] = times
        await app.settle()
        pages = []
        for place in (0, found["rows"] // 3, found["rows"] - 100):
            start = time.perf_counter()
            await table.source.load(place, place + 64).result()
            pages.append((time.perf_counter() - start) * 1000)
        found["page, natural order"] = pages
        for name, action, arguments in (
            ("sort by max", "sort", {"column": "max"}),
            ("sort by density", "sort", {"column": "density"}),
            ("filter layer>=20 and density<0.001", "filter", {"text": "layer>=2 and density<0.001"}),
            ("filter rate.en>0.2 and rate.fr>0.2", "filter", {"text": "rate.en>0.2 and rate.fr>0.2"}),
            ("filter lape<0.1", "filter", {"text": "lape<0.1"}),
            ("search 'token777'", "filter", {"text": "token777"}),
            ("search 'froid'", "filter", {"text": "froid"}),
            ("no filter (still sorted by density)", "filter", {"text": ""}),
            ("sort by rate.en", "sort", {"column": "rate.en"}),
            ("sort by lape", "sort", {"column": "lape"}),
        ):
            start, used = time.perf_counter(), time.process_time()
            await app.perform(action, **arguments)
            while any(worker.is_running and worker.group == "load" for worker in app.workers):
                await asyncio.sleep(0.002)
            found[name] = (time.perf_counter() - start) * 1000
            found["processor"][name] = (time.process_time() - used) * 1000
            await app.settle()
            if name == "sort by max":
                pages = []
                for place in (0, found["rows"] // 3, found["rows"] - 100):
                    start = time.perf_counter()
                    await table.source.load(place, place + 64).result()
                    pages.append((time.perf_counter() - start) * 1000)
                found["page, sorted"] = pages
        start = time.perf_counter()
        await app.perform("jump", feature="L1_F10")
        while any(worker.is_running and worker.group == "load" for worker in app.workers):
            await asyncio.sleep(0.002)
        found["feature card"] = (time.perf_counter() - start) * 1000
        stops = []
        for _ in range(5):
            job = app.session.data.console("select count(*) from feature a, feature b where a.n_active < b.n_active", 1)
            await asyncio.sleep(0.3)
            start = time.perf_counter()
            job.cancel()
            while not job.done():
                await asyncio.sleep(0.001)
            stops.append((time.perf_counter() - start) * 1000)
        found["cancel"] = stops
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


async def _press(app: Any, key: str) -> float:
    """Send a key as the terminal's driver does; return the milliseconds until the screen has been written again."""
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
        return 0.0
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
    parser.add_argument("--width", type=int, default=163_840)
    parser.add_argument("--activations", type=float, metavar="MILLIONS", help="default: two a feature")
    parser.add_argument("--atlas", type=Path, help="use (and keep) the atlas in this folder; it is made where there is none")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        import json

        print(json.dumps(asyncio.run(drive(given.atlas))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.atlas or Path(temporary) / "bench.atlas"
        if not folder.exists():
            started = time.perf_counter()
            millions = 2e-6 * given.layers * given.width if given.activations is None else given.activations
            make(folder, given.layers, given.width, int(millions * 1_000_000))
            print(
                f"made {given.layers * given.width:,} features in {time.perf_counter() - started:.0f} s",
                flush=True,
            )
        report(folder)


def report(folder: Path) -> None:
    """Run the parts and print them."""
    import json

    paints = [first_paint(folder) for _ in range(5)]
    result = subprocess.run([sys.executable, __file__, "--drive", "--atlas", str(folder)], capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    print(f"{found['rows']:,} rows; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    rows: list[tuple[str, str, str]] = [
        ("first paint from the shell, median of 5", f"{statistics.median(paint for paint, _ in paints):.2f} s", "1.0 s"),
        ("first paint, best", f"{min(paint for paint, _ in paints):.2f} s", ""),
        ("memory at the overview", f"{max(memory for _, memory in paints):.0f} MB", "250 MB"),
        ("memory after all of the below", f"{found['memory']:.0f} MB", ""),
        ("a key, press to paint: median", f"{statistics.median(found['key']):.1f} ms", ""),
        ("a key, press to paint: p95", f"{_p95(found['key']):.1f} ms", "50 ms"),
    ]
    for name in ("page, natural order", "page, sorted", "cancel"):
        rows.append((f"{name}: slowest", f"{max(found[name]):.0f} ms", "100 ms" if name == "cancel" else ""))
    for name, value in found.items():
        if isinstance(value, float) and name != "memory":
            rows.append((name, f"{value:.0f} ms", "1000 ms"))
    print(f"{'':44} {'measured':>12} {'goal':>10} {'processor time':>16}")
    for name, value, goal in rows:
        used = found["processor"].get(name)
        print(f"{name:44} {value:>12} {goal:>10} {'' if used is None else f'{used:.0f} ms':>16}")


if __name__ == "__main__":
    main()
