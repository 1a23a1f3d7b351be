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


class FeatureComposer:
    """Build the statements of one FeatureView."""

    def __init__(self, view: FeatureView, languages: Sequence[str], scores: Sequence[Score]) -> None:
        self.view = view
        self.languages = languages
        self.scores = scores
        self.names = Names()
        self.run = self.names.bind(view.run_id, "run")
        self.joins: dict[str, str] = {}

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

    def _join(self, alias: str, text: str) -> str:
        self.joins.setdefault(alias, text)
        return alias

    def _language(self, measure: str, language: str) -> str:
        alias = f"l{self.languages.index(language)}"
        if alias not in self.joins:
            place = self.names.bind(language, "language")
            self._join(
                alias,
                f"left join feature_language {alias} on {alias}.run_id = f.run_id and {alias}.layer = f.layer"
                f" and {alias}.feature = f.feature and {alias}.language = {place}",
            )
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
        if alias not in self.joins:
            a, b, c = (self.names.bind(getattr(score, part), part) for part in ("score", "parameter_set", "languages"))
            self._join(
                alias,
                f"left join feature_score {alias} on {alias}.run_id = f.run_id and {alias}.layer = f.layer and {alias}.feature = f.feature"
                f"\n  and {alias}.score = {a} and {alias}.parameter_set = {b} and {alias}.languages = {c}",
            )
        return f"{alias}.{PER_SCORE[measure]}"

    def _label(self) -> str:
        if "lab" not in self.joins:
            place = self.names.bind(self.view.transcoder_set, "transcoder_set")
            self._join(
                "lab",
                "left join (select layer, feature, arg_max(text, created_at) as text from label"
                f" where not retired and transcoder_set = {place} group by layer, feature) lab"
                " on lab.layer = f.layer and lab.feature = f.feature",
            )
        if not self.view.labels:
            return "lab.text"
        if "own" not in self.joins:
            keys = self.names.bind(list(self.view.labels), "label_keys")
            texts = self.names.bind(list(self.view.labels.values()), "label_texts")
            self._join("own", f"left join (select unnest({keys}) as key, unnest({texts}) as text) own on own.key = {KEY}")
        return "coalesce(own.text, lab.text)"

    def _effect(self) -> str:
        self._join(
            "eff",
            "left join (select m.layer, m.feature, arg_max(e.mean, abs(e.mean)) as mean\n"
            "  from intervention i join intervention_member m on m.run_id = i.run_id and m.intervention = i.intervention\n"
            "  join effect e on e.run_id = i.run_id and e.intervention = i.intervention\n"
            f"  where i.run_id = {self.run} and i.n_members = 1 and i.control_of is null group by m.layer, m.feature) eff"
            " on eff.layer = f.layer and eff.feature = f.feature",
        )
        return "eff.mean"

    def _flag(self, flag: str) -> str:
        if flag == "dead":
            return "(f.n_active = 0)"
        if flag == "alive":
            return "(f.n_active > 0)"
        if flag == "labelled":
            return f"({self._label()} is not null)"
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
        """Look in labels, promoted tokens and the tokens that the stored contexts point to."""
        place = self.names.bind(text, "text")
        return (
            f"(contains(lower(array_to_string(f.promoted_tokens, chr(31))), lower({place}))\n"
            f"  or contains(lower(coalesce({self._label()}, '')), lower({place}))\n"
            "  or (f.layer, f.feature) in (select (c.layer, c.feature) from context c join token t\n"
            "    on t.run_id = c.run_id and t.source = c.source and t.item = c.item and t.position = c.position\n"
            f"    where c.run_id = {self.run} and c.kind = 'top' and contains(lower(t.token), lower({place}))))"
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
        order = [f"{self.expression(column)} {'desc' if down else 'asc'} nulls last" for column, down in self.view.order]
        by = [column for column, _ in self.view.order]
        if ties is None:
            ties = [] if "layer" in by and "feature" in by else ["f.layer", "f.feature"] if by != ["layer"] else ["f.feature"]
        order += ties
        lines = ["select " + ",\n  ".join(selected), "from feature f", *self.joins.values(), f"where f.run_id = {self.run}"]
        if condition is not None:
            lines.append(f"  and {condition}")
        if order:
            lines.append("order by " + ", ".join(order))
        return Statement("features", "\n".join(lines), self.names.values)


def _plain(column: str) -> str:
    """Return a column's name as an SQL name: rate.en+fr becomes rate_en_fr."""
    return "".join(char if char.isalnum() else "_" for char in column)


def unknown_column(column: str, languages: Sequence[str], scores: Sequence[Score]) -> UsageError:
    """Return the error for a name that is no column, with all that are."""
    names = [*BASE, "label", "effect", *(f"rate.{language}" for language in languages), *dict.fromkeys(s.score for s in scores)]
    return UsageError(f"no column {column!r}", hint="Columns: " + ", ".join(names) + "; flags: " + ", ".join(filters.FLAGS))
