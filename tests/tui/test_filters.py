"""Filters parse to a tree or to a clear error, and mean the same in SQL, in memory and in plain Python."""

from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas import filters
from atlas.errors import AtlasError, UsageError
from atlas.filters import Among, Both, Compare, Either, Flag, Not, Null, Search, parse
from atlas.memory_filter import passes
from atlas.settings import DATABASE
from tui.data.pages import open_features
from tui.session import Session


def test_the_grammar() -> None:
    assert parse("layer>=20 and lape<0.5") == Both(Compare("layer", ">=", 20), Compare("lape", "<", 0.5))
    assert parse("layer=1 density<1e-3") == Both(Compare("layer", "=", 1), Compare("density", "<", 0.001))
    assert parse('label~"the hot" or not starred') == Either(Compare("label", "~", "the hot"), Not(Flag("starred")))
    assert parse("a=1 or b=2 and c=3") == Either(Compare("a", "=", 1), Both(Compare("b", "=", 2), Compare("c", "=", 3)))
    assert parse("(a=1 or b=2) and c=3") == Both(Either(Compare("a", "=", 1), Compare("b", "=", 2)), Compare("c", "=", 3))
    assert parse("layer in (1, 2)") == Among("layer", (1, 2))
    assert parse("label is not null") == Null("label", True)
    assert parse("hot water") == Search("hot water")
    assert parse('"layer>=2"') == Search("layer>=2")
    assert parse("  ") is None


@pytest.mark.parametrize("text", ["layer>=", "layer in (", "(layer=1", "layer=1)", "=3", "layer=1 or", "label~'open"])
def test_a_broken_filter_says_where(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.hint


@given(st.text(alphabet="abc layer<>=~()\"',01.!andort", max_size=40))
def test_any_text_is_a_filter_or_a_clear_error(text: str) -> None:
    try:
        tree = parse(text)
    except AtlasError:
        return
    assert tree is None or isinstance(tree, (Compare, Among, Null, Flag, Not, Both, Either, Search))


_columns = st.sampled_from(["layer", "feature", "density", "max", "active", "rate.en", "p.fr"])
_leaves = st.builds(Compare, _columns, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.sampled_from([0, 1, 2, 0.1, 0.5, 20]))
_trees = st.recursive(
    _leaves, lambda inner: st.one_of(st.builds(Both, inner, inner), st.builds(Either, inner, inner), st.builds(Not, inner)), max_leaves=6
)


@pytest.fixture(scope="module")
def opened(published: Path) -> Session:
    session = Session.open(published)
    session.read_info().wait()
    return session


@pytest.fixture(scope="module")
def rows(published: Path) -> list[dict[str, float | None]]:
    """The features with their language rates, joined here and not by the browser."""
    con = duckdb.connect(str(published / DATABASE), read_only=True)
    base = con.execute("select layer, feature, density, max_activation, n_active from feature where run_id = 'a000000000000001'").fetchall()
    per = con.execute(
        "select layer, feature, language, n_prompts_active, n_prompts, n_active, n_tokens"
        " from feature_language where run_id = 'a000000000000001'"
    ).fetchall()
    con.close()
    found: dict[tuple[int, int], dict[str, float | None]] = {}
    for layer, feature, density, largest, active in base:
        empty = {"rate.en": None, "rate.fr": None, "p.en": None, "p.fr": None}
        found[(layer, feature)] = {"layer": layer, "feature": feature, "density": density, "max": largest, "active": active, **empty}
    for layer, feature, language, prompts_active, prompts, active, tokens in per:
        found[(layer, feature)][f"rate.{language}"] = prompts_active / prompts
        found[(layer, feature)][f"p.{language}"] = active / tokens
    return list(found.values())


@settings(max_examples=15, deadline=None)
@given(tree=_trees)
def test_sql_and_memory_agree_on_random_filters(tree: filters.Filter, opened: Session, rows: list[dict[str, float | None]]) -> None:
    assert opened.info is not None
    source = open_features(opened.data, opened.info, opened.view(("layer",), filter=tree)).wait()
    found = {(row[1], row[2]) for row in source.load(0, source.count).wait()}
    assert found == {(row["layer"], row["feature"]) for row in rows if passes(tree, row)}


def test_an_unknown_column_names_those_that_are_there(opened: Session) -> None:
    assert opened.info is not None
    with pytest.raises(UsageError, match="no column 'colour'") as caught:
        open_features(opened.data, opened.info, opened.view(("layer",), filter=parse("colour=3")))
    assert "density" in str(caught.value.hint)
    assert "lape" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["layer~3", 'density="hot"', "promotes=hot"])
def test_a_comparison_of_the_wrong_kind_is_refused(opened: Session, text: str) -> None:
    assert opened.info is not None
    with pytest.raises(UsageError):
        open_features(opened.data, opened.info, opened.view(("layer",), filter=parse(text)))


def test_free_text_finds_promoted_tokens_labels_and_contexts(opened: Session) -> None:
    assert opened.info is not None

    def count(text: str) -> int:
        assert opened.info is not None
        return open_features(opened.data, opened.info, opened.view(("layer",), filter=Search(text))).wait().count

    assert count("FROID") == count("froid") > 0
    assert count("decision-en") > 0
    assert count("no such word anywhere") == 0
    assert count("'; drop table feature; --") == 0


def test_memory_filter_on_text_and_booleans() -> None:
    row = {"name": "Zero L1_F0", "ok": True, "value": None}
    assert passes(parse("name~zero and ok=true"), row)
    assert not passes(parse("value>1"), row)
    assert passes(parse("value is null"), row)
    assert passes(parse("l1_f0 zero"), row)
    with pytest.raises(UsageError, match="no column"):
        passes(parse("colour=1"), row)
