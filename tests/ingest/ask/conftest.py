"""One session on the demo atlas for all tests here: the embedded model is loaded once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.ask import Session


@pytest.fixture(scope="package")
def session(demo_atlas: Path) -> Iterator[Session]:
    """The embedded bilingual model with the cards of its run."""
    with Session.open(demo_atlas) as opened:
        yield opened
