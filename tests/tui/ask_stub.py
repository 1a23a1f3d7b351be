"""A stand-in for `python -m ingest.ask.serve` without a model: speaks the protocol, with hostile tokens.

`die` ends it, `hang` waits to be cancelled, `rubbish` prints lines that are no protocol first, anything else is answered.
"""

import json
import sys
import time
from typing import Any

TOKENS = ["[bold", "\x1b[31mred\x1b[0m", "日本語", "a\nb\tc", "\u202eabc", "", "👩‍👩‍👧‍👦", "$text"]
COLUMNS = [
    "text",
    "position",
    "token",
    "layer",
    "feature",
    "name",
    "activation",
    "relative",
    "density",
    "label",
    "rate.en",
    "lape",
    "promotes",
]


def say(**fields: Any) -> None:
    """Print one line of the protocol."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def asked(line: dict[str, Any]) -> dict[str, Any]:
    """Return rows with every hostile token, the text itself first."""
    rows = [
        [0, place, token, 1, place, f"L1_F{place}", 1.5 - place / 10, 0.5, 0.01, token, 0.25, None, TOKENS]
        for place, token in enumerate([line["text"], *TOKENS])
    ]
    if "lape" in str(line.get("filter")):
        rows = rows[:2]
    if line.get("against"):
        rows = rows[1:3]
    return {"columns": COLUMNS, "rows": rows, "sentences": [f"{len(rows)} rows [/] \x1b[0m"], "run": None}


def steered() -> dict[str, Any]:
    """Return a continuation and a moved feature."""
    names = ["strength", "set", "sample", "text", "same", "n_tokens", "logprob", "kl"]
    rows = [[None, "unsteered", 0, " plain", True, 1, -1.0, None], [None, "L1_F2=3x", 0, "".join(TOKENS), False, 3, -2.0, 0.5]]
    moved_names = ["strength", "set", "name", "token"]
    moved = {"name": "features", "title": "Later features", "columns": moved_names, "rows": [[None, "L1_F2=3x", "L2_F3", "\x07"]]}
    return {"parts": [{"name": "continuations", "title": "Continuations", "columns": names, "rows": rows}, moved], "notes": ["[red]silent"]}


def main() -> None:
    """Answer until standard input ends."""
    for text in sys.stdin:
        line = json.loads(text)
        number, do = line.get("id"), line.get("do")
        said = str(line.get("text") or line.get("prompt") or "")
        if do == "quit":
            return
        if do == "cancel":
            say(id=number, event="cancelled")
        elif do == "hello":
            say(id=number, event="ready", title="stub")
        elif said == "die":
            sys.stderr.write("out of memory, said the stub\n")
            sys.exit(3)
        elif said == "hang":
            say(id=number, event="progress", stage="hanging", done=1, total=2)
        elif said == "wrong":
            say(id=number, event="error", message="the text is wrong", hint="write another", kind="UsageError")
        else:
            if said == "rubbish":
                sys.stdout.write("no json\n[1]\n{}\n" + json.dumps({"id": 999, "event": "result"}) + "\n")
            time.sleep(0.01)
            say(id=number, event="result", **(steered() if do == "steer" else asked(line)))


if __name__ == "__main__":
    main()
