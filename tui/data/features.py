"""Compose the statements of the features table: columns of several tables, filters, free text, order.

In: a `FeatureView`, the languages and scores that the run has. Out: the statement of its row ids, and the whole one that people read.

1. A column's name stands for one expression; what it needs is joined once.
2. A filter tree becomes one condition; values are bound, and text columns compare as text.
3. The browser itself seldom runs the statement: masks, order and pages read one table at a time (`masks.py`, `order.py`, `pages.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atlas import filters
from atlas.errors import UsageError
from tui.data.compose import Names, Statement


@dataclass(frozen=True)
class FeatureView:
    """What the features table shows: one run's features, filtered and ordered."""

    run_id: str
    transcoder_set: str | None
    columns: tuple[str, ...]
    filter: filters.Filter | None = None
    order: tuple[tuple[str, bool], ...] = ()
    """(column, descending) in order of weight; layer and feature break ties."""
    keys: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Features that people starred, labelled or noted since the last publish, by flag, as `feature_key`s."""
    labels: Mapping[int, str] = field(default_factory=dict)
    """Labels written since the last publish, by feature_key."""


def feature_key(layer: int, feature: int) -> int:
    """Return one number for a feature: layer * 2^32 + feature."""
    return (layer << 32) | feature


KEY = "(f.layer::bigint * 4294967296 + f.feature)"
BASE = {
    "layer": "f.layer",
    "feature": "f.feature",
    "active": "f.n_active",
    "prompts": "f.n_prompts_active",
    "density": "f.density",
    "max": "f.max_activation",
    "mean": "f.mean_activation",
    "sd": "f.sd_activation",
    "encoder": "f.encoder_norm",
    "decoder": "f.decoder_norm",
    "promotes": "f.promoted_tokens",
    "suppresses": "f.suppressed_tokens",
}
"""Columns of `feature`, by the short name they have in filters; the full names are known too."""
SAME = {
    "n_active": "active",
    "n_prompts_active": "prompts",
    "max_activation": "max",
    "mean_activation": "mean",
    "sd_activation": "sd",
    "encoder_norm": "encoder",
    "decoder_norm": "decoder",
    "promoted_tokens": "promotes",
    "token": "promotes",
    "suppressed_tokens": "suppresses",
}
PER_LANGUAGE = {
    "rate": "{a}.n_prompts_active / nullif({a}.n_prompts, 0)",
    "p": "{a}.n_active / nullif({a}.n_tokens, 0)",
    "mean": "{a}.sum_activation / nullif({a}.n_active, 0)",
    "max": "{a}.max_activation",
    "active": "{a}.n_active",
}
"""Measures of feature_language: `rate.en` is the share of English prompts in which the feature is active."""
PER_SCORE = {"value": "value", "flag": "flag::integer", "q": "q_value", "p": "p_value"}
TEXT = ("promotes", "suppresses", "label")


@dataclass(frozen=True)
class Score:
    """One kind of row of feature_score."""

    score: str
    parameter_set: str
    languages: str


@dataclass(frozen=True)
class Source:
    """Where a column comes from when it is none of `feature`: rows with layer and feature, one a feature."""

    alias: str
    rows: str
    """A table or a query in brackets."""
    conditions: tuple[str, ...] = ()

    @property
    def join(self) -> str:
        """Return the join that puts it beside `feature f`."""
        both = (f"{self.alias}.layer = f.layer", f"{self.alias}.feature = f.feature", *self.conditions)
        return f"left join {self.rows} {self.alias} on " + " and ".join(both)


class FeatureComposer:
    """Build the statements of one FeatureView."""

    def __init__(self, view: FeatureView, languages: Sequence[str], scores: Sequence[Score]) -> None:
        self.view = view
        self.languages = languages
        self.scores = scores
        self.names = Names()
        self.run = self.names.bind(view.run_id, "run")
        self.sources: dict[str, Source] = {}

    def expression(self, column: str) -> str:
        """Return the SQL of a column and add the joins it needs; raise UsageError for an unknown one."""
        column = SAME.get(column, column)
        if column in BASE:
            return BASE[column]
        if column == "label":
            return self._label()
        if column == "star":
            return self._flag("starred")
        if column == "effect":
            return self._effect()
        name, _, rest = column.partition(".")
        if name in PER_LANGUAGE and rest in self.languages:
            return self._language(name, rest)
        return self._score(name, rest, column)

    def key(self, column: str) -> str:
        """Return what a column is ordered by: whole numbers and texts as they are, lists by their first, all others in single precision."""
        text = self.expression(column)
        column = SAME.get(column, column)
        if column in ("promotes", "suppresses"):
            return f"{text}[1]"
        return text if column in TEXT or is_whole(column) else f"{text}::float"

    def _language(self, measure: str, language: str) -> str:
        alias = f"l{self.languages.index(language)}"
        if alias not in self.sources:
            place = self.names.bind(language, "language")
            conditions = (f"{alias}.run_id = {self.run}", f"{alias}.language = {place}")
            self.sources[alias] = Source(alias, "feature_language", conditions)
        return "(" + PER_LANGUAGE[measure].format(a=alias) + ")"

    def _score(self, name: str, rest: str, column: str) -> str:
        parts = rest.split(".") if rest else []
        measure = parts.pop() if parts and parts[-1] in PER_SCORE else "value"
        languages = parts[0] if parts else None
        found = [s for s in self.scores if s.score == name and languages in (None, s.languages)]
        if not found:
            raise unknown_column(column, self.languages, self.scores)
        score = next((s for s in found if s.parameter_set == "default"), found[0])
        alias = f"s{self.scores.index(score)}"
        if alias not in self.sources:
            a, b, c = (self.names.bind(getattr(score, part), part) for part in ("score", "parameter_set", "languages"))
            same = (f"{alias}.score = {a}", f"{alias}.parameter_set = {b}", f"{alias}.languages = {c}")
            self.sources[alias] = Source(alias, "feature_score", (f"{alias}.run_id = {self.run}", *same))
        return f"{alias}.{PER_SCORE[measure]}"

    def labels(self) -> tuple[str, str | None]:
        """Return the query of published labels that are not retired, and that of people's own since the last publish, None without any."""
        place = self.names.bind(self.view.transcoder_set, "transcoder_set")
        published = (
            "select layer, feature, text, method <> 'mechanical' as is_written,"
            f" source_run is not distinct from {self.run} as is_own, created_at from label"
            f" where not retired and transcoder_set = {place}"
        )
        if not self.view.labels:
            return published, None
        keys = self.names.bind(list(self.view.labels), "label_keys")
        texts = self.names.bind(list(self.view.labels.values()), "label_texts")
        own = (
            f"select unnest({keys}) >> 32 as layer, unnest({keys}) & 4294967295 as feature, unnest({texts}) as text,"
            " true as is_written, true as is_own, 'infinity'::timestamp as created_at"
        )
        return published, own

    def _label(self) -> str:
        """Return the label that is shown: the newest of those that people, models or other tools wrote, else this run's mechanical one."""
        if "lab" not in self.sources:
            rows = "\n  union all ".join(filter(None, self.labels()))
            newest = "arg_max(text, (is_written, is_own, created_at))"
            shown = f"(select layer, feature, {newest} as text from ({rows}) group by layer, feature)"
            self.sources["lab"] = Source("lab", shown)
        return "lab.text"

    def label_test(self, tree: filters.Filter) -> tuple[str, bool]:
        """Return a condition on one label, and whether the filter holds where no label of the feature meets it."""
        match tree:
            case filters.Flag("labelled"):
                return "is_written", False
            case filters.Null(_, negated):
                return "text is not null", not negated
            case filters.Among(_, values):
                return f"text in ({', '.join(self.names.bind(str(value), 'label') for value in values)})", False
            case filters.Compare(_, "~" | "!~", value):
                return f"contains(lower(text), lower({self.names.bind(str(value), 'label')}))", tree.operator == "!~"
            case filters.Compare(_, operator, value):
                return f"text {operator.replace('!', '')} {self.names.bind(str(value), 'label')}", operator == "!="
        raise AssertionError(tree)

    def _labelled(self, tree: filters.Filter) -> str:
        """Return a condition on a feature's labels, all of them: a person's words do not hide the mechanical ones from a search."""
        condition, negated = self.label_test(tree)
        rows = "\n  union all ".join(filter(None, self.labels()))
        return f"((f.layer, f.feature) {'not ' if negated else ''}in (select (layer, feature) from ({rows}) where {condition}))"

    def _effect(self) -> str:
        rows = (
            "(select m.layer, m.feature, arg_max(e.mean, abs(e.mean)) as mean\n"
            "  from intervention i join intervention_member m on m.run_id = i.run_id and m.intervention = i.intervention\n"
            "  join effect e on e.run_id = i.run_id and e.intervention = i.intervention\n"
            f"  where i.run_id = {self.run} and i.n_members = 1 and i.control_of is null group by m.layer, m.feature)"
        )
        self.sources.setdefault("eff", Source("eff", rows))
        return "eff.mean"

    def _flag(self, flag: str) -> str:
        if flag == "dead":
            return "(f.n_active = 0)"
        if flag == "alive":
            return "(f.n_active > 0)"
        keys = self.names.bind(list(self.view.keys.get(flag, ())), flag)
        return f"({KEY} = any({keys}::bigint[]))"

    def condition(self, tree: filters.Filter) -> str:
        """Return the SQL of a filter, with its values bound."""
        if is_of_labels(tree):
            return self._labelled(tree)
        match tree:
            case filters.Both(left, right):
                return f"({self.condition(left)} and {self.condition(right)})"
            case filters.Either(left, right):
                return f"({self.condition(left)} or {self.condition(right)})"
            case filters.Not(operand):
                return f"(not coalesce({self.condition(operand)}, false))"
            case filters.Flag(name):
                return self._flag(name)
            case filters.Null(column, negated):
                return f"({self.expression(column)} is {'not ' if negated else ''}null)"
            case filters.Among(column, values):
                places = ", ".join(self._value(column, value) for value in values)
                return f"({self.expression(column)} in ({places}))"
            case filters.Compare("text", "~", value):
                return self._search(str(value))
            case filters.Compare("text", "!~", value):
                return f"(not coalesce({self._search(str(value))}, false))"
            case filters.Compare():
                return self._compare(tree)
            case filters.Search(text):
                return self._search(text)
        raise UsageError(f"cannot filter by {tree!r}")

    def _value(self, column: str, value: filters.Value) -> str:
        is_text = SAME.get(column, column) in TEXT
        if is_text or isinstance(value, (int, float)):
            return self.names.bind(str(value) if is_text else value, _plain(column))
        raise UsageError(f"{column} is a number, {value!r} is not", hint='Text columns are label, promotes and suppresses: label~"hot".')

    def _compare(self, tree: filters.Compare) -> str:
        column = SAME.get(tree.column, tree.column)
        text = self.expression(column)
        if column in ("promotes", "suppresses"):
            text = f"array_to_string({text}, chr(31))"
            if tree.operator not in ("~", "!~"):
                raise UsageError(f"{tree.column} is a list of tokens", hint=f'Write {tree.column}~"{tree.value}".')
        if tree.operator in ("~", "!~"):
            if column not in TEXT:
                raise UsageError(f"{tree.column} is a number: ~ looks inside text", hint=f"Write {tree.column}>={tree.value}.")
            found = f"contains(lower(coalesce({text}, '')), lower({self.names.bind(str(tree.value), _plain(column))}))"
            return f"(not {found})" if tree.operator == "!~" else found
        return f"({text} {tree.operator} {self._value(tree.column, tree.value)})"

    def _search(self, text: str) -> str:
        """Look in labels, promoted tokens and the windows of top contexts."""
        place = self.names.bind(text, "text")
        return (
            f"(contains(lower(array_to_string(f.promoted_tokens, chr(31))), lower({place}))\n"
            f"  or {self._labelled(filters.Compare('label', '~', text))}\n"
            f"  or (f.layer, f.feature) in (select (c.layer, c.feature) from context c\n"
            f"    where c.run_id = {self.run} and c.kind = 'top' and (c.source, c.item, c.window_start, c.window_end) in (\n"
            f"      select (source, item, window_start, window_end) from ({windows(self.run, place)}) w)))"
        )

    def ids(self) -> Statement:
        """Return the statement that gives the row ids of the view, in its order."""
        return self._finish(["f.rowid as row"])

    def full(self) -> Statement:
        """Return the statement of the whole view with its shown columns, as people read and export it."""
        return self._finish([f"{self.expression(column)} as {_plain(column)}" for column in self.view.columns])

    def _finish(self, selected: list[str]) -> Statement:
        condition = None if self.view.filter is None else self.condition(self.view.filter)
        order = [f"{self.key(column)} {'desc' if down else 'asc'} nulls last" for column, down in self.view.order]
        by = [column for column, _ in self.view.order]
        order += [] if "layer" in by and "feature" in by else ["f.layer", "f.feature"] if by != ["layer"] else ["f.feature"]
        lines = ["select " + ",\n  ".join(selected), "from feature f", *(source.join for source in self.sources.values())]
        lines.append(f"where f.run_id = {self.run}")
        if condition is not None:
            lines.append(f"  and {condition}")
        lines.append("order by " + ", ".join(order))
        return Statement("features", "\n".join(lines), self.names.values)


