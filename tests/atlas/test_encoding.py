from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas import encoding
from atlas.encoding import conform, encoded_groups
from atlas.errors import InputError
from atlas.shards import write_parquet
from tests.atlas.samples import activations, prompt_rows

ORDER = [("layer", "ascending"), ("feature", "ascending"), ("prompt", "ascending"), ("position", "ascending")]


@pytest.mark.parametrize("exact", [True, False])
def test_activations_come_back_exactly_and_sorted(tmp_path: Path, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "ACTIVATION_GROUP_ROWS", 100)
    rows = activations(exact=exact)
    written = write_parquet(tmp_path / "a.parquet", "activation", rows.to_batches(max_chunksize=97))
    assert written is not None
    assert written.rows == rows.num_rows
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.read().equals(rows.sort_by(ORDER).cast(file.schema_arrow))
    groups = [file.read_row_group(group)["layer"].to_pylist() for group in range(file.num_row_groups)]
    assert all(len(set(layers)) == 1 and len(layers) <= 100 for layers in groups), "no row group spans two layers"
    assert len(groups) == 6


@pytest.mark.parametrize("exact", [True, False])
def test_the_layout_is_the_measured_one(tmp_path: Path, exact: bool) -> None:
    write_parquet(tmp_path / "a.parquet", "activation", activations(exact=exact))
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(5)}
    assert "DELTA_BINARY_PACKED" in columns["feature"].encodings
    assert "DELTA_BINARY_PACKED" in columns["prompt"].encodings
    assert "RLE_DICTIONARY" in columns["position"].encodings
    assert "BYTE_STREAM_SPLIT" in columns["activation"].encodings
    assert {column.compression for column in columns.values()} == {"ZSTD"}


def test_bytes_a_row_are_those_of_the_measurement(tmp_path: Path) -> None:
    """At most 4 bytes a row for values that are exact in bfloat16, 6 for float32 (docs/scale.md)."""
    random = np.random.default_rng(0)
    n = 400_000
    feature = np.minimum((random.pareto(0.7, n) * 50).astype(np.int32), 163_839)
    keys = np.unique(np.stack([feature, random.integers(0, 4000, n), random.integers(0, 12, n)], axis=1), axis=0)
    values = (random.gamma(2.0, 1.5, len(keys)) + 0.01).astype(np.float32)
    for floats, limit in (((values.view(np.uint32) & 0xFFFF0000).view(np.float32), 4.0), (values, 6.0)):
        columns = {"feature": keys[:, 0].astype(np.int32), "prompt": keys[:, 1].astype(np.int32), "position": keys[:, 2].astype(np.int16)}
        rows = pa.table({"layer": np.zeros(len(keys), np.int16), **columns, "activation": floats})
        written = write_parquet(tmp_path / f"{limit}.parquet", "activation", rows)
        assert written is not None
        assert written.bytes / written.rows <= limit
        assert pq.read_table(tmp_path / f"{limit}.parquet")["activation"].to_numpy().tobytes() == floats.tobytes()


def test_values_exact_in_the_first_layer_only_still_come_back_exactly(tmp_path: Path) -> None:
    rows = activations(exact=True, shuffled=False)
    values = rows["activation"].to_numpy().copy()
    values[-5:] = np.float32(0.1)
    rows = rows.set_column(4, "activation", pa.array(values))
    write_parquet(tmp_path / "a.parquet", "activation", rows)
    assert pq.read_table(tmp_path / "a.parquet")["activation"].to_numpy().tobytes() == values.tobytes()


def test_sorting_does_not_depend_on_the_width_of_the_key(tmp_path: Path) -> None:
    columns = {"feature": [2**31 - 1, 5, 5], "prompt": [7, 2**31 - 1, 3], "position": [1, 2**15 - 1, 0]}
    rows = pa.table({"layer": [0, 0, 0], **columns, "activation": pa.array([1.0, 2.0, 3.0], pa.float32())})
    write_parquet(tmp_path / "a.parquet", "activation", rows)
    assert pq.read_table(tmp_path / "a.parquet")["activation"].to_pylist() == [3.0, 2.0, 1.0]


def test_a_row_that_is_there_twice_is_seen_at_any_width_of_the_key() -> None:
    row = {"layer": 0, "feature": 2**31 - 1, "prompt": 2**31 - 1, "position": 3, "activation": 1.0}
    with pytest.raises(InputError, match="two rows of the same"):
        list(encoded_groups("activation", pa.Table.from_pylist([row, {**row, "prompt": 0}, row])))


def test_rows_are_brought_to_schema_sql() -> None:
    table = conform("prompt", prompt_rows(2).select(list(reversed(prompt_rows(2).column_names))))
    assert table.column_names[:2] == ["prompt", "behaviour"]
    assert table["operand"].to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append_column("colour", pa.array([1] * 12)), "no column 'colour'"),
        (lambda rows: rows.append_column("run_id", pa.array(["r"] * 12)), "leave it out"),
        (lambda rows: rows.drop_columns("language"), "needs column 'language'"),
        (lambda rows: rows.set_column(0, "prompt", pa.array([None, *range(11)], pa.int32())), "holds 1 nulls"),
        (lambda rows: rows.set_column(0, "prompt", pa.array([2**40] * 12)), "must be int32"),
        (lambda rows: rows.set_column(rows.column_names.index("split"), "split", pa.array(["dev"] * 12)), "holds 'dev'"),
    ],
)
def test_rows_that_do_not_fit_are_named(change: "type[object]", message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(encoded_groups("prompt", change(prompt_rows(12))))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"activation": 0.0}, "finite and positive"),
        ({"activation": float("nan")}, "finite and positive"),
        ({"activation": float("inf")}, "finite and positive"),
        ({"feature": -1}, "negative"),
        ({"feature": 1}, "two rows of the same"),
    ],
)
def test_activations_that_cannot_be_are_refused(row: dict[str, float], message: str) -> None:
    good = {"layer": 0, "feature": 1, "prompt": 2, "position": 3, "activation": 1.0}
    with pytest.raises(InputError, match=message):
        list(encoded_groups("activation", pa.Table.from_pylist([good, {**good, **row}])))


def test_batches_of_another_table_are_cut_into_groups() -> None:
    batches = (batch for _ in range(3) for batch in prompt_rows(4).to_batches())
    groups = list(encoded_groups("prompt", batches))
    assert sum(group.num_rows for group in groups) == 12
    assert list(encoded_groups("prompt", iter([]))) == []
