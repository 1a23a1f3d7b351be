"""Load the tables of a published file from shards, manifest and catalogue.

In: a connection whose current database has the empty schema. Out: filled tables. Rows of shards never pass through Python.

1. Tables of a run: its shards in the order of their names, with run_id put in front.
2. Tables without a run (model, transcoder, labels that a run brought, …): one row a key; the newest run's wins.
3. activation: sorted by layer, feature, prompt, position; sorted again only where shards overlap, a layer at a time.
4. activation_by_prompt: the same rows, sorted by prompt.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from atlas import files
from atlas.encoding import encoded_groups
from atlas.errors import DamagedError, StoreError
from atlas.folder import Atlas, CommitRecord, Manifest, ShardFile
from atlas.ids import canonical_json, sha256_file, sha256_text
from atlas.reader import Reader
from atlas.schema import CATALOGUE_TABLES, STORE_TABLES, TABLES, arrow_schema, has_run, key_columns
from atlas.seals import sealed, unseal
from atlas.settings import ACTIVATION_GROUP_ROWS, DATABASE
from atlas.shards import write_parquet
from atlas.statements import (
    ACTIVATION_ORDER,
    PROMPT_ORDER,
    changed_row,
    comment_on_column,
    count_rows,
    delete_all,
    insert_by_name,
    layers_of,
    one_row_a_key,
    quoted,
    replace_by_view,
    rows_of_run,
    shard_rows,
)

DERIVED = "derived"
"""Folder of files that publish makes from shards and can make again."""


PEOPLES = ("note", "star", "saved_query")
"""Tables whose rows come from the catalogue alone; a run may bring labels of its own."""


def lost_words(atlas: Atlas) -> str | None:
    """Say which words of people only the published file still has, because the catalogue is gone; None where all is well."""
    if not atlas.database.exists() or not atlas.catalogue.is_lost():
        return None
    try:
        with Reader(atlas.path) as reader:
            counts = {table: int(reader.sql(count_rows(table)).rows()[0][0]) for table in PEOPLES}
    except StoreError:
        return None
    found = ", ".join(f"{count} rows of {table}" for table, count in counts.items() if count)
    return f"is gone; {DATABASE} still has {found}" if found else None


class NotIncremental(Exception):
    """A new run changes rows that the file holds already: all has to be built again."""


class Loader:
    """Loads one manifest's rows through one connection."""

    def __init__(
        self,
        atlas: Atlas,
        connection: duckdb.DuckDBPyConnection,
        manifest: Manifest,
        records: Mapping[str, Sequence[CommitRecord]],
        carried: Collection[str] = (),
    ) -> None:
        self.atlas = atlas
        self.connection = connection
        self.manifest = manifest
        self.records = records
        self.new_runs = [run_id for run_id in records if run_id not in carried]
        """Runs whose rows the file has not yet; all of them unless a publish is incremental."""
        self.viewed: set[str] = set()
        """Files outside the published one that its views read, relative to the folder."""
        self.n_activations = sum(item.rows for run in records for item in self.shards("activation", run))

    def shards(self, table: str, run_id: str) -> list[ShardFile]:
        """List the files of a table that a run wrote; tables without rows have none."""
        return [item for record in self.records[run_id] for item in record.files if item.table == table and item.path]

    def paths(self, table: str, run_id: str) -> list[str]:
        """List their absolute paths on this machine."""
        return [str(self.atlas.place.local(item)) for item in self.shards(table, run_id)]

    def stages(self, inline: bool) -> list[tuple[str, Callable[[], None]]]:
        """Give a function for each table that loads it, in an order in which references are kept."""
        special: dict[str, Callable[[], None]] = {
            "run": self.load_runs,
            "run_table": self.load_run_tables,
            "activation": self.load_activations if inline else self.view_activations,
            "activation_by_prompt": self.load_by_prompt if inline else self.view_by_prompt,
        }
        stages = []
        for table in TABLES:
            if table in special:
                stages.append((table, special[table]))
            elif table not in STORE_TABLES:
                stages.append((table, self._loader(table)))
        return stages

    def _loader(self, table: str) -> Callable[[], None]:
        if has_run(table):
            return lambda: self.load_of_runs(table)
        return lambda: self.load_shared(table)

    def insert(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows that Python holds."""
        if rows:
            schema = arrow_schema(table, with_run=True)
            self.connection.register("incoming_rows", pa.Table.from_pylist([dict(row) for row in rows], schema=schema))
            self.connection.execute(insert_by_name(table, "select * from incoming_rows"))
            self.connection.unregister("incoming_rows")

    def load_runs(self) -> None:
        """Load table run from the manifest."""
        rows = [dict(run.row) for run in self.manifest.runs if run.run_id in self.new_runs]
        for row in rows:
            for column in ("started_at", "finished_at"):
                if row.get(column) is not None:
                    row[column] = datetime.datetime.fromisoformat(row[column])
        self.insert("run", rows)

    def load_run_tables(self) -> None:
        """Load table run_table from the commit records; a table that a run wrote no row of has a row too."""
        rows = []
        for run_id in self.new_runs:
            for table in sorted({item.table for record in self.records[run_id] for item in record.files}):
                found = self.shards(table, run_id)
                counts = {"n_shards": len(found), "n_rows": sum(item.rows for item in found), "n_bytes": sum(item.bytes for item in found)}
                rows.append({"run_id": run_id, "table_name": table, **counts})
        self.insert("run_table", rows)

    def load_of_runs(self, table: str) -> None:
        """Load a table of runs from their shards."""
        for run_id in self.new_runs:
            if paths := self.paths(table, run_id):
                self.connection.execute(insert_by_name(table, shard_rows(paths, run_id=run_id)))

    def load_shared(self, table: str) -> None:
        """Load a table without a run: the catalogue's rows first, then one row a key from the shards, the newest run's first."""
        runs = self.new_runs
        if table in CATALOGUE_TABLES:
            self.connection.execute(delete_all(table))
            self.insert(table, self.atlas.catalogue.rows(table))
            runs = list(self.records)
        incremental = len(runs) < len(self.records)
        for run_id in reversed(runs):
            if paths := self.paths(table, run_id):
                source = one_row_a_key(paths, key_columns(table))
                if incremental and self._changes_shared_rows(table, source):
                    raise NotIncremental(table)
                self.connection.execute(insert_by_name(table, source, unless_there=True))

    def _changes_shared_rows(self, table: str, source: str) -> bool:
        """Say whether a new run brings another row for a key that the file has: the newest wins, so old rows would change."""
        clash = changed_row(table, source, key_columns(table), arrow_schema(table, with_run=True).names)
        return bool(self.connection.execute(clash).fetchall())

    def load_activations(self) -> None:
        """Load activation, sorted by layer, feature, prompt, position within each run."""
        for run_id in self.new_runs:
            spans = sorted(layer_spans(path) for path in self.paths("activation", run_id))
            paths = [span.path for span in spans]
            layers = range(spans[0].low, max(span.high for span in spans) + 1) if overlapping(spans) else [None]
            for layer in layers if paths else []:
                order = () if layer is None else ACTIVATION_ORDER
                self.connection.execute(insert_by_name("activation", shard_rows(paths, run_id=run_id, layer=layer, order=order)))

    def load_by_prompt(self) -> None:
        """Load activation_by_prompt from activation."""
        for run_id in self.new_runs:
            source = rows_of_run("activation", run_id, PROMPT_ORDER)
            self.connection.execute(insert_by_name("activation_by_prompt", source))

    def view_activations(self) -> None:
        """Put a view in the place of table activation, with paths relative to the folder.

        It reads the shards themselves where their layers do not overlap, else a sorted copy that is made once.
        """
        found = {}
        for run_id in self.records:
            if shards := self.shards("activation", run_id):
                names = {str(self.atlas.place.local(item)): self.atlas.place.local_name(item) for item in shards}
                spans = sorted(layer_spans(path) for path in names)
                in_order = [names[span.path] for span in spans]
                found[run_id] = [self._derived("activation", run_id, shards)] if overlapping(spans) else in_order
                self.viewed.update(found[run_id])
        self._make_view("activation", found)

    def view_by_prompt(self) -> None:
        """Put a view over files sorted by prompt in the place of table activation_by_prompt; a run's file is made once."""
        found = {}
        for run_id in self.records:
            if shards := self.shards("activation", run_id):
                found[run_id] = [self._derived("activation_by_prompt", run_id, shards)]
        self._make_view("activation_by_prompt", found)

    def _derived(self, table: str, run_id: str, shards: Sequence[ShardFile]) -> str:
        """Make a run's activations anew in the order of a table, unless that file is there and whole; returns its relative path."""
        digest = sha256_text(canonical_json([item.sha256 for item in shards]))[:16]
        target = self.atlas.path / DERIVED / table / f"{run_id}-{digest}.parquet"
        if not is_intact(target):
            files.make_folder(target.parent)
            built = files.temporary_name(target)
            paths = self.paths("activation", run_id)
            groups = merged_groups(table, paths) if table == "activation" else self._by_prompt(table, paths)
            write_parquet(built, table, groups, grouped=True)
            content = {"sha256_of_file": sha256_file(built), "bytes": built.stat().st_size}
            files.write_whole(target.with_suffix(".json"), sealed(content))
            files.swap_in(built, target)
        return target.relative_to(self.atlas.path).as_posix()

    def _by_prompt(self, table: str, paths: Sequence[str]) -> Iterator[pa.Table]:
        """Read a run's activations sorted by prompt, a row group at a time; what does not fit the engine's memory spills."""
        schema = arrow_schema(table)
        source = shard_rows(paths, schema.names, order=PROMPT_ORDER)
        with self.connection.cursor() as cursor:
            for batch in cursor.sql(source).to_arrow_reader(ACTIVATION_GROUP_ROWS):
                yield pa.Table.from_batches([batch]).cast(schema)

    def _make_view(self, table: str, found: Mapping[str, Sequence[str]]) -> None:
        columns = arrow_schema(table).names
        comments = self.connection.execute(
            "select column_name, comment from duckdb_columns() where database_name = 'next' and table_name = ?", [table]
        ).fetchall()
        about = str(TABLES[table].__table__.comment)  # type: ignore[attr-defined]
        parts = [shard_rows(paths, columns, run_id=run_id) for run_id, paths in found.items() if paths]
        is_table = self.connection.execute(
            "select 1 from duckdb_tables() where database_name = 'next' and table_name = ?", [table]
        ).fetchall()
        for statement in replace_by_view(table, bool(is_table), parts, about):
            self.connection.execute(statement)
        for column, comment in comments:
            self.connection.execute(comment_on_column(table, column, comment))

    def count_rows(self) -> int:
        """Count the rows of all tables, activations once."""
        total = 0
        for table in TABLES:
            if table != "activation_by_prompt":
                total += self.connection.execute(count_rows(table)).fetchall()[0][0]
        return total


class LayerSpan(tuple[int, int, str]):
    """Lowest layer, highest layer and path of an activation shard; orders by layer."""

    @property
    def low(self) -> int:
        """Lowest layer."""
        return self[0]

    @property
    def high(self) -> int:
        """Highest layer."""
        return self[1]

    @property
    def path(self) -> str:
        """Path of the shard."""
        return self[2]


def layer_spans(path: str) -> LayerSpan:
    """Read from a shard's footer which layers it holds."""
    metadata = pq.read_metadata(path)
    column = metadata.schema.to_arrow_schema().get_field_index("layer")
    statistics = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    return LayerSpan((min(item.min for item in statistics), max(item.max for item in statistics), path))


def overlapping(spans: Sequence[LayerSpan]) -> bool:
    """Say whether two shards, in the order of their layers, hold rows of one layer."""
    return any(later.low <= earlier.high for earlier, later in itertools.pairwise(spans))


def merged_groups(table: str, paths: Sequence[str]) -> Iterator[pa.Table]:
    """Read parts of a table as row groups: activations a layer at a time and sorted, others in the order of their parts."""
    columns = arrow_schema(table).names
    with contextlib.closing(duckdb.connect(":memory:")) as connection:
        source = shard_rows(paths, columns)
        if table != "activation":
            yield from encoded_groups(table, connection.sql(source).to_arrow_table())
            return
        for (layer,) in connection.execute(layers_of(source)).fetchall():
            one_layer = shard_rows(paths, columns, layer=layer, order=ACTIVATION_ORDER)
            yield from encoded_groups(table, connection.sql(one_layer).to_arrow_table())


@contextlib.contextmanager
def relative_paths(connection: duckdb.DuckDBPyConnection, folder: Path) -> Iterator[None]:
    """Let a connection resolve relative paths, as views over shards have them, against a folder."""
    with tempfile.TemporaryDirectory(prefix="atlas-") as there:
        root = folder.resolve()
        if "," in str(root):  # the engine would divide its search path there: a link has a plain name
            root = Path(there) / "atlas"
            root.symlink_to(folder.resolve())
        connection.execute(f"set file_search_path = {quoted(str(root))}")
        yield


def is_intact(path: Path) -> bool:
    """Say whether a derived file is there and as its hash says."""
    try:
        content = unseal(path.with_suffix(".json"))
    except DamagedError:
        return False
    return path.is_file() and path.stat().st_size == content["bytes"] and sha256_file(path) == content["sha256_of_file"]
