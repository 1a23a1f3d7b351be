"""Where a plan's corpus lies, and what its contents are.

In: a plan with `corpus`: a path, or `embedded` for documents of the embedded model's small world. Out: `CorpusFiles` to read, and the
SHA-256 over names and contents that goes into the run's id.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ingest.corpus_files import CorpusFiles
from ingest.hashing import file_hash
from ingest.plan import Plan

EMBEDDED = "embedded"


def corpus_files(plan: Plan, scratch: Path) -> CorpusFiles:
    """Return the corpus of a plan; the embedded one is written into `scratch` (an existing folder) first."""
    if plan.corpus != EMBEDDED:
        return CorpusFiles((Path(plan.corpus).expanduser(),), plan.text_column, plan.language_column)
    path = scratch / "embedded.jsonl"
    if not path.exists():
        path.write_text(embedded_documents(), encoding="utf-8")
    return CorpusFiles((path,))


def corpus_hash(plan: Plan) -> str:
    """Return the SHA-256 over names and contents of the corpus's files, in order.

    Raises:
        InputError: a path that is missing, or of an unknown kind.
    """
    digest = hashlib.sha256()
    if plan.corpus == EMBEDDED:
        digest.update(embedded_documents().encode())
        return digest.hexdigest()
    for file in CorpusFiles((Path(plan.corpus).expanduser(),)).files():
        digest.update(f"{file.name}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def embedded_documents() -> str:
    """Return the documents of the embedded model's small world as JSON lines."""
    from ingest.tiny.corpus import corpus_documents

    rows = (json.dumps({"language": language, "text": text}, ensure_ascii=False) for language, text in corpus_documents())
    return "".join(f"{row}\n" for row in rows)
