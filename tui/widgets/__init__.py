"""Widgets: they draw, take keys and post messages; none of them owns SQL or a cursor."""
