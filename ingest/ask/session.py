"""A model that is asked again and again: loaded once, with the atlas that knows its features.

In: an atlas, a run, or a model by name. Out: a `Session` with `ask`, `against`, `steer`, `answers` and `keep`; results are tables
(`.arrow()`, `.pl()`, `.df()`) with the texts they speak of.

    from ingest.ask import Session
    session = Session.open("demo.atlas")
    session.ask("Le contraire de chaud est", filter="lape<0.5").pl()
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from atlas.errors import StoreError, UsageError
from ingest.ask.cards import Asking, read_cards, rows_of, to_table, wanted
from ingest.ask.change import parse_changes
from ingest.ask.compare import COLUMNS, compare_texts
from ingest.ask.generation import Sampling
from ingest.ask.opening import Opened, open_atlas, open_model
from ingest.ask.results import Asked, SteeredResult, chosen_columns
from ingest.ask.sequence import Score, answer_ids, sequence_scores
from ingest.ask.steer import steer
from ingest.ask.text import OwnText, Progress, active_features, next_tokens, own_texts

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

    from atlas.reader import Reader


class Session:
    """One model, one dictionary, one atlas (or none), open; make one with `Session.open`."""

    def __init__(self, opened: Opened, reader: Reader | None, *, prepend: bool = True, batch_size: int = 32) -> None:
        self.opened = opened
        self.reader = reader
        self.prepend = prepend
        self.batch_size = batch_size

    @classmethod
    def open(
        cls,
        atlas: str | os.PathLike[str] | None = None,
        *,
        run: str | None = None,
        model: str | None = None,
        transcoders: str | None = None,
        layers: Sequence[int] | None = None,
        dtype: str | None = None,
        device: str = "cpu",
        memory_budget: str = "",
        prepend: bool = True,
        batch_size: int = 32,
    ) -> Session:
        """Load the model of the newest run with features of an atlas, of `run`, or the one that is named.

        Without an atlas (or where its runs are of other models) features come without cards.

        Raises:
            UsageError: nothing says which model; a run that is not there or is of another model.
            InputError: files that are missing or do not fit each other.
            StoreError: an atlas that is not there or is damaged.
        """
        folder = None if atlas is None else Path(atlas)
        if folder is not None and not folder.is_dir():
            raise StoreError(f"There is no atlas at {folder}.", hint="`atlas demo` builds one.")
        reader = open_atlas(folder)
        try:
            opened = open_model(
                reader,
                run=run,
                model=model,
                transcoders=transcoders,
                layers=layers,
                dtype=dtype,
                device=device,
                memory_budget=memory_budget,
            )
        except BaseException:
            if reader is not None:
                reader.close()
            raise
        return cls(opened, reader, prepend=prepend, batch_size=batch_size)

    @classmethod
    def of(cls, reader: Reader) -> Session:
        """Load the model of the newest run with features of an atlas that is open already.

        Raises:
            UsageError: it has none, or its model lay in a directory.
            InputError: files that are missing or do not fit each other.
        """
        return cls(open_model(reader), reader)

    @property
    def title(self) -> str:
        """What is asked, in words."""
        model, sets = self.opened.model.name, self.opened.transcoders.name
        cards = f"cards of run {self.opened.run_name} ({self.opened.run})" if self.opened.run else "no cards: no run of it is at hand"
        layers = self.opened.layers
        named = model if model == sets else f"{model} with {sets}"
        return f"{named}, layers {layers[0]} to {layers[-1]} ({len(layers)}), {cards}"

    # ---- questions --------------------------------------------------------------------------------------------

    def texts(self, texts: Sequence[str], *, chat: bool = False, system: str | None = None) -> list[OwnText]:
        """Tokenise texts as this session's model reads them."""
        return own_texts(self.opened.model, texts, prepend=self.prepend, chat=chat, system=system)

    def ask(
        self,
        text: str | Sequence[str],
        *,
        against: str | None = None,
        asking: Asking | None = None,
        filter: str = "",
        columns: Sequence[str] | None = None,
        chat: bool = False,
        system: str | None = None,
        progress: Progress | None = None,
    ) -> Asked:
        """Return the features that fire on a text (or several), strongest first at each token; with `against` two texts side by side.

        Args:
            text: what the model reads.
            against: a second text (a translation, a minimal pair); rows are then features: on both, only here, only there.
            asking: layers, positions, smallest value, ranking, how many; default the 10 strongest of each token.
            filter: expression over the columns, e.g. `layer>=2 and lape<0.5 and label~"hot"`; in place of the one of `asking`.
            columns: columns of the table; `["all"]` gives every one, default a choice.
            chat: each text is a user's message in the tokenizer's chat template.
            system: system message of the conversation.
            progress: called with (stage, done, total); what it raises stops the work.

        Raises:
            UsageError: a filter, column, position or token that there is none of; a text that is too long.
            InputError: an empty text, no chat template.
            ModelError: NaN or infinity.
        """
        asking = asking or Asking()
        asking = asking if not filter else _with_filter(asking, filter)
        given = [text] if isinstance(text, str) else list(text)
        if against is not None and len(given) != 1:
            raise UsageError(f"{len(given)} texts cannot be compared with one", hint="Give one text, and the other with --against.")
        texts = self.texts([*given, *([] if against is None else [against])], chat=chat, system=system)
        layers = self._layers(asking.layers)
        unexplained: dict[int, NDArray[np.float64]] = {}
        active = active_features(
            self.opened.model,
            self.opened.transcoders,
            texts,
            layers,
            batch_size=self.batch_size,
            unexplained=unexplained,
            progress=progress,
        )
        found = wanted(active, texts, asking)
        cards = read_cards(self.reader, self.opened.cards, found.keys())
        if against is None:
            rows, overlap = rows_of(found, texts, cards, asking), None
            own = ["text", "position", "token", "layer", "feature", "name", "activation"]
            every = [*own, *(["n_positions"] if asking.whole else []), *cards.columns]
        else:
            rows, overlap = compare_texts(found, texts, cards, asking)
            every = [*COLUMNS, *(name for name in cards.columns if name != "relative")]
        names = chosen_columns(every, columns, n_texts=len(texts) if against is None else 1, labelled=any(row["label"] for row in rows))
        after = next_tokens(self.opened.model, texts, batch_size=self.batch_size)
        return Asked(to_table(rows, names), tuple(texts), active, cards, asking, overlap, tuple(tuple(row) for row in after), unexplained)

    def steer(
        self,
        prompt: str,
        changes: str | Sequence[str],
        *,
        positions: str = "all",
        strengths: Sequence[float] | None = None,
        sampling: Sampling | None = None,
        answers: Sequence[str] = (),
        top: int = 10,
        chat: bool = False,
        system: str | None = None,
        progress: Progress | None = None,
    ) -> SteeredResult:
        """Continue a prompt with and without changed features; see `ingest.ask.steer` and `ingest.ask.change` for the spellings.

        Raises:
            UsageError: changes, positions or strengths that say nothing, unknown features, a text that gets too long.
            InputError: an empty prompt or answer, no chat template.
            ModelError: NaN or infinity.
        """
        parsed = parse_changes([changes] if isinstance(changes, str) else changes)
        (text,) = self.texts([prompt], chat=chat, system=system)
        in_sd = [(change.layer, change.feature) for change in parsed if change.in_sd]
        sds = read_cards(self.reader, self.opened.cards, in_sd)
        steered = steer(
            self.opened.model,
            self.opened.transcoders,
            text,
            parsed,
            positions=positions,
            strengths=strengths,
            sampling=sampling,
            answers=answers,
            top=top,
            layers=self.opened.layers,
            sd_of=sds.sd,
            progress=progress,
        )
        moved = sorted({(item.layer, item.feature) for point in steered.points for item in point.moved})
        return SteeredResult(steered, read_cards(self.reader, self.opened.cards, moved))

    def answers(self, prompt: str, answers: Sequence[str], *, chat: bool = False, system: str | None = None) -> list[Score]:
        """Return the teacher-forced log-probability of each answer after a prompt, per token and in all (`ingest.ask.sequence`).

        Raises:
            InputError: an empty prompt or answer.
        """
        (text,) = self.texts([prompt], chat=chat, system=system)
        pairs = [(text.token_ids, answer_ids(self.opened.model, answer)) for answer in answers]
        return sequence_scores(self.opened.model, pairs, batch_size=self.batch_size)

    def keep(self, result: Asked | SteeredResult, folder: Path | None = None, *, languages: Sequence[str] = ("und",)) -> str:
        """Put a result into the atlas as a run of kind `ask`; return its id. The same result again changes nothing.

        The run is seen by readers at the next publish.

        Raises:
            StoreError: there is no atlas, or it cannot be written.
        """
        from ingest.ask.keep import keep

        folder = folder or (None if self.reader is None else self.reader.path)
        if folder is None:
            raise StoreError("there is no atlas to keep this in", hint="Give --atlas DIR.")
        return keep(folder, self.opened, result, languages)

    # ---- the rest ---------------------------------------------------------------------------------------------

    def _layers(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        if layers is None:
            return self.opened.layers
        self.opened.transcoders.require(layers)
        return tuple(sorted(set(layers)))

    def close(self) -> None:
        """Let go of the atlas."""
        if self.reader is not None:
            self.reader.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _with_filter(asking: Asking, text: str) -> Asking:
    from dataclasses import replace

    return replace(asking, filter=text)
