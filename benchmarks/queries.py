"""How fast questions answer on a large atlas.

    python -m benchmarks.queries --atlas DIR                  on the atlas in DIR; it is made there where there is none (about half an hour)
    python -m benchmarks.queries --atlas DIR --rows 10000000  a smaller one
    python -m benchmarks.queries --atlas DIR --no-compare     questions only

In: a synthetic atlas (benchmarks/synthetic.py: 100 million activations of 36 layers x 163,840 features, two languages, published as every
run is). Out: a table; exit code 1 where a bound is missed.

1. Marginals of the activations beside those of a real atlas (`--like`) and of the thesis's arrays (`--thesis`).
2. Everything that the terminal browser asks, taken from its code, in the engine that it runs with: 50 ms each (medians, warm).
3. Every other named question, on 2 threads and 4 GB: 2 s; co-activation over all layers 1 s.
4. Five questions answered as one would without an atlas: polars lazily over the same Parquet shards, pandas, SQLite with two indexes; each
   in a process of its own, ended after `--patience` seconds.

Wall-clock time stands beside the processor time of all threads, which holds on a busy machine too.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import queries  # noqa: E402
from atlas.reader import Reader  # noqa: E402
from benchmarks import asked, marginals, synthetic, ways  # noqa: E402
from tui.session import Session  # noqa: E402

INTERACTIVE_SECONDS, COACTIVE_SECONDS, OTHER_SECONDS = 0.05, 1.0, 2.0
LAYER, PROMPT = 20, 17
ONE_FEATURE = ("features/card", "features/top_prompts", "features/contexts", "features/histogram", "features/similar", "features/coactive")
"""Questions asked of one feature, as a person does; the others are asked as their example says, over all layers where it names none."""
LIMITS: dict[str, str | int] = {"threads": 2, "memory_limit": "4GB"}


@dataclass(frozen=True)
class Timing:
    """What a piece of work took: seconds of the first call, medians of the next ones."""

    cold: float
    warm: float
    processor: float


def timed(work: Callable[[], object], repeats: int) -> Timing:
    """Time some calls; slow work is repeated less."""
    seconds, processor = [], []
    for _ in range(repeats + 1):
        started, used = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
        if sum(seconds) > 8 and len(seconds) > 1:
            break
    return Timing(seconds[0], statistics.median(seconds[1:]), statistics.median(processor[1:]))


class Table:
    """Prints rows of timings and counts what misses its bound."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def head(self, title: str) -> None:
        """Begin a part."""
        print(f"\n{title:52} {'rows':>7} {'cold ms':>9} {'warm ms':>9} {'cpu ms':>9} {'bound':>7}", flush=True)

    def row(self, name: str, n: int, timing: Timing, bound: float) -> None:
        """Print one."""
        over = timing.warm > bound
        if over:
            self.missed.append(name)
        numbers = f"{timing.cold * 1e3:9.1f} {timing.warm * 1e3:9.1f} {timing.processor * 1e3:9.1f} {bound * 1e3:7.0f}"
        print(f"{name:52} {n:7,} {numbers}{'  OVER' if over else ''}", flush=True)


def browse(folder: Path, feature: tuple[int, int], repeats: int, only: str, table: Table) -> None:
    """Time everything that the browser asks, through its own session."""
    session = Session.open(folder)
    try:
        opened = timed(lambda: session.data.job(lambda cursor: synthetic_info(cursor, session)).wait(), 2)
        session.read_info().wait()
        table.head("what the browser asks")
        table.row("what a run has (once a start, in the background)", 1, opened, OTHER_SECONDS)
        for one in asked.asked(session, feature):
            if only in one.name:
                answer = one.start().wait()
                timing = timed(lambda one=one: one.start().wait(), repeats)  # type: ignore[misc]
                table.row(one.name, len(answer[2]) if one.is_question else 1, timing, INTERACTIVE_SECONDS)
    finally:
        session.data.close()


def synthetic_info(cursor: Any, session: Session) -> object:
    """Read what the features table must know of the run."""
    from tui.data.runs import run_info

    return run_info(cursor, session.run_id, session.transcoder_set)


def question_bounds(folder: Path, feature: tuple[int, int], repeats: int, only: str, table: Table) -> None:
    """Time every named question but those of the first part."""
    table.head("every other named question")
    with Reader(folder, settings=LIMITS) as reader:
        cursor = reader.cursor()
        for name in queries.catalogue():
            if only not in name or name in asked.INTERACTIVE:
                continue
            given: dict[str, Any] = dict(queries.question(name).example)
            if name in ONE_FEATURE:
                given |= {"layer": feature[0], "feature": feature[1]}
            if name == "features/cards":  # without names it copies a card of every feature that fires: an export
                given["features"] = ",".join(f"L{feature[0]}_F{number}" for number in range(300))
            n = len(queries.ask(cursor, name, **given))
            timing = timed(lambda name=name, given=given: queries.ask(cursor, name, **given), repeats)  # type: ignore[misc]
            table.row(name, n, timing, COACTIVE_SECONDS if name == "features/coactive" else OTHER_SECONDS)


