"""Filters and orders without joins give what the joined statement gives; searches find phrases, in any script."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas import filters
from tui.data import masks, order
from tui.data.engine import Meter
from tui.data.ids import Ids
from tui.data.order import LAST, code
from tui.data.pages import FeatureSource, open_features
from tui.session import Session

COLUMNS = ("layer", "feature", "max", "density", "rate.en", "lape", "label", "effect", "promotes")
FILTERS = (
    "",
    "layer>=1",
    "layer in (0, 2) and feature<20",
    "rate.en>0.2 and rate.fr>0.2",
    "rate.en>0.2 or not rate.fr>0.2",
    "not (rate.en>0.2 and layer=1)",
    "layer=1 and (lape<0.5 or lape.flag=1)",
    "lape is null",
    "lape is not null and active.fr>=2",
    "lape != 0.25",
    "mean.fr>0.5 and max>1 and dead",
    "alive and label is null",
    'label~"e"',
    'label!~"e" and labelled',
    "label is not null or effect>0",
    "effect is null and layer=0",
    "effect<0 or starred or noted",
    'promotes~"o"',
    'promotes!~"o" and layer<2',
    'suppresses~"c" and promotes~"h"',
    "hot",
    "HOT",
    "opposite of",
    "no such words anywhere",
    'text~"the opposite" and layer=1',
    'text!~"hot" and layer=1',
)
ORDERS = (
    (),
    (("max", True),),
    (("max", False),),
    (("active", True),),
    (("feature", True),),
    (("layer", True),),
    (("rate.fr", False),),
    (("lape", True),),
    (("lape.flag", False),),
    (("effect", False),),
    (("label", True),),
    (("promotes", False),),
    (("promotes", True),),
    (("suppresses", True),),
)


@pytest.fixture(scope="module")
def session(published: Path) -> Iterator[Session]:
    """The synthetic atlas with words of people that are newer than the file."""
    found = Session.open(published)
    found.read_info().wait()
    yield found
    found.data.close()


def opened(session: Session, text: str, order: tuple[tuple[str, bool], ...], *, own: bool = False) -> FeatureSource:
    """Open a view."""
    assert session.info is not None
    view = session.view(COLUMNS, filter=filters.parse(text), order=order)
    if own:
        view.keys["starred"] = (1, 3, (1 << 32) + 5, (99 << 32) + 1)  # type: ignore[index]
        view.labels[2] = "new and shiny"  # type: ignore[index]
        view.labels[(99 << 32) + 7] = "of another run"  # type: ignore[index]
    return open_features(session.data, session.info, view).wait()


def rows_of(session: Session, source: FeatureSource) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return (layer, feature) of the source and of the statement that people read."""
    pages = [row[1:3] for first in range(0, source.count, 50) for row in source.load(first, min(source.count, first + 50)).wait()]
    return pages, [row[:2] for row in session.data.fetch(source.statement).wait()]


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_gives_what_its_statement_gives(session: Session, text: str) -> None:
    found, expected = rows_of(session, opened(session, text, ()))
    assert found == expected


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("text", ["", "layer>=1 and rate.en>0.1", "hot"])
def test_an_order_gives_what_its_statement_gives(session: Session, text: str, order: tuple[tuple[str, bool], ...]) -> None:
    found, expected = rows_of(session, opened(session, text, order))
    assert found == expected


@pytest.mark.parametrize("ids", ["null::integer", "f.feature % 2"])
def test_words_are_ordered_by_themselves_where_ids_are_lacking_or_have_several(
    session: Session, monkeypatch: pytest.MonkeyPatch, ids: str
) -> None:
    monkeypatch.setitem(order.IDS, "suppresses", ids)
    found, expected = rows_of(session, opened(session, "", (("suppresses", True),)))
    assert found == expected


@pytest.mark.parametrize("text", ["starred", 'label~"shiny"', "labelled and not starred", 'label!~"shiny" and layer=0', "shiny"])
def test_words_newer_than_the_file_are_filtered_too(session: Session, text: str) -> None:
    found, expected = rows_of(session, opened(session, text, (("label", True),), own=True))
    assert found == expected
    assert found or "not" in text


def test_layers_are_looked_at_in_groups(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [rows_of(session, opened(session, text, ORDERS[1]))[0] for text in FILTERS]
    monkeypatch.setattr(masks, "CHUNK", 10)
    assert session.info is not None
    assert len(masks.chunks(session.info)) == 3
    assert [rows_of(session, opened(session, text, ORDERS[1]))[0] for text in FILTERS] == whole


def test_an_atlas_without_a_vocabulary_is_searched_all_the_same(session: Session) -> None:
    from dataclasses import replace

    assert session.info is not None
    assert session.info.has_terms
    older = replace(session.info, has_terms=False)
    for text in ("hot", 'promotes~"o"'):
        view = session.view(COLUMNS, filter=filters.parse(text))
        sources = [open_features(session.data, info, view).wait() for info in (session.info, older)]
        ids = [[row[0] for row in source.load(0, source.count).wait()] for source in sources]
        assert ids[0] == ids[1]


def test_the_meter_ends_full(session: Session) -> None:
    assert session.info is not None
    for text in FILTERS:
        job = open_features(session.data, session.info, session.view(COLUMNS, filter=filters.parse(text), order=(("max", True),)))
        job.wait()
        assert job.meter.share == 1.0, text


def test_codes_order_as_values_do() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 10, 200), [0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, 3e38]]).astype(np.float32)
    for down in (False, True):
        codes = code(values, down=down)
        by_code = values[np.argsort(codes, kind="stable")]
        by_value = np.sort(values)[:: -1 if down else 1]
        assert (by_code == by_value).all()
        assert codes.max() < LAST
    whole = np.array([0, 1, 16_777_217, 16_777_216, 2**32, 2**40])
    assert list(np.argsort(code(whole, down=True), kind="stable")) == [4, 5, 2, 3, 1, 0]


