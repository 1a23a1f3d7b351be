"""What the terminal browser asks, taken from the browser's own code: so the benchmark can leave nothing out and add nothing.

In: an open `Session`. Out: jobs by name: the named questions behind every screen with the parameters that the screen gives, and the
statements that the browser composes itself (cards, prompts, graphs, pages). Sorting, filtering and searching all features have goals of
their own and are timed by `benchmarks/tui.py`, in the browser itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from queries.loader import question
from tui import card, graph_card, prompt_card
from tui.data import Asker, FeatureView, Job
from tui.data.pages import feature_rows
from tui.data.runs import read_runs
from tui.headlines import HEADLINES
from tui.screens import claims, compare, interventions, overview, prompts
from tui.session import Session

FEATURE = (20, 1454)
PROMPT = 17


@dataclass(frozen=True)
class Asked:
    """One thing that the browser asks."""

    name: str
    start: Callable[[], Job[Any]]
    """Begins it, as the screen does."""
    is_question: bool


def asked(session: Session, feature: tuple[int, int]) -> list[Asked]:
    """Return everything that the screens ask; `feature` is one that fires."""
    found = [_question(session, part.title, part.question, part.parameters) for part in HEADLINES_AND_PARTS]
    return list({one.name: one for one in [*found, *_composed(session, feature)]}.values())


@dataclass(frozen=True)
class _Part:
    title: str
    question: str
    parameters: Callable[[Session], dict[str, object]]


def _parts() -> list[_Part]:
    headlines = [_Part("overview", one.question, lambda _session, given=one.parameters: dict(given)) for one in HEADLINES]  # type: ignore[misc]
    screens = (interventions.InterventionsScreen, compare.CompareScreen, claims.ClaimsScreen)
    ledgers = [_Part(screen.NAME, part.question, part.parameters) for screen in screens for part in screen.PARTS if "/" in part.question]
    return headlines + ledgers


HEADLINES_AND_PARTS = _parts()
INTERACTIVE = {part.question for part in HEADLINES_AND_PARTS}
"""The named questions that a screen asks without being told to."""


def _question(session: Session, screen: str, name: str, parameters: Callable[[Session], dict[str, object]]) -> Asked:
    given = parameters(session)
    known = {parameter.name for parameter in question(name).parameters}
    if "run" in known:
        given.setdefault("run", session.run_id)
    given = {key: value for key, value in given.items() if key in known}
    return Asked(f"{name} ({screen})", lambda: session.data.ask(name, given), True)


def _composed(session: Session, feature: tuple[int, int]) -> list[Asked]:
    """Return the browser's own statements, a screen's together as it waits for them together."""
    run, data = session.run_id, session.data

    def gathered(name: str, work: Callable[[Asker], Any]) -> Asked:
        return Asked(name, lambda: data.gather(work), False)

    def graph(ask: Asker) -> Any:
        rows = graph_card.read_graphs(ask, run)
        return graph_card.read_graph(ask, run, rows[0])

    def around(ask: Asker) -> Any:
        rows = graph_card.read_graphs(ask, run)
        return graph_card.read_edges(ask, run, rows[0]["graph"], 0, None)

    columns = ("layer", "feature", "label", "density", "max", "mean", "promotes", *(f"rate.{name}" for name in session.info.languages[:2]))  # type: ignore[union-attr]
    view = FeatureView(run, session.transcoder_set, columns)
    info = session.info
    assert info is not None
    middle = info.first + info.total // 2

    def page(rows: list[int]) -> Callable[[], Job[Any]]:
        return lambda: data.job(lambda cursor: feature_rows(cursor, view, info, rows))

    scattered = [info.first + k * 7919 * 13 % info.total for k in range(64)]
    return [
        Asked("runs (start)", lambda: data.job(read_runs), False),
        gathered("facts (overview)", lambda ask: overview._facts(ask, run)),
        gathered("feature card (feature)", lambda ask: card.read_card(ask, run, session.transcoder_set, *feature)),
        gathered("prompts (prompts)", lambda ask: prompts._rows(ask, run)),
        gathered("prompt card (prompts)", lambda ask: prompt_card.read_prompt(ask, run, PROMPT)),
        gathered("graph (graph)", graph),
        gathered("edges of a node (graph)", around),
        Asked("page of 64, one after another (features)", page(list(range(middle, middle + 64))), False),
        Asked("page of 64, scattered (features)", page(scattered), False),
    ]
