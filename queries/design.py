"""The design of a run's prompts, and how chance would have dealt them: what nulls and clustered tests are made of.

In: a connection and a run. Out: arrays over prompts, translation pairs, and permutations that respect concepts.

1. A prompt has a language, a concept, a cluster (the unit that statistics resample) and a stratum: what a null keeps fixed.
2. `concept_shuffles` deals concepts anew within strata of equal template and length, one deal for all templates, so that a
   concept stays together (METHODS, section 7: concepts shuffled within template and length).
3. `language_shuffles` deals languages anew, one deal per cluster (sign flips over clusters where there are two languages).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from queries.loader import read_sql

if TYPE_CHECKING:
    import duckdb

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
PSEUDO_LANGUAGE = "xx"
ROLES = ("sink", "content", "operator", "quote", "template", "decision", "padding", "other")
"""Roles in the order of schema.sql's enum."""
SINK = ROLES.index("sink")


def fetch(con: duckdb.DuckDBPyConnection, stem: str, **parameters: object) -> dict[str, NDArray[Any]]:
    """Run `build/<stem>.sql` and return its columns."""
    columns = con.execute(read_sql("build", stem), parameters).fetchnumpy()
    return {
        name: np.asarray(np.ma.filled(values)) if np.ma.isMaskedArray(values) else np.asarray(values) for name, values in columns.items()
    }


