"""Trees of `grammar` become SQL. Names are quoted identifiers, values are untyped literals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from psycopg.sql import SQL, Composable, Identifier, Literal

from bridge.sandbox.rest import grammar
from bridge.sandbox.rest.errors import ApiError
from bridge.sandbox.rest.grammar import (
    Condition,
    Embed,
    Field,
    Filter,
    Logic,
    Ordering,
    Path,
    Selection,
)
from bridge.sandbox.rest.schema import EXPOSED, Relationship, Schema

COMMA = SQL(", ")
NOTHING = SQL("")


@dataclass(slots=True)
class Node:
    """One relation of a query: the selected table, or an embed, with what the parameters add to it.

    Attributes:
        table: whose rows these are; its name is also the SQL alias at the top.
    """

    table: str
    selection: Selection
    embed: Embed | None = None
    relationship: Relationship | None = None
    children: list[Node] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    order: tuple[Ordering, ...] = ()
    limit: int | None = None
    offset: int = 0

    def child(self, name: str) -> Node:
        """The embed of that name.

        Raises:
            ApiError: PGRST108 if `select` does not embed it.
        """
        for child in self.children:
            if child.embed is not None and name in {child.embed.name, child.embed.relation}:
                return child
        raise ApiError(
            400,
            "PGRST108",
            f"'{name}' is not an embedded resource in this request",
            None,
            f"Verify that '{name}' is included in the 'select' query parameter.",
        )

    def columns_needed(self) -> set[str]:
        """The columns of this relation that the answer is made of; `*` stands for all."""
        needed = {column.path.column for column in self.selection.fields}
        needed |= {ordering.path.column for ordering in self.order}
        for child in self.children:
            if child.relationship is not None:
                needed |= {own for _, own in child.relationship.on}
        return needed


def node_of(schema: Schema, table: str, selection: Selection, embed: Embed | None = None) -> Node:
    """The tree of relations that a selection asks for.

    Raises:
        ApiError: if an embed has no relationship, or more than one.
    """
    node = Node(table, selection, embed)
    for wanted in selection.embeds:
        relationship = schema.relationship(table, wanted)
        child = node_of(schema, relationship.table, wanted.selection, wanted)
        child.relationship = relationship
        node.children.append(child)
    return node


def query(
    node: Node,
    source: Composable,
    alias: str,
    *,
    extra: Sequence[Composable] = (),
    paged: bool = True,
    prefix: str = "e",
) -> Composable:
    """`select …` over a relation and everything embedded in it.

    Args:
        node: what to select.
        source: where its rows come from.
        alias: what conditions and columns call that source.
        extra: further conditions, such as the join with the relation around it.
        paged: whether limit and offset apply (not when counting).
        prefix: of the aliases of embeds, unique within the statement.
    """
    columns = [_column(item, alias) for item in node.selection.fields]
    joins: list[Composable] = []
    conditions = [*extra, *(condition(one, alias) for one in node.conditions)]
    for number, child in enumerate(node.children):
        join, column, needed = _embedded(child, alias, f"{prefix}{number}")
        joins.append(join)
        columns.append(column)
        conditions += needed
    return SQL("select {} from {} as {}{}{}{}{}").format(
        COMMA.join(columns) if columns else NOTHING,
        source,
        Identifier(alias),
        NOTHING.join(joins),
        where(conditions),
        order_by(node.order, alias),
        _page(node) if paged else NOTHING,
    )


def where(conditions: Sequence[Composable]) -> Composable:
    """` where …`, or nothing."""
    return SQL(" where {}").format(SQL(" and ").join(conditions)) if conditions else NOTHING


def order_by(order: Iterable[Ordering], alias: str) -> Composable:
    """` order by …`, or nothing."""
    terms = [
        SQL("{} {}{}").format(
            _value_of(term.path, alias),
            SQL("desc") if term.descending else SQL("asc"),
            NOTHING if term.nulls is None else SQL(f" nulls {term.nulls}"),
        )
        for term in order
    ]
    return SQL(" order by {}").format(COMMA.join(terms)) if terms else NOTHING


def condition(tree: Condition, alias: str) -> Composable:
    """A boolean over one row of the relation with that alias."""
    if isinstance(tree, Logic):
        parts = [condition(part, alias) for part in tree.conditions]
        rendered: Composable = SQL(f" {tree.kind} ").join(parts)
    else:
        rendered = _comparison(tree, _value_of(tree.path, alias))
    return SQL("not ({})" if tree.negated else "({})").format(rendered)


def identifiers(names: Iterable[str]) -> Composable:
    """A list of column names."""
    return COMMA.join([Identifier(name) for name in names])


def typed_columns(names: Iterable[str], types: dict[str, str]) -> Composable:
    """The column definition list of `json_to_recordset`. The types come from the catalogue."""
    return COMMA.join([SQL("{} {}").format(Identifier(name), _type(types[name])) for name in names])


def _embedded(
    child: Node, parent: str, alias: str
) -> tuple[Composable, Composable, list[Composable]]:
    """The join of an embed, its column, and what the parent's rows must fulfil."""
    if child.embed is None or child.relationship is None:  # only roots have none
        raise AssertionError("an embed without a relationship")
    joined = [
        SQL("{} = {}").format(Identifier(alias, theirs), Identifier(parent, ours))
        for theirs, ours in child.relationship.on
    ]
    source = Identifier(EXPOSED, child.table)
    rows = query(child, source, alias, extra=joined, prefix=f"{alias}_")
    holder = Identifier(f"{alias}_j")
    if child.relationship.to_one:
        kind = SQL("inner" if child.embed.inner else "left")
        join = SQL(" {} join lateral ({}) {} on true").format(kind, rows, holder)
        if child.embed.spread:
            return join, SQL("{}.*").format(holder), []
        column = SQL("row_to_json({}.*) as {}").format(holder, Identifier(child.embed.name))
        return join, column, []
    if child.embed.spread:
        raise ApiError(
            400,
            "PGRST119",
            "A spread operation on the relation is not possible",
            f"'{child.embed.relation}' is not on the one side of a relationship",
        )
    join = SQL(" left join lateral (select json_agg(one) as rows from ({}) one) {} on true").format(
        rows, holder
    )
    column = SQL("coalesce({}.rows, '[]') as {}").format(holder, Identifier(child.embed.name))
    needed: list[Composable] = (
        [SQL("{}.rows is not null").format(holder)] if child.embed.inner else []
    )
    return join, column, needed


