"""Texts in two languages with features whose meaning is known, for labels and their scores.

Vocabulary: a word of each concept in English and in French, and fillers. Features of layer 0: 0 … 3 fire on a concept in both
languages, 4 and 5 in one language only, 6 on the last token of every text, 7 never.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.schema import arrow_schema
from atlas.shards import RunWriter
from ingest.labels.source import LabelSource
from ingest.labels.texts import Texts

CONCEPTS = {"hot": " chaud", "cold": " froid", "big": " grand", "small": " petit"}
WORDS = {"en": [f" {word}" for word in CONCEPTS], "fr": list(CONCEPTS.values())}
FILLERS = {"en": [" the", " of", " now", " here", " one"], "fr": [" le", " de", " bien", " ici", " un"]}
LAST = {"en": " is", "fr": " est"}
NOW = datetime(2026, 1, 1)
SET, RUN = "planted", "a" * 16
N_ITEMS = 160


def fires(feature: int, token: str, language: str, *, last: bool) -> bool:
    """Say whether a planted feature is active on a token."""
    if feature < 4:
        return token in (WORDS["en"][feature], WORDS["fr"][feature])
    if feature in (4, 5):
        return language == ("en", "fr")[feature - 4] and token == WORDS[language][0]
    return feature == 6 and last


def tables(seed: int = 0) -> dict[str, pa.Table]:
    """Return token, prompt, activation and feature rows."""
    rng = np.random.default_rng(seed)
    token: list[dict[str, Any]] = []
    prompt: list[dict[str, Any]] = []
    activation: list[dict[str, Any]] = []
    for item in range(N_ITEMS):
        language = ("en", "fr")[item % 2]
        words = [str(word) for word in rng.choice(FILLERS[language], 4)]
        words[int(rng.integers(4))] = str(rng.choice(WORDS[language]))
        words = ["<s>", *words, LAST[language]]
        prompt.append({"prompt": item, "language": language})
        for position, word in enumerate(words):
            last = position == len(words) - 1
            role = "sink" if position == 0 else "decision" if last else "template"
            token.append({"source": "prompt", "item": item, "position": position, "token": word, "role": role})
            for feature in range(7):
                if position == 0 or fires(feature, word, language, last=last):
                    value = 50.0 if position == 0 else float(rng.uniform(0.5, 2.0))
                    activation.append({"layer": 0, "feature": feature, "prompt": item, "position": position, "activation": value})
    activation.sort(key=lambda row: (row["feature"], row["prompt"], row["position"]))
    feature_rows = [{"layer": 0, "feature": feature, "n_tokens": 5 * N_ITEMS, "promoted_tokens": [" up"]} for feature in range(8)]
    schema = {"layer": pa.int16(), "feature": pa.int32(), "prompt": pa.int32(), "position": pa.int16(), "activation": pa.float32()}
    return {
        "token": pa.Table.from_pylist(token),
        "prompt": pa.Table.from_pylist(prompt),
        "activation": pa.Table.from_pylist(activation, schema=pa.schema(schema)),
        "feature": pa.Table.from_pylist(feature_rows),
    }


def make_atlas(folder: Path) -> LabelSource:
    """Write the planted tables as a run and return it as labels see it."""
    made = tables()
    language = dict(zip(made["prompt"]["prompt"].to_pylist(), made["prompt"]["language"].to_pylist(), strict=True))
    about = {"behaviour": "planted", "concept": "c", "template": "t", "split": "train"}
    prompts = [
        {**about, "prompt": item, "language": name, "prompt_hash": f"{item:016d}", "text": f"text {item}"}
        for item, name in language.items()
    ]
    behaviour = {
        "behaviour": "planted",
        "title": "Planted",
        "languages": ["en", "fr"],
        "n_prompts": len(prompts),
        "prompt_set_hash": "0" * 64,
    }
    active = made["activation"].filter(pc.greater(made["activation"]["position"], 0)).to_pylist()
    features = []
    for row in made["feature"].to_pylist():
        own = [each["prompt"] for each in active if each["feature"] == row["feature"]]
        features.append({**row, "n_active": len(own), "n_prompts_active": len(set(own)), "density": len(own) / row["n_tokens"]})
    plan = {"planted": True}
    rows = {"prompt": prompts, "behaviour": [behaviour], "feature": features}
    written = {name: pa.Table.from_pylist(some, schema=arrow_schema(name)) for name, some in rows.items()}
    store = Atlas.create(folder)
    with RunWriter(store, plan, run_id(plan)) as writer:
        writer.commit("all", {**written, "token": made["token"], "activation": made["activation"]})
        writer.finish({"kind": "ingest", "name": "planted", "transcoder_set": SET}, shards=["all"])
    return LabelSource.open(store, None)


def texts(made: dict[str, pa.Table]) -> Texts:
    """Return the tokens as labels read them."""
    return Texts.of_tables(made["token"], made["prompt"], "prompt")
