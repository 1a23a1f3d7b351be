"""Prompt sets: behaviours spelled out and tokenised with the analysed model's own tokenizer.

In: behaviours, a Hugging Face tokenizer, which languages and splits to keep. Out: a `PromptSet` and its rows for schema.sql.

1. Each (concept case, template) of one language is one prompt; its split is the later of the two (train < validation < test).
2. The prompt's tokens are the prepended token (Qwen3 has no BOS: `<|endoftext|>`) and the text's tokens; each token's role follows from
   character offsets: sink (position 0), content (operand), operator, quote, template; the last one is `decision` (METHODS, section 2).
3. Answers: the correct one; contrasts (the case's own, the operand, other concepts' answers as distractors); and, outside the margin, the
   same concept's answer in each other language. Each is one token or the prompt is refused by name, unless the behaviour's answers are
   sequences.
4. Other operations over the same operands (`operations`) are spelled out beside, whatever concepts and splits are kept: only the operation
   swap of the abstract-mapping test reads them, and they have no rows.
5. Pairs: translations share concept, template name and variant; minimal pairs share language, concept and template and differ in variant.
"""

from __future__ import annotations

import hashlib
import random
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from atlas.errors import InputError
from ingest.ask.chat import begins_with_special, chat_text, place_in
from ingest.prompts.behaviour import SPLITS, Behaviour, Case, Concept, Template

AnswerRole = Literal["correct", "contrast", "distractor", "partner", "source_language"]
MARGIN_ROLES = frozenset({"contrast", "distractor"})
"""Answers over whose logits the margin takes its maximum."""

_QUOTES = "\"'«»“”„‹›‘’「」『』"


@dataclass(frozen=True)
class Answer:
    """A candidate next token of a prompt."""

    role: AnswerRole
    text: str
    """With what stands before it, e.g. a leading space."""
    token_id: int
    """The token, or the first of several."""
    token_ids: tuple[int, ...] = ()
    """Every token of an answer of several; empty for a single one."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Every token."""
        return self.token_ids or (self.token_id,)


@dataclass(frozen=True)
class Prompt:
    """One tokenised prompt; the fields of table `prompt`, and its tokens."""

    prompt: int
    """Ordinal within the set."""
    behaviour: str
    prompt_hash: str
    language: str
    concept: str
    cluster: str
    template: str
    split: str
    held_out: str | None
    text: str
    operand: str
    variant: str | None
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    roles: tuple[str, ...]
    offsets: tuple[tuple[int, int] | None, ...]
    content_positions: tuple[int, ...]
    """Positions of the operand's tokens (kept even where the last of them is the decision position)."""
    answers: tuple[Answer, ...]
    """The correct one first."""

    @property
    def decision_position(self) -> int:
        """The last position."""
        return len(self.token_ids) - 1

    @property
    def correct(self) -> Answer:
        """The correct answer."""
        return self.answers[0]

    @property
    def has_sequences(self) -> bool:
        """Whether an answer is several tokens, so that the margin is one of summed log-probabilities."""
        return any(answer.token_ids for answer in self.answers)

    @property
    def contrasts(self) -> tuple[Answer, ...]:
        """Answers that enter the margin with the other sign."""
        return tuple(answer for answer in self.answers if answer.role in MARGIN_ROLES)


@dataclass(frozen=True)
class PromptPair:
    """Two prompts (ordinals) that differ in one respect."""

    kind: Literal["translation", "minimal"]
    prompt_a: int
    prompt_b: int


