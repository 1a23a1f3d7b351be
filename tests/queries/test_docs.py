"""docs/queries.md is what the headers say."""

from __future__ import annotations

from pathlib import Path

import pytest

import queries
from queries import docs


def test_the_page_is_up_to_date() -> None:
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(), "run `python -m queries.docs`"


def test_every_question_parameter_and_column_stands_on_the_page() -> None:
    text = docs.page()
    for question in queries.catalogue().values():
        section = text[text.index(f"### {question.name}\n") :].split("\n### ")[0]
        for name in [item.name for item in (*question.parameters, *question.columns)]:
            assert f"`{name}`" in section
    for audit in queries.audits():
        assert f"`{audit.name}`" in text


def test_check_fails_on_an_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "queries.md"
    monkeypatch.setattr(docs, "PAGE", page)
    assert docs.main(["--check"]) == 1
    assert docs.main([]) == 0
    assert docs.main(["--check"]) == 0
    page.write_text(page.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    assert docs.main(["--check"]) == 1
