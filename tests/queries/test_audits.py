"""A sound atlas passes all audits; each audit finds its fault."""

from __future__ import annotations

import re

import duckdb
import pytest

import queries
from tests.queries import synthetic

AUDITS = {audit.name: audit.sql for audit in queries.audits()}
FAULTS = {
    "activation_order": "insert into activation select * from activation where layer = 0 limit 1",
    "activation_by_prompt_order": f"delete from activation_by_prompt where prompt = 3 and run_id = '{synthetic.RUN}'",
    "activation_positive": "update activation set activation = 0 where layer = 1 and feature = 2",
    "claims_known": "update claim set run_id = 'nothing'",
    "controls": "update outcome set effect = 0.1 from intervention i where i.intervention = outcome.intervention and i.rule = 'no_op'",
    "counts_by_behaviour": "update feature_behaviour set n_prompts_active = n_prompts_active + 1 where layer = 1 and feature = 3",
    "counts_by_cluster": "delete from feature_cluster where layer = 1 and feature = 3",
    "counts_by_contrast": "update feature_contrast set n_only_here = n_only_here + 1 where language is null",
    "counts_by_correctness": "update feature_correctness set auc = 1 - auc where layer = 1 and auc <> 0.5",
    "counts_by_template": "update feature_template set n_concepts = n_concepts + 1 where layer = 1 and feature = 3",
    "enumerations": "update effect set control = 'lucky'",
    "feature_counts": "update feature set n_active = n_active + 1 where layer = 1 and feature = 3",
    "graph_counts": "delete from edge where kind = 'virtual_weight' and source = 0",
    "intervals": "update effect set p_value = 1.5 where intervention = 0",
    "keys_unique": "insert into node select * from node limit 1",
    "language_counts": "delete from activation where layer = 2 and feature = 10",
    "language_totals": "update feature_language set n_tokens = n_tokens + 1 where layer = 0 and feature = 1",
    "margins": "update outcome set effect = effect + 1 where intervention = 0",
    "orphans": "delete from intervention where intervention = 3",
    "verdicts": "update score_summary set n_yes = n_yes + 1 where layer = 1 and score = 'bilingual_rate'",
    "role_counts": "delete from feature_role where feature = 8",
}


def test_every_audit_has_a_fault() -> None:
    assert set(FAULTS) == set(AUDITS)


@pytest.mark.parametrize("name", AUDITS)
def test_a_sound_atlas_passes_and_a_fault_is_found(spoiled: duckdb.DuckDBPyConnection, name: str) -> None:
    assert spoiled.execute(AUDITS[name]).fetchall() == []
    spoiled.execute(FAULTS[name])
    assert spoiled.execute(AUDITS[name]).fetchall() != []


SORTED = sorted(set(re.findall(r"(\w+)_unsorted as", AUDITS["keys_unique"])))


@pytest.mark.parametrize("place", ["last", "next"])
@pytest.mark.parametrize("table", SORTED)
def test_a_key_that_stands_twice_is_found_wherever_it_stands(spoiled: duckdb.DuckDBPyConnection, table: str, place: str) -> None:
    if place == "last":
        spoiled.execute(f"insert into {table} select * from {table} limit 1")
    else:
        spoiled.execute(f"create temp table whole as select * from {table}")
        spoiled.execute(f"delete from {table}")
        spoiled.execute(f"insert into {table} select * from whole limit 3")
        spoiled.execute(f"insert into {table} select * from whole offset 2")
    assert {row[0] for row in spoiled.execute(AUDITS["keys_unique"]).fetchall()} == {table}


@pytest.mark.parametrize(
    "fault",
    [
        "update feature set n_tokens = n_tokens + 1 where layer = 1 and n_active > 0",
        "update feature set n_prompts_active = n_prompts_active - 1 where layer = 2 and n_active > 0",
        # The sums of the layer stay as they were, one feature has what another one lacks.
        "update feature set n_active = n_active + case feature when 10 then 1 else -1 end where layer = 0 and feature in (8, 10)",
        "delete from feature_language where layer = 1 and feature = 10",
    ],
)
def test_features_whose_counts_differ_from_those_by_language_are_found(spoiled: duckdb.DuckDBPyConnection, fault: str) -> None:
    spoiled.execute(fault)
    assert spoiled.execute(AUDITS["feature_counts"]).fetchall() != []


@pytest.mark.parametrize(
    "fault",
    [
        "delete from prompt where prompt = 3",
        "delete from graph where graph = 1",
        "delete from partition where partition = 1",
        "delete from circuit where circuit = 1",
        "delete from document where document = 1",
        "delete from outcome where intervention = 0",
        "delete from label",
        "update edge set target = 99 where kind = 'star_total' and source = 1",
    ],
)
def test_orphans_of_many_kinds_are_found(spoiled: duckdb.DuckDBPyConnection, fault: str) -> None:
    if fault.startswith("delete from document"):
        spoiled.execute("update token set source = 'document' where item = 1")
    spoiled.execute(fault)
    assert spoiled.execute(AUDITS["orphans"]).fetchall() != []


def test_all_keys_that_stand_in_comments_are_audited() -> None:
    schema = synthetic.SCHEMA.read_text(encoding="utf-8")
    keys = dict(re.findall(r"comment on table (\w+) is '(?:[^']|'')*?key \(([^)]*)\)", schema))
    # atlas has one row; the two orders of activation have audits of their own.
    for table in set(keys) - {"atlas", "activation", "activation_by_prompt"}:
        part = re.search(rf"from {table}\n(?:where run_id in [^\n]*\n)?group by ([^\n]*)\n", AUDITS["keys_unique"])
        assert part is not None, table
        assert part[1] == keys[table]


def test_every_table_has_a_fixture_row(built: duckdb.DuckDBPyConnection) -> None:
    tables = [name for (name,) in built.execute("select table_name from duckdb_tables()").fetchall()]
    assert len(tables) > 45
    assert [name for name in tables if not built.execute(f"select 1 from {name} limit 1").fetchall()] == []
