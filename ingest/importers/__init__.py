"""Importers of results that other tools have published."""
