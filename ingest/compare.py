"""What became of the features of one run in another: identical, matched, split, merged, weak, gone, new.

In: two runs, of one atlas or of two, with dictionaries of the same model or of models as wide, of any number of features. Out: rows of
`feature_match`, layer by layer, among the features that fired in their run.

1. decoder: cosines of the vectors that features write to the residual stream; nearest of each in the other dictionary, in blocks of
   matrix products, so that memory does not grow with the product of the widths. Features that write nothing (norm 0) are left out.
2. coactivation: Jaccard of the sets of active tokens on the texts that both runs have (equal prompt hashes and lengths, sinks left out),
   of features active on at least MIN_TOKENS of them; between equal Jaccards the nearer activations decide.
3. Relations, from nearest neighbours at or above `part` (a: first run, b: second):
   - identical: nearest to each other, similarity >= `same`;
   - split: at least two b have this a as their nearest; merged: at least two a have this b as theirs;
   - matched: nearest to each other, similarity >= `match`; weak: near, and none of these;
   - gone: an a that is near no b; new: a b that is near no a.
   Every feature that a measure speaks of stands in at least one of its rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy import sparse

from atlas.errors import InputError, UsageError
from atlas.ids import run_id, sha256_text
from atlas.schema import arrow_schema
from atlas.shards import RunWriter

if TYPE_CHECKING:
    from atlas.folder import Atlas
    from ingest.labels.source import LabelSource
    from ingest.transcoder import TranscoderSet

log = logging.getLogger(__name__)
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
VERSION = "compare-1"
MIN_TOKENS = 3
"""Shared active tokens below which chance alone makes two sets equal."""
TIE = 1e-6
"""Weight of how near activations are beside the Jaccard of their places: it only decides between equal ones."""
RELATIONS = ("identical", "matched", "split", "merged", "weak", "gone", "new")


@dataclass(frozen=True)
class Thresholds:
    """From which similarity on features are near, matched, the same."""

    part: float
    match: float
    same: float


@dataclass(frozen=True)
class CompareConfig:
    """How two runs are compared."""

    decoder: Thresholds | None = Thresholds(0.5, 0.7, 0.999)
    """Cosines; None leaves the measure out."""
    coactivation: Thresholds | None = Thresholds(0.3, 0.5, 0.999)
    """Jaccards; None leaves the measure out."""
    layers: tuple[int, ...] = ()
    """Layers to compare; empty means all that both runs have."""
    max_elements: int = 1 << 26
    """Numbers of a block of cosines."""


@dataclass
class Side:
    """One of the two runs."""

    source: LabelSource
    transcoders: TranscoderSet | None
    """Its dictionary, None where that is not at hand."""

    def active(self, layer: int) -> Integers:
        """Return the features of a layer that fired, ascending."""
        table = self.source.features
        own = table.filter(pc.equal(table["layer"], layer))
        fired = own.filter(pc.greater(pc.fill_null(own["n_active"], 1), 0))
        return np.sort(fired["feature"].to_numpy().astype(np.int64))

    @property
    def layers(self) -> list[int]:
        """Layers with features."""
        return sorted(int(layer) for layer in pc.unique(self.source.features["layer"]).to_pylist())


@dataclass(frozen=True)
class Nearest:
    """The nearest of each in the other dictionary."""

    value_a: Floats
    index_a: Integers
    """(N): place of the b nearest to each a."""
    value_b: Floats
    index_b: Integers
    """(M): place of the a nearest to each b."""


@dataclass(frozen=True)
class Related:
    """Pairs and single features, R of them; -1 stands for none."""

    a: Integers
    b: Integers
    relation: npt.NDArray[np.object_]
    similarity: Floats


def compare(first: Side, second: Side, config: CompareConfig | None = None, *, progress: Progress | None = None) -> pa.Table:
    """Return rows of `feature_match`, without run_id.

    Raises:
        UsageError: the runs have no layer in common, or neither measure can be taken.
        InputError: a dictionary that is not the run's.
    """
    config = config or CompareConfig()
    layers = [layer for layer in first.layers if layer in second.layers and (not config.layers or layer in config.layers)]
    if not layers:
        raise UsageError("the two runs have no layer in common", hint="`atlas query provenance/models` lists what runs analysed.")
    by_decoder = config.decoder is not None and _comparable(first.transcoders, second.transcoders)
    shared = SharedTokens.of(first.source, second.source) if config.coactivation is not None else None
    if not by_decoder and shared is None:
        raise UsageError(
            "the two runs cannot be compared: no dictionaries of one width at hand, and no text in both",
            hint="Give --transcoders-a and --transcoders-b, or compare runs over the same prompts.",
        )
    pieces: dict[str, list[dict[str, Any]]] = {"decoder": [], "coactivation": []}
    for done, layer in enumerate(layers, 1):
        of_a, of_b = first.active(layer), second.active(layer)
        units = _units(first, second, layer, of_a, of_b) if by_decoder else None
        sets = (
            None
            if shared is None
            else (shared.active_sets(first.source, 0, layer, of_a), shared.active_sets(second.source, 1, layer, of_b))
        )
        known = _Known(layer, (of_a, of_b), units, sets)
        if units is not None and config.decoder is not None:
            kept = [np.flatnonzero((unit != 0).any(dim=1).cpu().numpy()) for unit in units]
            found = relate(nearest(units[0][kept[0]], units[1][kept[1]], config.max_elements), config.decoder)
            pieces["decoder"].append(known.rows(found, kept))
        if sets is not None and config.coactivation is not None:
            kept = [np.flatnonzero(np.diff(matrix.indptr) >= MIN_TOKENS) for matrix in sets]
            found = relate(nearest_sets(sets[0][kept[0]], sets[1][kept[1]]), config.coactivation)
            pieces["coactivation"].append(known.rows(found, kept))
        if progress is not None:
            progress("compare layers", done, len(layers))
    return _table(pieces, first, second)


def nearest(a: torch.Tensor, b: torch.Tensor, max_elements: int = 1 << 26) -> Nearest:
    """Return nearest neighbours by cosine of unit rows a (N, D) and b (M, D); ties go to the first."""
    n, m = len(a), len(b)
    value_a, index_a = torch.full((n,), -torch.inf), torch.zeros(n, dtype=torch.int64)
    value_b, index_b = torch.full((m,), -torch.inf), torch.zeros(m, dtype=torch.int64)
    if n and m:
        for part in _blocks(n, max(max_elements // m, 1)):
            cosine = a[part] @ b.T  # (block, M)
            best = cosine.max(dim=1)
            value_a[part], index_a[part] = best.values.float().cpu(), best.indices.cpu()
            top = cosine.max(dim=0)
            values, indices = top.values.float().cpu(), top.indices.cpu()
            better = values > value_b
            value_b[better], index_b[better] = values[better], indices[better] + part.start
    clipped = [np.minimum(value.numpy().astype(np.float64), 1.0) for value in (value_a, value_b)]
    return Nearest(clipped[0], index_a.numpy(), clipped[1], index_b.numpy())


def nearest_sets(a: sparse.csr_matrix, b: sparse.csr_matrix, block: int = 2048) -> Nearest:
    """Return nearest neighbours by Jaccard of the active places of a (N, tokens) and b (M, tokens), activations > 0.

    Between equal Jaccards the smaller |x - y| / (|x| + |y|) of the activations x and y decides, then the first.
    """
    sizes = [np.diff(matrix.indptr) for matrix in (a, b)]
    ones = [sparse.csr_matrix((np.ones(len(matrix.data)), matrix.indices, matrix.indptr), matrix.shape) for matrix in (a, b)]
    lengths = [np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()) for matrix in (a, b)]
    found = Nearest(np.zeros(len(sizes[0])), np.zeros(len(sizes[0]), np.int64), np.zeros(len(sizes[1])), np.zeros(len(sizes[1]), np.int64))
    rank_b = np.zeros(len(sizes[1]))
    for part in _blocks(len(sizes[0]), block):
        both, product = (ones[0][part] @ ones[1].T).tocoo(), (a[part] @ b.T).tocsr()
        row, column = both.row.astype(np.int64), both.col.astype(np.int64)
        own = row + part.start
        value = both.data / (sizes[0][own] + sizes[1][column] - both.data)
        x, y = lengths[0][own], lengths[1][column]
        apart = np.sqrt(np.maximum(x * x + y * y - 2 * np.asarray(product[row, column]).ravel(), 0.0))
        rank = value + TIE * (1 - apart / (x + y))
        at, places = _best(own, column, rank)
        found.value_a[places], found.index_a[places] = value[at], column[at]
        at, places = _best(column, own, rank)
        better = rank[at] > rank_b[places]
        at, places = at[better], places[better]
        found.value_b[places], found.index_b[places], rank_b[places] = value[at], own[at], rank[at]
    return found


def _best(group: Integers, other: Integers, rank: Floats) -> tuple[Integers, Integers]:
    """Return where the highest rank of each group stands (the first other of equal ones), and the groups."""
    order = np.lexsort((other, -rank, group))
    places, first = np.unique(group[order], return_index=True)
    return order[first], places


def relate(near: Nearest, thresholds: Thresholds) -> Related:
    """Say what became of each feature, by the definitions at the top of this module."""
    n, m = len(near.value_a), len(near.value_b)
    near_a, near_b = near.value_a >= thresholds.part, near.value_b >= thresholds.part
    every_a, every_b = np.arange(n), np.arange(m)
    to_b, to_a = near.index_a, near.index_b
    mutual = near_a & (to_a[to_b] == every_a) if m else np.zeros(n, bool)
    n_to_b = np.bincount(to_b[near_a], minlength=m) if n else np.zeros(m, np.int64)
    n_to_a = np.bincount(to_a[near_b], minlength=n) if m else np.zeros(n, np.int64)
    taken = np.zeros(m, bool)
    taken[to_b[mutual]] = True
    pairs_a = np.concatenate([every_a[near_a], to_a[near_b & ~taken]])
    pairs_b = np.concatenate([to_b[near_a], every_b[near_b & ~taken]])
    value = np.concatenate([near.value_a[near_a], near.value_b[near_b & ~taken]])
    is_mutual = np.concatenate([mutual[near_a], np.zeros(int((near_b & ~taken).sum()), bool)])
    from_b = np.arange(len(pairs_a)) >= near_a.sum()
    relation = np.full(len(pairs_a), "weak", object)
    relation[is_mutual & (value >= thresholds.match)] = "matched"
    relation[~from_b & (n_to_b[pairs_b] >= 2)] = "merged"
    relation[(is_mutual | from_b) & (n_to_a[pairs_a] >= 2)] = "split"
    relation[is_mutual & (value >= thresholds.same)] = "identical"
    gone, new = every_a[~near_a], every_b[~near_b]
    return Related(
        np.concatenate([pairs_a, gone, np.full(len(new), -1)]),
        np.concatenate([pairs_b, np.full(len(gone), -1), new]),
        np.concatenate([relation, np.full(len(gone), "gone", object), np.full(len(new), "new", object)]),
        np.concatenate([value, np.full(len(gone) + len(new), np.nan)]),
    )


@dataclass(frozen=True)
class SharedTokens:
    """Tokens of the prompts that two runs share, numbered alike in both."""

    number: tuple[dict[int, int], dict[int, int]]
    """For each run: prompt -> number of the shared text."""
    n_texts: int
    width: int
    """Positions of the longest."""

    @classmethod
    def of(cls, first: LabelSource, second: LabelSource) -> SharedTokens | None:
        """Find the prompts with equal hashes and as many tokens; None where there are none, or raw activations are not kept."""
        if first.is_corpus or second.is_corpus:
            return None
        keyed = []
        for source in (first, second):
            rows = source.table("prompt").select(["prompt", "prompt_hash", "n_tokens"]).to_pylist()
            keyed.append({(row["prompt_hash"], row["n_tokens"]): row["prompt"] for row in reversed(rows)})
        both = sorted(set(keyed[0]) & set(keyed[1]), key=str)
        if not both:
            return None
        numbers = [{keyed[side][key]: number for number, key in enumerate(both)} for side in (0, 1)]
        lengths = [length for _, length in both if length is not None]
        return cls((numbers[0], numbers[1]), len(both), max(lengths) if len(lengths) == len(both) else 1 << 15)

    def active_sets(self, source: LabelSource, side: int, layer: int, features: Integers) -> sparse.csr_matrix:
        """Return the activations of each feature (N) of a layer on the shared tokens, (N, tokens); sinks are left out."""
        rows = source.table("activation", (pc.field("layer") == layer) & (pc.field("position") > 0))
        prompts = rows["prompt"].to_numpy().astype(np.int64)
        lookup = np.full(int(prompts.max(initial=-1)) + 2, -1)
        for prompt, number in self.number[side].items():
            if prompt < len(lookup):
                lookup[prompt] = number
        text = lookup[prompts]
        row = np.searchsorted(features, rows["feature"].to_numpy())
        known = (text >= 0) & (np.append(features, -1)[row] == rows["feature"].to_numpy())
        token = (text * self.width + rows["position"].to_numpy().astype(np.int64))[known]
        value = rows["activation"].to_numpy().astype(np.float64)[known]
        return sparse.csr_matrix((value, (row[known], token)), shape=(len(features), self.n_texts * self.width))


def _comparable(first: TranscoderSet | None, second: TranscoderSet | None) -> bool:
    """Say whether two dictionaries write to spaces of one width; a log line says why not."""
    if first is None or second is None:
        log.warning("no comparison by decoder: %s dictionary is not at hand", "the first" if first is None else "the second")
        return False
    if first.d_model != second.d_model:
        log.warning("no comparison by decoder: the models are %d and %d wide", first.d_model, second.d_model)
        return False
    return True


def _units(first: Side, second: Side, layer: int, of_a: Integers, of_b: Integers) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the unit vectors that the features of a layer write, (N, D) and (M, D)."""
    from ingest.features import output_vectors

    made = []
    for side, features in ((first, of_a), (second, of_b)):
        assert side.transcoders is not None
        width = side.transcoders.d_transcoder(layer)
        if len(features) and features[-1] >= width:
            raise InputError(
                f"dictionary {side.transcoders.name} has {width:,} features in layer {layer}, "
                f"run {side.source.run_id} feature {features[-1]:,}",
                hint="It is another dictionary than the run's: give --transcoders-a or --transcoders-b.",
            )
        vectors = output_vectors(side.transcoders, layer, torch.from_numpy(features)).float()
        made.append(vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-30))
    return made[0], made[1]


