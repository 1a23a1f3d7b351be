"""A synthetic atlas of any size, written and published as a real run is: what the benchmarks of questions and of the browser measure on.

    python -m benchmarks.synthetic DIR --rows 100000000      36 layers x 163,840 features, about ten minutes on two cores

In: a number of activations. Out: an atlas folder (shards, commit records, manifest, atlas.duckdb) with all tables that a run writes.

1. Prompts: two behaviours, antonyms in templates and a gate in minimal pairs, each in English and French; 20 tokens a prompt.
2. Activations, a layer at a time. Densities over features follow a Zipf-Mandelbrot law (a few features are almost always on, a third of
   a large dictionary never fires); a feature has a share between its languages, one role where it mostly fires, and, for some, one
   concept or one template; values are lognormal. The constants are fitted to the demo and to the arrays of the thesis (`marginals`).
3. Counts by language and role, contexts, histograms and neighbours of each layer from its rows, as ingest writes them.
4. Graphs, interventions, circuits and labels in the amounts of a run (`benchmarks/synthetic_evidence.py`).
5. `publish` with all build steps and audits.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from atlas.errors import AtlasError  # noqa: E402
from atlas.folder import Atlas  # noqa: E402
from atlas.ids import run_id  # noqa: E402
from atlas.shards import RunWriter  # noqa: E402

Array = NDArray[Any]
LANGUAGES = ("en", "fr")
POSITIONS = 20
ROLES = ("sink", *["template"] * 6, "operator", "operator", "quote", "content", "content", "quote", *["template"] * 6, "decision")
"""Role of each position of every prompt."""
ROLE_ORDER = ("sink", "content", "operator", "quote", "template", "decision")
ROLE_SHARES = (0.2, 0.1, 0.1, 0.55, 0.05)
"""Of features that fire mostly at one role, by ROLE_ORDER without the sink: a decision token has about twice a content token's L0."""
L0 = 29
"""Active features a token and layer: the thesis's arrays have 26 to 35 (means of a layer)."""
SINK_L0 = 40
"""The same at position 0, where always the same features fire."""
ZIPF_SHIFT, ZIPF_POWER = 2.0, 1.1
MEAN_LOG, SD_OF_FEATURES, SD_WITHIN = -0.4, 1.0, 1.2
"""Logarithms of activations: normal around a feature's own mean."""
TOP_CONTEXTS = 10
WINDOW = 4
WORDS = ("hot", "cold", "chaud", "froid", "big", "grand", "small", "petit", "fast", "rapide", "slow", "lent")
N_TOKENS = 20_000
MODEL = "synthetic-model"
SET = "synthetic"


@dataclass(frozen=True)
class Size:
    """How large the atlas is."""

    rows: int
    layers: int = 36
    features: int = 163_840

    @property
    def wanted_prompts(self) -> int:
        """Prompts that make the rows; one draw in twenty falls on a token that has the feature already."""
        return max(64, round(self.rows / (self.layers * (0.95 * L0 * (POSITIONS - 1) + SINK_L0))))


