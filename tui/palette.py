"""The command palette: every action of the screen by name, and features by their names.

In: what is typed. Out: hits that perform actions.
"""

from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from atlas.errors import UsageError
from atlas.ids import feature_name, parse_feature
from tui.actions import Action, actions_of
from tui.screens.base import AtlasScreen

if TYPE_CHECKING:
    from tui.browser import Browser


class ActionProvider(Provider):
    """Offer the registry."""

    def _actions(self) -> list[Action]:
        screen = self.screen
        return actions_of(screen.NAME) if isinstance(screen, AtlasScreen) else []

    def _name(self, action: Action) -> str:
        return f"{action.title} ({action.shown_keys})" if action.keys else action.title

    async def discover(self) -> Hits:
        """Offer all actions before anything is typed."""
        browser = cast("Browser", self.app)
        for action in self._actions():
            yield DiscoveryHit(self._name(action), partial(browser.perform, action.id), help=action.help)

    async def search(self, query: str) -> Hits:
        """Offer what matches, features first."""
        browser = cast("Browser", self.app)
        try:
            layer, feature = parse_feature(query)
            jump = partial(browser.perform, "jump", feature=query.strip())
            yield Hit(1.0, f"Jump to {feature_name(layer, feature)}", jump, help="Open this feature.")
        except UsageError:
            pass
        matcher = self.matcher(query)
        for action in self._actions():
            score = matcher.match(f"{action.title} {action.help}")
            if score > 0:
                yield Hit(score, matcher.highlight(self._name(action)), partial(browser.perform, action.id), help=action.help)
