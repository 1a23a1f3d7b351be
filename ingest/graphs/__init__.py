"""Graphs: edges over prompt sets and attribution graphs of single prompts."""