def items(run: str, text: str) -> str:
    """Return the query of the prompts and documents that hold a text, which may go over several tokens."""
    return (
        f"select source, item from token where run_id = {run} group by source, item"
        f" having contains(lower(string_agg(token, '' order by position)), lower({text}))"
    )


def spans(run: str, held: str) -> str:
    """Return the query of the distinct windows of top contexts in the items of a table."""
    return (
        "select distinct source, item, window_start, window_end from context"
        f" where run_id = {run} and kind = 'top' and (source, item) in (select (source, item) from {held})"
    )


def windows(run: str, text: str, among: str | None = None) -> str:
    """Return the query of the distinct windows of top contexts that hold a text, which may go over several tokens.

    Only items that hold the text anywhere are put together window by window; `among` is a table of their windows.
    """
    return (
        "select w.source, w.item, w.window_start, w.window_end\n"
        f"      from {among or '(' + spans(run, '(' + items(run, text) + ')') + ')'} w\n"
        f"      join token t on t.run_id = {run} and t.source = w.source and t.item = w.item\n"
        "        and t.position between w.window_start and w.window_end\n"
        "      group by w.source, w.item, w.window_start, w.window_end\n"
        f"      having contains(lower(string_agg(t.token, '' order by t.position)), lower({text}))"
    )


