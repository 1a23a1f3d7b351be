"""The data of the browser: the only package with a cursor, and the only one that composes SQL."""

from tui.data.compose import Measure, Read, Statement, Where
from tui.data.engine import Asker, Cancelled, Data, Job, Row
from tui.data.features import FeatureComposer, FeatureView, Score, feature_key

__all__ = [
    "Asker",
    "Cancelled",
    "Data",
    "FeatureComposer",
    "FeatureView",
    "Job",
    "Measure",
    "Read",
    "Row",
    "Score",
    "Statement",
    "Where",
    "feature_key",
]
