"""stub"""

from tui.screens.base import AtlasScreen, bindings_of
from tui.widgets.line_view import LineView


class OverviewScreen(AtlasScreen):
    NAME = "overview"
    FIRST = "#overview"
    BINDINGS = bindings_of("overview")

    def body(self):
        return (LineView(id="overview"),)


SCREEN = OverviewScreen
