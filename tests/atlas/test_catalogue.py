import sqlite3
from pathlib import Path

import pytest

from atlas import schema
from atlas.catalogue import KEYS, Catalogue, row_checksum
from atlas.errors import DamagedError, StoreError, UsageError
from atlas.ids import canonical_json
from tests.atlas.samples import sample_catalogue


def test_the_catalogue_has_the_keys_of_schema_sql() -> None:
    assert tuple(KEYS) == schema.CATALOGUE_TABLES
    for table, keys in KEYS.items():
        assert list(keys) == schema.key_columns(table)


def test_words_are_there_at_once_and_for_other_readers(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    assert catalogue.rows("note") == []
    assert not catalogue.path.exists(), "reading makes no file"
    note = catalogue.add_note("péché", transcoder_set="s", layer=1, feature=2, author="me")
    catalogue.star("s", 1, 2)
    catalogue.star("s", 1, 2)
    catalogue.save_query("mine", "select 1", {"rate": 0.2})
    other = Catalogue(tmp_path)
    (row,) = other.rows("note")
    assert (row["note_id"], row["text"], row["subject"], row["deleted"], row["created_at"].tzinfo) == (
        note,
        "péché",
        "feature",
        False,
        None,
    )
    assert len(other.rows("star")) == 1
    other.delete_note(note)
    other.unstar("s", 1, 2)
    other.delete_query("mine")
    assert [row["deleted"] for row in catalogue.rows("note")] == [True], "a note that was taken back stays, marked"
    assert catalogue.rows("star") == catalogue.rows("saved_query") == []
    assert catalogue.damage() == []


def test_a_new_label_retires_the_earlier_one_of_the_same_method(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.add_label("s", 1, 2, "heat")
    catalogue.add_label("s", 1, 2, "H", method="mechanical")
    catalogue.add_label("s", 1, 3, "cold")
    catalogue.add_label("s", 1, 2, "hot")
    state = {(row["text"], row["retired"]) for row in catalogue.rows("label")}
    assert state == {("heat", True), ("H", False), ("cold", False), ("hot", False)}


def test_every_table_takes_a_whole_row(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    for table, row in sample_catalogue().items():
        assert catalogue.put(table, [row]) == 1
        assert catalogue.rows(table) == [row]


def test_unknown_tables_columns_and_notes_are_named(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    with pytest.raises(UsageError, match="no catalogue table 'run'"):
        catalogue.put("run", [])
    with pytest.raises(UsageError, match="no column 'colour'"):
        catalogue.put("star", [{"colour": 1}])
    with pytest.raises(UsageError, match="no note 'x'"):
        catalogue.delete_note("x")


def test_a_changed_row_is_found_by_its_checksum(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.add_note("first")
    catalogue.add_note("second")
    with sqlite3.connect(catalogue.path) as connection:
        connection.execute("update note set text = 'forged' where text = 'first'")
        connection.execute("delete from note where text = 'second'")
    connection.close()
    problems = catalogue.damage()
    assert len(problems) == 2
    assert "differs from its checksum" in problems[0]
    assert "is missing" in problems[1]


def test_a_file_that_is_no_catalogue_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DamagedError, match="catalogue is damaged"):
        catalogue.rows("note")
    with pytest.raises(StoreError, match="repair"):
        catalogue.add_note("x")


def test_a_file_without_its_first_commit_is_an_empty_catalogue(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.path.touch()
    assert catalogue.damage() == []
    assert catalogue.checksums() == {}


def test_a_file_of_an_older_version_gets_new_columns_and_keeps_what_its_checksums_say(tmp_path: Path) -> None:
    made = Catalogue(tmp_path)
    made.add_label("s", 1, 2, "whole")
    made.add_label("s", 1, 3, "spoiled")
    made._engine.dispose()  # type: ignore[union-attr]
    with sqlite3.connect(made.path) as connection:
        connection.row_factory = sqlite3.Row
        for column in ("source_run", "version", "rule"):
            connection.execute(f"alter table label drop column {column}")
        for row in connection.execute("select * from label").fetchall():
            key = canonical_json([row["label_id"]])
            connection.execute("update row_checksum set sha256 = ? where row_key = ?", [row_checksum(dict(row)), key])
        connection.execute("update label set text = 'changed' where text = 'spoiled'")
    connection.close()

    older = Catalogue(tmp_path)
    assert len(older.damage()) == 1
    older.add_label("s", 1, 4, "new")
    assert [row["rule"] for row in older.rows("label")] == [None] * 3
    assert len(older.damage()) == 1, "the spoiled row stays a spoiled row, the others are whole"


def test_a_commit_is_durable_and_rolled_back_whole(tmp_path: Path) -> None:
    """What SQLite promises depends on these two settings, which no kill of a process tells apart."""
    with Catalogue(tmp_path)._open().connect() as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "delete"
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 3, "extra: the journal's removal is fsynced too"
