"""Fixtures of the fault harness: the store's template atlas."""

from tests.atlas.conftest import template

__all__ = ["template"]
