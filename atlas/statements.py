"""The store's SQL whose tables, columns or files are only known at run time; everything else stands in schema.sql and queries/.

In: identifiers of schema.sql, paths of shards. Out: one statement each, identifiers and texts quoted.
"""

from __future__ import annotations

from collections.abc import Sequence

ACTIVATION_ORDER = ("feature", "prompt", "position")
"""Order within a layer."""
PROMPT_ORDER = ("prompt", "position", "layer", "feature")


def quoted(text: str) -> str:
    """Write a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def name(identifier: str) -> str:
    """Write an identifier so that a reserved word can be one."""
    return '"' + identifier.replace('"', '""') + '"'


def names(identifiers: Sequence[str]) -> str:
    """Write identifiers as a list of columns."""
    return ", ".join(name(identifier) for identifier in identifiers)


def file_list(paths: Sequence[str]) -> str:
    """Write paths as an SQL list."""
    return "[" + ", ".join(quoted(path) for path in paths) + "]"


# Shards ---------------------------------------------------------------------------------------------------


def shard_rows(
    paths: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    run_id: str | None = None,
    layer: int | None = None,
    order: Sequence[str] = (),
) -> str:
    """Read shards, with the run's id put in front, only some columns, only one layer, or in an order, where asked."""
    run = "" if run_id is None else f"{quoted(run_id)} as run_id, "
    where = "" if layer is None else f" where layer = {layer}"
    by = f" order by {names(order)}" if order else ""
    return f"select {run}{'*' if columns is None else names(columns)} from read_parquet({file_list(paths)}){where}{by}"


def one_row_a_key(paths: Sequence[str], keys: Sequence[str]) -> str:
    """Read shards, one row of each key."""
    return f"select distinct on ({names(keys)}) * from read_parquet({file_list(paths)}) order by {names(keys)}"


def layers_of(source: str) -> str:
    """List the layers of a query's rows."""
    return f"select distinct layer from ({source}) order by layer"


# Loading --------------------------------------------------------------------------------------------------


def insert_by_name(table: str, source: str, *, unless_there: bool = False) -> str:
    """Insert a query's rows; with `unless_there`, a key that is there keeps its row."""
    return f"insert into {name(table)} by name {source}{' on conflict do nothing' if unless_there else ''}"


def delete_all(table: str) -> str:
    """Empty a table."""
    return f"delete from {name(table)}"


def rows_of_run(table: str, run_id: str, order: Sequence[str]) -> str:
    """Read a run's rows in an order."""
    return f"select * from {name(table)} where run_id = {quoted(run_id)} order by {names(order)}"


def changed_row(table: str, source: str, keys: Sequence[str], columns: Sequence[str]) -> str:
    """Return a row where a query brings another row for a key that a table has."""
    clash = f"select {names(columns)} from ({source}) semi join {name(table)} using ({names(keys)})"
    return f"select 1 from ({clash} except select {names(columns)} from {name(table)}) limit 1"


def replace_by_view(table: str, is_table: bool, sources: Sequence[str], about: str) -> list[str]:
    """Put a view in the place of a table or view, with its comment."""
    return [
        f"drop {'table' if is_table else 'view'} {name(table)}",
        f"create view {name(table)} as {' union all '.join(sources)}",
        f"comment on view {name(table)} is {quoted(about)}",
    ]


def comment_on_column(table: str, column: str, comment: str) -> str:
    """Say what a view's column means."""
    return f"comment on column {name(table)}.{name(column)} is {quoted(comment)}"


# Counting and comparing -----------------------------------------------------------------------------------


def all_rows(table: str) -> str:
    """Read a whole table."""
    return f"select * from {name(table)}"


def count_rows(table: str) -> str:
    """Count a table's rows."""
    return f"select count(*) from {name(table)}"


def count_of(source: str) -> str:
    """Count a query's rows."""
    return f"select count(*) from ({source})"


def only_in_first(first: str, second: str) -> str:
    """Rows of one query that another has not, as multisets."""
    return f"({first}) except all ({second})"


def counts_unlike_run_table(table: str, *, more_allowed: bool = False) -> str:
    """Return a run for which a table does not have the rows that run_table says, or, where more are allowed, has fewer."""
    said = f"select run_id, n_rows from run_table where table_name = {quoted(table)} and n_rows > 0"
    if more_allowed:
        found = f"select run_id, count(*) as n from {name(table)} group by run_id"
        return f"select run_id, n_rows from ({said}) left join ({found}) using (run_id) where coalesce(n, 0) < n_rows"
    return f"{said} except select run_id, count(*) as n from {name(table)} group by run_id"


def shared_keys(table: str, keys: Sequence[str]) -> str:
    """Return keys of which a table has two rows."""
    return f"select {names(keys)}, count(*) from {name(table)} group by {names(keys)} having count(*) > 1 limit 3"


def unknown_runs(table: str) -> str:
    """Return runs that a table names and table run has not."""
    return f"select distinct run_id from {name(table)} except select run_id from run"


def unknown_targets(table: str, column: str, target: str, target_column: str) -> str:
    """Return values of a column that name no row of their target, in runs that have rows of it."""
    there = f"select run_id, {name(target_column)} from {name(target)}"
    where = f"{name(column)} is not null and run_id in (select run_id from {name(target)})"
    return f"select distinct run_id, {name(column)} from {name(table)} where {where} except {there} limit 3"
