"""Put a traced prompt into an atlas as a run of its own.

In: a `Traced`, its sources. Out: a run with model, transcoder, behaviour, prompt, token, graph, node and edge rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas.folder import Atlas
from atlas.ids import run_id
from atlas.shards import RunWriter
from ingest.sources import Source
from ingest.trace import Traced

BEHAVIOUR = "traced text"


def commit_trace(folder: Path, traced: Traced, sources: Mapping[str, Source], language: str) -> str:
    """Commit a traced prompt and return its run's id; the same trace again changes nothing.

    Raises:
        StoreError: the atlas cannot be written.
    """
    ids = traced.graph.tokens.tolist()
    plan: dict[str, Any] = {
        "kind": "trace",
        "tokens": ids,
        "language": language,
        "dtype": str(traced.model.dtype).removeprefix("torch."),
        "node_threshold": traced.node_threshold,
        "edge_threshold": traced.edge_threshold,
        "settings": {key: value for key, value in vars(traced.config).items() if isinstance(value, bool | int | float | str | None)},
        "hashes": {"model": sources["model"].content_hash("model"), "transcoders": sources["transcoders"].content_hash("transcoders")},
    }
    model_row = traced.model.row() | {"name": sources["model"].name, "source": sources["model"].name}
    transcoder_rows = traced.transcoders.rows(str(model_row["model_id"]))
    for row in transcoder_rows:
        row |= {"transcoder_set": sources["transcoders"].name, "source": sources["transcoders"].name}
    with RunWriter(Atlas.create(folder), plan, run_id(plan)) as writer:
        if not writer.is_complete:
            tables = {
                "model": pa.Table.from_pylist([model_row]),
                "transcoder": pa.Table.from_pylist(transcoder_rows),
                **_prompt_tables(traced, language),
                **traced.tables(prompt=0, behaviour=BEHAVIOUR),
            }
            writer.commit("trace", tables)
            writer.finish(
                {
                    "kind": "ingest",
                    "name": f"trace of {traced.prompt!r}",
                    "model_id": model_row["model_id"],
                    "transcoder_set": sources["transcoders"].name,
                },
                shards=["trace"],
            )
        return writer.run_id


def _prompt_tables(traced: Traced, language: str) -> dict[str, pa.Table]:
    digest = hashlib.sha256(f"{language}\x1f{traced.prompt}".encode()).hexdigest()
    ids = traced.graph.tokens.tolist()
    behaviour = {
        "behaviour": BEHAVIOUR,
        "title": "A text of one's own",
        "languages": [language],
        "n_prompts": 1,
        "prompt_set_hash": digest,
    }
    prompt = {
        "prompt": 0,
        "behaviour": BEHAVIOUR,
        "prompt_hash": digest[:16],
        "language": language,
        "concept": traced.prompt,
        "template": BEHAVIOUR,
        "split": "test",
        "text": traced.prompt,
        "n_tokens": len(ids),
    }
    last = len(ids) - 1
    tokens = [
        {
            "source": "prompt",
            "item": 0,
            "position": position,
            "token_id": token_id,
            "token": traced.token_texts[position],
            "role": "sink" if position == 0 else "decision" if position == last else "other",
        }
        for position, token_id in enumerate(ids)
    ]
    return {
        "behaviour": pa.Table.from_pylist([behaviour]),
        "prompt": pa.Table.from_pylist([prompt]),
        "token": pa.Table.from_pylist(tokens),
    }
