"""Language scores of features with their nulls: table feature_score (METHODS, section 7).

In: feature_language, activation, prompts and the named parameter sets. Out: one row per feature, score, parameter set and languages.

1. Counts of a run become arrays (F, L); every score but the translation lift follows from them alone.
2. Where the run has raw activations, chance is computed too, for the features that fire most: languages dealt anew per cluster for LAPE
   and monolinguality, concepts dealt anew within template and length for the translation lift, two one-sided cluster t tests for equal
   rates. These features are scored first, by themselves.
3. One score after another is computed for all features, takes over what chance gives, and is written, so that millions of features
   never hold more than one score. Benjamini-Hochberg within (run, score, parameter set).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from atlas import stats
from queries.design import (
    Design,
    Floats,
    Ints,
    Pairs,
    Presence,
    concept_shuffles,
    fetch,
    language_shuffles,
    presence,
    read_design,
    read_fired,
    read_pairs,
    read_parameters,
    read_roles,
)
from queries.loader import read_sql

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

CHUNK = 1024
"""Features whose nulls are computed together: bounds memory at about CHUNK x draws x (languages + 1) doubles."""
DEALS = 100
"""Deals of languages that are multiplied together."""
BATCH = 250_000
"""Rows handed to the database at once."""
Numbers = NDArray[Any]
Parameters = Mapping[tuple[str, str], Mapping[str, str]]


@dataclass(frozen=True)
class Counts:
    """feature_language of one run as arrays; F features, L languages."""

    layer: Numbers
    feature: Numbers
    languages: tuple[str, ...]
    n_tokens: Numbers
    """(F, L), as all below; counts are whole numbers."""
    n_active: Numbers
    n_prompts: Numbers
    n_prompts_active: Numbers
    sum_activation: Floats
    sum_squares: Floats

    def take(self, rows: Ints) -> Counts:
        """Return some features' counts."""
        numbers = (self.n_tokens, self.n_active, self.n_prompts, self.n_prompts_active, self.sum_activation, self.sum_squares)
        return Counts(self.layer[rows], self.feature[rows], self.languages, *(values[rows] for values in numbers))

    @property
    def rate(self) -> Floats:
        """Share of tokens with the feature active (F, L)."""
        return self.n_active / np.maximum(self.n_tokens, 1)

    @property
    def mean(self) -> Floats:
        """Mean activation over all tokens (F, L)."""
        return self.sum_activation / np.maximum(self.n_tokens, 1)


CAUSAL_ALPHA = 0.05
"""q-value up to which a feature counts as a causal bridge: below 0 in both languages after its controls, and tested (METHODS section 7)."""


@dataclass
class Score:
    """One score of all features of a run; missing numbers are NaN."""

    name: str
    parameter_set: str
    languages: str
    value: Floats
    flag: NDArray[np.bool_]
    n: NDArray[Any]
    p_value: Floats = field(init=False)
    null_mean: Floats = field(init=False)
    null_high: Floats = field(init=False)

    def __post_init__(self) -> None:
        """Begin without a null; a broadcast NaN costs no memory on millions of features."""
        self.p_value = self.null_mean = self.null_high = np.broadcast_to(np.float64(np.nan), self.value.shape)

    def allow_null(self) -> None:
        """Make room for a null of some features."""
        if not self.p_value.flags.writeable:
            self.p_value, self.null_mean, self.null_high = (np.full(len(self.value), np.nan) for _ in range(3))


def read_counts(con: duckdb.DuckDBPyConnection, run: str, support: int) -> Counts:
    """Read the counts of features that are active on at least `support` prompts, a layer at a time."""
    languages = tuple(fetch(con, "languages", run=run)["language"].astype(str).tolist())
    whole = ("n_tokens", "n_active", "n_prompts", "n_prompts_active")
    names = (*whole, "sum_activation", "sum_squares")
    layers: list[Numbers] = [np.zeros(0, dtype=np.int16)]
    features: list[Numbers] = [np.zeros(0, dtype=np.int32)]
    parts: dict[str, list[Numbers]] = {name: [np.zeros((0, len(languages)), np.int32 if name in whole else np.float64)] for name in names}
    for layer in fetch(con, "counted_layers", run=run)["layer"].tolist():
        spoken = [fetch(con, "feature_counts", run=run, layer=layer, support=support, language=language) for language in languages]
        features.append(spoken[0]["feature"].astype(np.int32))
        layers.append(np.full(len(features[-1]), layer, dtype=np.int16))
        for name in names:
            values = np.stack([rows[name] for rows in spoken], axis=-1)
            parts[name].append(values.astype(np.int32) if name in whole and values.max(initial=0) < 2**31 else values)
    return Counts(np.concatenate(layers), np.concatenate(features), languages, *(np.concatenate(parts.pop(name)) for name in names))


