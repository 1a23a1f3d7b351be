"""A worker process that holds the model: `python -m ingest.ask.serve`, JSON lines in, JSON lines out.

In (one object a line; `id` is any number or text that the answers repeat):

    {"id": 1, "do": "hello", "atlas": "demo.atlas"}                     load; further fields as of Session.open
    {"id": 2, "do": "ask", "text": "…", "against": "…", "filter": "lape<0.5", "top": 10, "layers": "2-4"}
    {"id": 3, "do": "steer", "prompt": "…", "set": ["L3_F139=3x"], "strengths": [0, 1, 4]}
    {"id": 4, "do": "keep", "of": 2, "languages": ["fr"]}               put an earlier answer into the atlas
    {"id": 2, "do": "cancel"}                                           stop what is under way under that id
    {"do": "quit"}

Out: `{"id": …, "event": "progress" | "ready" | "result" | "kept" | "cancelled" | "error", …}`; an error has `message`, `hint`, `kind`.
A line that is nonsense gets an error and changes nothing. The process ends with `quit`, or when its standard input is closed: what was
under way is stopped, since there is nobody left to tell. Whatever a library prints goes to stderr; stdout holds the protocol alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from atlas.errors import AtlasError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from ingest.ask.results import Asked, SteeredResult
    from ingest.ask.session import Session

log = logging.getLogger(__name__)
KEPT_ANSWERS = 8
"""Answers that `keep` can still name."""
_HELLO = ("atlas", "run", "model", "transcoders", "layers", "dtype", "device", "memory_budget", "prepend")
_ASKING = ("layers", "positions", "token", "min_value", "top", "by", "whole", "sinks")
_SAMPLING = ("max_new_tokens", "temperature", "n_samples", "seed")
Line = Mapping[str, Any]


class Stopped(AtlasError):
    """The answer was cancelled."""


class Server:
    """Takes requests one after the other; cancelling comes in between."""

    def __init__(self, lines: IO[str], out: IO[str]) -> None:
        self.lines = lines
        self.out = out
        self.session: Session | None = None
        self.answers: OrderedDict[str, Asked | SteeredResult] = OrderedDict()
        self.requests: queue.Queue[Line | None] = queue.Queue()
        self.cancelled: set[str] = set()
        self.closing = threading.Event()
        self.writing = threading.Lock()

    # ---- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Answer until there is nobody left to ask."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (line := self.requests.get()) is not None:
            self._answer(line)
        if self.session is not None:
            self.session.close()

    def _listen(self) -> None:
        """Read lines: cancelling acts at once, everything else waits its turn."""
        for text in self.lines:
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except ValueError as error:
                self._say(None, "error", message=f"not a line of JSON: {error}", hint=None, kind="UsageError")
                continue
            if not isinstance(line, dict):
                self._say(None, "error", message="a request is a JSON object with `do`", hint=None, kind="UsageError")
            elif line.get("do") == "cancel":
                self.cancelled.add(_key(line))
            elif line.get("do") == "quit":
                break
            else:
                self.requests.put(line)
        self.closing.set()
        self.requests.put(None)

    def _answer(self, line: Line) -> None:
        """Do one request; the one broad place, where whatever went wrong becomes a message."""
        number = line.get("id")
        try:
            self._check(number)
            work: dict[Any, Callable[[Line], Mapping[str, Any]]] = {
                "hello": self._hello,
                "ask": self._ask,
                "steer": self._steer,
                "keep": self._keep,
            }
            found = work.get(line.get("do"))
            if found is None:
                raise UsageError(f"cannot do {line.get('do')!r}", hint=f"One of {', '.join(work)}, cancel, quit.")
            self._say(number, **found(line))
        except Stopped:
            self._say(number, "cancelled")
        except AtlasError as error:
            self._say(number, "error", message=error.message, hint=error.hint, kind=type(error).__name__)
        except Exception as error:
            log.exception("request %r", number)
            self._say(number, "error", message=f"{type(error).__name__}: {error}", hint="this is a fault of the program", kind="AtlasError")
        finally:
            self.cancelled.discard(_key(line))

    def _say(self, number: Any, event: str, **fields: Any) -> None:
        text = json.dumps({"id": number, "event": event, **fields}, allow_nan=False, default=str)
        with self.writing, contextlib.suppress(BrokenPipeError):
            self.out.write(text + "\n")
            self.out.flush()

    def _check(self, number: Any) -> None:
        if self.closing.is_set() or str(number) in self.cancelled:
            raise Stopped("cancelled")

    def _progress(self, number: Any) -> Callable[[str, int, int], None]:
        def report(stage: str, done: int, total: int) -> None:
            self._check(number)
            self._say(number, "progress", stage=stage, done=done, total=total)

        return report

    # ---- what it does -----------------------------------------------------------------------------------------

    def _hello(self, line: Line) -> Mapping[str, Any]:
        from ingest.ask.session import Session

        options = {name: line[name] for name in _HELLO if line.get(name) is not None}
        if isinstance(options.get("layers"), str):
            options["layers"] = _layers(options["layers"])
        if self.session is not None:
            self.session.close()
            self.session = None
        self.session = Session.open(options.pop("atlas", None), **options)
        opened = self.session.opened
        has_template = bool(getattr(opened.model.tokenizer, "chat_template", None))
        return {"event": "ready", "title": self.session.title, "run": opened.run, "layers": list(opened.layers), "chat": has_template}

    def _opened(self) -> Session:
        if self.session is None:
            raise UsageError("nothing is loaded yet", hint='Say {"do": "hello", "atlas": "…"} first.')
        return self.session

    def _ask(self, line: Line) -> Mapping[str, Any]:
        from ingest.ask.cards import Asking, parse_positions

        given = {name: line[name] for name in _ASKING if line.get(name) is not None}
        if isinstance(given.get("layers"), str):
            given["layers"] = _layers(given["layers"])
        if isinstance(given.get("positions"), str):
            given["positions"] = parse_positions(given["positions"])
        asked = self._opened().ask(
            _text(line, "text"),
            against=line.get("against") or None,
            asking=_made(Asking, {**given, "filter": str(line.get("filter") or "")}),
            columns=line.get("columns"),
            chat=bool(line.get("chat")),
            system=line.get("system"),
            progress=self._progress(line.get("id")),
        )
        self._remember(line, asked)
        return {
            "event": "result",
            **_rows(asked.arrow()),
            "sentences": asked.sentences(),
            "texts": [text.text for text in asked.texts],
            "tokens": [list(text.tokens) for text in asked.texts],
            "next": [[[item.token, item.logprob] for item in after] for after in asked.after],
            "run": self._opened().opened.run,
        }

    def _steer(self, line: Line) -> Mapping[str, Any]:
        from ingest.ask.generation import Sampling
        from ingest.ask.results import parts

        sets = line.get("set") or []
        result = self._opened().steer(
            _text(line, "prompt"),
            sets if isinstance(sets, list) else str(sets).split(),
            positions=str(line.get("positions") or "all"),
            strengths=line.get("strengths") or None,
            sampling=_made(Sampling, {name: line[name] for name in _SAMPLING if line.get(name) is not None}),
            answers=line.get("answers") or [],
            top=int(line.get("top") or 10),
            chat=bool(line.get("chat")),
            system=line.get("system"),
            progress=self._progress(line.get("id")),
        )
        self._remember(line, result)
        tables = [{"name": part.name, "title": part.title, **_rows(part.table)} for part in parts(result)]
        return {"event": "result", "parts": tables, "notes": list(result.steered.notes), "run": self._opened().opened.run}

    def _keep(self, line: Line) -> Mapping[str, Any]:
        answer = self.answers.get(str(line.get("of")))
        if answer is None:
            raise UsageError(f"there is no answer {line.get('of')!r} to keep", hint=f"The last {KEPT_ANSWERS} can be kept.")
        folder = None if line.get("atlas") is None else Path(str(line["atlas"]))
        run = self._opened().keep(answer, folder, languages=line.get("languages") or ["und"])
        return {"event": "kept", "run": run}

    def _remember(self, line: Line, answer: Asked | SteeredResult) -> None:
        self.answers[_key(line)] = answer
        while len(self.answers) > KEPT_ANSWERS:
            self.answers.popitem(last=False)


def _key(line: Line) -> str:
    return str(line.get("id"))


def _text(line: Line, name: str) -> Any:
    value = line.get(name)
    if not isinstance(value, str | list) or not value:
        raise UsageError(f"{name!r} is missing", hint=f'Say {{"do": "{line.get("do")}", "{name}": "The opposite of hot is"}}.')
    return value


def _layers(text: str) -> tuple[int, ...]:
    from ingest.plan import parse_layers

    return parse_layers(text)


def _made(kind: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """Make a settings object of fields that somebody sent.

    Raises:
        UsageError: fields of the wrong type.
    """
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    except TypeError as error:
        raise UsageError(f"these settings are of a wrong type: {dict(fields)}") from error


def _rows(table: pa.Table) -> dict[str, Any]:
    """Return columns and rows as JSON holds them: numbers that are none are null."""
    columns = [column.to_pylist() for column in table.columns]
    rows = [[_plain(value) for value in row] for row in zip(*columns, strict=True)]
    return {"columns": list(table.column_names), "rows": rows}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def main() -> None:
    """Serve standard input until it is closed."""
    # Ctrl-C in the terminal of the one who asks is for him: it reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    Server(sys.stdin, out).run()


if __name__ == "__main__":
    main()