@dataclass(frozen=True)
class PromptSet:
    """Tokenised prompts of one or more behaviours."""

    behaviours: tuple[Behaviour, ...]
    prompts: tuple[Prompt, ...]
    pairs: tuple[PromptPair, ...]
    dropped: tuple[str, ...] = ()
    """Why prompts were left out, one message each (`drop_multitoken`)."""
    operations: tuple[Prompt, ...] = ()
    """Prompts of other operations over the same operands (template: the operation's name), numbered on their own."""

    @property
    def tokens(self) -> np.ndarray:
        """Token ids (B, T) int64, padded with 0 on the right."""
        return _padded([prompt.token_ids for prompt in self.prompts])

    @property
    def mask(self) -> np.ndarray:
        """True where a token stands, (B, T) bool."""
        lengths = np.array([len(prompt.token_ids) for prompt in self.prompts])
        return np.asarray(np.arange(lengths.max(initial=0))[None, :] < lengths[:, None])

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the prompts, in order of appearance."""
        return tuple(dict.fromkeys(prompt.language for prompt in self.prompts))

    @property
    def has_sequences(self) -> bool:
        """Whether any prompt has an answer of several tokens."""
        return any(prompt.has_sequences for prompt in self.prompts)

    @property
    def prompt_set_hash(self) -> str:
        """SHA-256 over every prompt's hash, in order, other operations' last."""
        return hashlib.sha256("\n".join(prompt.prompt_hash for prompt in (*self.prompts, *self.operations)).encode()).hexdigest()

    def tables(self) -> dict[str, pa.Table]:
        """Rows of behaviour, prompt, prompt_pair and token for schema.sql (answers come with the baseline)."""
        return {
            "behaviour": pa.Table.from_pylist([self._behaviour_row(behaviour) for behaviour in self.behaviours]),
            "prompt": pa.Table.from_pylist([_prompt_row(prompt) for prompt in self.prompts]),
            "prompt_pair": pa.table(
                {
                    "pair": pa.array(range(len(self.pairs)), pa.int32()),
                    "kind": pa.array([pair.kind for pair in self.pairs], pa.string()),
                    "prompt_a": pa.array([pair.prompt_a for pair in self.pairs], pa.int32()),
                    "prompt_b": pa.array([pair.prompt_b for pair in self.pairs], pa.int32()),
                }
            ),
            "token": pa.Table.from_pylist([row for prompt in self.prompts for row in _token_rows(prompt)]),
        }

    def _behaviour_row(self, behaviour: Behaviour) -> dict[str, Any]:
        own = [prompt for prompt in self.prompts if prompt.behaviour == behaviour.name]
        return {
            "behaviour": behaviour.name,
            "title": behaviour.title,
            "computation_type": behaviour.computation_type,
            "languages": list(dict.fromkeys(prompt.language for prompt in own)),
            "n_prompts": len(own),
            "prompt_set_hash": hashlib.sha256("\n".join(prompt.prompt_hash for prompt in own).encode()).hexdigest(),
            "gate": behaviour.gate,
            "definition": behaviour.definition,
        }


class NotOneTokenError(InputError):
    """An answer that the model's tokenizer cuts into pieces."""


def build_prompt_set(
    behaviours: Sequence[Behaviour],
    tokenizer: Any,
    *,
    languages: Sequence[str] | None = None,
    splits: Sequence[str] = SPLITS,
    max_concepts: int | None = None,
    prepend: int | None = None,
    seed: int = 0,
    drop_multitoken: bool = False,
) -> PromptSet:
    """Spell out behaviours as tokenised prompts.

    Args:
        behaviours: what to ask.
        tokenizer: a fast Hugging Face tokenizer (offsets are needed).
        languages: languages to keep; all when None.
        splits: splits to keep.
        max_concepts: keep about this many concepts a behaviour: whole clusters, drawn with `seed` from every split in proportion.
        prepend: id of the token before each prompt; `prepended_token(tokenizer)` when None.
        seed: of the draw of concepts and distractors.
        drop_multitoken: leave out prompts with an answer that is not one token (`dropped` says which), instead of refusing them.

    Raises:
        InputError: an answer that is not one token, an operand that is not found, or a set without prompts.
    """
    prepended = prepended_token(tokenizer) if prepend is None else prepend
    if prepended is None:
        raise InputError("The tokenizer has no BOS, padding or EOS token to put before a prompt.", hint="Add a bos_token to it.")
    prompts: list[Prompt] = []
    problems: list[str] = []
    dropped: list[str] = []
    for behaviour in behaviours:
        concepts = _sample(behaviour.concepts, max_concepts, seed)
        for template in behaviour.templates:
            if languages is not None and template.language not in languages:
                continue
            for concept in concepts:
                split = max(template.split, concept.split, key=SPLITS.index)
                if split not in splits:
                    continue
                for case in concept.cases.get(template.language, ()):
                    try:
                        prompts.append(
                            _prompt(
                                len(prompts),
                                behaviour,
                                concepts,
                                template,
                                concept,
                                case,
                                split,
                                tokenizer,
                                prepended,
                                seed,
                            )
                        )
                    except NotOneTokenError as error:
                        (dropped if drop_multitoken else problems).append(error.message)
                    except InputError as error:
                        problems.append(error.message)
    if problems:
        _refuse(problems)
    if not prompts:
        raise InputError(
            f"No prompt is left of {', '.join(behaviour.name for behaviour in behaviours)}.",
            hint=f"Asked for languages {languages or 'all'} and splits {', '.join(splits)}; see the behaviour's file."
            + (f" {len(dropped)} were left out, e.g. {dropped[0]}." if dropped else ""),
        )
    operations: list[Prompt] = []
    for behaviour in behaviours:
        operations += _operations(behaviour, languages, tokenizer, prepended, seed, dropped if drop_multitoken else problems)
    if problems:
        _refuse(problems)
    return PromptSet(tuple(behaviours), tuple(prompts), tuple(_pairs(prompts)), tuple(dropped), _numbered(operations))


