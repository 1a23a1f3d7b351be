"""An interactive session: the model is loaded once, then every line is a question.

In: a `Session`, where to print. Out: answers on stdout, narration on stderr. A line that is no command is a text whose features are shown;
Ctrl-C stops the answer under way and nothing else.
"""

from __future__ import annotations

import cmd
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas.errors import AtlasError, UsageError
from ingest.ask.cards import Asking, parse_positions
from ingest.ask.change import parse_changes, parse_strengths
from ingest.ask.generation import Sampling
from ingest.ask.results import Asked, SteeredResult, parts
from ingest.ask.session import Session
from ingest.ask.text import Progress
from ingest.plan import parse_layers

Show = Callable[[pa.Table], None]
Say = Callable[[str], None]

INTRODUCTION = "Type a text to see what fires on it; `help` lists the commands, `quit` leaves, Ctrl-C stops an answer."


class AskConsole(cmd.Cmd):
    """Lines in, tables out."""

    prompt = "ask> "
    doc_header = "Commands (help COMMAND says more); any other line is a text:"

    def __init__(
        self,
        session: Session,
        *,
        show: Show,
        say: Say,
        progress: Progress | None = None,
        publish: Callable[[Path], None] | None = None,
        **streams: Any,
    ) -> None:
        """Ask `session`; `show` prints a table, `say` a sentence, `publish` makes a kept run visible."""
        super().__init__(**streams)
        self.session, self.show, self.say, self.progress, self.publish = session, show, say, progress, publish
        self.asking = Asking()
        self.text: str | None = None
        self.sets: list[str] = []
        self.positions = "all"
        self.strengths: tuple[float, ...] | None = None
        self.sampling = Sampling()
        self.answers: list[str] = []
        self.chat = False
        self.language = "und"
        self.last: Asked | SteeredResult | None = None

    # ---- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Take lines until the person leaves."""
        self.say(self.session.title)
        self.say(INTRODUCTION)
        while True:
            try:
                self.cmdloop()
                return
            except KeyboardInterrupt:
                self.say("\n(quit leaves)")

    def onecmd(self, line: str) -> bool:
        """Do one line; errors and Ctrl-C end the answer, not the session."""
        try:
            return bool(super().onecmd(line))
        except KeyboardInterrupt:
            self.say("\nstopped; the session goes on")
        except AtlasError as error:
            self.say(f"{error}")
        return False

    def emptyline(self) -> bool:
        """Do nothing (the base class would repeat the line before)."""
        return False

    def default(self, line: str) -> None:
        """Take a line that is no command as a text."""
        if line == "EOF":
            raise SystemExit
        self.do_text(line)

    def do_EOF(self, _line: str) -> bool:
        """Leave (Ctrl-D)."""
        return True

    def do_quit(self, _line: str) -> bool:
        """Leave."""
        return True

    do_exit = do_quit

    # ---- questions --------------------------------------------------------------------------------------------

    def do_text(self, line: str) -> None:
        """text WORDS: what fires on this text. Without words: on the last text again."""
        self.text = self._text(line)
        self._answered(self.session.ask(self.text, asking=self.asking, chat=self.chat, progress=self.progress))

    def do_against(self, line: str) -> None:
        """against WORDS: the last text beside this one: features on both, only here, only there."""
        if not line.strip():
            raise UsageError("against what?", hint="against The opposite of hot is")
        asked = self.session.ask(self._text(""), against=line, asking=self.asking, chat=self.chat, progress=self.progress)
        self._answered(asked)

    def do_steer(self, line: str) -> None:
        """steer [WORDS]: how the model goes on from these words (or the last text) with what `set` says, beside how it does unedited."""
        if not self.sets:
            raise UsageError("nothing is set", hint="set L3_F139=3x")
        self.text = self._text(line)
        result = self.session.steer(
            self.text,
            self.sets,
            positions=self.positions,
            strengths=self.strengths,
            sampling=self.sampling,
            answers=self.answers,
            chat=self.chat,
            progress=self.progress,
        )
        self.last = result
        for part in parts(result):
            self.say(f"\n{part.title}")
            self.show(part.table)
        for note in result.steered.notes:
            self.say(note)

    def do_next(self, line: str) -> None:
        """next [WORDS]: the most probable next tokens after these words (or the last text)."""
        self.text = self._text(line)
        asked = self.session.ask(self.text, asking=replace(self.asking, top=1), chat=self.chat)
        rows = [{"token": item.token, "token_id": item.token_id, "logprob": item.logprob} for item in asked.after[0]]
        self.show(pa.Table.from_pylist(rows))

    # ---- settings ---------------------------------------------------------------------------------------------

    def do_set(self, line: str) -> None:
        """set CHANGE …: what `steer` changes: L3_F139=3x, =0, =4.5, =+2, L1_F2<->L1_F7; `set none` takes all back."""
        words = shlex.split(line)
        if words == ["none"]:
            self.sets = []
        elif words:
            parse_changes(words)
            self.sets = words
        self.say(f"set: {' '.join(self.sets) or 'nothing'}")

    def do_strengths(self, line: str) -> None:
        """strengths 0,1,2,4: values that replace those of `set`, one after the other; `strengths none`."""
        self.strengths = None if line.strip() in ("", "none") else parse_strengths(line)
        self.say(f"strengths: {self.strengths or 'as set'}")

    def do_positions(self, line: str) -> None:
        """positions RULE: which positions `steer` edits: all, prompt, decision, last, new, or 3,5,-1."""
        self.positions = line.strip() or "all"
        self.say(f"positions: {self.positions}")

    def do_sample(self, line: str) -> None:
        """sample TEMPERATURE [SAMPLES [SEED]]: sample continuations; `sample 0` is greedy."""
        words = line.split()
        try:
            temperature, n_samples, seed = float(words[0]), int(words[1]) if words[1:] else 1, int(words[2]) if words[2:] else 0
        except (ValueError, IndexError) as error:
            raise UsageError(f"cannot read {line!r}", hint="sample 0.8 3 1: temperature, samples, seed") from error
        self.sampling = replace(self.sampling, temperature=temperature, n_samples=n_samples, seed=seed)
        self.say(f"temperature {temperature:g}, {n_samples} samples, seed {seed}")

    def do_tokens(self, line: str) -> None:
        """tokens N: how many new tokens `steer` writes."""
        self.sampling = replace(self.sampling, max_new_tokens=_whole(line, "tokens 20"))
        self.say(f"{self.sampling.max_new_tokens} new tokens")

    def do_answers(self, line: str) -> None:
        """answers "TEXT" "TEXT" …: answers whose log-probability `steer` measures, with their leading spaces; `answers none`."""
        words = shlex.split(line)
        self.answers = [] if words == ["none"] else words
        self.say(f"answers: {self.answers or 'none'}")

    def do_layers(self, line: str) -> None:
        """layers 2-4: only features of these layers; `layers all`."""
        self.asking = replace(self.asking, layers=None if line.strip() in ("", "all") else parse_layers(line))
        self.say(f"layers: {self.asking.layers or 'all'}")

    def do_filter(self, line: str) -> None:
        """filter EXPRESSION: only features of which this is true, e.g. lape<0.5 and density<0.1; `filter none`."""
        self.asking = replace(self.asking, filter="" if line.strip() == "none" else line.strip())
        self.say(f"filter: {self.asking.filter or 'none'}")

    def do_at(self, line: str) -> None:
        """at 3-5: only these positions of the text; `at all`."""
        self.asking = replace(self.asking, positions=None if line.strip() in ("", "all") else parse_positions(line))
        self.say(f"positions of the text: {self.asking.positions or 'all'}")

    def do_top(self, line: str) -> None:
        """top N: how many features a token (0: all)."""
        self.asking = replace(self.asking, top=_whole(line, "top 10"))
        self.say(f"top {self.asking.top or 'all'}")

    def do_chat(self, line: str) -> None:
        """chat on|off: give texts to the model as a user's message in its chat template."""
        self.chat = line.strip() not in ("off", "no")
        self.say(f"chat template {'on' if self.chat else 'off'}")

    def do_language(self, line: str) -> None:
        """language fr: language of the texts that are kept."""
        self.language = line.strip() or "und"
        self.say(f"language: {self.language}")

    def do_keep(self, _line: str) -> None:
        """keep: put the last answer into the atlas as a run, and publish."""
        if self.last is None:
            raise UsageError("there is no answer yet to keep")
        run = self.session.keep(self.last, languages=(self.language,))
        self.say(f"run {run}")
        if self.publish is not None and self.session.reader is not None:
            self.publish(self.session.reader.path)

    # ---- inside -----------------------------------------------------------------------------------------------

    def _text(self, line: str) -> str:
        text = line.strip() or self.text
        if not text:
            raise UsageError("there is no text yet", hint="Type one: The opposite of hot is")
        return text

    def _answered(self, asked: Asked) -> None:
        self.last = asked
        self.show(asked.arrow())
        for sentence in asked.sentences():
            self.say(sentence)


def _whole(line: str, example: str) -> int:
    try:
        return int(line)
    except ValueError as error:
        raise UsageError(f"{line!r} is no number", hint=example) from error