def codes(*columns: NDArray[Any]) -> Ints:
    """Return one integer per distinct combination of the columns."""
    result = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        _, code = np.unique(np.asarray(column).astype(str), return_inverse=True)
        result = result * (int(code.max(initial=0)) + 1) + code
    return np.unique(result, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Design:
    """Prompts of one run, P of them in real languages; all arrays are indexed by row, not by prompt ordinal."""

    prompt: Ints
    language: NDArray[np.str_]
    concept: Ints
    cluster: Ints
    setting: Ints
    """Behaviour, template and variant: what two prompts share that ask the same of different concepts."""
    template: Ints
    partner: Ints
    """Code of the antonym partner's concept, -1 where there is none."""
    n_tokens: Ints

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages in order."""
        return tuple(sorted(set(self.language.tolist())))

    def row(self, prompts: Ints) -> Ints:
        """Return the row of each prompt ordinal, -1 where it is not here."""
        place = np.full(int(max(self.prompt.max(initial=-1), prompts.max(initial=-1))) + 2, -1, dtype=np.int64)
        place[self.prompt] = np.arange(len(self.prompt))
        return place[prompts]


def read_design(con: duckdb.DuckDBPyConnection, run: str) -> Design:
    """Read the prompts of a run."""
    rows = fetch(con, "prompts", run=run)
    real = rows["language"].astype(str) != PSEUDO_LANGUAGE
    rows = {name: values[real] for name, values in rows.items()}
    concept_names = np.asarray([f"{b}\0{c}" for b, c in zip(rows["behaviour"], rows["concept"], strict=True)], dtype=str)
    partner_names = np.asarray([f"{b}\0{c}" for b, c in zip(rows["behaviour"], rows["partner"], strict=True)], dtype=str)
    names, concept = np.unique(concept_names, return_inverse=True)
    found = np.searchsorted(names, partner_names) if len(names) else np.zeros(0, dtype=np.int64)
    found = np.minimum(found, max(len(names) - 1, 0))
    partner = np.where(names[found] == partner_names, found, -1) if len(names) else found
    return Design(
        prompt=rows["prompt"].astype(np.int64),
        language=rows["language"].astype(str),
        concept=concept.astype(np.int64),
        cluster=codes(rows["behaviour"], rows["cluster"]),
        setting=codes(rows["behaviour"], rows["template"], rows["variant"]),
        template=codes(rows["template"]),
        partner=partner.astype(np.int64),
        n_tokens=rows["n_tokens"].astype(np.int64),
    )


@dataclass(frozen=True)
class Pairs:
    """Translation pairs of two languages, as rows of a Design."""

    languages: tuple[str, str]
    a: Ints
    b: Ints

    @property
    def name(self) -> str:
        """`en+fr`."""
        return "+".join(self.languages)


def read_pairs(con: duckdb.DuckDBPyConnection, run: str, design: Design) -> list[Pairs]:
    """Read the translation pairs of every two languages of a run."""
    rows = fetch(con, "translation_pairs", run=run)
    a, b = design.row(rows["prompt_a"].astype(np.int64)), design.row(rows["prompt_b"].astype(np.int64))
    first, second = rows["language_a"].astype(str), rows["language_b"].astype(str)
    pairs = []
    for one, other in sorted(set(zip(first.tolist(), second.tolist(), strict=True))):
        mine = (first == one) & (second == other) & (a >= 0) & (b >= 0)
        if mine.any():
            pairs.append(Pairs((one, other), a[mine], b[mine]))
    return pairs


def concept_shuffles(design: Design, pairs: Pairs, draws: int, seed: int) -> Ints:
    """Return (draws, n_pairs): which pair's second prompt each first prompt is put beside.

    The stratum is setting and length of the second prompt. One key per concept and draw orders every stratum, so strata with
    the same concepts are dealt alike.
    """
    generator = np.random.default_rng(seed)
    stratum = codes(design.setting[pairs.b], design.n_tokens[pairs.b])
    concept = design.concept[pairs.b]
    tie = np.arange(len(concept))
    order = np.lexsort((tie, concept, stratum))
    shuffles = np.empty((draws, len(concept)), dtype=np.int64)
    for draw in range(draws):
        key = generator.random(int(design.concept.max(initial=0)) + 1)
        shuffles[draw, order] = np.lexsort((tie, key[concept], stratum))
    return shuffles


def language_shuffles(design: Design, draws: int, seed: int) -> Ints:
    """Return (draws, P): the index into `design.languages` that each prompt gets when languages are dealt anew per cluster."""
    generator = np.random.default_rng(seed)
    languages = np.searchsorted(np.asarray(design.languages), design.language)
    n_clusters = int(design.cluster.max(initial=-1)) + 1
    keys = generator.random((draws, n_clusters, len(design.languages)))
    deal = np.argsort(keys, axis=-1)  # (draws, clusters, languages)
    return np.asarray(deal[:, design.cluster, languages], dtype=np.int64)


Roles = NDArray[np.int8]


def read_roles(con: duckdb.DuckDBPyConnection, run: str) -> Roles:
    """Read (P, T): the role of every token by prompt ordinal and position, as its place in `ROLES`; -1 where there is no token."""
    rows = fetch(con, "roles", run=run)
    prompt, position = rows["prompt"].astype(np.int64), rows["position"].astype(np.int64)
    roles = np.full((int(prompt.max(initial=-1)) + 1, int(position.max(initial=-1)) + 1), -1, dtype=np.int8)
    roles[prompt, position] = rows["role"]
    return roles


@dataclass(frozen=True)
class Fired:
    """One layer's activations, sinks left out, sorted by feature, prompt, position; all arrays (R,)."""

    feature: NDArray[np.int32]
    prompt: NDArray[np.int32]
    role: Roles
    activation: NDArray[np.float32]


def read_fired(con: duckdb.DuckDBPyConnection, run: str, layer: int, roles: Roles, features: Ints | None = None) -> Fired:
    """Read one layer's activations, of all or of some features. They are stored in order: it is checked, and sorted only if need be."""
    rows = fetch(con, "fired", run=run, layer=layer)
    feature, prompt, position, activation = (rows[name] for name in ("feature", "prompt", "position", "activation"))
    known = (prompt < roles.shape[0]) & (position < roles.shape[1])
    role = np.full(len(feature), -1, dtype=np.int8)
    role[known] = roles[prompt[known], position[known]]
    kept = role != SINK
    if features is not None:
        kept &= np.isin(feature, features)
    feature, prompt, position, role, activation = (values[kept] for values in (feature, prompt, position, role, activation))
    step = np.diff(feature)
    if not ((step > 0) | ((step == 0) & (np.diff(prompt) >= 0))).all():
        order = np.lexsort((position, prompt, feature))
        feature, prompt, role, activation = (values[order] for values in (feature, prompt, role, activation))
    return Fired(feature, prompt, role, activation)


@dataclass(frozen=True)
class Seen:
    """One layer of one run, a row per feature and prompt that it fires on, sinks left out; sorted by feature, then prompt."""

    feature: NDArray[np.int32]
    prompt: NDArray[np.int32]
    activation: NDArray[np.float32]
    """The largest there."""
    roles: NDArray[np.uint8]
    """A bit for each role of `ROLES` that it fires at."""


def seen(fired: Fired) -> Seen:
    """Return a layer's activations by feature and prompt."""
    new = np.diff(fired.feature, prepend=-1) != 0
    new |= np.diff(fired.prompt, prepend=-1) != 0
    start = np.flatnonzero(new)
    if not len(start):
        return Seen(fired.feature, fired.prompt, fired.activation, np.zeros(0, dtype=np.uint8))
    bit = np.append(1 << np.arange(len(ROLES)), 0).astype(np.uint8)[fired.role]  # a token that is not there has no role: -1, the last
    activation = np.maximum.reduceat(fired.activation, start)
    return Seen(fired.feature[start], fired.prompt[start], activation, np.bitwise_or.reduceat(bit, start))


@dataclass(frozen=True)
class Presence:
    """One layer: how often and how strongly each feature fires on each prompt, sinks left out."""

    feature: Ints
    """(F,) feature ids, rising."""
    n_active: sparse.csr_matrix
    """(F, P) active tokens."""
    sum_activation: sparse.csr_matrix


def presence(fired: Fired, design: Design) -> Presence:
    """Return one layer's activations as prompts by feature."""
    column = design.row(fired.prompt.astype(np.int64))
    here = column >= 0
    feature, row = np.unique(fired.feature[here].astype(np.int64), return_inverse=True)
    column, activation = column[here], fired.activation[here].astype(np.float64)
    shape = (len(feature), len(design.prompt))
    # Tokens of one prompt are added up.
    n_active, total = (sparse.csr_matrix((values, (row, column)), shape=shape) for values in (np.ones(len(row)), activation))
    return Presence(feature, n_active, total)


def incidence(rows: Seen, some: NDArray[np.bool_] | slice, design: Design) -> sparse.csr_matrix:
    """Return (F, P) of ones: which features, without their ids, fire on which prompts of a design, of some rows of a layer."""
    column = design.row(rows.prompt[some].astype(np.int64))
    feature, column = rows.feature[some][column >= 0], column[column >= 0]
    starts = np.flatnonzero(np.diff(feature, prepend=-1))
    return sparse.csr_matrix(
        (np.ones(len(column), dtype=np.float32), column, np.append(starts, len(column))), shape=(len(starts), len(design.prompt))
    )


def read_parameters(con: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], dict[str, str]]:
    """Return the parameters of every (parameter set, score)."""
    parameters: dict[tuple[str, str], dict[str, str]] = {}
    for name, score, parameter, value in con.execute("select parameter_set, score, parameter, value from parameter_set").fetchall():
        parameters.setdefault((name, score), {})[parameter] = value
    return parameters
