"""Shards on object storage: an S3 server on loopback, nothing leaves the machine.

What must hold: the same tables as in a folder; wrong bucket, wrong credentials or a server that goes away give one clear error,
nothing half is visible, and the same command goes on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pyarrow.parquet as pq
import pytest

from atlas import places
from atlas.check import check
from atlas.errors import DamagedError, StoreError, UsageError
from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.maintain import compact, gc, repair, sizes
from atlas.places import COPIES, SETTINGS, ObjectStore, open_url
from atlas.publish import publish
from atlas.reader import Reader
from atlas.runs import remove_run, tables_equal
from tests.atlas.samples import SHARDS, plan, write_run

moto_server = pytest.importorskip("moto.server", reason="moto is not installed (pip install 'feature-atlas[test]')")
RUN = run_id(plan())


class Server:
    """An S3 server that can go away and come back with what it held."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self.server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def stop(self) -> None:
        self.server.stop()

    def url(self, path: str) -> str:
        return f"s3://{path}?scheme=http&endpoint_override=127.0.0.1%3A{self.port}&region=us-east-1&allow_bucket_creation=true"

    def ask(self, path: str, data: bytes, method: str = "POST") -> None:
        request = Request(
            f"http://127.0.0.1:{self.port}/{path}", data=data, method=method, headers={"Content-Type": "application/octet-stream"}
        )
        with urlopen(request, timeout=10) as answer:
            answer.read()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = Server()
    yield started
    started.stop()


