"""Interventions: edits at the MLP output, run in batches from the edited layer on."""
