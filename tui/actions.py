"""The one registry of actions: keys, footer, palette, `?` help, the journal and the table in docs/tui.md all come from here.

In: nothing. Out: `ACTIONS`, in the order in which help shows them.

An action is performed by the method `do_<id>` of the screen, else of the app. One that `asks` opens a field when it is performed without
arguments; only what it then does is written to the journal.
"""

from dataclasses import dataclass

SCREENS = {
    "overview": ("1", "Overview", "What this atlas holds, and its headline answers."),
    "features": ("2", "Features", "All features of a transcoder set: sort, filter, search."),
    "feature": ("3", "Feature", "One feature: contexts, languages, scores, edges, interventions, people's words."),
    "prompts": ("4", "Prompts", "Prompts with tokens, answers, margins and active features; two of them compared."),
    "graph": ("5", "Graph", "The strongest edges of a node, in and out, and where it stands."),
    "interventions": ("6", "Interventions", "The ledger of interventions with controls, dose-response, circuits."),
    "queries": ("7", "Queries", "The named questions, a form for each, and their answers."),
    "console": ("8", "SQL", "A statement of your own."),
    "claims": ("9", "Claims", "Published figures beside recomputed ones."),
    "compare": ("0", "Compare", "Two runs or two languages side by side."),
    "ask": ("a", "Ask", "The model itself: what fires on your text, two texts beside each other, steered continuations."),
}
"""Screens by name: key, title, purpose."""
SHORT = {
    "overview": "Over",
    "features": "Table",
    "feature": "Feat",
    "interventions": "Inter",
    "queries": "Quer",
    "claims": "Claim",
    "compare": "Comp",
}
"""Titles where there is little room; all are cut further where there is less."""


@dataclass(frozen=True)
class Action:
    """One thing that a person can do."""

    id: str
    keys: str
    title: str
    help: str
    screens: tuple[str, ...] = ()
    """Where it exists; everywhere when empty."""
    footer: bool = False
    asks: bool = False
    journal: bool = True
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def shown_keys(self) -> str:
        """Return the keys as people know them."""
        return " ".join(KEYS.get(key, key) for key in self.keys.split(",") if key)


KEYS = {
    "slash": "/",
    "full_stop": ".",
    "question_mark": "?",
    "escape": "esc",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "less_than_sign": "<",
    "greater_than_sign": ">",
}

_GO = tuple(Action(f"go_{name}", key, title, purpose, arguments=(("screen", name),)) for name, (key, title, purpose) in SCREENS.items())