def _column(item: Field, alias: str) -> Composable:
    if item.path.column == "*":
        return SQL("{}.*").format(Identifier(alias))
    value = _value_of(item.path, alias)
    if item.cast is not None:  # matched against a strict pattern by the grammar
        value = SQL("cast({} as {})").format(value, _type(item.cast))
    return SQL("{} as {}").format(value, Identifier(item.name))


def _comparison(tree: Filter, left: Composable) -> Composable:
    if isinstance(tree.value, tuple):
        if not tree.value:
            return SQL("false")
        return SQL("{} in ({})").format(left, COMMA.join([Literal(value) for value in tree.value]))
    if tree.operator == "is":
        return SQL(f"{{}} is {tree.value.replace('_', ' ')}").format(left)
    if tree.operator in grammar.TEXT_SEARCHES:
        arguments = [Literal(tree.value)]
        if tree.modifier is not None:
            arguments.insert(0, Literal(tree.modifier))
        function = SQL(grammar.TEXT_SEARCHES[tree.operator])
        return SQL("{} @@ {}({})").format(left, function, COMMA.join(arguments))
    value = tree.value.replace("*", "%") if tree.operator in {"like", "ilike"} else tree.value
    operator = SQL(grammar.COMPARISONS[tree.operator])
    if tree.modifier is not None:
        quantifier = SQL(tree.modifier)
        return SQL("{} {} {}({})").format(left, operator, quantifier, Literal(value))
    return SQL("{} {} {}").format(left, operator, Literal(value))


def _value_of(path: Path, alias: str) -> Composable:
    value: Composable = Identifier(alias, path.column)
    for arrow, key in path.steps:
        step = SQL(key) if re.fullmatch(r"-?\d{1,9}", key) else Literal(key)
        value = SQL("{}{}{}").format(value, SQL(arrow), step)
    return value


def _type(name: str) -> Composable:
    return SQL(name)


def _page(node: Node) -> Composable:
    limit = NOTHING if node.limit is None else SQL(" limit {}").format(Literal(node.limit))
    offset = SQL(" offset {}").format(Literal(node.offset)) if node.offset else NOTHING
    return SQL("{}{}").format(limit, offset)
