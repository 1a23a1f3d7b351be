"""The page about asking: its notebook runs as it stands."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "ask.md"


def test_the_notebook_of_the_page_runs(demo_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo.atlas").symlink_to(demo_atlas.resolve())
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), {})
    assert "features fire on both" in printed.getvalue()
    assert "unsteered" in printed.getvalue()
    assert "L4_F361=4x" in printed.getvalue()
