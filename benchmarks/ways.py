"""Answer a question the way one would without an atlas: polars lazily over the Parquet shards, pandas, SQLite with indexes.

    python -m benchmarks.ways ATLAS QUESTION WAY LAYER FEATURE PROMPT SQLITE

Run as a process of its own by `benchmarks/queries.py`, which ends it after a while: prints seconds (median of what fits, after one run to
warm up), CPU seconds, peak memory in MB and the number of rows found.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = 2
QUESTIONS = (
    "top prompts of a feature",
    "features of a prompt",
    "co-activation, all layers",
    "bilingual features, all layers",
    "features of one concept, both languages",
)
WAYS = ("polars", "pandas", "sqlite")


def polars_ways(shards: list[str], prompts: str, layer: int, feature: int, prompt: int) -> dict[str, Callable[[], Any]]:
    """Return the questions for polars."""
    import polars as pl

    rows = pl.scan_parquet(shards)
    asked = pl.scan_parquet(prompts)
    here = (pl.col("layer") == layer) & (pl.col("feature") == feature)
    real = rows.filter(pl.col("position") > 0)
    streaming: Any = "streaming"

    def coactive() -> Any:
        mine = real.filter(here).select("prompt", "position")
        together = real.join(mine, on=["prompt", "position"], how="semi").group_by("layer", "feature").len()
        return together.sort("len", descending=True).head(100).collect(engine=streaming)

    def bilingual() -> Any:
        seen = real.select("layer", "feature", "prompt").unique().join(asked.select("prompt", "language"), on="prompt")
        counted = seen.group_by("layer", "feature", "language").len()
        size = asked.group_by("language").len("n")
        rates = counted.join(size, on="language").filter(pl.col("len") >= 0.1 * pl.col("n"))
        return rates.group_by("layer", "feature").len("languages").filter(pl.col("languages") == 2).collect(engine=streaming)

    def concepts() -> Any:
        seen = real.select("layer", "feature", "prompt").unique().join(asked.select("prompt", "language", "cluster"), on="prompt")
        counted = seen.group_by("layer", "feature", "language", "cluster").len()
        whole = counted.group_by("layer", "feature", "language").agg(pl.col("len").sum().alias("n"), pl.all().sort_by("len").last())
        pure = whole.filter((pl.col("len") >= 2) & (pl.col("len") >= 0.51 * pl.col("n")))
        return pure.group_by("layer", "feature", "cluster").len("languages").filter(pl.col("languages") == 2).collect(engine=streaming)

    return {
        QUESTIONS[0]: lambda: real.filter(here).group_by("prompt").agg(pl.col("activation").max()).top_k(20, by="activation").collect(),
        QUESTIONS[1]: lambda: (
            real.filter(pl.col("prompt") == prompt)
            .group_by("layer", "feature")
            .agg(pl.col("activation").max())
            .top_k(200, by="activation")
            .collect()
        ),
        QUESTIONS[2]: coactive,
        QUESTIONS[3]: bilingual,
        QUESTIONS[4]: concepts,
    }


def pandas_ways(shards: list[str], prompts: str, layer: int, feature: int, prompt: int) -> dict[str, Callable[[], Any]]:
    """Return the questions for pandas, with the filters that its Parquet reader can push down."""
    import pandas as pd

    def read(filters: list[tuple[str, str, Any]] | None, columns: list[str]) -> Any:
        paths: Any = shards
        return pd.read_parquet(paths, columns=columns, filters=filters)

    def seen() -> Any:
        rows = read([("position", ">", 0)], ["layer", "feature", "prompt"]).drop_duplicates()
        return rows.merge(pd.read_parquet(prompts), on="prompt")

    def top() -> Any:
        rows = read([("layer", "==", layer), ("feature", "==", feature), ("position", ">", 0)], ["prompt", "activation"])
        return rows.groupby("prompt")["activation"].max().nlargest(20)

    def of_prompt() -> Any:
        rows = read([("prompt", "==", prompt), ("position", ">", 0)], ["layer", "feature", "activation"])
        return rows.groupby(["layer", "feature"])["activation"].max().nlargest(200)

    def coactive() -> Any:
        mine = read([("layer", "==", layer), ("feature", "==", feature), ("position", ">", 0)], ["prompt", "position"])
        rows = read([("position", ">", 0)], ["layer", "feature", "prompt", "position"]).merge(mine, on=["prompt", "position"])
        return rows.groupby(["layer", "feature"]).size().nlargest(100)

    def bilingual() -> Any:
        counted = seen().groupby(["layer", "feature", "language"]).size().rename("n").reset_index()
        size = pd.read_parquet(prompts).groupby("language").size().rename("size").reset_index()
        rates = counted.merge(size, on="language")
        rates = rates[rates["n"] >= 0.1 * rates["size"]]
        both = rates.groupby(["layer", "feature"]).size()
        return both[both == 2]

    def concepts() -> Any:
        counted = seen().groupby(["layer", "feature", "language", "cluster"]).size().rename("n").reset_index()
        counted["all"] = counted.groupby(["layer", "feature", "language"])["n"].transform("sum")
        pure = counted[(counted["n"] >= 2) & (counted["n"] >= 0.51 * counted["all"])]
        both = pure.groupby(["layer", "feature", "cluster"]).size()
        return both[both == 2]

    return dict(zip(QUESTIONS, (top, of_prompt, coactive, bilingual, concepts), strict=True))


def sqlite_ways(path: str, layer: int, feature: int, prompt: int) -> dict[str, Callable[[], Any]]:
    """Return the questions for SQLite, whose table has an index by feature and one by prompt."""
    con = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    con.execute("pragma cache_size = -1000000")
    con.execute("pragma mmap_size = 4000000000")
    top = (
        "select prompt, max(activation) as top from activation where layer = ? and feature = ? and position > 0"
        " group by prompt order by top desc limit 20"
    )
    of_prompt = (
        "select layer, feature, max(activation) as top from activation where prompt = ? and position > 0"
        " group by layer, feature order by top desc limit 200"
    )
    coactive = (
        "select b.layer, b.feature, count(*) as n from activation a join activation b on b.prompt = a.prompt and b.position = a.position"
        " where a.layer = ? and a.feature = ? and a.position > 0 group by b.layer, b.feature order by n desc limit 100"
    )
    seen = "select distinct layer, feature, prompt from activation where position > 0"
    bilingual = (
        f"select layer, feature from (select s.layer, s.feature, p.language, count(*) as n from ({seen}) s join prompt p using (prompt)"
        " group by s.layer, s.feature, p.language) c"
        " join (select language, count(*) as size from prompt group by language) using (language)"
        " where n >= 0.1 * size group by layer, feature having count(*) = 2"
    )
    concepts = (
        "select layer, feature, cluster from (select *, sum(n) over (partition by layer, feature, language) as whole from"
        f" (select s.layer, s.feature, p.language, p.cluster, count(*) as n from ({seen}) s join prompt p using (prompt)"
        " group by s.layer, s.feature, p.language, p.cluster)) where n >= 2 and n >= 0.51 * whole"
        " group by layer, feature, cluster having count(*) = 2"
    )
    return {
        QUESTIONS[0]: lambda: con.execute(top, [layer, feature]).fetchall(),
        QUESTIONS[1]: lambda: con.execute(of_prompt, [prompt]).fetchall(),
        QUESTIONS[2]: lambda: con.execute(coactive, [layer, feature]).fetchall(),
        QUESTIONS[3]: lambda: con.execute(bilingual).fetchall(),
        QUESTIONS[4]: lambda: con.execute(concepts).fetchall(),
    }


def load_sqlite(path: Path, shards: list[str], prompts: str) -> None:
    """Copy the activations into SQLite: clustered by feature, with an index by prompt."""
    import pyarrow.parquet as pq

    building = path.with_suffix(".next")
    building.unlink(missing_ok=True)
    con = sqlite3.connect(building)
    con.execute("pragma journal_mode = off")
    con.execute("pragma synchronous = off")
    con.execute("pragma cache_size = -1000000")
    con.execute(
        "create table activation (layer integer, feature integer, prompt integer, position integer, activation real,"
        " primary key (layer, feature, prompt, position)) without rowid"
    )
    con.execute("create table prompt (prompt integer primary key, language text, cluster text)")
    names = ["prompt", "language", "cluster"]
    con.executemany("insert into prompt values (?, ?, ?)", zip(*pq.read_table(prompts, columns=names).to_pydict().values(), strict=True))
    for shard in shards:
        for batch in pq.ParquetFile(shard).iter_batches(500_000, columns=["layer", "feature", "prompt", "position", "activation"]):
            columns = [column.to_pylist() for column in batch.columns]
            con.executemany("insert into activation values (?, ?, ?, ?, ?)", zip(*columns, strict=True))
    con.execute("create index by_prompt on activation (prompt, position)")
    con.commit()
    con.close()
    building.rename(path)


def main() -> int:
    """Answer one question in one way, again and again for a few seconds."""
    shards, prompts, question, way, layer, feature, prompt, lite = sys.argv[1:]
    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    paths = shards.split("|")
    place = (int(layer), int(feature), int(prompt))
    if way == "sqlite":
        ways = sqlite_ways(lite, *place)
    else:
        import pyarrow as pa

        pa.set_cpu_count(THREADS)
        ways = {"polars": polars_ways, "pandas": pandas_ways}[way](paths, prompts, *place)
    seconds: list[float] = []
    cpu: list[float] = []
    started = time.perf_counter()
    found: Any = ()
    while len(seconds) < 5 and (not seconds or time.perf_counter() - started + seconds[-1] < 10):
        begun, used = time.perf_counter(), time.process_time()
        found = ways[question]()
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    warm = seconds[1:] or seconds
    # Not getrusage: its maximum is that of the process that started this one where it was larger.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(statistics.median(warm), statistics.median(cpu[1:] or cpu), peak, len(found), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
