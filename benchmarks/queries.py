"""How fast questions answer on a large atlas: `python -m benchmarks.queries --rows 100000000 --folder DIR`.

Makes an atlas of synthetic activations (36 layers x 163,840 features, two languages), runs every build step on it, then asks every
question, cold once and warm several times, on 2 threads and 4 GB, and answers some of them the way a user would without an atlas:
polars lazily over the Parquet shards, pandas, SQLite with indexes. The marginals of the activations are printed beside those of a real
atlas (`--like`). Interactive questions are to answer in 50 ms, all-layer co-activation in 1 s, every other question in 2 s (medians, warm).
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import queries  # noqa: E402

RUN = "b" * 16
ROLES = ("sink", "template", "operator", "content", "quote", "decision")
POSITIONS = 20
L0 = 29
"""Active features a token and layer: the thesis's arrays have 11 to 45."""
VOCABULARY = np.array([f" word{k}" for k in range(500)])
INTERACTIVE = {
    "features/card",
    "features/top_prompts",
    "features/contexts",
    "features/of_prompt",
    "features/histogram",
    "features/similar",
    "languages/bilingual_features",
    "languages/iou_by_layer",
    "behaviours/prompts",
    "provenance/runs",
    "interventions/effects",
    "graphs/strongest_edges",
}
SLOW_ALLOWED = {"features/coactive": 1.0}
WHERE: dict[str, dict[str, Any]] = {
    "features/card": {"layer": 20, "feature": 1454},
    "features/top_prompts": {"layer": 20, "feature": 1454},
    "features/contexts": {"layer": 20, "feature": 1454},
    "features/histogram": {"layer": 20, "feature": 1454},
    "features/similar": {"layer": 20, "feature": 1454},
    "features/coactive": {"layer": 20, "feature": 1454},
    "features/of_prompt": {"prompt": 17},
    "languages/bilingual_features": {"layer": 20},
    "languages/scores": {"layer": 20},
    "languages/concept_specific": {"layer": 20},
    "languages/template_artefacts": {"layer": 20},
    "features/of_concept": {"layer": 20},
    "features/right_from_wrong": {"layer": 20},
    "features/several_behaviours": {"layer": 20},
    "behaviours/minimal_pairs": {"layer": 20},
}
"""What a person would ask: one feature, one prompt, or one layer where raw activations are counted."""


@dataclass(frozen=True)
class Size:
    """How large the atlas is."""

    rows: int
    layers: int = 36
    features: int = 163_840

    @property
    def prompts(self) -> int:
        """Prompts that make the rows at L0 active features a token."""
        return max(8, round(self.rows / (self.layers * L0 * (POSITIONS - 1)) / 8) * 8)


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def insert(con: duckdb.DuckDBPyConnection, table: str, columns: dict[str, Any]) -> None:
    """Insert columns by name."""
    con.register("frame", pa.table(columns))
    con.execute(f"insert into {table} by name select * from frame")
    con.unregister("frame")