@dataclass(frozen=True)
class Prompts:
    """The design: arrays over P prompts."""

    behaviour: Array
    """0 antonyms, 1 gate."""
    language: Array
    concept: Array
    """Number within the behaviour; antonym pairs are 2k and 2k + 1."""
    template: Array
    variant: Array
    """Of the gate: 0 allow, 1 refuse."""

    def __len__(self) -> int:
        return len(self.language)

    @property
    def cluster(self) -> Array:
        """One number per behaviour and cluster of concepts."""
        return np.where(self.behaviour == 0, self.concept // 2, 10_000 + self.concept)


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def text(value: str, n: int) -> pa.Array:
    """Return a column of one text, cheaply."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, dtype=np.int8)), pa.array([value])).cast(pa.string())


def choice(values: tuple[str, ...] | list[str], codes: Array) -> pa.Array:
    """Return texts by their number, cheaply."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values)).cast(pa.string())


def design(size: Size) -> Prompts:
    """Lay out the prompts: translations stand side by side, and so do the two variants of the gate."""
    wanted = size.wanted_prompts
    concepts = max(4, min(128, wanted // 32) // 2 * 2)
    templates = max(2, round(0.87 * wanted / (2 * concepts)))
    gated = max(2, concepts // 4)
    gates = max(1, round(0.13 * wanted / (4 * gated)))
    one = np.stack(np.meshgrid([0], np.arange(templates), np.arange(concepts), [0], [0, 1], indexing="ij"), -1).reshape(-1, 5)
    two = np.stack(np.meshgrid([1], np.arange(gates), np.arange(gated), [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 5)
    behaviour, template, concept, variant, language = np.concatenate([one, two]).T
    return Prompts(behaviour, language, concept, template + 1000 * behaviour, variant)


def prompt_tables(prompts: Prompts, rng: np.random.Generator) -> dict[str, pa.Table]:
    """Return the tables of prompts, tokens, answers, baselines and pairs."""
    n = len(prompts)
    gate = prompts.behaviour == 1
    concept = [f"{'gate' if g else 'pair'} {k:03d}" for g, k in zip(gate, prompts.concept, strict=True)]
    order = np.arange(n)
    prompt = pa.table(
        {
            "prompt": order,
            "behaviour": choice(["antonyms", "gate"], prompts.behaviour),
            "prompt_hash": [f"{k:016x}" for k in range(n)],
            "language": choice(list(LANGUAGES), prompts.language),
            "concept": concept,
            "cluster": [f"cluster {k:05d}" for k in prompts.cluster],
            "template": [f"template {k:04d}" for k in prompts.template],
            "split": choice(["train", "test"], (prompts.concept % 4 == 3).astype(int)),
            "text": [f"synthetic prompt {k} on {c}" for k, c in enumerate(concept)],
            "n_tokens": np.full(n, POSITIONS),
            "operand": concept,
            "variant": pa.array([("allow", "refuse")[v] if g else None for g, v in zip(gate, prompts.variant, strict=True)], pa.string()),
        }
    )
    vocabulary = token_texts()
    ids = rng.integers(0, N_TOKENS, n * POSITIONS)
    token = pa.table(
        {
            "source": text("prompt", n * POSITIONS),
            "item": np.repeat(order, POSITIONS),
            "position": np.tile(np.arange(POSITIONS), n),
            "token_id": ids,
            "token": vocabulary.take(pa.array(ids)),
            "role": pa.array(list(ROLES) * n),
        }
    )
    logits = rng.normal(10, 2, (n, 3)).astype(np.float32)
    logits[:, 0] += 1.5
    margin = logits[:, 0] - logits[:, 1:].max(1)
    words = rng.integers(0, N_TOKENS, n * 3)
    answer = pa.table(
        {
            "prompt": np.repeat(order, 3),
            "answer": np.tile(np.arange(3), n),
            "role": pa.array(["correct", "contrast", "distractor"] * n),
            "text": vocabulary.take(pa.array(words)),
            "token_id": words,
            "logit": logits.ravel(),
            "logprob": (logits - 14).ravel(),
            "rank": np.tile(np.arange(3), n),
        }
    )
    top = rng.integers(0, N_TOKENS, n)
    baseline = pa.table(
        {
            "prompt": order,
            "margin": margin,
            "correct": margin > 0,
            "top1_token_id": top,
            "top1_token": vocabulary.take(pa.array(top)),
            "top1_logprob": np.full(n, -0.7, np.float32),
            "entropy": np.full(n, 2.5, np.float32),
        }
    )
    translations = order[prompts.language == 0]
    allowed = order[gate & (prompts.variant == 0)]
    pairs = np.concatenate([np.stack([translations, translations + 1]), np.stack([allowed, allowed + 2])], axis=1)
    pair = pa.table(
        {
            "pair": np.arange(pairs.shape[1]),
            "kind": choice(["translation", "minimal"], (np.arange(pairs.shape[1]) >= len(translations)).astype(int)),
            "prompt_a": pairs[0],
            "prompt_b": pairs[1],
        }
    )
    behaviour = pa.table(
        {
            "behaviour": ["antonyms", "gate"],
            "title": ["The opposite of a word", "Allow or refuse"],
            "computation_type": ["abstract_mapping", "gated_decision"],
            "languages": [list(LANGUAGES)] * 2,
            "n_prompts": [int((~gate).sum()), int(gate.sum())],
            "prompt_set_hash": ["0" * 64] * 2,
            "gate": [0.5, 0.5],
            "definition": ["", ""],
        }
    )
    return {"behaviour": behaviour, "prompt": prompt, "token": token, "answer": answer, "baseline": baseline, "prompt_pair": pair}


def token_texts() -> pa.Array:
    """Return the vocabulary: a dozen words, then numbered tokens."""
    return pa.array([f" {word}" for word in WORDS] + [f"token{k}" for k in range(N_TOKENS - len(WORDS))])


def rates(size: Size) -> Array:
    """Return the expected share of tokens of each feature by rank (F,), which sum to L0."""
    weight = (np.arange(size.features) + ZIPF_SHIFT) ** -ZIPF_POWER
    scale = L0 / weight.sum()
    for _ in range(20):  # what is cut off at .95 goes to the others
        rate = np.minimum(0.95, scale * weight)
        scale *= L0 / rate.sum()
    result: Array = np.minimum(0.95, scale * weight)
    return result


def grouped(keys: Array, n_keys: int) -> tuple[Array, Array]:
    """Return row numbers sorted by key, and where each key begins (n_keys + 1)."""
    order = np.argsort(keys, kind="stable")
    return order, np.searchsorted(keys[order], np.arange(n_keys + 1))


def draw_layer(size: Size, index: int, prompts: Prompts) -> dict[str, Array]:
    """Draw one layer's activations, sorted by feature, prompt, position."""
    rng = np.random.default_rng(1000 + index)
    number = rng.permutation(size.features)  # feature number of each rank
    rate = rates(size)
    kind = rng.choice(3, size.features, p=(0.7, 0.15, 0.15))  # any prompt, one cluster of concepts, one template
    kind[rate > 0.01] = 0
    kept = rng.choice(3, size.features, p=(0.39, 0.36, 0.25))  # how little the weaker language has: < .1, .1 to .5, > .5 of the stronger
    low, high = np.array([-0.1, 0.1, 0.5])[kept], np.array([0.1, 0.5, 1.0])[kept]
    ratio = np.clip(rng.uniform(low, high), 0, 1)
    ratio[rate > 0.2] = 1.0
    stronger = rng.integers(0, 2, size.features)
    role = rng.choice(len(ROLE_ORDER) - 1, size.features, p=ROLE_SHARES) + 1
    clusters = np.unique(prompts.cluster, return_inverse=True)[1]
    templates = np.unique(prompts.template, return_inverse=True)[1]
    by_role = [np.flatnonzero(np.array(ROLES) == name) for name in ROLE_ORDER]
    width = max(len(places) for places in by_role)
    places = np.stack([np.resize(part, width * 12) for part in by_role])  # (roles, ·): equal shares of each role's positions
    keys = []
    for language in (0, 1):
        mine = np.flatnonzero(prompts.language == language)
        tokens = len(mine) * (POSITIONS - 1)
        share = np.where(stronger == language, 1.0, ratio) * 2 / (1 + ratio)
        density = np.minimum(rate * share, 0.97)
        count = rng.poisson(-np.log1p(-density) * tokens)
        rank = np.repeat(np.arange(size.features, dtype=np.int32), count)
        u = rng.random(len(rank))
        prompt = mine[(u * len(mine)).astype(np.int64)]
        for code, column in ((1, clusters), (2, templates)):
            order, starts = grouped(column[mine], int(column.max()) + 1)
            live = np.flatnonzero(np.diff(starts) > 0)
            only = live[rng.integers(0, len(live), size.features)]
            some = kind[rank] == code
            first, last = starts[only[rank[some]]], starts[only[rank[some]] + 1]
            prompt[some] = mine[order[first + (u[some] * (last - first)).astype(np.int64)]]
        home = (rng.random(len(rank)) < 0.8) & (rate[rank] < 0.05)
        position = rng.integers(1, POSITIONS, len(rank))
        position[home] = places[role[rank[home]], rng.integers(0, places.shape[1], int(home.sum()))]
        keys.append((number[rank].astype(np.int64) * len(prompts) + prompt) * POSITIONS + position)
    sinks = rng.choice(size.features, min(SINK_L0, size.features), replace=False).astype(np.int64)
    keys.append(((sinks[:, None] * len(prompts) + np.arange(len(prompts))[None, :]) * POSITIONS).ravel())
    key = np.unique(np.concatenate(keys))
    feature = (key // (len(prompts) * POSITIONS)).astype(np.int32)
    centre = rng.normal(MEAN_LOG, SD_OF_FEATURES, size.features).astype(np.float32)
    value = np.exp(centre[feature] + rng.standard_normal(len(key), dtype=np.float32) * np.float32(SD_WITHIN))
    value = (value.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)  # exact in bfloat16
    return {
        "feature": feature,
        "prompt": (key // POSITIONS % len(prompts)).astype(np.int32),
        "position": (key % POSITIONS).astype(np.int16),
        "activation": np.maximum(value, np.float32(2**-20)),
    }


def count_tables(size: Size, index: int, rows: dict[str, Array], prompts: Prompts) -> tuple[dict[str, pa.Table], Array]:
    """Return feature, feature_language and feature_role of one layer, and prompts with each feature active (F,)."""
    real = rows["position"] > 0
    feature, prompt, value = (rows[name][real] for name in ("feature", "prompt", "activation"))
    role = np.array([ROLE_ORDER.index(name) for name in ROLES])[rows["position"][real]]
    language = prompts.language[prompt]
    new = np.diff(feature.astype(np.int64) * len(prompts) + prompt, prepend=-1) != 0
    n_prompts = np.bincount(prompts.language, minlength=2)
    slots = size.features * 2
    cell = feature.astype(np.int64) * 2 + language
    active, total = np.bincount(cell, minlength=slots), np.bincount(cell, value, slots)
    squares = np.bincount(cell, value.astype(np.float64) ** 2, slots)
    active_prompts = np.bincount(cell[new], minlength=slots)
    largest = np.zeros(slots, np.float32)
    np.maximum.at(largest, cell, value)
    both = active.reshape(-1, 2).sum(1)
    live = np.flatnonzero(np.repeat(both > 0, 2))
    spoken = pa.table(
        {
            "layer": np.full(len(live), index),
            "feature": live // 2,
            "language": choice(list(LANGUAGES), live % 2),
            "n_tokens": (n_prompts * (POSITIONS - 1))[live % 2],
            "n_active": active[live],
            "n_prompts": n_prompts[live % 2],
            "n_prompts_active": active_prompts[live],
            "sum_activation": total[live],
            "sum_squares": squares[live],
            "max_activation": largest[live],
        }
    )
    n_roles = len(ROLE_ORDER)
    spot = cell * n_roles + role
    n_here, sum_here = np.bincount(spot, minlength=slots * n_roles), np.bincount(spot, value, slots * n_roles)
    some = np.flatnonzero(n_here)
    per_role = np.array([ROLES.count(name) for name in ROLE_ORDER])
    placed = pa.table(
        {
            "layer": np.full(len(some), index),
            "feature": some // (2 * n_roles),
            "language": choice(list(LANGUAGES), some // n_roles % 2),
            "role": choice(list(ROLE_ORDER), some % n_roles),
            "n_tokens": n_prompts[some // n_roles % 2] * per_role[some % n_roles],
            "n_active": n_here[some],
            "sum_activation": sum_here[some],
        }
    )
    prompts_active = active_prompts.reshape(-1, 2).sum(1)
    return {
        "feature": _features(size, index, both, prompts_active, total, squares, largest, len(prompts)),
        "feature_language": spoken,
        "feature_role": placed,
    }, prompts_active


def _features(
    size: Size, index: int, active: Array, prompts_active: Array, total: Array, squares: Array, largest: Array, n_prompts: int
) -> pa.Table:
    rng = np.random.default_rng(2000 + index)
    n, vocabulary = size.features, token_texts()
    some = np.maximum(active, 1)
    mean = total.reshape(-1, 2).sum(1) / some
    variance = np.maximum(squares.reshape(-1, 2).sum(1) / some - mean**2, 0)

    def tokens(sign: int) -> dict[str, pa.Array]:
        picks = rng.integers(0, N_TOKENS, n * 5)
        picks[::5] = rng.integers(0, N_TOKENS + 4000, n) % N_TOKENS  # words first a little more often
        offsets = pa.array(np.arange(0, n * 5 + 1, 5, dtype=np.int32))
        weights = np.tile(sign * np.linspace(0.9, 0.3, 5), n).astype(np.float32)
        word = "promoted" if sign > 0 else "suppressed"
        return {
            f"{word}_token_ids": pa.ListArray.from_arrays(offsets, pa.array(picks.astype(np.int32))),
            f"{word}_tokens": pa.ListArray.from_arrays(offsets, vocabulary.take(pa.array(picks))),
            f"{word}_weights": pa.ListArray.from_arrays(offsets, pa.array(weights)),
        }

    n_tokens = n_prompts * (POSITIONS - 1)
    none = active == 0
    return pa.table(
        {
            "layer": np.full(n, index),
            "feature": np.arange(n),
            "n_tokens": np.full(n, n_tokens),
            "n_active": active,
            "n_prompts_active": prompts_active,
            "density": active / n_tokens,
            "max_activation": pa.array(largest.reshape(-1, 2).max(1), mask=none),
            "mean_activation": pa.array(mean.astype(np.float32), mask=none),
            "sd_activation": pa.array(np.sqrt(variance).astype(np.float32), mask=none),
            "encoder_norm": rng.uniform(0.5, 2, n).astype(np.float32),
            "decoder_norm": rng.uniform(0.5, 2, n).astype(np.float32),
            **tokens(1),
            **tokens(-1),
        }
    )


def look_tables(size: Size, index: int, rows: dict[str, Array], prompts: Prompts, prompts_active: Array) -> dict[str, pa.Table]:
    """Return contexts of features active on two prompts or more, histograms and neighbours of those active on ten or more."""
    real = rows["position"] > 0
    feature, prompt, position, value = (rows[name][real] for name in ("feature", "prompt", "position", "activation"))
    order = np.lexsort((-value, feature))
    ranked = feature[order]
    starts = np.searchsorted(ranked, np.arange(size.features))
    rank = np.arange(len(order)) - starts[ranked]
    chosen = order[(rank < TOP_CONTEXTS) & (prompts_active[ranked] >= 2)]
    rank = rank[(rank < TOP_CONTEXTS) & (prompts_active[ranked] >= 2)]
    n = len(chosen)
    low = np.maximum(position[chosen] - WINDOW, 0)
    high = np.minimum(position[chosen] + WINDOW, POSITIONS - 1)
    offsets = np.concatenate([[0], np.cumsum(high - low + 1)]).astype(np.int32)
    window = np.zeros(int(offsets[-1]), np.float32)
    window[offsets[:-1] + position[chosen] - low] = value[chosen]
    context = pa.table(
        {
            "layer": np.full(n, index),
            "feature": feature[chosen],
            "kind": text("top", n),
            "rank": rank,
            "source": text("prompt", n),
            "item": prompt[chosen],
            "position": position[chosen],
            "language": choice(list(LANGUAGES), prompts.language[prompt[chosen]]),
            "activation": value[chosen],
            "quantile": np.full(n, 9),
            "window_start": low,
            "window_end": high,
            "window_activations": pa.ListArray.from_arrays(pa.array(offsets), pa.array(window)),
        }
    )
    common = np.flatnonzero(prompts_active >= 10)
    top = np.zeros(size.features, np.float32)
    np.maximum.at(top, feature, value)
    cell = feature.astype(np.int64) * 10 + np.minimum((value / top[feature] * 10).astype(np.int64), 9)
    filled = np.bincount(cell, minlength=size.features * 10).reshape(-1, 10)[common].ravel()
    bins, owner = np.tile(np.arange(10), len(common)), np.repeat(common, 10)
    histogram = pa.table(
        {
            "layer": np.full(len(owner), index),
            "feature": owner,
            "bin": bins,
            "low": (top[owner] * bins / 10).astype(np.float32),
            "high": (top[owner] * (bins + 1) / 10).astype(np.float32),
            "n": filled,
        }
    )
    rng = np.random.default_rng(3000 + index)
    each = 10
    n = len(common) * each
    kinds = np.tile(np.repeat([0, 1], each // 2), len(common))
    neighbour = pa.table(
        {
            "layer": np.full(n, index),
            "feature": np.repeat(common, each),
            "kind": choice(["decoder_cosine", "coactivation"], kinds),
            "rank": np.tile(np.arange(each) % (each // 2), len(common)),
            "neighbour_layer": np.full(n, index),
            "neighbour_feature": rng.choice(common, n) if n else common,
            "similarity": np.tile(np.linspace(0.9, 0.2, each // 2), 2 * len(common)).astype(np.float32),
        }
    )
    return {"context": context, "histogram": histogram, "neighbour": neighbour}


def layer_tables(size: Size, index: int, prompts: Prompts) -> dict[str, pa.Table]:
    """Return all tables of one layer."""
    rows = draw_layer(size, index, prompts)
    counts, prompts_active = count_tables(size, index, rows, prompts)
    activation = pa.table({"layer": np.full(len(rows["feature"]), index, np.int16), **rows})
    n = len(prompts) * (POSITIONS - 1) // 2
    quality = pa.table(
        {"layer": [index] * 2, "language": list(LANGUAGES), "n_tokens": [n] * 2, "l0": [float(L0)] * 2, "fvu": [0.2] * 2, "n_dead": [0] * 2}
    )
    return {"activation": activation, "transcoder_quality": quality, **counts, **look_tables(size, index, rows, prompts, prompts_active)}


def make(folder: Path, size: Size, *, memory: str | None = None) -> Path:
    """Write and publish the atlas in `folder`; what a stopped call has committed is kept. Returns the folder."""
    import queries
    from atlas.publish import publish
    from atlas.settings import INLINE_ROWS, PUBLISH_MEMORY
    from benchmarks.synthetic_evidence import evidence_tables

    plan = {"kind": "ingest", "name": "synthetic", "rows": size.rows, "layers": size.layers, "features": size.features, "version": 1}
    atlas = Atlas.create(folder)
    prompts, started = design(size), time.monotonic()
    with RunWriter(atlas, plan, run_id(plan)) as writer:
        if not writer.is_done("prompts"):
            writer.commit("prompts", {**_models(size), **prompt_tables(prompts, np.random.default_rng(0))})
        for index in range(size.layers):
            if not writer.is_done(f"layer-{index:02d}"):
                begun = time.monotonic()
                tables = layer_tables(size, index, prompts)
                writer.commit(f"layer-{index:02d}", tables)
                say(f"layer {index}: {tables['activation'].num_rows:,} rows, {time.monotonic() - begun:.1f} s")
        if not writer.is_done("evidence"):
            writer.commit("evidence", evidence_tables(size, prompts))
        row = {"kind": "ingest", "name": "synthetic", "model_id": MODEL, "transcoder_set": SET, "machine": "synthetic", "seed": 0}
        writer.finish(row)
    say(f"written: {time.monotonic() - started:.0f} s")
    begun = time.monotonic()
    steps, audits = queries.build_steps(), queries.audits()
    names = {"build steps": [step.name for step in steps], "audits": [audit.name for audit in audits]}
    last, peaks = begun, [peak_memory()]

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.5 or what in names:
            peak = peak_memory()
            say(f"  {what} {names[what][done - 1] if what in names else f'{done}/{total}'}: {now - last:.1f} s, {peak:,.0f} MB")
            peaks.append(peak)
            last = now

    result = publish(
        folder,
        build=steps,
        audits=audits,
        progress=progress,
        inline_rows=INLINE_ROWS,
        memory=memory or PUBLISH_MEMORY,
    )
    peak = max(*peaks[1:], peak_memory())
    say(f"published: {time.monotonic() - begun:.0f} s, {result.n_rows:,} rows, {result.n_bytes / 1e9:.2f} GB, peak memory {peak:,.0f} MB")
    return folder


def peak_memory() -> float:
    """Return the largest resident memory of this process since the last call, in MB; since its start where a kernel cannot forget."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _models(size: Size) -> dict[str, pa.Table]:
    model = {
        "model_id": MODEL,
        "name": "synthetic",
        "source": "synthetic",
        "architecture": "Qwen3ForCausalLM",
        "dtype": "bfloat16",
        "n_layers": size.layers,
        "d_model": 2560,
        "vocab_size": N_TOKENS,
    }
    n = size.layers
    transcoder = {
        "transcoder_set": [SET] * n,
        "layer": np.arange(n),
        "model_id": [MODEL] * n,
        "source": ["synthetic"] * n,
        "d_transcoder": [size.features] * n,
        "activation": ["relu"] * n,
        "dtype": ["bfloat16"] * n,
        "has_skip": [False] * n,
        "hook_in": ["mlp_in"] * n,
        "hook_out": ["mlp_out"] * n,
        "gain_folded": [True] * n,
        "neuronpedia": [f"synthetic/{k}-transcoder" for k in range(n)],
    }
    return {"model": pa.Table.from_pylist([model]), "transcoder": pa.table(transcoder)}


def main() -> int:
    """Make an atlas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=float, default=1e8, help="activations (default: 100 million)")
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--features", type=int, default=163_840, help="features a layer")
    parser.add_argument("--memory", help="memory limit of publishing; the default is that of `atlas publish`")
    given = parser.parse_args()
    try:
        make(given.folder, Size(int(given.rows), given.layers, given.features), memory=given.memory)
    except AtlasError as error:
        say(f"{error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
