"""Measure an embedded model: accuracy, transcoders, overlap of languages, injection across languages.

In: a folder with `model/` and `transcoders/`. Out: a dictionary of plain numbers, the `metrics` of `metrics.json`.
`python -m ingest.tiny.evaluate` prints it for the shipped models.

1. Accuracy per cell (language, split of the template, split of the pair): share of margins > 0, and share of prompts whose
   answer is the top token. Margin = logit(answer) - max over the operand and three distractors.
2. The same with every MLP replaced by its transcoder, and KL(model || replaced) and top-1 agreement.
3. L0, FVU (fraction of variance of the MLP output unexplained) and dead features per layer and language, on documents, without
   position 0.
4. Overlap (Jaccard) of the features active in English and French, at operand and decision position: same concept,
   its partner, another concept; always in the same template.
5. Injection: features that two languages share for concept A take, in a French prompt of concept B, the values of the
   English prompt of A (both concepts' shared features are set, so that B's go away). Success: A's French answer has a higher logit
   than B's. The partner of A is never B.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ingest.tiny import corpus, paths
from ingest.tiny.corpus import AntonymPrompt
from ingest.tiny.loading import Loaded, load
from ingest.tiny.templates import Split
from ingest.tiny.train_transcoders import mlp_inputs_outputs
from ingest.tiny.words import LANGUAGES, Language

Metrics = dict[str, Any]
"""Nested plain numbers, as JSON holds them."""

DOCUMENTS = 900
"""How many documents the figures of the transcoders rest on."""

DERANGEMENTS = 3
"""How many sources each target concept is paired with in the injection."""


def evaluate(folder: Path, *, parts: Collection[str] | None = None) -> Metrics:
    """Measure everything the card states, or the named parts of it; all of it takes about 8 s of one core."""
    loaded = load(folder)
    measures: dict[str, Callable[[], Metrics]] = {
        "accuracy": lambda: accuracy_table(loaded),
        "accuracy_replaced": lambda: accuracy_table(loaded, replaced=True),
        "families": lambda: family_accuracy(loaded),
        "replacement": lambda: replacement_quality(loaded),
        "transcoders": lambda: transcoder_quality(loaded),
        "overlap": lambda: {split: overlap_table(loaded, split) for split in ("validation", "test")},
        "injection": lambda: {split: injection_rate(loaded, split) for split in ("validation", "test")},
    }
    return {name: measure() for name, measure in measures.items() if parts is None or name in parts}


def cells() -> Iterator[tuple[str, Language, Split, Split]]:
    """Yield (name, language, split of the template, split of the pair): what accuracy is told apart by."""
    for language in LANGUAGES:
        for template in ("train", "validation", "test"):
            for pair in ("train", "validation", "test"):
                yield f"{language} template={template} pair={pair}", language, template, pair


def by_template(
    language: Language, template: Split, pairs: Sequence[Split] = ("train", "validation", "test")
) -> dict[str, list[AntonymPrompt]]:
    """Return the prompts of each template of a split, which have equal lengths, in the order of the concepts."""
    groups: dict[str, list[AntonymPrompt]] = {}
    for prompt in corpus.antonym_prompts(language):
        if prompt.template_split == template and prompt.concept_split in pairs:
            groups.setdefault(prompt.template, []).append(prompt)
    return groups


def margins(loaded: Loaded, logits: torch.Tensor, prompts: Sequence[AntonymPrompt]) -> torch.Tensor:
    """Return logit(answer) - max over contrasts (B,) given logits (B, V)."""
    answers = torch.tensor([[loaded.word(prompt.answer)] for prompt in prompts])
    contrasts = torch.tensor([[loaded.word(word) for word in prompt.contrasts] for prompt in prompts])
    return logits.gather(1, answers)[:, 0] - logits.gather(1, contrasts).max(dim=1).values


def accuracy_table(loaded: Loaded, *, replaced: bool = False) -> Metrics:
    """Return per cell: prompts, share of margins > 0, share of answers on top."""
    table = {}
    for name, language, template, pair in cells():
        positive, top = [], []
        for prompts in by_template(language, template, (pair,)).values():
            logits = loaded.logits(loaded.tokens([p.text for p in prompts]), loaded.replaced if replaced else None)
            answers = torch.tensor([loaded.word(prompt.answer) for prompt in prompts])
            positive.append(margins(loaded, logits, prompts) > 0)
            top.append(logits.argmax(dim=1) == answers)
        table[name] = {"prompts": sum(map(len, top)), "accuracy": _share(positive), "top1": _share(top)}
    return table


def family_accuracy(loaded: Loaded) -> Metrics:
    """Return, per family of sentences, language and trained or not: prompts and share of answers on top."""
    asked = [sentence for sentence in corpus.sentences("bilingual") if sentence.family != "antonym"]
    groups: dict[str, dict[int, list[corpus.Sentence]]] = {}
    for sentence, length in zip(asked, loaded.lengths([row.prompt for row in asked]), strict=True):
        name = f"{sentence.family} {sentence.language} {'trained' if sentence.split == 'train' else 'held_out'}"
        groups.setdefault(name, {}).setdefault(length, []).append(sentence)
    table = {}
    for name, lengths in groups.items():
        hits = []
        for rows in lengths.values():
            answers = torch.tensor([loaded.word(row.answer) for row in rows])
            hits.append(loaded.logits(loaded.tokens([row.prompt for row in rows])).argmax(dim=1) == answers)
        table[name] = {"prompts": sum(map(len, hits)), "top1": _share(hits)}
    return table


def replacement_quality(loaded: Loaded) -> Metrics:
    """Return per language: KL(model || all MLPs replaced) in nats and top-1 agreement, at decisions of test templates."""
    table: dict[str, dict[str, float]] = {}
    for language in LANGUAGES:
        divergences, agreements = [], []
        for prompts in by_template(language, "test").values():
            tokens = loaded.tokens([prompt.text for prompt in prompts])
            own = loaded.logits(tokens).log_softmax(dim=-1)
            other = loaded.logits(tokens, loaded.replaced).log_softmax(dim=-1)
            divergences.append((own.exp() * (own - other)).sum(dim=-1))
            agreements.append(own.argmax(dim=1) == other.argmax(dim=1))
        table[language] = {"kl": _mean(divergences), "top1_agreement": _share(agreements)}
    return table


@torch.no_grad()
def transcoder_quality(loaded: Loaded) -> Metrics:
    """Return per language, lists over layers: L0 (active features a token), FVU, dead features; and the number of tokens."""
    documents = list(corpus.corpus_documents(count=DOCUMENTS, seed=1))
    lengths: dict[tuple[Language, int], list[str]] = {}
    for (language, text), length in zip(documents, loaded.lengths([text for _, text in documents]), strict=True):
        lengths.setdefault((language, length), []).append(text)
    table: dict[str, dict[str, list[float]]] = {}
    for language in LANGUAGES:
        parts = [mlp_inputs_outputs(loaded.model, loaded.tokens(t)) for key, t in lengths.items() if key[0] == language]
        inputs, outputs = (torch.cat([part[side][:, :, 1:].flatten(1, 2) for part in parts], dim=1) for side in (0, 1))
        row: dict[str, list[float]] = {"tokens": [inputs.shape[1]], "l0": [], "fvu": [], "dead": []}
        for layer in range(loaded.n_layers):
            active = loaded.transcoders.encode(layer, inputs[layer])
            error = outputs[layer] - loaded.transcoders.decode(layer, active)
            variance = (outputs[layer] - outputs[layer].mean(dim=0)).pow(2).sum()
            row["l0"].append(_rounded((active > 0).sum(dim=1).float().mean()))
            row["fvu"].append(_rounded(error.pow(2).sum() / variance))
            row["dead"].append(int((active > 0).sum(dim=0).eq(0).sum()))
        table[language] = row
    return table


def overlap_table(loaded: Loaded, split: Split) -> Metrics:
    """Return per position (operand, decision), lists over layers: mean Jaccard of same, partner and other concept."""
    result: dict[str, dict[str, list[float]]] = {}
    sums: dict[tuple[str, str], list[torch.Tensor]] = {}
    french_groups = by_template("fr", split, ("train",))
    for name, english in by_template("en", split, ("train",)).items():
        french = french_groups[name]
        sets = [loaded.activations(loaded.tokens([p.text for p in prompts])) > 0 for prompts in (english, french)]
        position = operand_position(loaded, english[0])
        partner = torch.tensor([i ^ 1 for i in range(len(english))])
        for place, index in (("operand", position), ("decision", -1)):
            left, right = (active[:, :, index].float() for active in sets)  # (L, B, F)
            shared = left @ right.transpose(1, 2)  # (L, B, B)
            union = left.sum(-1)[:, :, None] + right.sum(-1)[:, None] - shared
            jaccard = shared / union.clamp(min=1)
            rows = torch.arange(len(english))
            other = torch.ones(len(english), len(english)).bool()
            other[rows, rows] = False
            other[rows, partner] = False
            sums.setdefault((place, "same"), []).append(jaccard[:, rows, rows].mean(1))
            sums.setdefault((place, "partner"), []).append(jaccard[:, rows, partner].mean(1))
            sums.setdefault((place, "other"), []).append(jaccard[:, other].mean(1))
    for (place, kind), values in sums.items():
        result.setdefault(place, {})[kind] = [_rounded(value) for value in torch.stack(values).mean(0)]
    return result


def operand_position(loaded: Loaded, prompt: AntonymPrompt) -> int:
    """Return the position of the operand, counted with the prepended token."""
    return int(loaded.tokens([prompt.text])[0].tolist().index(loaded.word(prompt.operand)))


def injection_rate(loaded: Loaded, split: Split) -> Metrics:
    """Return cases, share where the source's answer wins, and the mean rise of its lead, over the templates of a split."""
    wins, rises = [], []
    french_groups = by_template("fr", split, ("train",))
    for name, english in by_template("en", split, ("train",)).items():
        french = french_groups[name]
        for number in range(DERANGEMENTS):
            sources = derangement(len(english), seed=number)
            before, after = injected(loaded, english, french, sources)
            wins.append(after > 0)
            rises.append(after - before)
    return {"cases": sum(map(len, wins)), "success": _share(wins), "rise": _mean(rises)}