def compare(folder: Path, lite: Path, feature: tuple[int, int], repeats: int, patience: float) -> None:
    """Answer five questions in four ways, side by side."""
    shards = sorted(str(path) for path in folder.glob("data/activation/*/*.parquet"))
    prompts = str(next(folder.glob("data/prompt/*/*.parquet")))
    if not lite.exists():
        started = time.monotonic()
        ways.load_sqlite(lite, shards, prompts)
        synthetic.say(f"SQLite loaded and indexed in {time.monotonic() - started:.0f} s, {lite.stat().st_size / 1e9:.1f} GB")
    here: dict[str, Any] = {"layer": feature[0], "feature": feature[1]}
    given: dict[str, tuple[str, dict[str, Any]]] = dict(
        zip(
            ways.QUESTIONS,
            (
                ("features/top_prompts", here),
                ("features/of_prompt", {"prompt": PROMPT}),
                ("features/coactive", here),
                ("languages/bilingual_features", {"rate": 0.1, "z": 0.0, "top": 1_000_000}),
                ("languages/concept_specific", {"purity": 0.51, "top": 1_000_000}),
            ),
            strict=True,
        )
    )
    print(f"\n{'without an atlas':42} {'way':8} {'warm ms':>10} {'cpu ms':>10} {'peak MB':>8} {'rows':>9} {'times atlas':>12}")
    with Reader(folder, settings=LIMITS) as reader:
        cursor = reader.cursor()
        for question, (name, parameters) in given.items():
            n = len(queries.ask(cursor, name, **parameters))
            ours = timed(lambda name=name, parameters=parameters: queries.ask(cursor, name, **parameters), repeats)  # type: ignore[misc]
            print(f"{question:42} {'atlas':8} {ours.warm * 1e3:10.1f} {ours.processor * 1e3:10.1f} {'':8} {n:9,}", flush=True)
            for way in ways.WAYS:
                command = [sys.executable, "-m", "benchmarks.ways", "|".join(shards), prompts, question, way]
                command += [str(feature[0]), str(feature[1]), str(PROMPT), str(lite)]
                print(f"{'':42} {way:8} {_other_way(command, ours, patience)}", flush=True)


def _other_way(command: list[str], ours: Timing, patience: float) -> str:
    """Run one way in a process; return the rest of its line."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return f"{'over ' + format(patience * 1e3, ',.0f'):>10} {'':10} {'':8} {'':9} {'over ' + format(patience / ours.warm, ',.0f'):>12}"
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
    seconds, processor, peak, n = (float(word) for word in done.stdout.split())
    return f"{seconds * 1e3:10,.1f} {processor * 1e3:10,.1f} {peak:8,.0f} {n:9,.0f} {seconds / ours.warm:12,.1f}"


def typical_feature(folder: Path) -> tuple[int, int]:
    """Return the feature of the layer that is active on a tenth of all prompts: common, not always on."""
    with Reader(folder) as reader:
        rows = reader.sql(
            "select layer, feature from feature where layer = (select least($layer, max(layer)) from feature) order by"
            " abs(n_prompts_active - (select count(*) / 10 from prompt)), feature limit 1",
            {"layer": LAYER},
        ).rows()
    return int(rows[0][0]), int(rows[0][1])


def main() -> int:
    """Make, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atlas", type=Path, default=Path("benchmark-data/synthetic.atlas"), help="the atlas; made where there is none")
    parser.add_argument("--rows", type=float, default=1e8, help="activations of an atlas that is made (default: 100 million)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="only what has this in its name")
    parser.add_argument("--like", type=Path, help="the folder of a real atlas whose marginals to print beside")
    parser.add_argument("--thesis", type=Path, help="the folder of the thesis's runs whose marginals to print beside")
    parser.add_argument("--no-compare", action="store_true")
    parser.add_argument("--patience", type=float, default=15, help="seconds after which another way is ended")
    options = parser.parse_args()
    folder: Path = options.atlas
    if not (folder / "atlas.duckdb").exists():
        synthetic.make(folder, synthetic.Size(int(options.rows)))
    n = sum(pq.read_metadata(path).num_rows for path in folder.glob("data/activation/*/*.parquet"))
    size = (folder / "atlas.duckdb").stat().st_size
    print(f"{n:,} activations; published file {size / 1e9:.2f} GB; {platform.processor() or platform.machine()}, 2 threads, 4 GB")
    marginals.show(folder, options.like, options.thesis)
    feature, table = typical_feature(folder), Table()
    print(f"\nthe one feature: L{feature[0]}_F{feature[1]}; the one prompt: {PROMPT}; medians of {options.repeats}")
    browse(folder, feature, options.repeats, options.only, table)
    question_bounds(folder, feature, options.repeats, options.only, table)
    if not options.no_compare:
        compare(folder, folder.with_name(f"{folder.name}.sqlite"), feature, min(options.repeats, 5), options.patience)
    print(f"\n{len(table.missed)} over their bound{': ' if table.missed else ''}{', '.join(table.missed)}")
    return 1 if table.missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
