"""How fast the terminal browser is, on a synthetic atlas that this script makes.

    python benchmarks/tui.py                             5.9 million features, no raw activations
    python benchmarks/tui.py --activations 100           with 100 million activations
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

import duckdb

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
RUN = "b" * 16


def make(folder: Path, layers: int, width: int, activations: int) -> None:
    """Publish a synthetic atlas: features, languages, scores, labels, contexts; Zipf densities."""
    from atlas.settings import DATABASE, FORMAT_VERSION, schema_sql_path

    folder.mkdir(parents=True)
    con = duckdb.connect()
    con.execute("set preserve_insertion_order = false")
    con.execute(f"attach '{folder / DATABASE}' as atlas (storage_version 'v1.2.0')")
    con.execute("use atlas")
    con.execute(schema_sql_path().read_text(encoding="utf-8"))
    con.execute(
        "insert into atlas by name select ? as format_version, 1 as manifest, '' as manifest_hash, 'bench' as code_version,"
        " timestamp '2026-01-01' as published_at, true as activations_inline",
        [FORMAT_VERSION],
    )
    con.execute(
        "insert into model by name select 'm' as model_id, 'synthetic' as name, 'synthetic' as source, 'Qwen3ForCausalLM' as architecture,"
        " 'float32' as dtype, ? as n_layers, 64 as d_model, 1000 as vocab_size",
        [layers],
    )
    con.execute(
        "insert into run by name select ? as run_id, 'ingest' as kind, 'benchmark' as name, 'complete' as state, 0 as attempt,"
        " 'm' as model_id, 'set' as transcoder_set, '{}' as plan, '' as plan_hash,"
        " 'bench' as code_version, timestamp '2026-01-01' as finished_at",
        [RUN],
    )
    con.execute(
        "insert into behaviour by name select ? as run_id, 'b' as behaviour, 'b' as title, ['en', 'fr'] as languages, 64 as n_prompts,"
        " '' as prompt_set_hash",
        [RUN],
    )
    words = "['hot', 'cold', 'chaud', 'froid', 'big', 'grand', 'small', 'petit', 'fast', 'rapide', 'slow', 'lent']"
    con.execute(
        f"""
        insert into feature by name
        with f as (
            select (i // {width})::smallint as layer, (i % {width})::integer as feature, hash(i) as h,
                least(100000, (100000 / (1 + hash(i) % 20000))::bigint) as n_active
            from range({layers} * {width}) t(i)
        )
        select '{RUN}' as run_id, layer, feature, 100000::bigint as n_tokens, n_active, (n_active % 65)::integer as n_prompts_active,
            n_active / 100000 as density, (h % 9973) / 500.0 as max_activation, (h % 997) / 100.0 as mean_activation, 1.0 as sd_activation,
            1.0 as encoder_norm, 1.0 as decoder_norm, [1, 2, 3] as promoted_token_ids,
            [' ' || {words}[1 + (h % 12)::integer], 'token' || (h % 100000), 'x'] as promoted_tokens, [0.9, 0.5, 0.1] as promoted_weights,
            [4] as suppressed_token_ids, ['y'] as suppressed_tokens, [-0.5] as suppressed_weights
        from f order by layer, feature
        """
    )
    con.execute(
        """
        insert into feature_language by name
        select run_id, layer, feature, language, 50000::bigint as n_tokens, n_active // 2 as n_active, 32 as n_prompts,
            (n_prompts_active // 2)::integer as n_prompts_active, 1.0 as sum_activation, 1.0 as sum_squares, max_activation
        from feature, (values ('en'), ('fr')) v(language) order by layer, feature, language
        """
    )
    con.execute(
        """
        insert into feature_score by name
        select run_id, layer, feature, 'lape' as score, 'default' as parameter_set, 'en+fr' as languages,
            (hash(feature, layer) % 693) / 1000 as value, (hash(feature, layer) % 2) = 0 as flag
        from feature order by layer, feature
        """
    )
    con.execute(
        "insert into label select lpad((layer::bigint * 1000000 + feature)::varchar, 16, '0'), 'set', layer, feature,"
        " 'label ' || (feature % 977), 'imported', null, 'bench', timestamp '2026-01-01', false from feature where feature % 500 = 0"
    )
    con.execute(
        f"insert into token by name select '{RUN}' as run_id, 'prompt' as source, (i // 12)::integer as item,"
        f" (i % 12)::smallint as position, 1 as token_id,"
        f" ' ' || {words}[1 + (hash(i) % 12)::integer] as token, 'content' as role from range(768) t(i)"
    )
    con.execute(
        """
        insert into context by name
        select run_id, layer, feature, 'top' as kind, r::smallint as rank, 'prompt' as source, (hash(feature, r) % 64)::integer as item,
            (hash(feature, layer, r) % 12)::smallint as position, 'en' as language, max_activation as activation,
            0::smallint as window_start, 11::smallint as window_end, [1.0, 0, 0, 2.0, 0, 0, 0, 0, 0, 0, 0, 0] as window_activations
        from feature, range(8) t(r) where feature % 10 = 0 order by layer, feature, rank
        """
    )
    if activations:
        con.execute(
            f"""
            insert into activation
            select '{RUN}', (i // {max(1, activations // layers)})::smallint as layer, (hash(i) % {width})::integer as feature,
                (i % 64)::integer, (i % 12)::smallint, 1.5 from range({activations}) t(i) order by layer, feature
            """
        )
    con.execute("use memory")
    con.execute("detach atlas")
    con.close()


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
    parser.add_argument("--activations", type=float, default=0, metavar="MILLIONS")
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
            make(folder, given.layers, given.width, int(given.activations * 1_000_000))
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
