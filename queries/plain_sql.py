"""A question's parse tree in the SQL that engines other than DuckDB read.

In: a tree as sqlglot reads a question, its parameters as literals. Out: the same question, said without what only DuckDB says.

1. for every engine: enums are text in Parquet files, so an order by one spells out the order of schema.sql;
   `is not distinct from` a literal is `is null` or `=`;
2. for DataFusion: arg_max and arg_min are first_value in an order; semi and anti joins are `exists`; joins `using` a column are
   joins `on` that of the first table; an order by what is not selected stands outside of a select that has it; `materialized`
   is left out; functions have their names there.

Needs sqlglot, like queries/elsewhere.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlglot import exp

from atlas.encoding import enum_values
from atlas.schema import TABLES, table_columns

ROWS = "_rows"
KEY = "_key_{}"


def plain(tree: Any) -> Any:
    """Say what every engine reads."""
    for select in list(tree.find_all(exp.Select)):
        _order_enums(select)
    for node in list(tree.find_all(exp.NullSafeEQ)):
        value = node.expression
        if isinstance(value, exp.Cast) and isinstance(value.this, exp.Null):
            node.replace(node.this.is_(exp.Null()))
        elif isinstance(value, exp.Cast) and isinstance(value.this, exp.Literal):
            node.replace(node.this.eq(value))
    return tree


def for_datafusion(tree: Any) -> Any:
    """Say what DataFusion reads."""
    for cte in tree.find_all(exp.CTE):
        cte.set("materialized", None)
    for node in list(tree.find_all(exp.ArgMax, exp.ArgMin)):
        _first_value(node)
    for join in list(tree.find_all(exp.Join)):
        _existence(join)
    for select in list(tree.find_all(exp.Select)):
        _joins_on(select)
    for node in list(tree.find_all(exp.Sign, exp.RegexpFullMatch, exp.Split)):
        node.replace(_call(node))
    for node in list(tree.find_all(exp.Slice)):
        if node.this is None and isinstance(node.expression, exp.Literal):
            node.set("this", exp.Literal.number(1))
    return _ordered(tree)


def _sources(select: Any) -> dict[str, Any]:
    """Give what a select reads from, by alias, in order."""
    first = select.args.get("from_")
    found = [first.this] if first is not None else []
    return {item.alias_or_name: item for item in [*found, *(join.this for join in select.args.get("joins") or ())]}


def _outputs(select: Any) -> dict[str, Any]:
    return {item.alias_or_name: item.unalias() for item in select.expressions}


def _enum_of(select: Any, column: Any) -> Sequence[str] | None:
    """Give the values, in their order, of a column that is an enum of schema.sql; None for any other."""
    sources = _sources(select)
    named = [sources[column.table]] if column.table in sources else list(sources.values()) if not column.table else []
    for item in named:
        if made := _made_by(item):
            origin = _outputs(made).get(column.name)
            if isinstance(origin, exp.Column) and (values := _enum_of(made, origin)):
                return values
        elif isinstance(item, exp.Table) and item.name in TABLES and column.name in table_columns(item.name):
            return enum_values(item.name, column.name)
    return None


def _made_by(source: Any) -> Any:
    """Give the select of a subquery or common table expression, None for a table and for a union."""
    made = source.this if isinstance(source, exp.Subquery) else None
    if isinstance(source, exp.Table):
        ctes = {cte.alias: cte.this for cte in source.root().find_all(exp.CTE)}
        made = ctes.get(source.name)
    return made if isinstance(made, exp.Select) and source.find_ancestor(exp.Select) is not made else None


def _order_enums(select: Any) -> None:
    order = select.args.get("order")
    for item in order.expressions if order is not None else ():
        column = item.this
        if isinstance(column, exp.Column) and (column.table or column.name not in _outputs(select)):
            values = _enum_of(select, column)
            if values:
                case = exp.Case(this=column.copy())
                for place, value in enumerate(values):
                    case = case.when(exp.Literal.string(value), exp.Literal.number(place))
                column.replace(case)


def _first_value(node: Any) -> None:
    """Write `arg_max(a, b)` as `first_value(a order by b desc) filter (where …)`; ties are as free as they were."""
    value, by = node.this, node.expression
    keys = by.expressions if isinstance(by, exp.Tuple) else [by]
    descending = isinstance(node, exp.ArgMax)
    order = exp.Order(this=value.copy(), expressions=[exp.Ordered(this=key.copy(), desc=descending, nulls_first=False) for key in keys])
    there = [item.copy().is_(exp.Null()).not_() for item in (value, *(keys if len(keys) == 1 else ()))]
    target = node
    if isinstance(node.parent, exp.Filter):
        target = node.parent
        there.append(target.expression.this.copy())
    call = exp.Anonymous(this="first_value", expressions=[order])
    target.replace(exp.Filter(this=call, expression=exp.Where(this=exp.and_(*there))))


def _existence(join: Any) -> None:
    """Write a semi or anti join as a condition."""
    kind, select = join.args.get("kind"), join.parent
    if kind not in ("SEMI", "ANTI"):
        return
    left, right = next(iter(_sources(select))), join.this.alias_or_name
    using = [exp.column(item.name, table=left).eq(exp.column(item.name, table=right)) for item in join.args.get("using") or ()]
    there = exp.Exists(this=exp.select("1").from_(join.this.copy()).where(join.args.get("on") or exp.and_(*using)))
    join.pop()
    select.where(there if kind == "SEMI" else there.not_(), copy=False)


def _joins_on(select: Any) -> None:
    """Write joins `using` a column as joins `on` that of the first table, and mean that one where it is not said."""
    joins = [join for join in select.args.get("joins") or () if join.args.get("using")]
    shared = {item.name for join in joins for item in join.args["using"]}
    if not joins or any(join.args.get("side") in ("FULL", "RIGHT") for join in joins):
        return
    first = next(iter(_sources(select)))
    for join in joins:
        right = join.this.alias_or_name
        on = [exp.column(item.name, table=first).eq(exp.column(item.name, table=right)) for item in join.args["using"]]
        join.set("using", None)
        join.set("on", exp.and_(*on))
    for column in list(select.find_all(exp.Column)):
        if column.name in shared and not column.table and column.find_ancestor(exp.Select) is select and not _is_alias(select, column):
            column.set("table", exp.to_identifier(first))


def _is_alias(select: Any, column: Any) -> bool:
    """Whether an unqualified name in `order by` means a selected expression that is more than the column itself."""
    output = _outputs(select).get(column.name)
    return column.find_ancestor(exp.Order) is select.args.get("order") and output is not None and not isinstance(output, exp.Column)


def _call(node: Any) -> Any:
    if isinstance(node, exp.Sign):
        return exp.Anonymous(this="signum", expressions=[node.this])
    if isinstance(node, exp.Split):
        return exp.Anonymous(this="string_to_array", expressions=[node.this, node.expression])
    whole = exp.Literal.string(f"^(?:{node.expression.name})$")
    return exp.Anonymous(this="regexp_like", expressions=[node.this, whole])


def _ordered(select: Any) -> Any:
    """Select what the answer is ordered by, too, and order outside of that."""
    order = select.args.get("order") if isinstance(select, exp.Select) else None
    outputs = _outputs(select) if order is not None else {}
    if order is None or select.args.get("distinct") or any(name in ("", "*") for name in outputs):
        return select
    hidden, keys = [], []
    for place, item in enumerate(order.expressions):
        column = item.this
        name = column.name
        if not (isinstance(column, exp.Column) and not column.table and name in outputs):
            name = KEY.format(place)
            hidden.append(exp.alias_(_without_aliases(column, outputs), name))
        keys.append(exp.Ordered(this=exp.column(name), desc=item.args.get("desc"), nulls_first=item.args.get("nulls_first")))
    if not hidden:
        return select
    limit, ctes = select.args.get("limit"), select.args.get("with_")
    for clause in ("order", "limit", "with_"):
        select.set(clause, None)
    select.set("expressions", [*select.expressions, *hidden])
    outer = exp.select(*(exp.column(name) for name in outputs)).from_(select.subquery(ROWS))
    outer.set("order", exp.Order(expressions=keys))
    outer.set("limit", limit)
    outer.set("with_", ctes)
    return outer


def _without_aliases(key: Any, outputs: dict[str, Any]) -> Any:
    """Spell out the selected expressions that a key of an order names."""

    def spelled(node: Any) -> Any:
        return outputs[node.name].copy() if isinstance(node, exp.Column) and not node.table and node.name in outputs else node

    return key.copy().transform(spelled)