def constant(value: str, n: int) -> pa.Array:
    """Return a column of one text, cheaply."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int8)), pa.array([value])).cast(pa.string())


def prompts(con: duckdb.DuckDBPyConnection, size: Size, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Write run, prompts, tokens, answers, baselines and pairs; return the language (0, 1) of each prompt."""
    n = size.prompts
    row = {"run_id": [RUN], "kind": ["ingest"], "name": ["synthetic"], "state": ["complete"], "attempt": [1], "plan": ["{}"]}
    insert(con, "run", {**row, "plan_hash": ["0"], "code_version": ["0"], "transcoder_set": ["synthetic"]})
    language = np.arange(n) % 2
    concept = [f"concept {k // 2 % 200:03d}" for k in range(n)]
    columns = {
        "run_id": constant(RUN, n),
        "prompt": np.arange(n),
        "behaviour": [("antonyms", "gate")[k // 2 % 10 == 9] for k in range(n)],
        "prompt_hash": [f"{k:016d}" for k in range(n)],
        "language": np.array(["en", "fr"])[language],
        "concept": concept,
        "template": [f"template {k // 400:03d}" for k in range(n)],
        "split": np.array(["train", "test"])[np.arange(n) // 2 % 5 // 4],
        "text": [f"synthetic prompt {k}" for k in range(n)],
        "n_tokens": np.full(n, POSITIONS),
        "operand": concept,
    }
    insert(con, "prompt", columns)
    roles = np.array(ROLES)[[0, *([1] * 6), 2, 2, 4, 3, 3, 4, *([1] * (POSITIONS - 14)), 5]]
    tokens = {
        "run_id": constant(RUN, n * POSITIONS),
        "source": constant("prompt", n * POSITIONS),
        "item": np.repeat(np.arange(n), POSITIONS),
        "position": np.tile(np.arange(POSITIONS), n),
        "token_id": rng.integers(0, 500, n * POSITIONS),
        "token": VOCABULARY[rng.integers(0, 500, n * POSITIONS)],
        "role": np.tile(roles, n),
    }
    insert(con, "token", tokens)
    margin = rng.normal(0.5, 1, n)
    insert(con, "baseline", {"run_id": constant(RUN, n), "prompt": np.arange(n), "margin": margin, "correct": margin > 0})
    answers = {"run_id": constant(RUN, n), "prompt": np.arange(n), "answer": np.zeros(n, dtype=int), "role": constant("correct", n)}
    insert(con, "answer", {**answers, "text": VOCABULARY[rng.integers(0, 500, n)]})
    pairs = {"run_id": constant(RUN, n // 2), "pair": np.arange(n // 2), "kind": constant("translation", n // 2)}
    insert(con, "prompt_pair", {**pairs, "prompt_a": np.arange(0, n, 2), "prompt_b": np.arange(1, n, 2)})
    return language


def layer(size: Size, index: int, language: np.ndarray[Any, Any], rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """Draw one layer's activations, sorted by feature, prompt, position: Zipf over features, a third of which favour one language."""
    n = size.rows // size.layers
    weight = 1 / (np.arange(size.features) + 20.0)
    cumulated = np.cumsum(weight) / weight.sum()
    ranked = np.searchsorted(cumulated, rng.random(int(n * 1.25)))
    feature = np.random.default_rng(index).permutation(size.features)[np.minimum(ranked, size.features - 1)]
    prompt = rng.integers(0, size.prompts, len(feature))
    favour = feature % 6  # 0: the first language, 1: the second, else both
    kept = (favour > 1) | (favour == language[prompt]) | (rng.random(len(feature)) < 0.05)
    feature, prompt = feature[kept], prompt[kept]
    key = (feature * size.prompts + prompt) * POSITIONS + rng.integers(0, POSITIONS, len(feature))
    key = np.unique(key)[:]
    if len(key) > n:
        key = np.sort(rng.choice(key, n, replace=False))
    value = np.exp(rng.normal(0.5, 0.8, len(key))).astype(np.float32)
    value = (value.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # bfloat16-exact
    return {
        "layer": np.full(len(key), index, dtype=np.int16),
        "feature": (key // (size.prompts * POSITIONS)).astype(np.int32),
        "prompt": (key // POSITIONS % size.prompts).astype(np.int32),
        "position": (key % POSITIONS).astype(np.int16),
        "activation": value,
    }


def counts(
    con: duckdb.DuckDBPyConnection, size: Size, index: int, rows: dict[str, np.ndarray[Any, Any]], language: np.ndarray[Any, Any]
) -> None:
    """Write feature, feature_language, context and histogram of one layer from its rows."""
    real = rows["position"] > 0
    feature, prompt, value = (rows[name][real] for name in ("feature", "prompt", "activation"))
    spoken = language[prompt]
    n_tokens = size.prompts // 2 * (POSITIONS - 1)
    starts = np.flatnonzero(np.diff(feature, prepend=-1))
    new_prompt = np.diff(feature.astype(np.int64) * size.prompts + prompt, prepend=-1) != 0
    live = np.zeros(size.features, dtype=bool)
    live[feature] = True
    by_language: list[dict[str, Any]] = []
    for code in (0, 1):
        mine = spoken == code
        top = np.zeros(size.features, dtype=np.float32)
        np.maximum.at(top, feature[mine], value[mine])
        by_language.append(
            {
                "n_active": np.bincount(feature[mine], minlength=size.features),
                "n_prompts_active": np.bincount(feature[mine & new_prompt], minlength=size.features),
                "sum_activation": np.bincount(feature[mine], value[mine], size.features),
                "sum_squares": np.bincount(feature[mine], value[mine].astype(np.float64) ** 2, size.features),
                "max_activation": top,
            }
        )
    n_live = int(live.sum())
    for name, part in zip(("en", "fr"), by_language, strict=True):
        columns = {column: values[live] for column, values in part.items()}
        head = {"run_id": constant(RUN, n_live), "layer": np.full(n_live, index), "feature": np.flatnonzero(live)}
        fixed = {"n_tokens": np.full(n_live, n_tokens), "n_prompts": np.full(n_live, size.prompts // 2)}
        insert(con, "feature_language", {**head, "language": constant(name, n_live), **fixed, **columns})
    total = {name: by_language[0][name] + by_language[1][name] for name in ("n_active", "n_prompts_active", "sum_activation")}
    words = pa.array(VOCABULARY)
    picks = np.random.default_rng(index).integers(0, len(VOCABULARY), size.features * 3)
    offsets = pa.array(np.arange(0, size.features * 3 + 1, 3, dtype=np.int32))
    everything = {
        "run_id": constant(RUN, size.features),
        "layer": np.full(size.features, index),
        "feature": np.arange(size.features),
        "n_tokens": np.full(size.features, 2 * n_tokens),
        "n_active": total["n_active"],
        "n_prompts_active": total["n_prompts_active"],
        "density": total["n_active"] / (2 * n_tokens),
        "max_activation": np.maximum(by_language[0]["max_activation"], by_language[1]["max_activation"]),
        "mean_activation": total["sum_activation"] / np.maximum(total["n_active"], 1),
        "promoted_tokens": pa.ListArray.from_arrays(offsets, words.take(pa.array(picks))),
        "promoted_weights": pa.ListArray.from_arrays(offsets, pa.array(np.ones(size.features * 3, dtype=np.float32))),
    }
    insert(con, "feature", everything)
    first = np.minimum(starts, len(feature) - 1)
    n = len(first)
    context = {
        "run_id": constant(RUN, n),
        "layer": np.full(n, index),
        "feature": feature[first],
        "kind": constant("top", n),
        "rank": np.zeros(n, dtype=int),
        "source": constant("prompt", n),
        "item": prompt[first],
        "position": rows["position"][real][first],
        "language": np.array(["en", "fr"])[spoken[first]],
        "activation": value[first],
        "window_start": np.zeros(n, dtype=int),
        "window_end": np.full(n, POSITIONS - 1),
    }
    insert(con, "context", context)


def make(folder: Path, size: Size) -> Path:
    """Make the atlas file and the Parquet shards; return the file. An atlas of this size that is there is used again."""
    path = folder / f"queries-{size.rows}.duckdb"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    shards = folder / f"queries-{size.rows}-shards"
    shards.mkdir(exist_ok=True)
    building = path.with_suffix(".next")
    building.unlink(missing_ok=True)
    rng = np.random.default_rng(0)
    con = duckdb.connect(str(building), config={"threads": 2, "memory_limit": "4GB", "preserve_insertion_order": "true"})
    con.execute((ROOT / "schema.sql").read_text(encoding="utf-8"))
    language = prompts(con, size, rng)
    for index in range(size.layers):
        started = time.monotonic()
        rows = layer(size, index, language, rng)
        pq.write_table(pa.table(rows), shards / f"layer-{index:02d}.parquet", compression="zstd", compression_level=1)
        insert(con, "activation", {"run_id": constant(RUN, len(rows["layer"])), **rows})
        counts(con, size, index, rows, language)
        say(f"layer {index}: {len(rows['layer']):,} rows, {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    con.execute("insert into activation_by_prompt by name from activation order by prompt, position, layer, feature")
    say(f"sorted by prompt: {time.monotonic() - started:.1f} s")
    for step in queries.build_steps():
        started = time.monotonic()
        step.run(con)
        say(f"build {step.name}: {time.monotonic() - started:.1f} s")
    con.execute("checkpoint")
    con.close()
    building.rename(path)
    return path


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return seconds of the first call and the median of the next ones; slow work is repeated less."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
        if sum(seconds) > 20 and len(seconds) > 1:
            break
    return seconds[0], statistics.median(seconds[1:])


def marginals(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Print what the activations look like: L0 by layer and the density of live features."""
    l0 = [row["l0"] for row in queries.ask(con, "features/l0").arrow().to_pylist() if row["role"] in ("all", "content")]
    dead = queries.ask(con, "features/dead").arrow().to_pylist()
    share = statistics.mean(row["dead_share"] for row in dead)
    median = statistics.median(row["median_density"] for row in dead)
    print(f"{name}: L0 {statistics.mean(l0):.1f}, dead {share:.2f}, median density of live features {median:.2g}, {len(dead)} layers")


def bench(con: duckdb.DuckDBPyConnection, repeats: int, only: str) -> int:
    """Ask every question; return how many miss their bound."""
    missed = 0
    print(f"\n{'question':42} {'rows':>6} {'cold ms':>9} {'warm ms':>9} {'bound':>7}")
    for name in queries.catalogue():
        if only not in name:
            continue
        given = {**queries.question(name).example, **WHERE.get(name, {})}
        n = len(queries.ask(con, name, **given))
        cold, warm = timed(lambda name=name, given=given: queries.ask(con, name, **given), repeats)  # type: ignore[misc]
        bound = SLOW_ALLOWED.get(name, 0.05 if name in INTERACTIVE else 2.0)
        missed += warm > bound
        print(f"{name:42} {n:6} {cold * 1e3:9.1f} {warm * 1e3:9.1f} {bound * 1e3:7.0f}{'  over' if warm > bound else ''}", flush=True)
    return missed


def compare(con: duckdb.DuckDBPyConnection, folder: Path, size: Size, repeats: int) -> None:
    """Answer three questions the way one would without an atlas."""
    import pandas as pd
    import polars as pl

    shards = folder / f"queries-{size.rows}-shards"
    feature = queries.ask(con, "features/card", layer=20).arrow().to_pylist()[0]["feature"]
    language = pl.DataFrame(
        {"prompt": np.arange(size.prompts, dtype=np.int32), "language": np.array(["en", "fr"])[np.arange(size.prompts) % 2]}
    )
    lazy = pl.scan_parquet(shards / "*.parquet")
    here = (pl.col("layer") == 20) & (pl.col("feature") == feature)
    rates = lazy.filter(pl.col("position") > 0).select("layer", "feature", "prompt").unique().join(language.lazy(), on="prompt")

    def pandas_feature() -> object:
        frame = pd.read_parquet(shards / "layer-20.parquet", filters=[("feature", "==", feature)])
        return frame.groupby("prompt")["activation"].max().nlargest(20)

    def pandas_prompt() -> object:
        return pd.concat(pd.read_parquet(path, filters=[("prompt", "==", 17)]) for path in sorted(shards.glob("*.parquet")))

    ways: dict[str, dict[str, Callable[[], object]]] = {
        "top prompts of a feature": {
            "atlas": lambda: queries.ask(con, "features/top_prompts", layer=20, feature=feature),
            "polars": lambda: lazy.filter(here).group_by("prompt").agg(pl.col("activation").max()).top_k(20, by="activation").collect(),
            "pandas": pandas_feature,
        },
        "features of a prompt": {
            "atlas": lambda: queries.ask(con, "features/of_prompt", prompt=17),
            "polars": lambda: lazy.filter(pl.col("prompt") == 17).group_by("layer", "feature").agg(pl.col("activation").max()).collect(),
            "pandas": pandas_prompt,
        },
        "bilingual features of all layers": {
            "atlas": lambda: queries.ask(con, "languages/bilingual_features"),
            "polars": lambda: rates.group_by("layer", "feature", "language").len().collect(engine="streaming"),
        },
    }
    lite = sqlite(folder, size)
    sql = (
        "select prompt, max(activation) as top from activation where layer = 20 and feature = ? group by prompt order by top desc limit 20"
    )
    ways["top prompts of a feature"]["sqlite"] = lambda: lite.execute(sql, [feature]).fetchall()
    ways["features of a prompt"]["sqlite"] = lambda: lite.execute(
        "select layer, feature, max(activation) from activation where prompt = 17 group by layer, feature"
    ).fetchall()
    print(f"\n{'what':36} {'way':8} {'warm ms':>10}   (sqlite holds one layer in 36, with indexes)")
    for what, some in ways.items():
        for way, work in some.items():
            print(f"{what:36} {way:8} {timed(work, min(repeats, 3))[1] * 1e3:10.1f}", flush=True)


def sqlite(folder: Path, size: Size) -> sqlite3.Connection:
    """Load layer 20 into SQLite with two indexes: what fits in reasonable time."""
    path = folder / f"queries-{size.rows}.sqlite"
    there = path.exists()
    con = sqlite3.connect(path)
    if not there:
        rows = pq.read_table(folder / f"queries-{size.rows}-shards" / "layer-20.parquet").to_pydict()
        con.execute("create table activation (layer integer, feature integer, prompt integer, position integer, activation real)")
        con.executemany("insert into activation values (?, ?, ?, ?, ?)", zip(*rows.values(), strict=True))
        con.execute("create index by_feature on activation (layer, feature)")
        con.execute("create index by_prompt on activation (prompt)")
        con.commit()
    return con


def main() -> int:
    """Make, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000_000, help="activations (default: 100 million)")
    parser.add_argument("--folder", type=Path, default=Path("benchmark-data"), help="where to keep the synthetic atlas")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="only questions whose name contains this")
    parser.add_argument("--like", type=Path, help="a published atlas.duckdb whose marginals to print beside")
    parser.add_argument("--no-compare", action="store_true")
    options = parser.parse_args()
    size = Size(options.rows)
    path = make(options.folder, size)
    con = duckdb.connect(str(path), read_only=True, config={"threads": 2, "memory_limit": "4GB"})
    print(
        f"{size.rows:,} activations, {size.layers * size.features:,} features, {size.prompts:,} prompts; {path.stat().st_size / 1e9:.2f} GB"
    )
    marginals(con, "synthetic")
    if options.like:
        with duckdb.connect(str(options.like), read_only=True) as real:
            marginals(real, str(options.like.parent.name))
    missed = bench(con, options.repeats, options.only)
    if not options.no_compare:
        compare(con, options.folder, size, options.repeats)
    print(f"\n{missed} questions over their bound")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