ACTIONS: tuple[Action, ...] = (
    *_GO,
    Action("open", "", "Open", "Open what is under the cursor (enter, or a click on the cursor's row).", journal=False),
    Action("back", "backspace", "Back", "Return to where you were before."),
    Action(
        "filter",
        "slash",
        "Filter",
        'Filter by an expression (layer>=20 and rate.en>0.2, label~"hot", starred), or search for words.',
        ("features", "prompts", "interventions", "queries", "claims", "graph", "compare", "ask"),
        footer=True,
        asks=True,
    ),
    Action(
        "sort",
        "t",
        "Sort",
        "Sort by the column under the cursor: descending, ascending, natural (arrow keys choose the column).",
        ("features", "prompts", "interventions", "queries", "console", "claims", "compare", "ask"),
        asks=True,
        footer=True,
    ),
    Action("jump", "o", "Jump", "Jump to L20_F1454, qwen3-4b/20-transcoder-hp/1454 or 20_1454_7.", footer=True, asks=True),
    Action(
        "star",
        "full_stop",
        "Star",
        "Star the feature, or take its star off.",
        ("features", "feature", "prompts", "graph", "ask"),
        asks=True,
        footer=True,
    ),
    Action(
        "label", "l", "Label", "Write a label for the feature; saved at once.", ("features", "feature", "graph"), footer=True, asks=True
    ),
    Action("note", "n", "Note", "Write a note about the feature; saved at once.", ("features", "feature", "graph"), asks=True),
    Action("columns", "c", "Columns", "Choose the columns that are shown.", ("features",), asks=True),
    Action("next", "greater_than_sign", "Next", "The next feature, prompt or graph.", ("feature", "prompts", "graph")),
    Action("previous", "less_than_sign", "Previous", "The feature, prompt or graph before.", ("feature", "prompts", "graph")),
    Action(
        "pair",
        "p",
        "Pair",
        "Compare the prompt with its pair (a translation, a minimal pair), feature by feature.",
        ("prompts",),
        footer=True,
        asks=True,
    ),
    Action("kinds", "x", "Kinds", "Show one kind of edges, the next, or all together.", ("graph",), footer=True, asks=True),
    Action(
        "threshold",
        "minus",
        "Threshold",
        "Hide edges below a share of the strongest one: none, 5, 10, 20, 50 %.",
        ("graph",),
        footer=True,
        asks=True,
    ),
    Action("groups", "u", "Groups", "Show communities, supernodes, or neither.", ("graph",), asks=True),
    Action(
        "part", "v", "Part", "Effects, dose-response, circuits, transfer or bridges in turn.", ("interventions",), footer=True, asks=True
    ),
    Action(
        "mode", "v", "Mode", "Two languages or two runs: scores, features, nodes, edges, in turn.", ("compare",), footer=True, asks=True
    ),
    Action(
        "ask",
        "ctrl+j,f5",
        "Run",
        "Ask the question with the values of its form, run the statement, or ask the model about the text.",
        ("queries", "console", "ask"),
        asks=True,
        footer=True,
    ),
    Action(
        "steer",
        "ctrl+t,f6",
        "Steer",
        "Change features and see how the model goes on, beside how it does unedited.",
        ("ask",),
        footer=True,
        asks=True,
    ),
    Action("keep", "f7", "Keep", "Put the last answer into the atlas as a run, and publish.", ("ask",)),
    Action("history", "ctrl+up", "History", "Bring back an earlier statement.", ("console",), asks=True),
    Action("complete", "ctrl+space,ctrl+at", "Complete", "Complete the name before the cursor: table, column or function.", ("console",)),
    Action("show_sql", "s", "SQL", "Show the SQL of this view, with its values.", footer=True),
    Action("export", "e", "Export", "Export this view: csv or parquet, with its .sql and its provenance.", footer=True, asks=True),
    Action("copy", "y", "Copy", "Copy the id or link under the cursor (OSC 52, and a file beside the state)."),
    Action("run", "r", "Run", "Choose the run that the screens speak of.", asks=True),
    Action("reload", "R", "Reload", "Load the newest published atlas."),
    Action("help", "question_mark", "Help", "Keys and columns of this screen.", footer=True, journal=False),
    Action("cancel", "escape", "Cancel", "Stop what is running; close what is open."),
    Action("quit", "q,ctrl+q", "Quit", "Leave; the place is kept for the next start.", journal=False),
)

MOVES = (
    ("↑ ↓ j k", "move"),
    ("pgup pgdn space", "move by screens"),
    ("home end g G", "first, last"),
    ("← →", "choose a column, or scroll sideways"),
    ("[ ]", "section before, next section"),
    ("enter", "open what is under the cursor"),
    ("tab shift+tab", "next part of the screen, the part before"),
    ("ctrl+p", "palette: all actions by name"),
)
"""Keys that widgets have of themselves."""


def actions_of(screen: str) -> list[Action]:
    """Return the actions that a screen has."""
    return [action for action in ACTIONS if not action.screens or screen in action.screens]


def by_id(name: str) -> Action:
    """Return an action; raise KeyError for an unknown one."""
    return next(action for action in ACTIONS if action.id == name)


def key_table() -> str:
    """Return the Markdown table of docs/tui.md."""
    lines = ["| key | action | where | what it does |", "|---|---|---|---|"]
    for keys, text in MOVES:
        lines.append(f"| `{keys}` | | everywhere | {text} |")
    for action in ACTIONS:
        where = ", ".join(SCREENS[screen][1] for screen in action.screens) or "everywhere"
        keys = f"`{action.shown_keys}`" if action.keys else ""
        lines.append(f"| {keys} | {action.title} | {where} | {action.help.replace('|', '/')} |")
    return "\n".join(lines) + "\n"
