"""A field of one line that loses nothing of what is pasted into it.

In: keys and pastes. Out: Textual's own messages. Textual's field keeps the first line of a paste and drops the others without a word;
here the lines are joined by spaces.
"""

from textual import events
from textual.widgets import Input


class LineInput(Input):
    """A field of one line."""

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        text = " ".join(line for line in event.text.splitlines() if line.strip())
        text = "".join(char for char in text if char.isprintable())
        if text:
            self.replace(text, *self.selection)
