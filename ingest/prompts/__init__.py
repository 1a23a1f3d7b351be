"""Behaviours: prompt sets with their answers, one TOML file each."""

from ingest.prompts.behaviour import Behaviour, load_behaviour, parse_behaviour, shipped_behaviours
from ingest.prompts.prompt_set import (
    MARGIN_ROLES,
    Answer,
    Prompt,
    PromptPair,
    PromptSet,
    build_prompt_set,
    prepended_token,
    token_text,
)

__all__ = [
    "MARGIN_ROLES",
    "Answer",
    "Behaviour",
    "Prompt",
    "PromptPair",
    "PromptSet",
    "build_prompt_set",
    "load_behaviour",
    "parse_behaviour",
    "prepended_token",
    "shipped_behaviours",
    "token_text",
]