def _refuse(problems: Sequence[str]) -> None:
    shown = "\n    ".join(dict.fromkeys(problems[:5]))
    raise InputError(
        f"{len(problems)} prompts cannot be tokenised for this model:\n    {shown}",
        hint="`atlas prompts check BEHAVIOUR --model PATH` lists all; change the words, leave out the language with --languages, "
        "or leave out such prompts with --drop-multitoken.",
    )


def _numbered(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    return tuple(replace(prompt, prompt=number) for number, prompt in enumerate(prompts))


def _operations(
    behaviour: Behaviour, languages: Sequence[str] | None, tokenizer: Any, prepended: int, seed: int, problems: list[str]
) -> list[Prompt]:
    """Spell out a behaviour's other operations; the answer of the behaviour itself is their contrast."""
    plain = replace(behaviour, contrast_operand=False, n_distractors=0)
    prompts: list[Prompt] = []
    for operation in behaviour.operations:
        if languages is not None and operation.language not in languages:
            continue
        template = Template(operation.name, operation.language, operation.text, None, "train", operation.answer_prefix)
        for concept in behaviour.concepts:
            alone = replace(concept, cases={operation.language: concept.cases.get(operation.language, ())})
            for case in alone.cases[operation.language]:
                if operation.name in case.slots:
                    asked = replace(case, answer=case.slots[operation.name], contrasts=(case.answer,))
                    try:
                        prompts.append(_prompt(0, plain, (), template, alone, asked, concept.split, tokenizer, prepended, seed))
                    except InputError as error:
                        if not isinstance(error, NotOneTokenError):
                            raise
                        problems.append(error.message)
    return prompts


def prepended_token(tokenizer: Any) -> int | None:
    """Return the id of the token that is put before a text: BOS, else padding (Qwen's `<|endoftext|>`), else EOS, else None."""
    candidates = (getattr(tokenizer, name, None) for name in ("bos_token_id", "pad_token_id", "eos_token_id"))
    return next((int(token_id) for token_id in candidates if token_id is not None), None)


def _sample(concepts: tuple[Concept, ...], limit: int | None, seed: int) -> tuple[Concept, ...]:
    """Keep whole clusters, drawn evenly from every split, until `limit` concepts are reached."""
    if limit is None or limit >= len(concepts):
        return concepts
    clusters: dict[str, list[Concept]] = defaultdict(list)
    for concept in concepts:
        clusters[concept.cluster].append(concept)
    by_split: dict[str, list[str]] = defaultdict(list)
    for name, members in clusters.items():
        by_split[members[0].split].append(name)
    order: list[tuple[float, str]] = []
    for split, names in by_split.items():
        drawn = random.Random(f"concepts-{seed}-{split}").sample(names, len(names))
        order += [((rank + 0.5) / len(names), name) for rank, name in enumerate(drawn)]
    kept: set[str] = set()
    for _, name in sorted(order):
        if sum(len(clusters[cluster]) for cluster in kept) >= limit:
            break
        kept.add(name)
    return tuple(concept for concept in concepts if concept.cluster in kept)


def _prompt(
    ordinal: int,
    behaviour: Behaviour,
    concepts: Sequence[Concept],
    template: Template,
    concept: Concept,
    case: Case,
    split: str,
    tokenizer: Any,
    prepended: int,
    seed: int,
) -> Prompt:
    missing = template.slots - set(case.slots)
    if missing:
        raise InputError(f"{behaviour.name}/{template.language}/{template.name}/{concept.name}: no value for {{{min(missing)}}}")
    text, spans = _fill(template, case)
    where = f"{behaviour.name}/{template.language}/{template.name}/{concept.name}"
    if behaviour.chat:
        text, spans = _in_chat(text, spans, tokenizer, behaviour.system)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = [_trimmed(text, *span) for span in encoded["offset_mapping"]]
    lead = () if behaviour.chat and begins_with_special(tokenizer, encoded["input_ids"]) else (prepended,)
    content = tuple(i + len(lead) for i, span in enumerate(offsets) if _overlaps(span, spans["operand"]))
    if not content:
        raise InputError(f"{where}: no token of {text!r} covers the operand {case.operand!r}")
    token_ids = (*lead, *encoded["input_ids"])
    answers = _answers(behaviour, concepts, template, concept, case, tokenizer, where, seed)
    roles = ("sink", *(_role(text, span, spans) for span in offsets[1 - len(lead) : -1]), "decision")
    fingerprint = "\x1f".join([template.language, text, *(f"{answer.role}:{answer.text}" for answer in answers)])
    held_out = {(True, True): "both", (True, False): "concept", (False, True): "template"}.get(
        (concept.split != "train", template.split != "train")
    )
    return Prompt(
        prompt=ordinal,
        behaviour=behaviour.name,
        prompt_hash=hashlib.sha256(fingerprint.encode()).hexdigest()[:16],
        language=template.language,
        concept=concept.name,
        cluster=concept.cluster,
        template=template.name,
        split=split,
        held_out=held_out,
        text=text,
        operand=case.operand,
        variant=case.variant,
        token_ids=token_ids,
        tokens=tuple(token_text(tokenizer, token_id) for token_id in token_ids),
        roles=roles,
        offsets=(*(None for _ in lead), *(tuple(span) for span in encoded["offset_mapping"])),
        content_positions=content,
        answers=answers,
    )


def _in_chat(text: str, spans: Mapping[str, tuple[int, int]], tokenizer: Any, system: str | None) -> tuple[str, dict[str, tuple[int, int]]]:
    """Put a filled text into the tokenizer's chat template; spans move with it."""
    rendered = chat_text(tokenizer, text, system)
    start = place_in(rendered, text)
    return rendered, {name: (a + start, b + start) for name, (a, b) in spans.items()}


def token_text(tokenizer: Any, token_id: int) -> str:
    """Decode one token; bytes that are no UTF-8 by themselves come out as U+FFFD."""
    return str(tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _fill(template: Template, case: Case) -> tuple[str, dict[str, tuple[int, int]]]:
    """Fill a template's slots; return the text and the span of each slot and of the operator."""
    text, spans, literal_spans = "", {}, []
    for literal, name, _, _ in string.Formatter().parse(template.text):
        literal_spans.append((len(text), literal))
        text += literal
        if name:
            spans[name] = (len(text), len(text) + len(case.slots[name]))
            text += case.slots[name]
    if template.operator is not None:
        for start, literal in literal_spans:
            at = literal.find(template.operator)
            if at >= 0:
                spans["operator"] = (start + at, start + at + len(template.operator))
    return text, spans


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Take the white space off a token's span, which a tokenizer may count to the following word."""
    while start < end and text[start].isspace():
        start += 1
    return start, end


def _overlaps(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _role(text: str, span: tuple[int, int], spans: Mapping[str, tuple[int, int]]) -> str:
    if _overlaps(span, spans["operand"]):
        return "content"
    if "operator" in spans and _overlaps(span, spans["operator"]):
        return "operator"
    piece = text[span[0] : span[1]].strip()
    if piece and all(character in _QUOTES for character in piece):
        return "quote"
    return "template"


def _answers(
    behaviour: Behaviour,
    concepts: Sequence[Concept],
    template: Template,
    concept: Concept,
    case: Case,
    tokenizer: Any,
    where: str,
    seed: int,
) -> tuple[Answer, ...]:
    wanted: list[tuple[AnswerRole, str]] = [("correct", case.answer)]
    wanted += [("contrast", contrast) for contrast in case.contrasts]
    if behaviour.contrast_operand:
        wanted.append(("contrast", case.operand))
    wanted += [("distractor", word) for word in _distractors(behaviour, concepts, template.language, concept, case, seed)]
    for language, cases in concept.cases.items():
        if language != template.language:
            wanted += [("source_language", other.answer) for other in cases if other.variant == case.variant]
    answers: list[Answer] = []
    seen: set[tuple[int, ...]] = set()
    for role, word in wanted:
        ids = tuple(int(token) for token in tokenizer(template.answer_prefix + word, add_special_tokens=False)["input_ids"])
        if len(ids) != 1 and (not ids or behaviour.answers == "token"):
            if role == "correct" or word in case.contrasts:
                raise NotOneTokenError(f"{where}: the answer {template.answer_prefix + word!r} is {len(ids)} tokens, not one")
            continue
        if ids not in seen:
            seen.add(ids)
            answers.append(Answer(role, template.answer_prefix + word, ids[0], ids if len(ids) > 1 else ()))
    if len([answer for answer in answers if answer.role in MARGIN_ROLES]) == 0:
        raise NotOneTokenError(f"{where}: no contrast answer is a single token, so there is no margin")
    return tuple(answers)


def _distractors(behaviour: Behaviour, concepts: Sequence[Concept], language: str, concept: Concept, case: Case, seed: int) -> list[str]:
    """Draw other clusters' answers: by meaning the same ones in every template and language."""
    others = [other for other in concepts if other.cluster != concept.cluster and language in other.cases]
    drawn = random.Random(f"distractors-{seed}-{behaviour.name}-{concept.name}").sample(others, len(others))
    taken = {case.answer, case.operand, *case.contrasts}
    words = dict.fromkeys(other.cases[language][0].answer for other in drawn)
    return [word for word in words if word not in taken][: behaviour.n_distractors]


def _pairs(prompts: Sequence[Prompt]) -> list[PromptPair]:
    translations: dict[tuple[str, ...], list[Prompt]] = defaultdict(list)
    minimal: dict[tuple[str, ...], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        translations[prompt.behaviour, prompt.concept, prompt.template, prompt.variant or ""].append(prompt)
        minimal[prompt.behaviour, prompt.language, prompt.concept, prompt.template].append(prompt)
    pairs = []
    for group in translations.values():
        pairs += [
            PromptPair("translation", a.prompt, b.prompt) for i, a in enumerate(group) for b in group[i + 1 :] if a.language != b.language
        ]
    for group in minimal.values():
        pairs += [PromptPair("minimal", a.prompt, b.prompt) for i, a in enumerate(group) for b in group[i + 1 :] if a.variant != b.variant]
    return pairs


_PROMPT_COLUMNS = (
    *("prompt", "behaviour", "prompt_hash", "language", "concept", "cluster", "template", "split", "held_out"),
    *("text", "operand", "variant"),
)


def _prompt_row(prompt: Prompt) -> dict[str, Any]:
    return {name: getattr(prompt, name) for name in _PROMPT_COLUMNS} | {"n_tokens": len(prompt.token_ids)}


def _token_rows(prompt: Prompt) -> list[dict[str, Any]]:
    return [
        {
            "source": "prompt",
            "item": prompt.prompt,
            "position": position,
            "token_id": prompt.token_ids[position],
            "token": prompt.tokens[position],
            "role": prompt.roles[position],
            "char_start": span[0] if span else None,
            "char_end": span[1] if span else None,
        }
        for position, span in enumerate(prompt.offsets)
    ]


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    tokens = np.zeros((len(rows), max((len(row) for row in rows), default=0)), np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return tokens
