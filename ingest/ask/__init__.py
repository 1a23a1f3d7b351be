"""Ask the model something now: what fires on a text, what a changed feature does, how probable an answer is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.ask.session import Session

__all__ = ["Session"]


def __getattr__(name: str) -> object:
    """Import `Session` when it is first asked for, so that its parts can be used without it."""
    if name == "Session":
        from ingest.ask.session import Session

        return Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