def run_difference(run_id: str, other: str) -> Statement:
    """Return the statement of features of two runs side by side, the largest difference of density first."""
    columns = "layer, feature, density, max_activation"
    text = f"""select layer, feature,
  case when a.density is null then 'other' when b.density is null then 'this' else 'both' end as found_in,
  a.density as density, b.density as density_other,
  coalesce(b.density, 0) - coalesce(a.density, 0) as difference,
  a.max_activation as max_activation, b.max_activation as max_other
from (select {columns} from feature where run_id = $run and n_active > 0) a
full join (select {columns} from feature where run_id = $other and n_active > 0) b using (layer, feature)
order by abs(difference) desc, layer, feature"""
    return Statement("features of two runs", text, {"run": run_id, "other": other})


def is_of_labels(tree: filters.Filter) -> bool:
    """Say whether a part of a filter speaks of labels."""
    match tree:
        case filters.Compare(column) | filters.Among(column) | filters.Null(column):
            return column == "label"
        case filters.Flag(name):
            return name == "labelled"
    return False


def is_whole(column: str) -> bool:
    """Say whether a column holds whole numbers that single precision could round."""
    return column in ("layer", "feature", "active", "prompts") or column.partition(".")[0] == "active"


def _plain(column: str) -> str:
    """Return a column's name as an SQL name: rate.en+fr becomes rate_en_fr."""
    return "".join(char if char.isalnum() else "_" for char in column)


def unknown_column(column: str, languages: Sequence[str], scores: Sequence[Score]) -> UsageError:
    """Return the error for a name that is no column, with all that are."""
    names = [*BASE, "label", "effect", *(f"rate.{language}" for language in languages), *dict.fromkeys(s.score for s in scores)]
    return UsageError(f"no column {column!r}", hint="Columns: " + ", ".join(names) + "; flags: " + ", ".join(filters.FLAGS))
