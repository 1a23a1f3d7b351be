"""The Textual app: which screen is shown, performing actions, the journal, newer publishes, state.

In: an open session. Out: screens. Every action, from whatever key, click or palette, goes through `perform`.
"""

import asyncio
import gc
import inspect
import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from atlas.errors import AtlasError, UsageError
from atlas.ids import feature_name, parse_feature
from tui.actions import SCREENS, by_id
from tui.data import Cancelled, Statement
from tui.data.engine import Meter
from tui.journal import Entry, Journal
from tui.screens import make
from tui.screens.base import AtlasScreen, is_asking
from tui.session import Session, statement_text
from tui.state import State, state_folder
from tui.widgets.line_view import Section, text_line
from tui.widgets.modals import Choice, Field, Reader

if TYPE_CHECKING:
    import pyarrow as pa

WATCH_SECONDS = 2.0


def _provider() -> type[Any]:
    from tui.palette import ActionProvider

    return ActionProvider


class Browser(App[None]):
    """The browser of one atlas."""

    TITLE = "feature atlas"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS = App.COMMANDS | {_provider}
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "perform('quit')", show=False, priority=True)]

    def __init__(
        self,
        session: Session,
        *,
        replay: Sequence[Entry] | None = None,
        journal: Path | None = None,
        state: Path | None = None,
    ) -> None:
        """Browse `session`; `state` is the folder where places are kept."""
        super().__init__()
        self.session = session
        self.journal = Journal(journal)
        self.state_folder = state or state_folder()
        self.state = State(session.data.folder, self.state_folder)
        self.ready = True
        self.offered = False
        self.replaying: asyncio.Task[None] | None = None
        self._replay = replay
        self._made: dict[str, AtlasScreen] = {}
        self._history: list[tuple[str, dict[str, Any]]] = []
        self._noted_places: dict[str, tuple[str, int]] = {}
        kept_run = self.state.text("run")
        self._kept_run = kept_run if kept_run and any(run.run_id == kept_run for run in session.runs) else None
        if os.environ.get("NO_COLOR"):
            for name in [name for name, found in self.available_themes.items() if found.ansi]:
                self.unregister_theme(name)  # without colour these are black on black
        theme = self.state.text("theme")
        if theme in self.available_themes:
            self.theme = theme

    # Screens -----------------------------------------------------------------------------------------

    def made(self, name: str) -> AtlasScreen:
        """Return a screen, making it at its first use."""
        if name not in self._made:
            screen = make(name)
            screen.restore(self.state.get(name))
            self._made[name] = screen
            self.install_screen(screen, name)
        return self._made[name]

    @property
    def atlas_title(self) -> str:
        """Return what stands at the right of the tabs."""
        run = self.session.run
        return f"{self.session.data.folder.name} · {run.name if run else 'no run'}"

    @property
    def front(self) -> AtlasScreen:
        """Return the screen below any modal."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, AtlasScreen):
                return screen
        raise RuntimeError("no screen")

    async def show(self, name: str, arguments: dict[str, Any], *, remember: bool = True) -> None:
        """Bring a screen to the front."""
        here = self.front
        target = self.made(name)
        if remember and (here is not target or arguments):
            self._history.append((here.NAME, dict(here.arguments)))
            del self._history[:-100]
        if remember:
            target.visit(**arguments)
        elif arguments != target.arguments:
            target.arguments, target.is_loaded = arguments, False
        if here is target:
            if not target.is_loaded:
                target.reload()
            return
        await self.switch_screen(target)
        self.save_state()

    async def on_mount(self) -> None:
        """Begin where the person left, else at the overview; watch for newer publishes; repeat a journal."""
        self._catch_signals()
        name = self.state.text("screen")
        await self.push_screen(self.made(name if name in SCREENS else "overview"))
        self.set_timer(WATCH_SECONDS, gc.enable)
        self.set_interval(WATCH_SECONDS, self.watch_publish)
        if self._kept_run is not None and self._kept_run != self.session.run_id:
            await self.session.choose(self._kept_run).result()
        if self._replay is not None:
            self.replaying = asyncio.create_task(self.repeat(self._replay))

    def _catch_signals(self) -> None:
        """Leave in order when the terminal is closed or the process is ended: the place is kept, the terminal is given back as it was."""
        if self.is_headless:
            return
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._leave, 128 + number)

    def _leave(self, code: int) -> None:
        self.save_state()
        self.exit(return_code=code)

    async def on_unmount(self) -> None:
        """Let go of the atlas."""
        self.journal.close()
        await asyncio.to_thread(self.session.data.close)

    def save_state(self) -> None:
        """Keep screen, run, theme and what each screen keeps."""
        values: dict[str, Any] = dict(self.state.values)
        values.update({"screen": self.front.NAME if self.screen_stack else "overview", "run": self.session.run_id, "theme": self.theme})
        for name, screen in self._made.items():
            values[name] = screen.keep()
        self.state.save(values)

    # Actions -----------------------------------------------------------------------------------------

    async def action_perform(self, action: str) -> None:
        """Perform an action that a key of the app stands for."""
        await self.perform(action)

    async def perform(self, action: str, **arguments: Any) -> None:
        """Do one action of the registry, on the screen in front or on the app, and write it to the journal."""
        screen = self.front
        known = by_id(action)
        if known.journal and not is_asking(action, arguments):
            self._note_place(screen)
            self.journal.write(screen.NAME, action, arguments)
        if action.startswith("go_"):
            await self.show(action.removeprefix("go_"), arguments)
            return
        method = getattr(screen, f"do_{action}", None) or getattr(self, f"do_{action}")
        try:
            done = method(**arguments)
            if inspect.isawaitable(done):
                await done
        except Cancelled:
            screen.status.say("stopped")
        except AtlasError as error:
            screen.fail(error)

    def _note_place(self, screen: AtlasScreen) -> None:
        """Write where the cursor stands, when it has moved since the last entry."""
        place = screen.focused_place()
        if place is not None and self._noted_places.get(screen.NAME, ("", 0)) != place:
            self._noted_places[screen.NAME] = place
            self.journal.write(screen.NAME, "place", {"widget": place[0], "place": place[1]})

    async def repeat(self, entries: Sequence[Entry]) -> None:
        """Do the actions of a journal, each when the one before has settled."""
        await self.settle()
        for entry in entries:
            if entry.screen in SCREENS and entry.screen != self.front.NAME:
                await self.show(entry.screen, {})
                await self.settle()
            if entry.action == "place":
                self.front.do_place(**entry.arguments)
            elif entry.action == "quit":
                break
            else:
                await self.perform(entry.action, **dict(entry.arguments))
            await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is loading and what was asked for is drawn."""
        quiet = waited = 0
        while quiet < 3:
            await asyncio.sleep(0.01)
            busy = any(worker.is_running or worker.is_finished is False for worker in self.workers)
            # A page that is shown next is asked for when it is drawn; one that cannot be loaded is not waited for.
            if not busy and waited < 100 and any(table.source.count and table.row is None for table in self.front.tables()):
                busy, waited = True, waited + 1
            quiet = 0 if busy else quiet + 1

    async def do_back(self) -> None:
        """Return to where the person was before."""
        if self._history:
            name, arguments = self._history.pop()
            await self.show(name, arguments, remember=False)
        else:
            self.front.status.say("this is where you began")

    async def do_jump(self, feature: str | None = None) -> None:
        """Open a feature by any of its three names."""
        if feature is None:
            help_text = "L20_F1454 · qwen3-4b/20-transcoder-hp/1454 · 20_1454_7"
            self.ask(Field("Jump to a feature", help=help_text), "jump", "feature")
            return
        layer, number = parse_feature(feature)
        await self.show("feature", {"layer": layer, "feature": number})

    def ask(self, modal: Screen[Any], action: str, argument: str, **others: Any) -> None:
        """Open a field or a choice, and perform an action with what it gives."""

        async def take(value: Any) -> None:
            if value is not None:
                await self.perform(action, **{argument: value}, **others)

        self.push_screen(modal, take)

    async def _feature(self) -> tuple[int, int]:
        await self.front.row_is_here()
        found = self.front.feature_here()
        if found is None:
            raise UsageError("no feature is under the cursor", hint="Move to one, or press o to jump to one.")
        return found

    async def do_star(self, feature: str | None = None) -> None:
        """Star a feature or take its star off; safe on disk when this returns."""
        if feature is None:
            await self.perform("star", feature=feature_name(*await self._feature()))
            return
        layer, number = parse_feature(feature)
        done = await self.session.write("star", layer, number).result()
        await self._written(f"{feature_name(layer, number)} {done}")

    async def do_label(self, text: str | None = None, feature: str | None = None) -> None:
        """Label a feature; safe on disk when this returns."""
        await self._write_words("label", text, feature)

    async def do_note(self, text: str | None = None, feature: str | None = None) -> None:
        """Write a note; safe on disk when this returns."""
        await self._write_words("note", text, feature)

    async def _write_words(self, kind: str, text: str | None, feature: str | None) -> None:
        layer, number = parse_feature(feature) if feature else await self._feature()
        name = feature_name(layer, number)
        if text is None:
            self.ask(Field(f"{kind.capitalize()} of {name}", help="enter saves, esc closes"), kind, "text", feature=name)
            return
        if not text.strip():
            raise UsageError(f"an empty {kind} says nothing")
        done = await self.session.write(kind, layer, number, text.strip()).result()
        await self._written(f"{name} {done}")

    async def _written(self, text: str) -> None:
        self.front.status.say(text, "positive")
        self.front.said_after = (text, "positive")
        self._words_changed()

    def _words_changed(self) -> None:
        """Let screens show people's newest words: the one in front at once, others when they are next seen."""
        for screen in self._made.values():
            if hasattr(screen, "words_changed"):
                screen.is_loaded = False
        changed = getattr(self.front, "words_changed", None)
        if changed is not None:
            changed()
        else:
            self.front.said_after = None

    def do_show_sql(self) -> None:
        """Show the statements of the screen in front."""
        statements = self.front.statements
        if not statements:
            self.front.status.say("nothing has been asked here yet")
            return
        sections = [_sql_section(statement) for statement in statements]
        self.push_screen(Reader("SQL of this view", sections))

    async def do_export(self, path: str | None = None, what: int = 0) -> None:
        """Export the rows of one statement of the screen in front."""
        statements = self.front.statements
        if not statements:
            raise UsageError("there is nothing to export here yet")
        if path is None and len(statements) > 1:
            self.push_screen(Choice("Export which part?", [statement.title for statement in statements]), self._ask_export)
            return
        if path is None:
            self._ask_export(0)
            return
        screen = self.front
        screen.start(partial(self._export, screen, statements[min(what, len(statements) - 1)], Path(path).expanduser()), group="work")

    def _ask_export(self, what: int | None) -> None:
        if what is None:
            return
        title = self.front.statements[what].title
        stem = "".join(char if char.isalnum() else "-" for char in f"{self.session.data.folder.stem}-{title}").strip("-")
        field = Field("Export to", f"{stem}.csv", help=".csv or .parquet; the SQL and the provenance are written beside it")
        self.ask(field, "export", "path", what=what)

    async def _export(self, screen: AtlasScreen, statement: Statement, path: Path) -> None:
        from tui.export import Batches, write_export

        about = {
            "atlas": self.session.data.folder.name,
            "manifest": self.session.data.about.get("manifest"),
            "manifest_hash": self.session.data.about.get("manifest_hash"),
            "runs": [self.session.run_id],
            "screen": screen.NAME,
        }

        def write(schema: "pa.Schema", rows: "Iterator[pa.RecordBatch]", meter: Meter) -> tuple[Path, int, bool]:
            return write_export(path, Batches(schema, rows, screen.EXPORTED), statement, about, meter.check)

        written, n_rows, is_cut = await screen.get(self.session.data.arrow(statement, write))
        count = f"the first {n_rows:,} of more rows" if is_cut else f"{n_rows:,} row{'s' if n_rows != 1 else ''}"
        screen.status.say(f"exported {count} to {written}, with .sql and .provenance.json", "positive")

    async def do_copy(self) -> None:
        """Copy the id under the cursor: by OSC 52, and to a file where a terminal takes none."""
        await self.front.row_is_here()
        text = self.front.copied()
        if text is None:
            raise UsageError("there is nothing to copy here")
        self.copy_to_clipboard(text)
        path = self.state_folder / "clipboard.txt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
            self.front.status.say(f"copied {text} (also in {path})", "positive")
        except OSError:
            self.front.status.say(f"copied {text}", "positive")

    async def do_run(self, run: str | None = None) -> None:
        """Choose another run."""
        if run is None:
            runs = self.session.runs
            options = [f"{r.name} · {r.kind} · {r.n_features:,} features · {str(r.finished_at or r.state)[:16]} · {r.run_id}" for r in runs]
            here = next((number for number, r in enumerate(runs) if r.run_id == self.session.run_id), 0)

            async def take(number: int | None) -> None:
                if number is not None:
                    await self.perform("run", run=runs[number].run_id)

            self.push_screen(Choice("Run", options, here), take)
            return
        if not any(r.run_id.startswith(run) for r in self.session.runs):
            raise UsageError(f"this atlas has no run {run!r}", hint="Press r to choose one.")
        await self.session.choose(run).result()
        self._forget()

    def _forget(self) -> None:
        """Load every screen anew when it is next seen."""
        for screen in self._made.values():
            screen.is_loaded = False
        self.front.reload()

    def do_help(self) -> None:
        """Show keys and, where there are some, columns of the screen in front."""
        from tui.help import help_sections

        self.push_screen(Reader(f"Help: {self.front.title_text}", help_sections(self.front)))

    def do_cancel(self) -> None:
        """Nothing is open."""

    def do_quit(self) -> None:
        """Leave, keeping the place."""
        self.save_state()
        self.exit()

    # Newer publishes ---------------------------------------------------------------------------------

    async def watch_publish(self) -> None:
        """Offer a newer file once it stands in the open one's place; show words that somebody else has written."""
        words = await asyncio.to_thread(self.session.words_state)
        if self.session.words_seen != words:
            is_new = self.session.words_seen is not None
            self.session.words_seen = words
            if is_new:
                try:
                    await self.session.refresh_words().result()
                    self._words_changed()
                except AtlasError as error:
                    self.front.fail(error)
        if self.offered or not await asyncio.to_thread(self.session.data.is_outdated):
            return
        self.offered = True
        self.front.status.say("a newer atlas has been published: R loads it", "accent")

    async def do_reload(self) -> None:
        """Open the newest file and go on at the same place."""
        run_id = self.session.run_id
        old = self.session
        new = await asyncio.to_thread(Session.open, old.data.folder, run_id)
        self.session = new
        self.offered = False
        await asyncio.to_thread(old.data.close)
        self._forget()
        text = f"manifest {new.data.about.get('manifest')} is loaded"
        self.front.status.say(text, "positive")
        self.front.said_after = (text, "positive")

    def get_system_commands(self, screen: Screen[Any]) -> Any:
        """Offer Textual's own commands except its quit, which would pass the journal by."""
        for command in super().get_system_commands(screen):
            if isinstance(command, SystemCommand) and command.title not in ("Quit", "Keys", "Maximize", "Minimize"):
                yield command


def _sql_section(statement: Statement) -> Section:
    lines = statement_text(statement).splitlines()
    return Section(statement.title, tuple(text_line(line, "dim" if line.startswith("--") else "") for line in lines[1:]))