@dataclass(frozen=True)
class _Known:
    """What is known of the features of one layer that fired: (N,) of the first run, (M,) of the second."""

    layer: int
    features: tuple[Integers, Integers]
    units: tuple[torch.Tensor, torch.Tensor] | None
    sets: tuple[sparse.csr_matrix, sparse.csr_matrix] | None

    def rows(self, found: Related, kept: Sequence[Integers]) -> dict[str, Any]:
        """Name the features of pairs among the `kept` ones, and put both similarities beside each pair."""
        a = np.where(found.a >= 0, np.append(kept[0], -1)[found.a], -1)
        b = np.where(found.b >= 0, np.append(kept[1], -1)[found.b], -1)
        pair = (a >= 0) & (b >= 0)
        cosine, jaccard = np.full(len(a), np.nan), np.full(len(a), np.nan)
        cosine[pair], jaccard[pair] = self.cosines(a[pair], b[pair]), self.jaccards(a[pair], b[pair])
        return {
            "layer_a": np.where(a >= 0, self.layer, -1),
            "feature_a": np.where(a >= 0, np.append(self.features[0], -1)[a], -1),
            "layer_b": np.where(b >= 0, self.layer, -1),
            "feature_b": np.where(b >= 0, np.append(self.features[1], -1)[b], -1),
            "relation": found.relation,
            "similarity": found.similarity,
            "cosine": cosine,
            "jaccard": jaccard,
        }

    def cosines(self, a: Integers, b: Integers) -> Floats:
        """Return the cosine of each pair; NaN where dictionaries are not known."""
        if self.units is None:
            return np.full(len(a), np.nan)
        first, second = self.units
        parts = [(first[a[part]] * second[b[part]]).sum(dim=1).cpu().numpy() for part in _blocks(len(a), 1 << 16)]
        return np.minimum(np.concatenate(parts).astype(np.float64), 1.0) if parts else np.zeros(0)

    def jaccards(self, a: Integers, b: Integers) -> Floats:
        """Return the Jaccard of each pair; NaN where there is no text in both runs."""
        if self.sets is None:
            return np.full(len(a), np.nan)
        first, second = self.sets[0][a], self.sets[1][b]
        both = np.asarray((first.multiply(second) > 0).sum(axis=1)).ravel()
        either = np.diff(first.indptr) + np.diff(second.indptr) - both
        share: Floats = both / np.maximum(either, 1)
        return share


