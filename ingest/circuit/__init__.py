"""Circuits: what a set of features does alone, what is lost without it, how it is found, what runs through it."""
