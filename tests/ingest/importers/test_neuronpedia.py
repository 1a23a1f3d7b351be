"""Neuronpedia exports: labels, contexts and features from gzipped lines, streamed; bad lines name themselves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from atlas.errors import InputError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.shards import RunWriter
from ingest.importers import neuronpedia, read
from tests.ingest.importers.conftest import load

SOURCE = {"modelId": "qwen3-4b", "layer": "20-transcoder-hp"}


def explanation(**values: Any) -> dict[str, Any]:
    return {
        **SOURCE,
        "id": "e1",
        "index": "7",
        "description": " opposites ",
        "explanationModelName": "gpt-4o-mini",
        "typeName": "np_max-act",
        "createdAt": "2025-06-01T12:00:00.000Z",
        **values,
    }


def activation(tokens: list[str], values: list[float], index: str = "7") -> dict[str, Any]:
    return {**SOURCE, "index": index, "tokens": tokens, "values": values, "maxValue": max(values), "maxValueTokenIndex": 0}


def feature(index: str = "7", **values: Any) -> dict[str, Any]:
    return {
        **SOURCE,
        "index": index,
        "maxActApprox": 9.5,
        "frac_nonzero": 0.01,
        "pos_str": [" large", " big"],
        "pos_values": [2.5, 2.0],
        "neg_str": ["x"],
        "neg_values": [-1.0],
        "topkCosSimIndices": [7, 8],
        "topkCosSimValues": [1.0, 0.5],
        **values,
    }


TEXT = [f" word{i}" for i in range(40)]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A folder as Neuronpedia lays it out, the activations gzipped in two batches."""
    folder = tmp_path / "qwen3-4b" / "20-transcoder-hp"
    batches = {
        "explanations/batch-0.jsonl": [explanation(), explanation(id="e2", index=8, description="sizes", createdAt=None)],
        "features/batch-0.jsonl.gz": [feature(), feature("8")],
        "activations/batch-0.jsonl.gz": [
            activation(TEXT, [0.0] * 30 + [1.5] + [0.0] * 9),
            activation(["a", "b"], [0.0, 3.0]),
            activation(["a", "b"], [0.0, 0.0]),
        ],
        "activations/batch-1.jsonl.gz": [activation(["a", "b"], [2.0, 1.0], "8"), activation(["c"], [3.0])],
    }
    for name, records in batches.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = "".join(json.dumps(record) + "\n" for record in records).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def test_explanations_become_labels_of_the_same_set_as_an_ingest(export: Path, connection: duckdb.DuckDBPyConnection) -> None:
    load(connection, read("neuronpedia", export))
    sql = "select transcoder_set, layer, feature, text, method::varchar, model, author, created_at::varchar from label order by feature"
    set_name = "mwhanna/qwen3-4b-transcoders"
    assert connection.execute(sql).fetchall() == [
        (set_name, 20, 7, "opposites", "imported", "gpt-4o-mini", "np_max-act", "2025-06-01 12:00:00"),
        (set_name, 20, 8, "sizes", "imported", "gpt-4o-mini", "np_max-act", "1970-01-01 00:00:00"),
    ]
    assert connection.execute("select name from model").fetchall() == [("Qwen/Qwen3-4B",)]


def test_contexts_are_ranked_by_strength_and_point_into_texts_kept_once(export: Path, connection: duckdb.DuckDBPyConnection) -> None:
    load(connection, read("neuronpedia", export))
    sql = """
        select c.feature, c.rank, c.kind::varchar, c.activation, t.token from context c
        join token t on (t.source, t.item, t.position) = (c.source, c.item, c.position) order by 1, 2
    """
    assert connection.execute(sql).fetchall() == [
        (7, 0, "top", 3.0, "b"),
        (7, 1, "top", 3.0, "c"),
        (7, 2, "top", 1.5, " word30"),
        (7, 3, "non_activating", 0.0, "a"),
        (8, 0, "top", 2.0, "a"),
    ]
    assert connection.execute("select count(*), sum(n_tokens) from document").fetchall() == [(3, 43)]
    assert connection.execute("select count(*) from token").fetchall() == [(43,)]
    window = "select window_start, window_end, len(window_activations) from context where activation = 1.5"
    assert connection.execute(window).fetchall() == [(10, 39, 30)]


def test_features_keep_what_the_file_says_and_null_for_the_rest(export: Path, connection: duckdb.DuckDBPyConnection) -> None:
    load(connection, read("neuronpedia", export))
    sql = "select density, max_activation, n_active, promoted_tokens, suppressed_weights from feature where feature = 7"
    assert connection.execute(sql).fetchall() == [(0.01, 9.5, None, [" large", " big"], [-1.0])]
    assert connection.execute("select neighbour_feature, rank, similarity from neighbour where feature = 7").fetchall() == [(8, 0, 0.5)]


def test_a_stream_in_small_batches_is_the_same_rows(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [row for batch in read("neuronpedia", export).tables["token"] for row in batch.to_pylist()]
    monkeypatch.setattr(neuronpedia, "BATCH_ROWS", 3)
    batches = list(read("neuronpedia", export).tables["token"])
    assert max(batch.num_rows for batch in batches) == 3
    assert [row for batch in batches for row in batch.to_pylist()] == whole


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    zipped = path.name.endswith(".gz")
    data = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    records = [json.loads(line) for line in data.splitlines()]
    change(records)
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(data) if zipped else data)


