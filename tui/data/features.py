"""Compose the statements of the features table: columns of several tables, filters, free text, order.

In: a `FeatureView`, the languages and scores that the run has. Out: the statement of its row ids, and the whole one that people read.

1. A column's name stands for one expression; what it needs is joined once.
2. A filter tree becomes one condition; values are bound, and text columns compare as text.
3. Ids come alone, in order; pages are looked up by id (`tui/data/pages.py`).
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

    def _label(self) -> str:
        """Return the newest label: people's own since the last publish before published ones."""
        if "lab" not in self.sources:
            place = self.names.bind(self.view.transcoder_set, "transcoder_set")
            rows = (
                "(select layer, feature, arg_max(text, created_at) as text from label"
                f" where not retired and transcoder_set = {place} group by layer, feature)"
            )
            if self.view.labels:
                keys = self.names.bind(list(self.view.labels), "label_keys")
                texts = self.names.bind(list(self.view.labels.values()), "label_texts")
                own = f"(select unnest({keys}) >> 32 as layer, unnest({keys}) & 4294967295 as feature, unnest({texts}) as text)"
                rows = (
                    f"(select layer, feature, coalesce(own.text, published.text) as text from {rows} published\n"
                    f"  full join {own} own using (layer, feature))"
                )
            self.sources["lab"] = Source("lab", rows)
        return "lab.text"

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
        if flag == "labelled":
            self._label()  # joins what the next line reads
            written = "coalesce(lab.is_written, false)"
            return f"({written} or own.text is not null)" if self.view.labels else f"({written})"
        keys = self.names.bind(list(self.view.keys.get(flag, ())), flag)
        return f"({KEY} = any({keys}::bigint[]))"

    def condition(self, tree: filters.Filter) -> str:
        """Return the SQL of a filter, with its values bound."""
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
            f"  or contains(lower(coalesce({self._label()}, '')), lower({place}))\n"
            f"  or (f.layer, f.feature) in (select (c.layer, c.feature) from context c\n"
            f"    where c.run_id = {self.run} and c.kind = 'top' and (c.source, c.item, c.window_start, c.window_end) in (\n"
            f"      select (source, item, window_start, window_end) from ({windows(self.run, place)}) w)))"
        )

    def ids(self, id_type: str, *, is_range: bool) -> Statement:
        """Return the statement that gives the row ids of the view, in its order.

        Where the run's rows stand in natural order (`is_range`) row ids stand for layer and feature: one key less to sort by, and none
        at all without an order, since the caller sorts the ids themselves faster.
        """
        return self._finish([f"f.rowid::{id_type} as row"], ties=["f.rowid"] if is_range and self.view.order else [] if is_range else None)

    def full(self) -> Statement:
        """Return the statement of the whole view with its shown columns, as people read and export it."""
        return self._finish([f"{self.expression(column)} as {_plain(column)}" for column in self.view.columns])

    def _finish(self, selected: list[str], ties: list[str] | None = None) -> Statement:
        condition = None if self.view.filter is None else self.condition(self.view.filter)
        order = [f"{self.key(column)} {'desc' if down else 'asc'} nulls last" for column, down in self.view.order]
        by = [column for column, _ in self.view.order]
        if ties is None:
            ties = [] if "layer" in by and "feature" in by else ["f.layer", "f.feature"] if by != ["layer"] else ["f.feature"]
        order += ties
        lines = ["select " + ",\n  ".join(selected), "from feature f", *(source.join for source in self.sources.values()), f"where f.run_id = {self.run}"]
        if condition is not None:
            lines.append(f"  and {condition}")
        if order:
            lines.append("order by " + ", ".join(order))
        return Statement("features", "\n".join(lines), self.names.values)


def windows(run: str, text: str) -> str:
    """Return the query of the distinct windows of top contexts that hold a text, which may go over several tokens.

    Only items that hold the text anywhere are put together window by window.
    """
    return (
        "select w.source, w.item, w.window_start, w.window_end\n"
        "      from (select distinct source, item, window_start, window_end from context\n"
        f"        where run_id = {run} and kind = 'top' and (source, item) in (select (source, item) from token where run_id = {run}\n"
        f"          group by source, item having contains(lower(string_agg(token, '' order by position)), lower({text})))) w\n"
        f"      join token t on t.run_id = {run} and t.source = w.source and t.item = w.item\n"
        "        and t.position between w.window_start and w.window_end\n"
        "      group by w.source, w.item, w.window_start, w.window_end\n"
        f"      having contains(lower(string_agg(t.token, '' order by t.position)), lower({text}))"
    )


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
