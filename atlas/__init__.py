"""The store and the front door: open an atlas, ask it questions."""

__version__ = "0.1.0"