@pytest.fixture
def bucket(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh bucket's name; credentials of nobody, and no look-up of any outside the machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    name = f"bucket-{abs(hash(tmp_path)):x}"
    server.ask(name, b"", "PUT")
    return name


def objects(server: Server, bucket: str) -> dict[str, int]:
    """Keys under data/ and their bytes, as the server says."""
    store, path = open_url(server.url(f"{bucket}/atlas"))
    selector = places.pafs.FileSelector(f"{path}/data", recursive=True, allow_not_found=True)
    return {info.path: info.size for info in store.get_file_info(selector) if info.is_file}


@pytest.fixture
def atlas(server: Server, bucket: str, tmp_path: Path) -> Atlas:
    """An atlas with one finished run, whose shards are objects."""
    made = Atlas.create(tmp_path / "a.atlas", shards=server.url(f"{bucket}/atlas"))
    write_run(made)
    return Atlas(made.path)


def overwrite(atlas: Atlas, path: str, change: Callable[[bytes], bytes]) -> None:
    """Change an object's bytes behind the atlas's back."""
    store, root = open_url(atlas.place.url)
    with store.open_input_stream(f"{root}/{path}") as stream:
        content = stream.read()
    with store.open_output_stream(f"{root}/{path}") as target:
        target.write(change(content))


def first_shard(atlas: Atlas, table: str = "activation") -> str:
    (run,) = atlas.manifest().runs
    return next(str(item.path) for record in atlas.records(run) for item in record.files if item.table == table and item.path)


@pytest.mark.parametrize("inline_rows", [0, 10**6])
def test_an_atlas_whose_shards_are_objects_is_the_same_atlas(
    atlas: Atlas, server: Server, bucket: str, template: Path, inline_rows: int
) -> None:
    assert not (atlas.path / "data").exists(), "no shard lies in the folder"
    assert len(objects(server, bucket)) == 4
    assert not list(atlas.path.rglob(".tmp-*"))
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []
    publish(atlas.path, inline_rows=inline_rows)
    assert check(atlas.path) == []
    copies = [path.relative_to(atlas.path / COPIES).parts[0] for path in (atlas.path / COPIES).rglob("*.parquet")]
    assert set(copies) <= {"activation"}, "copies that the published file does not read are gone"
    write_run(atlas, 2)
    publish(atlas.path, inline_rows=inline_rows, incremental=True)
    with Reader(atlas.path) as reader:
        assert reader.sql("select count(distinct run_id) from activation").rows() == [(2,)]
    assert sizes(atlas.path)["data"] == sum(objects(server, bucket).values())


def test_the_setting_goes_with_the_folder_and_cannot_be_changed(atlas: Atlas, server: Server, bucket: str, tmp_path: Path) -> None:
    moved = Atlas(shutil.move(atlas.path, tmp_path / "moved.atlas"))
    assert isinstance(moved.place, ObjectStore)
    assert check(moved.path) == []
    assert Atlas.create(moved.path).place.url == moved.place.url
    with pytest.raises(UsageError, match="keeps its shards in"):
        Atlas.create(moved.path, shards=server.url(f"{bucket}/elsewhere"))
    with pytest.raises(StoreError, match="belongs to another atlas"):
        Atlas.create(tmp_path / "other.atlas", shards=moved.place.url)
    (moved.path / SETTINGS[0]).write_text("{}")
    assert [finding.kind for finding in check(moved.path)] == ["settings"]
    assert repair(moved.path)
    assert check(moved.path) == []
    for name in SETTINGS:
        (moved.path / name).write_text("{}")
    with pytest.raises(DamagedError, match="does not say where the shards are"):
        check(moved.path)


@pytest.mark.parametrize("damage", [lambda content: content[:-9] + b"x" + content[-8:], lambda content: content[:-9], None])
def test_a_damaged_object_is_found_never_published_and_computed_again(
    atlas: Atlas, damage: Callable[[bytes], bytes] | None, template: Path
) -> None:
    path = first_shard(atlas)
    if damage is None:
        atlas.place.remove(path)
    else:
        overwrite(atlas, path, damage)
    with pytest.raises(DamagedError, match=r"1 of 4 shards are damaged"):
        publish(atlas.path)
    (finding,) = check(atlas.path)
    assert (finding.path.as_posix(), finding.kind) == (path, "shard")
    assert repair(atlas.path)
    assert check(atlas.path) == []
    write_run(atlas)
    publish(atlas.path)
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []


def test_compaction_and_collection_work_there(atlas: Atlas, server: Server, bucket: str, template: Path) -> None:
    (action,) = compact(atlas.path)
    assert "4 parts became 3" in action.what
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []
    doomed = {item.path.as_posix() for item in gc(atlas.path, keep_manifests=1, keep_days=0)}
    assert len([path for path in doomed if path.startswith("data/")]) == 4
    assert len(objects(server, bucket)) == 7, "saying so removes nothing"
    gc(atlas.path, dry_run=False, keep_manifests=1, keep_days=0)
    assert len(objects(server, bucket)) == 3
    remove_run(atlas.path, RUN)
    gc(atlas.path, dry_run=False, keep_manifests=1, keep_days=0)
    assert objects(server, bucket) == {}
    other, root = open_url(atlas.place.url)
    with other.open_output_stream(f"{root}/atlas.json") as stream:
        stream.write(b'{"atlas": "another"}')
    with pytest.raises(StoreError, match="belongs to another atlas"):
        gc(atlas.path, keep_manifests=1, keep_days=0)


def test_a_missing_bucket_and_wrong_credentials_are_named_before_anything_is_computed(server: Server, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="object storage") as missing:
        Atlas.create(tmp_path / "a.atlas", shards=server.url("no-such-bucket/atlas").replace("&allow_bucket_creation=true", ""))
    assert "Create the bucket" in str(missing.value.hint)
    server.ask("moto-api/reset-auth", b"0")
    try:
        with pytest.raises(StoreError, match="object storage") as refused:
            Atlas.create(tmp_path / "b.atlas", shards=server.url(f"{bucket}/atlas"))
    finally:
        server.ask("moto-api/reset-auth", b"inf")
    assert "credentials" in str(refused.value.hint)
    made = Atlas.create(tmp_path / "b.atlas")
    assert made.place.url == server.url(f"{bucket}/atlas"), "not in the folder, although the URL is not given again"
    write_run(made)
    assert len(objects(server, bucket)) == 4, "the same command goes on when the reason is gone"


def test_a_server_that_dies_in_the_middle_of_an_upload_leaves_nothing_half(
    server: Server, bucket: str, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas", shards=server.url(f"{bucket}/atlas"))
    write_run(atlas, shards=("model", "prompts", "activations-0"), finish=False)
    before = objects(server, bucket)
    large = tmp_path / "large"
    large.write_bytes(bytes(24 << 20))

    def dies(stream: Any, chunks: Callable[[Any], Iterator[bytes]] = places._chunks) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks(stream)):
            if number == 4:
                server.stop()
            yield chunk

    try:
        with monkeypatch.context() as patch:
            patch.setattr(places, "_chunks", dies)
            with pytest.raises(StoreError, match="object storage") as gone:
                atlas.place.upload(large, "data/activation/large.parquet")  # type: ignore[union-attr]
        with pytest.raises(StoreError, match="object storage"):
            write_run(atlas)
        assert "run the same command again" in str(gone.value.hint)
    finally:
        server.start()
    assert objects(server, bucket) == before, "an upload that did not end shows nothing"
    assert atlas.manifest().runs == ()
    assert not list(atlas.path.rglob(".tmp-*"))
    write_run(atlas)
    assert set(atlas.manifest().runs[0].shards) == set(SHARDS)
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []


def test_what_arrives_otherwise_than_it_was_sent_is_not_committed(
    server: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = Atlas.create(tmp_path / "a.atlas", shards=server.url(f"{bucket}/atlas"))
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "digest", lambda self, path: "0" * 64)
        with pytest.raises(StoreError, match="is not what was uploaded"):
            write_run(atlas)
    assert atlas.manifest().runs == ()
    write_run(atlas)
    assert check(atlas.path) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("bucket/prefix", "is no URL"),
        ("s3://key:word@bucket/prefix", "credentials"),
        ("s3://bucket/prefix?secret_key=a", "credentials"),
        ("s3://bucket/prefix?colour=red", "colour"),
        ("nobody://bucket/prefix", "nobody"),
    ],
)
def test_urls_that_cannot_be_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Atlas.create(tmp_path / "a.atlas", shards=url)
    Atlas.create(tmp_path / "a.atlas")
    assert Atlas(tmp_path / "a.atlas").place.url == "", "an atlas that was not made yet can still keep its shards in the folder"


def test_other_stores_are_reached_through_fsspec(tmp_path: Path, template: Path) -> None:
    """fsspec's file system in memory stands for Google Cloud Storage and Azure, which are its packages too."""
    atlas = Atlas.create(tmp_path / "a.atlas", shards=f"memory://bucket/{tmp_path.name}")
    write_run(atlas)
    publish(atlas.path)
    assert check(atlas.path) == []
    assert tables_equal(atlas.path, template / "finished.atlas", RUN) == []
    compact(atlas.path)
    publish(atlas.path)
    gc(atlas.path, dry_run=False, keep_manifests=1, keep_days=0)
    assert len(list(atlas.place.listing())) == 3
    store, root = open_url(atlas.place.url)
    assert pq.read_table(f"{root}/{first_shard(atlas)}", filesystem=store).num_rows > 0
