"""Print the tables of the model card from the shipped `metrics.json`.

In: the records of both shipped models and the summary over seeds. Out: Markdown on stdout, which stands in docs/tiny-model.md
between two marks (a test compares). `python -m ingest.tiny.card [DOCUMENT]`; with a document, its tables are replaced.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ingest.tiny import corpus, paths, seeds
from ingest.tiny.words import LANGUAGES

BEGIN = "<!-- begin: python -m ingest.tiny.card -->\n"
END = "<!-- end -->\n"


def card() -> str:
    """Return all tables as Markdown."""
    records = {name: json.loads((paths.root(name) / "metrics.json").read_text(encoding="utf-8")) for name in paths.NAMES}
    rows = json.loads(seeds.SEEDS.read_text(encoding="utf-8"))
    parts = [
        "Training sentences\n",
        _markdown(["family", *LANGUAGES, "in the control"], _corpus()),
        "Accuracy (share of margins > 0; in brackets: answer is the top token)\n",
        _markdown(["model", "language", "templates", "pairs", "prompts", "model itself", "MLPs replaced"], _accuracy(records)),
        "Other sentences (share of answers on top, bilingual model)\n",
        _markdown(["family", *LANGUAGES], _families(records["bilingual"]["metrics"]["families"])),
        "Transcoders, lists over layers 0 to 5 (documents, position 0 left out)\n",
        _markdown(["model", "language", "L0", "FVU", "features never active"], _transcoders(records)),
        "All MLPs replaced at once, test templates, at the decision\n",
        _markdown(["model", "language", "KL (nats)", "top-1 agreement"], _replacement(records)),
        "Overlap (Jaccard) of features active in English and French, test templates, layers 0 to 5\n",
        _markdown(["model", "position", "same concept", "its partner", "another concept"], _overlap(records)),
        "Injection of English values of shared features into French prompts of another concept\n",
        _markdown(["model", "templates", "cases", "succeeds", "rise of the lead (logits)"], _injection(records)),
        "Spread over seeds\n",
        seeds.table(rows),
    ]
    return "\n".join(parts)


def _corpus() -> Iterator[list[str]]:
    counts = Counter((row.family, row.language) for row in corpus.training_sentences("bilingual"))
    families = dict.fromkeys(family for family, _ in counts)
    for family in families:
        kept = "no" if family in corpus.BRIDGING_FAMILIES else "yes"
        yield [family, *(str(counts[family, language]) for language in LANGUAGES), kept]
    totals = (sum(counts[family, language] for family in families) for language in LANGUAGES)
    yield ["all", *map(str, totals), f"{len(corpus.training_sentences('control'))} sentences"]


def _accuracy(records: dict[str, Any]) -> Iterator[list[str]]:
    for model, record in records.items():
        own, replaced = record["metrics"]["accuracy"], record["metrics"]["accuracy_replaced"]
        for cell, row in own.items():
            language, template, pair = cell.replace("template=", "").replace("pair=", "").split()
            if template != "validation" and pair != "validation":
                shares = [f"{side['accuracy']:.3f} ({side['top1']:.3f})" for side in (row, replaced[cell])]
                yield [model, language, template, pair, str(row["prompts"]), *shares]


def _families(families: dict[str, dict[str, float]]) -> Iterator[list[str]]:
    names = dict.fromkeys((key.split()[0], key.split()[2]) for key in families)
    for family, state in sorted(names):
        shares = [families.get(f"{family} {language} {state}") for language in LANGUAGES]
        yield [f"{family}, {state.replace('_', ' ')}", *("" if row is None else f"{row['top1']:.3f}" for row in shares)]


def _transcoders(records: dict[str, Any]) -> Iterator[list[str]]:
    for model, record in records.items():
        for language, row in record["metrics"]["transcoders"].items():
            yield [model, language, _list(row["l0"], 1), _list(row["fvu"], 3), _list(row["dead"], 0)]


def _replacement(records: dict[str, Any]) -> Iterator[list[str]]:
    for model, record in records.items():
        for language, row in record["metrics"]["replacement"].items():
            yield [model, language, f"{row['kl']:.3f}", f"{row['top1_agreement']:.3f}"]


def _overlap(records: dict[str, Any]) -> Iterator[list[str]]:
    for model, record in records.items():
        for position, row in record["metrics"]["overlap"]["test"].items():
            yield [model, position, *(_list(row[kind], 2) for kind in ("same", "partner", "other"))]


def _injection(records: dict[str, Any]) -> Iterator[list[str]]:
    for model, record in records.items():
        for split, row in record["metrics"]["injection"].items():
            yield [model, split, str(row["cases"]), f"{row['success']:.3f}", f"{row['rise']:.2f}"]


def _list(values: Sequence[float], digits: int) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def _markdown(heads: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def main() -> None:
    """Print the tables, or with a path put them between the marks of that document."""
    if len(sys.argv) == 1:
        sys.stdout.write(card())
        return
    document = Path(sys.argv[1])
    text = document.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    document.write_text(before + BEGIN + card() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