def test_many_ids_stand_in_a_file_and_few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from tui.data import ids as module

    monkeypatch.setattr(module, "KEPT", 100)
    monkeypatch.setattr(module, "BLOCK", 64)
    values = np.random.default_rng(0).permutation(1000)
    for n in (0, 1, 100, 101, 1000):
        ids = module.Ids()
        for start in range(0, n, 37):
            ids.append(values[start : min(n, start + 37)])
        assert len(ids) == n
        assert ids.stretch(0, n).tolist() == values[:n].tolist()
        assert ids.stretch(n // 2, n + 50).tolist() == values[n // 2 : n].tolist()
        assert [ids.find(int(value)) for value in values[:n:99]] == list(range(0, n, 99))
        assert ids.find(5000) is None


@settings(deadline=None)
@given(st.text(min_size=1, max_size=6), st.text(max_size=4), st.text(max_size=4))
def test_the_sieve_before_lower_case_lets_everything_through_that_lower_case_finds(text: str, before: str, after: str) -> None:
    con = duckdb.connect()
    row = "select contains(lower($2), lower($1)), regexp_matches($2, $3), contains($2, $4)"
    for held in (before + text.upper() + after, before + text.lower() + after, before + text + after, before + text.swapcase() + after):
        found, sieved, run = con.execute(row, [text, held, masks.any_case(text), masks.uncased(text)]).fetchall()[0]
        assert (sieved and run) or not found, (text, held)


def test_characters_of_an_expression_are_no_expression() -> None:
    con = duckdb.connect()
    for text in ("a.b", "[x]", "^$", "\\d", "a|b", "(?i)", "-]", "x{2}", "日.本"):
        pattern = masks.any_case(text)
        assert con.execute("select regexp_matches($1, $2)", [f"__{text}__", pattern]).fetchall() == [(True,)]
        assert con.execute("select regexp_matches('aXb 1 xx 日本', $1)", [pattern]).fetchall() == [(False,)]


@pytest.mark.parametrize("at_once", [1, 2, 12])
@pytest.mark.parametrize("few", [0, 1, 1000])
def test_searches_find_the_same_however_much_is_asked_for_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch, at_once: int, few: int
) -> None:
    monkeypatch.setattr(masks, "MANY", at_once)
    monkeypatch.setattr(masks, "FEW", few)
    monkeypatch.setattr(masks, "SPANS", 7)
    monkeypatch.setattr(masks, "CHUNK", 40)
    for text in ("hot", "opposite of", "e", "no such words"):
        source = opened(session, text, ())
        shown = [row[1:3] for row in source.load(0, source.count).wait()]
        assert shown == [row[:2] for row in session.data.fetch(source.statement).wait()]


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_labels_are_ordered_by_as_many_letters_as_there_is_room_for(
    session: Session, monkeypatch: pytest.MonkeyPatch, down: bool, own: bool
) -> None:
    def labels(source: FeatureSource) -> list[str]:
        place = COLUMNS.index("label")
        return [str(row[3 + place]) for row in source.load(0, source.count).wait() if row[3 + place] is not None]

    whole = labels(opened(session, "", (("label", down),), own=own))
    assert whole == sorted(whole, reverse=down)
    monkeypatch.setattr(order, "WORDS", 0)
    monkeypatch.setattr(order, "LENGTHS", (2, 1000))
    source = opened(session, "", (("label", down),), own=own)
    assert isinstance(source.ids, Ids)
    assert source.ids.note == "by their first 2 letters"
    cut = labels(source)
    assert sorted(cut) == sorted(whole)
    assert [text[:2] for text in cut] == sorted((text[:2] for text in cut), reverse=down)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_codes_are_ordered_range_by_range_as_all_at_once(monkeypatch: pytest.MonkeyPatch, down: bool, masked: bool) -> None:
    monkeypatch.setattr(order, "BLOCK", 64)
    random = np.random.default_rng(7)
    for codes in (
        random.integers(0, LAST, 1000),
        random.integers(0, 5, 1000),
        np.where(random.random(1000) < 0.6, LAST, random.integers(0, 2**31, 1000)),
        np.full(1000, LAST),
        np.zeros(1000),
        np.array([], np.int64),
    ):
        ordered = codes.astype(np.uint32)
        mask = random.random(len(codes)) < 0.3 if masked else None
        if down:
            ordered[ordered != LAST] = np.uint32(LAST - 1) - ordered[ordered != LAST]
        places = np.arange(len(codes)) if mask is None else mask.nonzero()[0]
        blocks = [np.empty(0, np.int64), *order._sorted_rows(ordered, mask, Meter())]
        assert np.concatenate(blocks).tolist() == places[np.argsort(ordered[places], kind="stable")].tolist()


def test_the_sieve_knows_every_letter_that_has_a_case() -> None:
    """Each way round: a text with the one form is found by the other."""
    con = duckdb.connect()
    chars = [chr(number) for number in range(1, 0x110000) if not 0xD800 <= number <= 0xDFFF]
    pairs = con.execute("select x, lower(x) from (select unnest($1) as x) where lower(x) <> x", [chars]).fetchall()
    assert len(pairs) > 1000
    tries = [(text, masks.any_case(other)) for x, low in pairs for text, other in ((x, low), (low, x))]
    wrong = "select list(t) from (select unnest($1) as t, unnest($2) as p) where not regexp_matches(t, p)"
    assert con.execute(wrong, [list(part) for part in zip(*tries, strict=True)]).fetchall() == [(None,)]
    assert not any(masks.uncased(char) for pair in pairs for char in pair)
