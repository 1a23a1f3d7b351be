"""What activations look like, in a few numbers: so a synthetic atlas can be held against real ones.

In: published atlases, the thesis's arrays. Out: a table with a column each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NAMES = (
    "active features a token and layer (mean)",
    "  smallest and largest layer",
    "the same at the decision token",
    "features that never fire",
    "log10 density of live ones: 5, 50, 95, 99 %",
    "ln activation: 5, 25, 50, 75, 95 %",
    "active in both languages (4 prompts or more)",
    "  weaker language has over half the rate",
    "  weaker language has under a tenth",
    "active tokens a prompt with one",
    "distinct features on 80 prompts, decision token",
    "  share of them on one prompt only",
)


def quantiles(values: Array, at: tuple[float, ...]) -> str:
    """Return quantiles as text."""
    return " ".join(f"{value:.1f}" for value in np.quantile(values, at)) if len(values) else "-"


def of_atlas(folder: Path) -> list[str]:
    """Return the numbers of the newest run with raw activations of an atlas."""
    from atlas.reader import Reader

    with Reader(folder) as reader:

        def ask(text: str, **given: object) -> list[tuple[Any, ...]]:
            return reader.sql(text, given or None).rows()

        run = ask("select run_id from feature_role group by run_id order by count(*) desc, run_id limit 1")[0][0]
        layers = ask(
            "select sum(n_active) / max(n_tokens), count(*) filter (where n_active = 0) / count(*) from feature where run_id = $run"
            " group by layer order by layer",
            run=run,
        )
        decided = ask(
            "select avg(l0) from (select sum(n) / sum(n_tokens) as l0 from (select layer, language, sum(n_active) as n,"
            " max(n_tokens) as n_tokens from feature_role where run_id = $run and role = 'decision' group by layer, language)"
            " group by layer)",
            run=run,
        )[0][0]
        density = ask("select log10(density) from feature where run_id = $run and n_active > 0", run=run)
        middle = ask("select layer from activation where run_id = $run group by layer order by layer", run=run)
        layer = middle[len(middle) // 2][0]
        values = ask("select ln(activation) from activation where run_id = $run and layer = $layer and position > 0", run=run, layer=layer)
        shared = ask(
            "select avg((low > 0)::int), avg((low > 0.5 * high)::int), avg((low < 0.1 * high)::int) from (select layer, feature,"
            " min(n_prompts_active / n_prompts) as low, max(n_prompts_active / n_prompts) as high from feature_language"
            " where run_id = $run and language <> 'xx' group by layer, feature having sum(n_prompts_active) >= 4)",
            run=run,
        )[0]
        repeated = ask("select sum(n_active) / sum(n_prompts_active) from feature where run_id = $run", run=run)[0][0]
        few = ask(
            "select count(*), avg((n = 1)::int) from (select a.feature, count(*) as n from activation a join token t on t.run_id = a.run_id"
            " and t.source = 'prompt' and t.item = a.prompt and t.position = a.position where a.run_id = $run and a.layer = $layer"
            " and t.role = 'decision' and a.prompt in (select prompt from prompt where run_id = $run order by hash(prompt) limit 80)"
            " group by a.feature)",
            run=run,
            layer=layer,
        )[0]
    l0, dead = np.array(layers, dtype=float).T
    return [
        f"{l0.mean():.1f}",
        f"{l0.min():.1f} {l0.max():.1f}",
        f"{decided:.1f}",
        f"{dead.mean():.2f}",
        quantiles(np.array(density, dtype=float)[:, 0], (0.05, 0.5, 0.95, 0.99)),
        quantiles(np.array(values, dtype=float)[:, 0], (0.05, 0.25, 0.5, 0.75, 0.95)),
        *(f"{share:.2f}" for share in shared),
        f"{repeated:.2f}",
        f"{few[0]:,}",
        f"{few[1]:.2f}",
    ]


def of_thesis(folder: Path) -> list[str]:
    """Return what the thesis's arrays (one language, 80 prompts, decision tokens, 10 layers) can say."""
    found = sorted(folder.glob("grammar_agreement/layer_*/*_top_k_indices.npy"))
    l0, logs, distinct, once = [], [], [], []
    for path in found:
        index = np.load(path)
        value = np.load(path.with_name(path.name.replace("_indices", "_values")))
        active = value > 0
        counts = np.unique(index[active], return_counts=True)[1]
        l0.append(active.sum(1).mean())
        logs.append(np.log(value[active]))
        distinct.append(len(counts))
        once.append((counts == 1).mean())
    if not found:
        return ["no arrays"] + [""] * (len(NAMES) - 1)
    spread = quantiles(np.concatenate(logs), (0.05, 0.25, 0.5, 0.75, 0.95))
    decided = f"{np.mean(l0):.1f} ({min(l0):.1f} {max(l0):.1f})"
    return ["-", "-", decided, "-", "-", spread, "-", "-", "-", "-", f"{np.mean(distinct):,.0f}", f"{np.mean(once):.2f}"]


def show(folder: Path, like: Path | None, thesis: Path | None) -> None:
    """Print the table."""
    columns = {"synthetic": of_atlas(folder)}
    if like is not None:
        columns[like.name] = of_atlas(like)
    if thesis is not None:
        columns["thesis (Qwen3-4B)"] = of_thesis(thesis)
    print(f"\n{'marginals':48}" + "".join(f"{name:>28}" for name in columns))
    for number, name in enumerate(NAMES):
        print(f"{name:48}" + "".join(f"{values[number]:>28}" for values in columns.values()))
