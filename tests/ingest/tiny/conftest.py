"""Both shipped models, loaded once."""

import pytest
import torch

from ingest.tiny import paths
from ingest.tiny.loading import Loaded, load


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A model this small is slower on two threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="package")
def bilingual() -> Loaded:
    return load(paths.root("bilingual"))


@pytest.fixture(scope="package")
def control() -> Loaded:
    return load(paths.root("control"))
