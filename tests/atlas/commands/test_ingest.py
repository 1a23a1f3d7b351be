"""The flags of ingest that choose who computes; publishing incrementally from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas.commands.ingest import _engine
from atlas.commands.store import publish_atlas, runs_list
from atlas.errors import UsageError
from ingest.engines import Together, alone
from ingest.engines.cluster import Cluster
from tests.atlas.samples import make_atlas, write_run


def chosen(**flags: object) -> object:
    return _engine(**{"engine": "local", "workers": None, "address": None, "shard_of": None, "finish": False, "again": False, **flags})  # type: ignore[arg-type]


def test_an_engine_is_chosen_by_flags() -> None:
    assert chosen() is alone
    assert chosen(shard_of="1/4") == Together(1, 4)
    found = chosen(engine="ray", workers=3, address="auto")
    assert isinstance(found, Cluster)
    assert (found.workers, found.address) == (3, "auto")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"engine": "spark"}, "--engine is 'spark'"),
        ({"workers": 2}, "--workers and --address speak of a Ray cluster"),
        ({"engine": "ray", "shard_of": "0/2"}, "exclude each other"),
        ({"finish": True, "shard_of": "0/2"}, "exclude each other"),
        ({"again": True, "shard_of": "0/2"}, "one more attempt"),
    ],
)
def test_flags_that_make_no_sense_are_named(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(**flags)


def test_a_publish_keeps_what_it_has_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    publish_atlas(atlas.path, incremental=True)
    assert "built anew: nothing could be kept" in capsys.readouterr().err
    write_run(atlas, 2)
    publish_atlas(atlas.path, incremental=True)
    assert "1 runs kept from the published file, 1 added" in capsys.readouterr().err


def test_unfinished_runs_are_told_beside_the_list_and_listed_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atlas = make_atlas(tmp_path / "a.atlas")
    begun = write_run(atlas, 2, finish=False)
    runs_list(atlas.path, "csv")
    said = capsys.readouterr()
    assert begun not in said.out
    assert f"unfinished: run {begun} (sample), 4 shards committed" in said.err
    runs_list(atlas.path, "csv", unfinished=True)
    assert begun in capsys.readouterr().out
