"""schema.py mirrors schema.sql: names, order, types, nullability, keys, references, comments, enums."""

import re
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from atlas import schema
from atlas.encoding import enum_values
from atlas.errors import UsageError


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    connection.execute(schema.schema_text())
    yield connection
    connection.close()


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return connection.execute(sql).fetchall()


def test_tables_and_their_comments_are_those_of_schema_sql(database: duckdb.DuckDBPyConnection) -> None:
    declared = re.findall(r"^create table (\w+)", schema.schema_text(), re.M)
    assert list(schema.TABLES) == declared
    comments = dict(rows(database, "select table_name, comment from duckdb_tables()"))
    assert {name: model.__table__.comment for name, model in schema.TABLES.items()} == comments  # type: ignore[attr-defined]


def test_columns_types_nullability_and_comments_are_those_of_schema_sql(database: duckdb.DuckDBPyConnection) -> None:
    enums = {
        text: name
        for name, text in rows(
            database,
            "select type_name, 'ENUM(' || list_transform(labels, lambda x: '''' || x || '''')"
            "::varchar[].array_to_string(', ') || ')' from duckdb_types() where logical_type = 'ENUM' and not internal",
        )
    }
    for table in schema.TABLES:
        mirrored = [(name, item.info["duckdb"], bool(item.nullable), item.comment) for name, item in schema.table_columns(table).items()]
        declared = [
            (name, enums.get(kind, str(kind).lower()), null, comment)
            for name, kind, null, comment in rows(
                database,
                "select column_name, data_type, is_nullable, comment from duckdb_columns() "
                f"where table_name = '{table}' order by column_index",
            )
        ]
        assert mirrored == declared, table


def test_keys_are_those_of_schema_sql_or_of_its_comments(database: duckdb.DuckDBPyConnection) -> None:
    declared = dict(
        rows(database, "select table_name, constraint_column_names from duckdb_constraints() where constraint_type = 'PRIMARY KEY'")
    )
    for table, model in schema.TABLES.items():
        said = re.search(r"key \(([^)]*)\)$", model.__table__.comment)  # type: ignore[attr-defined]
        assert (table in declared) != (said is not None), f"{table} needs one key: declared, or said in its comment"
        key = declared[table] if table in declared else str(said and said.group(1)).split(", ")
        assert schema.key_columns(table) == key, table


def test_references_are_those_of_schema_sql(database: duckdb.DuckDBPyConnection) -> None:
    declared = {
        (table, columns[0], f"{target}.{target_columns[0]}")  # type: ignore[index]
        for table, columns, target, target_columns in rows(
            database,
            "select table_name, constraint_column_names, referenced_table, referenced_column_names "
            "from duckdb_constraints() where constraint_type = 'FOREIGN KEY'",
        )
    }
    mirrored = {
        (table, name, key.target_fullname)
        for table in schema.TABLES
        for name, item in schema.table_columns(table).items()
        for key in item.foreign_keys
    }
    assert mirrored == declared
    assert declared


def test_enums_are_those_of_schema_sql(database: duckdb.DuckDBPyConnection) -> None:
    for name, labels in rows(database, "select type_name, labels from duckdb_types() where logical_type = 'ENUM' and not internal"):
        literal = getattr(schema, "".join(word.capitalize() for word in str(name).split("_")))
        assert list(literal.__args__) == labels, name
    assert enum_values("run", "state") == ("running", "complete", "failed")
    assert enum_values("run", "name") is None


def test_arrow_schema_leaves_out_the_run_and_keeps_types() -> None:
    assert schema.arrow_schema("activation") == pa.schema(
        [
            pa.field("layer", pa.int16(), nullable=False),
            pa.field("feature", pa.int32(), nullable=False),
            pa.field("prompt", pa.int32(), nullable=False),
            pa.field("position", pa.int16(), nullable=False),
            pa.field("activation", pa.float32(), nullable=False),
        ]
    )
    assert schema.arrow_schema("activation", with_run=True).names[0] == "run_id"
    assert schema.arrow_schema("feature").field("promoted_weights").type == pa.list_(pa.float32())
    assert schema.arrow_schema("claim").names[-1] == "run_id", "a claim speaks of a run, it is not of one"
    assert not schema.has_run("model")
    assert schema.has_run("prompt")


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(UsageError, match="no table 'activations'"):
        schema.arrow_schema("activations")


def test_the_dictionary_lists_every_table_and_column() -> None:
    tables = schema.list_tables().to_pylist()
    assert [row["table"] for row in tables] == list(schema.TABLES)
    columns = schema.describe_table("run").to_pylist()
    assert columns[0] == {
        "column": "run_id",
        "type": "varchar",
        "key": True,
        "null": False,
        "references": None,
        "meaning": "first 16 hex digits of the SHA-256 of the canonical plan and input hashes",
    }
    assert next(row for row in columns if row["column"] == "model_id")["references"] == "model.model_id"