def derangement(size: int, *, seed: int) -> list[int]:
    """Return a permutation of concepts that maps none to itself or to its partner (partners are adjacent)."""
    drawing = random.Random(f"derangement {seed}")
    while True:
        order = list(range(size))
        drawing.shuffle(order)
        if all(index // 2 != source // 2 for index, source in enumerate(order)):
            return order


def injected(
    loaded: Loaded, english: Sequence[AntonymPrompt], french: Sequence[AntonymPrompt], sources: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the source answer's lead over the target's own (B,), before and after the injection, in French."""
    english_tokens, french_tokens = (loaded.tokens([prompt.text for prompt in group]) for group in (english, french))
    positions = [operand_position(loaded, english[0]), english_tokens.shape[1] - 1]
    values = loaded.activations(english_tokens)[:, :, positions]  # (L, B, P, F)
    shared = (values > 0) & (loaded.activations(french_tokens)[:, :, positions] > 0)
    changed = shared | shared[:, sources]
    wanted = values[:, sources]

    def edit(layer: int, mlp_in: torch.Tensor, mlp_out: torch.Tensor) -> torch.Tensor:
        current = loaded.transcoders.encode(layer, mlp_in[:, positions])  # (B, P, F)
        change = torch.where(changed[layer], wanted[layer] - current, 0.0) @ loaded.transcoders.w_dec[layer]
        result = mlp_out.clone()
        result[:, positions] += change
        return result

    own = torch.tensor([[loaded.word(prompt.answer)] for prompt in french])
    foreign = own[torch.tensor(sources)]
    leads = []
    for logits in (loaded.logits(french_tokens), loaded.logits(french_tokens, edit)):
        leads.append((logits.gather(1, foreign) - logits.gather(1, own))[:, 0])
    return leads[0], leads[1]


def _rounded(value: torch.Tensor) -> float:
    return round(float(value), 4)


def _mean(parts: Sequence[torch.Tensor]) -> float:
    return _rounded(torch.cat(list(parts)).float().mean())


def _share(parts: Sequence[torch.Tensor]) -> float:
    return _mean(parts)


def main() -> None:
    """Print the metrics as JSON: `python -m ingest.tiny.evaluate [bilingual|control|FOLDER]`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", nargs="?", default="bilingual", help="embedded model, or a folder that training wrote")
    name = parser.parse_args().name
    torch.set_num_threads(1)
    folder = paths.root(name) if name in paths.NAMES else Path(name)
    sys.stdout.write(json.dumps(evaluate(folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
