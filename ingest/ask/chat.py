"""Wrap a text as a user's message in the chat template of the model's own tokenizer.

In: a tokenizer, a text, maybe a system message. Out: the text as the model is to read it, up to where its answer begins, and where in
it the person's words stand.
"""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from atlas.errors import InputError


def chat_text(tokenizer: Any, text: str, system: str | None = None, *, name: str = "the model") -> str:
    """Return the rendered conversation with the prompt for the answer at its end.

    Raises:
        InputError: the model has no tokenizer, its tokenizer has no template, or the template refuses (a system message, for one).
    """
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer of {name} has no chat template",
            hint="leave --chat out: a base model reads plain text; an instruction-tuned one brings its template with it",
        )
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": text})
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (TemplateError, ValueError, TypeError) as error:
        raise InputError(f"the chat template of {name} refuses this conversation: {error}", hint="try without a system message") from error


def place_in(rendered: str, text: str, *, name: str = "the model") -> int:
    """Return where the person's words begin in the rendered conversation (their last occurrence: a system message comes first).

    Raises:
        InputError: the template has changed them.
    """
    start = rendered.rfind(text)
    if start < 0:
        raise InputError(f"the chat template of {name} changes the text {text!r}", hint="take white space off its ends")
    return start


def begins_with_special(tokenizer: Any, ids: list[int]) -> bool:
    """Say whether a text brings its own first special token, so that none is put before it."""
    return bool(ids) and ids[0] in tokenizer.all_special_ids
