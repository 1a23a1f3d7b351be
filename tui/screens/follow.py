"""Open what a row of any result speaks of.

In: column names and a row. Out: whether there was something to open.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from atlas.ids import feature_name

if TYPE_CHECKING:
    from tui.browser import Browser


async def follow_row(browser: "Browser", names: Sequence[str], row: Sequence[Any]) -> bool:
    """Open the row's feature, else its edge's source, prompt, intervention or graph."""
    values = {name: value for name, value in zip(names, row, strict=False) if value is not None}
    for layer, feature in (("layer", "feature"), ("source_layer", "source_feature"), ("target_layer", "target_feature")):
        if isinstance(values.get(layer), int) and isinstance(values.get(feature), int):
            await browser.perform("jump", feature=feature_name(values[layer], values[feature]))
            return True
    if isinstance(values.get("prompt"), int):
        await browser.perform("go_prompts", prompt=values["prompt"])
        return True
    if isinstance(values.get("intervention"), int):
        await browser.perform("go_interventions", intervention=values["intervention"])
        return True
    if isinstance(values.get("circuit"), int):
        await browser.perform("go_interventions", circuit=values["circuit"])
        return True
    if isinstance(values.get("graph"), int):
        await browser.perform("go_graph", graph=values["graph"])
        return True
    return False