BAD: dict[str, tuple[str, Callable[[list[dict[str, Any]]], Any], str]] = {
    "fewer values than tokens": (
        "activations/batch-0.jsonl.gz",
        lambda records: records[1]["values"].pop(),
        r"activations/batch-0\.jsonl\.gz:2: field 'values': expected one number for each of the 2 tokens",
    ),
    "a value that is no number": (
        "activations/batch-1.jsonl.gz",
        lambda records: records[0].update(values=["x", 1]),
        r"batch-1\.jsonl\.gz:1: field 'values': expected a number as item 0",
    ),
    "a source without a layer": (
        "explanations/batch-0.jsonl",
        lambda records: records[1].update(layer="transcoder"),
        r"explanations/batch-0\.jsonl:2: field 'layer': expected a source such as 20-transcoder-hp",
    ),
    "another model": (
        "features/batch-0.jsonl.gz",
        lambda records: records[0].update(modelId="gpt2-small"),
        r"features/batch-0\.jsonl\.gz:1: field 'modelId': expected qwen3-4b, as in the lines before",
    ),
    "a feature twice": (
        "features/batch-0.jsonl.gz",
        lambda records: records.append(records[0]),
        r"batch-0\.jsonl\.gz:3: field 'index': expected one line for feature L20_F7",
    ),
    "a time that is none": (
        "explanations/batch-0.jsonl",
        lambda records: records[0].update(createdAt="yesterday"),
        r"batch-0\.jsonl:1: field 'createdAt': expected an ISO time",
    ),
    "a layer beyond every model": (
        "features/batch-0.jsonl.gz",
        lambda records: records[0].update(layer="99999-transcoder-hp"),
        r"batch-0\.jsonl\.gz:1: field 'layer': expected a source such as",
    ),
    "a weight that is no number": (
        "features/batch-0.jsonl.gz",
        lambda records: records[1].update(pos_values=[1.0, None]),
        r"batch-0\.jsonl\.gz:2: field 'pos_values': expected a finite number as item 1",
    ),
    "a neighbour beyond every dictionary": (
        "features/batch-0.jsonl.gz",
        lambda records: records[1].update(topkCosSimIndices=[1, 2**40]),
        r"batch-0\.jsonl\.gz:2: field 'topkCosSimIndices': expected a whole number from 0 to 2147483647 as item 1",
    ),
    "a number that a float32 cannot hold": (
        "features/batch-0.jsonl.gz",
        lambda records: records[0].update(maxActApprox=10**400),
        r"batch-0\.jsonl\.gz:1: field 'maxActApprox': expected a finite number",
    ),
    "half of a character": (
        "explanations/batch-0.jsonl",
        lambda records: records[1].update(description="\ud83d"),
        r"batch-0\.jsonl:2: expected texts of whole characters",
    ),
    "something else": (
        "explanations/batch-0.jsonl",
        lambda records: records[0].pop("description"),
        r"batch-0\.jsonl:1: field 'description': expected a feature \(maxActApprox\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_are_answered_before_anything_is_written(export: Path, case: str) -> None:
    name, change, message = BAD[case]
    rewrite(export / name, change)
    with pytest.raises(InputError, match=message):
        read("neuronpedia", export)


def test_more_records_of_a_feature_than_ranks_are_refused(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuronpedia, "HIGHEST_SMALL", 40)
    rewrite(export / "activations" / "batch-1.jsonl.gz", lambda records: records.extend([activation(["c"], [3.0])] * 40))
    with pytest.raises(InputError, match=r"batch-1\.jsonl\.gz:39: field 'index': expected at most 40 activation records of feature L20_F7"):
        read("neuronpedia", export)


def test_a_cut_gzip_file_names_the_line_it_ends_in(export: Path) -> None:
    path = export / "activations" / "batch-0.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"batch-0\.jsonl\.gz:\d+: expected more gzipped lines"):
        read("neuronpedia", export)


GOOD = json.dumps(explanation())
RAW: dict[str, tuple[bytes, str]] = {
    "another encoding": (
        GOOD.replace("opposites", "\u00e9t\u00e9").encode("latin-1"),
        r"a\.jsonl:1: expected UTF-8 text, got the byte 0xe9",
    ),
    "brackets without end": (b"[" * 100_000, r"a\.jsonl:1: expected a JSON object, got one nested too deep"),
    "a number without end": (b'{"a": ' + b"9" * 5000 + b"}", r"a\.jsonl:1: expected a JSON object, got Exceeds the limit"),
    "a list": (b"[1, 2]", r"a\.jsonl:1: expected a JSON object, got list"),
    "nothing": (b"\n \n", r"a\.jsonl:1: expected JSON Lines, got an empty file"),
}


@pytest.mark.parametrize("case", RAW)
def test_a_file_of_something_else_is_answered_with_its_line(tmp_path: Path, case: str) -> None:
    data, message = RAW[case]
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(InputError, match=message):
        read("neuronpedia", tmp_path)
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(InputError, match=r"a\.jsonl: expected a file, got a folder"):
        read("neuronpedia", tmp_path)


def test_a_byte_order_mark_and_line_ends_of_another_system_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n")
    (label,) = [row for batch in read("neuronpedia", tmp_path).tables["label"] for row in batch.to_pylist()]
    assert (label["text"], label["model"]) == ("opposites", "gpt-4o-mini")


def test_an_import_commits_as_one_run(export: Path, tmp_path: Path) -> None:
    atlas = Atlas.create(tmp_path / "an.atlas")
    imported = read("neuronpedia", export)
    with RunWriter(atlas, imported.plan, run_id(imported.plan)) as writer:
        assert writer.commit("import", imported.tables) is not None
        assert atlas.manifest().run(run_id(imported.plan)) is None
        writer.finish(imported.run_row)
    assert atlas.manifest().run(run_id(imported.plan)) is not None
