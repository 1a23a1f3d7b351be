"""Named questions: one SQL file each, with a header that the tests prove true."""

from queries.header import Column, Parameter, Question
from queries.loader import ask, catalogue, prepare, question, resolve_run
from queries.steps import audits, build_steps

__all__ = ["Column", "Parameter", "Question", "ask", "audits", "build_steps", "catalogue", "prepare", "question", "resolve_run"]