def language_profile(counts: Counts, a: int, b: int, leaning: int, other: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return -1 (leans to a), 0 (balanced), 1 (leans to b) or NaN (insufficient), and whether it is balanced (the thesis)."""
    x, y = counts.n_prompts_active[:, a], counts.n_prompts_active[:, b]
    balanced = (x >= leaning) & (y >= leaning)
    value = np.select([balanced, (x >= leaning) & (y <= other), (y >= leaning) & (x <= other)], [0.0, -1.0, 1.0], np.nan)
    return value, balanced


def entropy(rate: Floats) -> Floats:
    """Entropy in nats of rates normalised over the last axis (LAPE, Tang et al. 2024); NaN where all are 0."""
    total = rate.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = rate / total
    summed = np.asarray(special.xlogy(share, share), dtype=np.float64).sum(-1)
    return np.asarray(np.where(total[..., 0] > 0, -summed, np.nan), dtype=np.float64)


def monolinguality(mean: Floats, language: int) -> Floats:
    """Mean activation in a language minus the mean of the other languages' means (arXiv 2505.05111)."""
    others = np.delete(mean, language, axis=-1).mean(-1) if mean.shape[-1] > 1 else np.zeros(mean.shape[:-1])
    return np.asarray(mean[..., language] - others)


def pooled_sd(counts: Counts) -> Floats:
    """Standard deviation of activations over tokens, pooled over languages (F,)."""
    within = counts.sum_squares - counts.sum_activation**2 / np.maximum(counts.n_tokens, 1)
    return np.asarray(np.sqrt(np.maximum(within.sum(-1), 0) / np.maximum((counts.n_tokens - 1).sum(-1), 1)))


def count_scores(counts: Counts, parameters: Parameters) -> Iterator[list[Score]]:
    """Yield every score that follows from counts, of one name and parameter set together: one family of tests."""
    everything = "+".join(counts.languages)
    for (name, score), given in parameters.items():
        if score == "lape":
            value = entropy(counts.rate)
            yield [Score("lape", name, everything, value, np.exp(value) >= float(given["effective"]), counts.n_active.sum(-1))]
        elif score == "shared_k":
            yield [_shared_k(counts, name, everything, given)]
        elif score == "monolinguality":
            yield from _monolinguality(counts, name)
        elif score in ("language_profile", "bilingual_rate"):
            yield [_pair_score(counts, a, b, name, score, given) for a, b in combinations(range(len(counts.languages)), 2)]


def _shared_k(counts: Counts, name: str, languages: str, given: Mapping[str, str]) -> Score:
    rate, top = counts.rate, counts.rate.max(-1, initial=0)
    k = ((rate >= float(given["share"]) * top[:, None]) & (top[:, None] > 0)).sum(-1).astype(np.float64)
    examples = (counts.n_prompts_active / np.maximum(counts.n_prompts, 1)).max(-1, initial=0)
    gated = (examples >= float(given["gate_examples"])) & (top > float(given["gate_tokens"]))
    return Score("shared_k", name, languages, k, (k == 2) & gated, counts.n_prompts.sum(-1))


def _monolinguality(counts: Counts, name: str) -> Iterator[list[Score]]:
    none = np.broadcast_to(np.False_, counts.layer.shape)
    values = [monolinguality(counts.mean, index) for index in range(len(counts.languages))]
    named = list(zip(counts.languages, values, counts.n_tokens.T, strict=True))
    yield [Score("monolinguality", name, language, value, none, n) for language, value, n in named]
    sd = pooled_sd(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        yield [Score("monolinguality_d", name, language, np.where(sd > 0, value / sd, np.nan), none, n) for language, value, n in named]


def _pair_score(counts: Counts, a: int, b: int, name: str, score: str, given: Mapping[str, str]) -> Score:
    languages = f"{counts.languages[a]}+{counts.languages[b]}"
    x, y = counts.n_prompts_active[:, a], counts.n_prompts_active[:, b]
    if score == "language_profile":
        value, flag = language_profile(counts, a, b, int(given["leaning"]), int(given["other"]))
        return Score(score, name, languages, value, flag, x + y)
    m, n = counts.n_prompts[:, a], counts.n_prompts[:, b]
    level = float(given["level"])
    lower = np.minimum(stats.wilson(x, m, level=level)[0], stats.wilson(y, n, level=level)[0])
    result = Score(score, name, languages, lower, lower >= float(given["rate"]), np.minimum(m, n))
    result.p_value = _equal_rates(x, m, y, n, float(given["margin"]))
    return result


def _equal_rates(x: Numbers, m: Numbers, y: Numbers, n: Numbers, margin: float) -> Floats:
    """Larger p of two one-sided z tests that the rates x/m and y/n differ by less than `margin`; used where no prompt can be paired."""
    p, q = (x + 0.5) / (m + 1), (y + 0.5) / (n + 1)
    error = np.sqrt(p * (1 - p) / np.maximum(m, 1) + q * (1 - q) / np.maximum(n, 1))
    difference = p - q
    return np.asarray(np.maximum(special.ndtr((difference - margin) / error), special.ndtr(-(difference + margin) / error)))


def null_scores(con: duckdb.DuckDBPyConnection, run: str, counts: Counts, parameters: Parameters) -> list[Score]:
    """Score some features with p-values and nulls from raw activations, layer by layer; the translation scores come last."""
    design = read_design(con, run)
    general = parameters["default", "all"]
    draws, seed = int(general["draws"]), int(general["seed"])
    layers = np.unique(counts.layer).tolist()
    scores = [score for family in count_scores(counts, parameters) for score in family]
    if not len(design.prompt) or not len(fetch(con, "layers", run=run)["layer"]):
        return scores
    pairs, roles = read_pairs(con, run, design), read_roles(con, run)
    deals = language_shuffles(design, draws, seed) if len(design.languages) > 1 else None
    shuffles = [concept_shuffles(design, pair, draws, seed) for pair in pairs]
    lifts = [_empty_lift(counts, pair) for pair in pairs]
    for layer in layers:
        rows = np.flatnonzero(counts.layer == layer)
        found = presence(read_fired(con, run, layer, roles, counts.feature[rows]), design)
        rows = rows[np.isin(counts.feature[rows], found.feature)]
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            at = np.searchsorted(found.feature, counts.feature[some])
            if deals is not None and design.languages == counts.languages:
                _language_nulls(design, found, at, some, deals, scores)
            fired = np.asarray(found.n_active[at].todense()) > 0  # (f, P)
            for pair, shuffle, lift in zip(pairs, shuffles, lifts, strict=True):
                _tost(design, pair, fired, some, scores, parameters)
                _translation(pair, shuffle, fired, some, lift, int(parameters["default", "translation_lift"]["active"]))
    return scores + [score for part in zip(*lifts, strict=True) for score in part]


def _most_active(counts: Counts, limit: int, cells: int) -> Ints:
    """Return the rows of the features that get a null, in order: those active on most prompts, up to `cells` active prompts in all."""
    active = counts.n_prompts_active.sum(-1, dtype=np.int64)
    order = np.argsort(-active, kind="stable")[:limit]
    return np.sort(order[np.cumsum(active[order]) <= cells])


def _empty_lift(counts: Counts, pair: Pairs) -> tuple[Score, Score]:
    def one(name: str) -> Score:
        empty = np.full(len(counts.feature), np.nan)
        return Score(name, "default", pair.name, empty, np.zeros(len(empty), dtype=bool), np.full(len(empty), float(len(pair.a))))

    return one("translation_lift"), one("translation_phi")


def _language_nulls(design: Design, presence: Presence, at: Ints, rows: Ints, deals: Ints, scores: list[Score]) -> None:
    """Deal languages anew per cluster: is LAPE lower, or the mean in one language higher, than such deals give?"""
    n_languages = len(design.languages)
    n_active, total = (_filled(matrix[at]) for matrix in (presence.n_active, presence.sum_activation))
    lape = np.empty((len(at), len(deals)))
    alone = np.empty((n_languages, *lape.shape))
    for start in range(0, len(deals), DEALS):
        some = deals[start : start + DEALS]
        flat = (some.T[:, :, None] == np.arange(n_languages)).reshape(len(design.prompt), -1).astype(np.float64)  # (P, d * L)
        tokens = np.maximum(design.n_tokens @ flat, 1)
        rate, mean = ((matrix @ flat / tokens).reshape(len(at), len(some), n_languages) for matrix in (n_active, total))
        here = slice(start, start + DEALS)
        lape[:, here] = entropy(rate)
        for language in range(n_languages):
            alone[language, :, here] = monolinguality(mean, language)
    for score in scores:
        if score.name == "lape":
            _fill(score, rows, lape, below=True)
        elif score.name == "monolinguality":
            _fill(score, rows, alone[design.languages.index(score.languages)], below=False)


def _filled(matrix: sparse.csr_matrix) -> sparse.csr_matrix | Floats:
    """Return a matrix as the kind that multiplies faster: features that fire on a tenth of all prompts make it dense."""
    return np.asarray(matrix.todense()) if matrix.nnz > matrix.shape[0] * matrix.shape[1] / 10 else matrix


def _fill(score: Score, rows: Ints, null: Floats, *, below: bool) -> None:
    """Put the null of some rows into a score; rounding alone does not make a draw less extreme than the observed value."""
    score.allow_null()
    observed = score.value[rows][:, None]
    slack = 1e-9 * np.maximum(np.abs(observed), 1e-3)
    extreme = null <= observed + slack if below else null >= observed - slack
    score.p_value[rows] = (1 + extreme.sum(-1)) / (1 + null.shape[-1])
    score.null_mean[rows] = null.mean(-1)
    score.null_high[rows] = np.quantile(null, 0.95, axis=-1)


def _tost(design: Design, pair: Pairs, fired: NDArray[np.bool_], rows: Ints, scores: list[Score], parameters: Parameters) -> None:
    """Two one-sided cluster t tests that the rates over paired prompts differ by less than the margin."""
    difference = fired[:, pair.b].astype(np.float64) - fired[:, pair.a]  # (f, n_pairs)
    clusters = design.cluster[pair.a]
    smallest = 0.5 ** len(np.unique(clusters))
    for score in scores:
        if score.name == "bilingual_rate" and score.languages == pair.name:
            score.allow_null()
            margin = float(parameters[score.parameter_set, "bilingual_rate"]["margin"])
            below = stats.cluster_t_p(difference - margin, clusters, alternative="less")
            above = stats.cluster_t_p(difference + margin, clusters, alternative="greater")
            # Equal differences in all clusters have no variance and would give p = 0; a sign flip could not go below 2^-G.
            score.p_value[rows] = np.maximum(np.maximum(below, above), smallest)


def _translation(pair: Pairs, shuffle: Ints, fired: NDArray[np.bool_], rows: Ints, lift: tuple[Score, Score], active: int) -> None:
    """P(active in b | active in a) / P(active in b) over translation pairs, and phi, against concepts dealt anew."""
    x, y = fired[:, pair.a], fired[:, pair.b]  # (f, n)
    n, in_a, in_b = x.shape[1], x.sum(-1), y.sum(-1)
    enough = (in_a >= active) & (in_b >= active)
    rows, x, y, in_a, in_b = rows[enough], x[enough], y[enough], in_a[enough], in_b[enough]
    if not len(rows):
        return
    joint = (x & y).sum(-1)
    null = np.empty((len(rows), len(shuffle)))
    dense = in_a > n / 16
    null[dense] = _dense_matches(x[dense], y[dense], shuffle)
    null[~dense] = _sparse_matches(x[~dense], y[~dense], shuffle)
    expected = (in_a * in_b / n)[:, None]
    spread = np.sqrt(in_a * (n - in_a) * in_b * (n - in_b) / n**2)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        phi_null = np.where(spread > 0, (null - expected) / spread, np.nan)
        phi = np.where(spread[:, 0] > 0, (joint - expected[:, 0]) / spread[:, 0], np.nan)
    lift[0].value[rows] = joint / expected[:, 0]
    lift[1].value[rows] = phi
    _fill(lift[0], rows, null / expected, below=False)
    varied = spread[:, 0] > 0
    _fill(lift[1], rows[varied], phi_null[varied], below=False)


def _dense_matches(x: NDArray[np.bool_], y: NDArray[np.bool_], shuffle: Ints) -> Floats:
    """Count the pairs that are on in both under every deal (f, D), for features that are on in many pairs."""
    first, second = np.ascontiguousarray(x.T), np.ascontiguousarray(y.T)  # (n, f): a deal takes whole rows
    null = np.empty((x.shape[0], len(shuffle)))
    for draw, partner in enumerate(shuffle):
        null[:, draw] = np.add.reduce(first & second[partner], axis=0, dtype=np.int32)
    return null


def _sparse_matches(x: NDArray[np.bool_], y: NDArray[np.bool_], shuffle: Ints) -> Floats:
    """Count the same for features that are on in few pairs."""
    feature, where = np.nonzero(x)
    null = np.empty((x.shape[0], len(shuffle)))
    for draw, partner in enumerate(shuffle):
        null[:, draw] = np.bincount(feature, weights=y[feature, partner[where]], minlength=x.shape[0])
    return null


def families(counts: Counts, tested: Ints, judged: list[Score], parameters: Parameters) -> Iterator[list[Score]]:
    """Yield the scores of all features, a family at a time; `judged` are those of the features at `tested`, with their nulls."""
    for family in count_scores(counts, parameters):
        for score in family:
            _take_over(score, tested, next(one for one in judged if _key(one) == _key(score)))
        yield family
    for name in ("translation_lift", "translation_phi"):
        family = []
        for one in judged:
            if one.name == name:
                value, flag = np.full(len(counts.layer), np.nan), np.zeros(len(counts.layer), dtype=bool)
                value[tested] = one.value
                score = Score(name, one.parameter_set, one.languages, value, flag, np.broadcast_to(one.n[:1].max(initial=0), value.shape))
                _take_over(score, tested, one)
                family.append(score)
        if family:
            yield family


def _key(score: Score) -> tuple[str, str, str]:
    return score.name, score.parameter_set, score.languages


def _take_over(score: Score, tested: Ints, judged: Score) -> None:
    """Take the p-values and nulls of the tested features."""
    for name in ("p_value", "null_mean", "null_high"):
        found = getattr(judged, name)
        if not np.isnan(found).all():
            if not getattr(score, name).flags.writeable:
                setattr(score, name, np.full(len(score.value), np.nan))
            getattr(score, name)[tested] = found


def finish(family: list[Score], parameters: Parameters) -> list[Floats]:
    """Return q-values of the scores of one name and parameter set; set the flags that speak of a test."""
    q_values = stats.benjamini_hochberg(np.concatenate([np.zeros(0), *(score.p_value for score in family)]))
    parts = np.split(q_values, np.cumsum([len(score.value) for score in family])[:-1]) if family else []
    for score, q_value in zip(family, parts, strict=True):
        given = parameters.get((score.parameter_set, score.name), {})
        if score.name == "monolinguality":
            score.flag = np.nan_to_num(q_value, nan=1.0) < float(given["alpha"])
        elif score.name == "translation_lift":
            # One concept among G cannot pass a test over thousands of features: the flag is the feature's own p and a large lift.
            small = np.nan_to_num(score.p_value, nan=1.0) <= float(given["alpha"])
            score.flag = small & (np.nan_to_num(score.value) >= float(given["lift"]))
        elif score.name == "causal_bridge":
            score.flag = score.flag & (np.nan_to_num(q_value, nan=1.0) <= CAUSAL_ALPHA)
    return parts


def insert_scores(
    con: duckdb.DuckDBPyConnection, run: str, layer: Numbers, feature: Numbers, family: list[Score], parameters: Parameters
) -> None:
    """Write the scores of one name and parameter set to feature_score."""
    import pyarrow as pa

    for score, q_value in zip(family, finish(family, parameters), strict=True):
        numbers = {
            "value": score.value,
            "null_mean": score.null_mean,
            "null_high": score.null_high,
            "p_value": score.p_value,
            "q_value": q_value,
        }
        whole = {"layer": layer, "feature": feature, "n": score.n}
        kinds = {**dict.fromkeys(whole, pa.int64()), "flag": pa.bool_(), **dict.fromkeys(numbers, pa.float64())}
        columns = {**whole, "flag": score.flag, **numbers}
        con.register("scored", pa.RecordBatchReader.from_batches(pa.schema(list(kinds.items())), _batches(columns, kinds)))
        head = {"run": run, "score": score.name, "parameter_set": score.parameter_set, "languages": score.languages}
        con.execute(read_sql("build", "feature_score"), head)
        con.unregister("scored")


def _batches(columns: Mapping[str, Numbers], kinds: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Yield columns a stretch at a time, so that their Arrow form never stands whole in memory; NaN becomes null."""
    import pyarrow as pa

    for start in range(0, len(columns["layer"]), BATCH):
        parts = {name: values[start : start + BATCH] for name, values in columns.items()}
        parts["n"] = parts["n"].astype(np.int64)
        arrays = [pa.array(values, kinds[name], from_pandas=values.dtype.kind == "f") for name, values in parts.items()]
        yield pa.RecordBatch.from_arrays(arrays, names=list(parts))


def write_feature_scores(con: duckdb.DuckDBPyConnection) -> None:
    """Score the features of every run that has counts and no scores."""
    parameters = read_parameters(con)
    general = parameters["default", "all"]
    for run in fetch(con, "scored_runs")["run_id"].astype(str).tolist():
        counts = read_counts(con, run, int(general["support"]))
        if not len(counts.feature):
            continue
        tested = _most_active(counts, int(general["null_features"]), int(general["null_cells"]))
        judged = null_scores(con, run, counts.take(tested), parameters)
        for family in families(counts, tested, judged, parameters):
            insert_scores(con, run, counts.layer, counts.feature, family, parameters)
