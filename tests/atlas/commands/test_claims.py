"""`atlas claims check` on the thesis: every figure of its NUMBERS.md with a verdict."""

from __future__ import annotations

from pathlib import Path

from queries.claims import FOLDER, read_claims
from tests.atlas.commands.conftest import Atlas


def test_every_claim_of_the_thesis_has_the_verdict_that_the_file_expects(run: Atlas, thesis_atlas: Path) -> None:
    claims = read_claims(FOLDER / "thesis.toml")
    said = run("claims", "check", "--atlas", thesis_atlas)
    assert {row["claim"]: row["verdict"] for row in said.rows} == {claim.id: claim.expected for claim in claims}
    assert "reproduced" in said.err
    assert "where the file expects" not in said.err
    edges = next(row for row in said.rows if row["claim"] == "text-star-edges")
    assert (edges["published"], edges["recomputed"], edges["verdict"]) == ("273", "276", "contradicted")


def test_claims_are_shown_by_verdict(run: Atlas, thesis_atlas: Path) -> None:
    said = run("claims", "check", "--verdict", "contradicted", "--atlas", thesis_atlas)
    assert {row["verdict"] for row in said.rows} == {"contradicted"}
    assert "No verdict 'wrong'" in run("claims", "check", "--verdict", "wrong", "--atlas", thesis_atlas, code=2).err


def test_a_claims_file_of_ones_own(run: Atlas, demo_atlas: Path, tmp_path: Path) -> None:
    text = """
        [[claim]]
        id = "two-languages"
        statement = "The prompts are in two languages."
        source = "a text"
        published = 3
        run = "bilingual"
        query = "languages/language_profile"
        column = "layer"
        reduce = "distinct"
        expected = "reproduced"
    """
    (tmp_path / "own.toml").write_text(text)
    said = run("claims", "check", "own.toml", "-a", demo_atlas)
    (row,) = said.rows
    assert (row["verdict"], row["published"]) == ("contradicted", "3")
    assert "two-languages: contradicted, where the file expects reproduced" in said.err
    said = run("claims", "check", "own.toml", "--strict", "-a", demo_atlas, code=1)
    assert len(said.rows) == 1
    assert "1 of 1 verdicts are not the expected ones" in said.err


def test_what_the_readme_says_of_the_demo_is_recomputed(run: Atlas, demo_atlas: Path) -> None:
    said = run("claims", "check", "--strict", "-a", demo_atlas)
    claims = read_claims(FOLDER / "demo.toml")
    assert {row["claim"]: row["verdict"] for row in said.rows} == {claim.id: claim.expected for claim in claims}
    assert "where the file expects" not in said.err


def test_claims_without_their_run_are_refused(run: Atlas, demo_atlas: Path) -> None:
    said = run("claims", "check", FOLDER / "thesis.toml", "-a", demo_atlas, code=3)
    assert "no claim speaks of a run of this atlas" in said.err
