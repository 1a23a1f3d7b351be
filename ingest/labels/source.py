"""What labels are made from and scored on: the tokens, activations, cards and labels of a visible run, read from its shards.

In: an atlas folder and a run. Out: `LabelSource`. Nothing is computed by SQL, so that it works on a run that is not published, and only
the features that are asked for are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas.errors import UsageError
from atlas.folder import Atlas, ManifestRun
from atlas.ids import feature_name
from atlas.schema import arrow_schema
from ingest.labels.examples import ExampleConfig, LanguageExamples, context_examples, feature_examples
from ingest.labels.judges import Label
from ingest.labels.mechanical import active_tokens
from ingest.labels.rule import parse_rule
from ingest.labels.texts import Texts

Name = tuple[int, int]
"""(layer, feature)."""


@dataclass
class LabelSource:
    """One run as labels see it."""

    atlas: Atlas
    run: ManifestRun

    @classmethod
    def open(cls, atlas: Atlas, run: str | None) -> LabelSource:
        """Find a run by its id's first digits or its name; without one the newest ingest (else import) with features.

        Raises:
            UsageError: there is none, or several.
        """
        runs = [entry for entry in atlas.manifest().runs if entry.row.get("state") == "complete"]
        if run is not None:
            named = [entry for entry in runs if entry.row.get("name") == run]
            return cls(atlas, named[-1] if len(named) == 1 else atlas.find_run(run))
        for kind in ("ingest", "import"):
            for entry in reversed(runs):
                found = cls(atlas, entry)
                if entry.row.get("kind") == kind and found.paths("feature"):
                    return found
        raise UsageError("no run of this atlas has features", hint="`atlas ingest` measures them.")

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.run.run_id

    @property
    def transcoder_set(self) -> str:
        """Dictionary whose features these are; raises UsageError for a run without one."""
        name = self.run.row.get("transcoder_set")
        if not name:
            raise UsageError(f"run {self.run_id} has no transcoders", hint="Choose a run with features: `atlas runs`.")
        return str(name)

    def paths(self, table: str) -> list[str]:
        """List the files of a table."""
        return _paths(self.atlas, self.run, table)

    def table(self, name: str, filters: pc.Expression | None = None) -> pa.Table:
        """Read the rows of a table, without run_id."""
        return _read(self.paths(name), name, filters)

    @cached_property
    def is_corpus(self) -> bool:
        """Whether features are known from stored contexts, and not from every activation."""
        return not self.paths("activation")

    @cached_property
    def texts(self) -> Texts:
        """All tokens, with language and role; raises UsageError for a run without them."""
        source = "document" if self.is_corpus else "prompt"
        token, items = self.table("token"), self.table(source)
        if not token.num_rows or not items.num_rows:
            raise UsageError(f"run {self.run_id} keeps no texts", hint="Labels need a run of `atlas ingest`, or an import with contexts.")
        return Texts.of_tables(token, items.select([source, "language"]), source)

    @cached_property
    def features(self) -> pa.Table:
        """Table feature."""
        return self.table("feature")

    @cached_property
    def promoted(self) -> Mapping[Name, list[str]]:
        """Strongest promoted tokens of the features that have any."""
        some = self.features.filter(pc.is_valid(self.features["promoted_tokens"])).select(["layer", "feature", "promoted_tokens"])
        return {(row["layer"], row["feature"]): row["promoted_tokens"][:5] for row in some.to_pylist()}

    def most_active(self, n: int, layers: Sequence[int] = ()) -> list[Name]:
        """Name the n features that fire on most prompts or documents, then on most tokens."""
        rows = self.features.select(["layer", "feature", "n_prompts_active", "n_active", "density"])
        if layers:
            rows = rows.filter(pc.is_in(rows["layer"], pa.array(layers, pa.int16())))
        order = [("n_prompts_active", "descending"), ("n_active", "descending"), ("density", "descending")]
        rows = rows.sort_by([*order, ("layer", "ascending"), ("feature", "ascending")]).slice(0, n)
        return list(zip(rows["layer"].to_pylist(), rows["feature"].to_pylist(), strict=True))

    def require(self, names: Iterable[Name]) -> None:
        """Raise UsageError for a feature that the run does not have."""
        known = {(int(a), int(b)) for a, b in zip(self.features["layer"].to_numpy(), self.features["feature"].to_numpy(), strict=True)}
        missing = [feature_name(*name) for name in names if name not in known]
        if missing:
            raise UsageError(f"run {self.run_id} has no feature {missing[0]}", hint="`atlas query features/card` shows one that it has.")

    def examples(self, names: Sequence[Name], config: ExampleConfig) -> dict[Name, list[LanguageExamples]]:
        """Draw the examples of some features."""
        layers = pa.array(sorted({layer for layer, _ in names}), pa.int16())
        features = pa.array(sorted({feature for _, feature in names}), pa.int32())
        chosen = pc.field("layer").isin(layers) & pc.field("feature").isin(features)
        if self.is_corpus:
            return self._of_contexts(self.table("context", chosen), names, config)
        active, _ = active_tokens({"activation": self.table("activation", chosen)}, self.texts)
        key = active["layer"].to_numpy().astype(np.int64) << 32 | active["feature"].to_numpy().astype(np.int64)
        at, value = active["at"].to_numpy(), active["activation"].to_numpy().astype(np.float64)
        found = {}
        for layer, feature in names:
            low, high = np.searchsorted(key, [layer << 32 | feature, (layer << 32 | feature) + 1])
            found[layer, feature] = feature_examples(self.texts, at[low:high], value[low:high], (layer, feature), config)
        return found

    def _of_contexts(self, context: pa.Table, names: Sequence[Name], config: ExampleConfig) -> dict[Name, list[LanguageExamples]]:
        found = {}
        for layer, feature in names:
            own = context.filter(pc.and_(pc.equal(context["layer"], layer), pc.equal(context["feature"], feature)))
            found[layer, feature] = context_examples(own, self.texts, (layer, feature), config)
        return found

    def labels(self, *, methods: Sequence[str] = (), names: Iterable[Name] | None = None) -> list[Label]:
        """List the labels of this dictionary that are not retired: people's from the catalogue, others from all visible runs."""
        seen: dict[str, dict[str, Any]] = {}
        for entry in self.atlas.manifest().runs:
            own = _read(_paths(self.atlas, entry, "label"), "label", pc.field("transcoder_set") == self.transcoder_set)
            seen |= {row["label_id"]: row for row in own.to_pylist()}
        seen |= {row["label_id"]: row for row in self.atlas.catalogue.rows("label") if row["transcoder_set"] == self.transcoder_set}
        wanted = None if names is None else set(names)
        # A label that was counted on another run speaks of that run's texts.
        rows = [row for row in seen.values() if row["method"] != "mechanical" or row.get("source_run") == self.run_id]
        rows = [row for row in rows if not row["retired"] and (not methods or row["method"] in methods)]
        rows = [row for row in rows if wanted is None or (row["layer"], row["feature"]) in wanted]
        rows.sort(key=lambda row: (row["layer"], row["feature"], row["label_id"]))
        return [Label(row["label_id"], row["layer"], row["feature"], row["text"], parse_rule(row.get("rule"))) for row in rows]


def _paths(atlas: Atlas, run: ManifestRun, table: str) -> list[str]:
    return [str(atlas.path / item.path) for record in atlas.records(run) for item in record.files if item.table == table and item.path]


def _read(paths: Sequence[str], table: str, filters: pc.Expression | None) -> pa.Table:
    schema = arrow_schema(table)
    tables = [pq.read_table(path, filters=filters) for path in paths]
    if not tables:
        return schema.empty_table()
    joined = pa.concat_tables(tables, promote_options="permissive")
    for column in schema:  # a run of an older version lacks newer columns
        if column.name not in joined.column_names:
            joined = joined.append_column(column, pa.nulls(joined.num_rows, column.type))
    return joined.select(schema.names).cast(schema)