def _table(pieces: dict[str, list[dict[str, Any]]], first: Side, second: Side) -> pa.Table:
    """Join the layers of each measure and number the rows."""
    tables = []
    about = {"run_a": first.source.run_id, "run_b": second.source.run_id}
    about |= {"transcoder_set_a": first.source.transcoder_set, "transcoder_set_b": second.source.transcoder_set}
    schema = arrow_schema("feature_match")
    for measure, layers in pieces.items():
        if not layers:
            continue
        columns = {name: np.concatenate([piece[name] for piece in layers]) for name in layers[0]}
        n = len(columns["relation"])
        data: dict[str, Any] = {"measure": [measure] * n, "match": np.arange(n), **{name: [text] * n for name, text in about.items()}}
        for name, values in columns.items():
            absent = values == -1 if name.startswith(("layer", "feature")) else np.isnan(values) if values.dtype == float else None
            data[name] = pa.array(values, mask=absent)
        tables.append(pa.table({name: data[name] for name in schema.names}).cast(schema))
    return pa.concat_tables(tables)


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def keep(folder: Atlas, table: pa.Table, first: Side, second: Side, config: CompareConfig) -> str:
    """Put a comparison into an atlas as a run; the same again changes nothing. Returns the run's id."""
    plan = {
        "kind": "compare",
        "version": VERSION,
        "runs": [first.source.run_id, second.source.run_id],
        "config": {**asdict(config), "layers": list(config.layers)},
        "rows": sha256_text(str(table.select(["measure", "feature_a", "feature_b", "relation"]).to_pydict())),
    }
    name = f"{first.source.run.row.get('name')} beside {second.source.run.row.get('name')}"
    with RunWriter(folder, plan, run_id(plan)) as writer:
        if not writer.is_complete:
            writer.commit("compare", {"feature_match": table})
            writer.finish({"kind": "compare", "name": name, "transcoder_set": first.source.transcoder_set}, shards=["compare"])
        return writer.run_id
