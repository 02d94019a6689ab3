"""The one SQL statement that answers a request: body as JSON text, number of rows, total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from bridge.sandbox.rest import grammar, render
from bridge.sandbox.rest.errors import ApiError, unsupported
from bridge.sandbox.rest.render import Node
from bridge.sandbox.rest.requests import Parameters, Preferences, parse_json
from bridge.sandbox.rest.schema import EXPOSED, Function, Schema

BODY = Identifier("sandbox_body")
WRITTEN = Identifier("sandbox_written")
NO_TOTAL = SQL("null::bigint")


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments rendered.

    Attributes:
        expression: something that can stand after `from`.
        arguments: the names that were used up.
    """

    function: Function
    expression: Composable
    arguments: set[str]


def read(node: Node, source: Composable, preferences: Preferences) -> Composed:
    """Rows of a table, view or set-returning function."""
    total: Composable = NO_TOTAL
    if preferences.count:
        everything = render.query(node, source, node.table, paged=False)
        total = SQL("(select count(*) from ({}) counted)").format(everything)
    return _as_json(render.query(node, source, node.table), total)


def insert(
    schema: Schema, node: Node, body: str, parameters: Parameters, preferences: Preferences
) -> Composed:
    """POST: one row or many, with or without what to do about those that exist."""
    types = schema.columns(node.table)
    rows, columns = _rows_and_columns(node.table, types, body, parameters)
    if preferences.missing_default and any(set(row) < set(columns) for row in rows):
        raise unsupported("missing=default for rows that leave out different columns")
    if not rows:
        return SQL("select '[]', 0::bigint, 0::bigint").format()
    target = Identifier(EXPOSED, node.table)
    if columns:
        what = SQL("insert into {} ({}) select {} from json_to_recordset({}) as {}({})").format(
            target,
            render.identifiers(columns),
            render.identifiers(columns),
            Literal(body if body.lstrip().startswith("[") else f"[{body}]"),
            BODY,
            render.typed_columns(columns, types),
        )
    elif len(rows) == 1:
        what = SQL("insert into {} default values").format(target)
    else:
        raise unsupported("inserting several rows without any column")
    conflict = _on_conflict(schema, node.table, columns, parameters, preferences)
    return _written(node, SQL("{}{}").format(what, conflict), preferences)


def update(
    schema: Schema, node: Node, body: str, parameters: Parameters, preferences: Preferences
) -> Composed:
    """PATCH: the rows that the filters name."""
    types = schema.columns(node.table)
    rows, columns = _rows_and_columns(node.table, types, body, parameters)
    if len(rows) != 1:
        raise ApiError(400, "PGRST102", "An update takes one object")
    conditions = _conditions_of_write(node, "UPDATE")
    target = Identifier(EXPOSED, node.table)
    if columns:
        assignments = [
            SQL("{} = {}").format(Identifier(name), Identifier("sandbox_body", name))
            for name in columns
        ]
        what = SQL("update {} set {} from json_to_recordset({}) as {}({}){}").format(
            target,
            render.COMMA.join(assignments),
            Literal(body if body.lstrip().startswith("[") else f"[{body}]"),
            BODY,
            render.typed_columns(columns, types),
            render.where(conditions),
        )
    else:  # nothing to set: no row is touched
        anything = Identifier(next(iter(types)))
        what = SQL("update {} set {} = {} where false").format(target, anything, anything)
    return _written(node, what, preferences)


def delete(node: Node, preferences: Preferences) -> Composed:
    """DELETE: the rows that the filters name."""
    conditions = _conditions_of_write(node, "DELETE")
    target = Identifier(EXPOSED, node.table)
    what = SQL("delete from {}{}").format(target, render.where(conditions))
    return _written(node, what, preferences)


def scalar_call(call: Call) -> Composed:
    """A function whose result is no row: the value itself, or a list of values."""
    name = Identifier("sandbox_value")
    result = SQL("coalesce(json_agg({0}), '[]')" if call.function.returns_set else "to_json({0})")
    if call.function.return_type == "void":
        result = SQL("null")
    return SQL("select ({})::text, 1::bigint, null::bigint from {} as result({})").format(
        result.format(name), call.expression, name
    )


def call_with_body(schema: Schema, name: str, body: str) -> Call:
    """POST of rpc: the arguments are the body's keys."""
    given = parse_json(body)
    names = set(given) if isinstance(given, dict) else set()
    function = schema.function(name, names, has_body=True)
    target = Identifier(EXPOSED, name)
    if function.takes_whole_body and not function.takes(names):
        return Call(function, SQL("{}({})").format(target, Literal(body)), set())
    if not isinstance(given, dict):
        raise ApiError(400, "PGRST102", "The arguments must be one JSON object")
    used = [argument for argument in function.arguments if argument.name in names]
    if not used:
        return Call(function, SQL("{}()").format(target), set())
    types = {argument.name: argument.type for argument in used}
    record = SQL("json_to_record({}) as {}({})").format(
        Literal(body), BODY, render.typed_columns(types, types)
    )
    values = [
        SQL("{}{} := (select {} from {})").format(
            _variadic(function, argument), Identifier(argument), Identifier(argument), record
        )
        for argument in types
    ]
    return Call(function, SQL("{}({})").format(target, render.COMMA.join(values)), names)


def call_with_parameters(schema: Schema, name: str, parameters: Mapping[str, str]) -> Call:
    """GET of rpc: the arguments are parameters of the query string; others filter the result."""
    candidates = schema.functions.get(name, [])
    known = {argument.name for function in candidates for argument in function.arguments}
    names = set(parameters) & known
    if not candidates:
        names = set(parameters)
    function = schema.function(name, names, has_body=False)
    values = [
        SQL("{}{} := {}").format(
            _variadic(function, argument), Identifier(argument), Literal(parameters[argument])
        )
        for argument in sorted(names)
    ]
    target = Identifier(EXPOSED, name)
    return Call(function, SQL("{}({})").format(target, render.COMMA.join(values)), names)


def _variadic(function: Function, argument: str) -> Composable:
    is_last = function.variadic and function.arguments[-1].name == argument
    return SQL("variadic ") if is_last else render.NOTHING


def _rows_and_columns(
    table: str, types: Mapping[str, str], body: str, parameters: Parameters
) -> tuple[list[dict[str, object]], list[str]]:
    given = parse_json(body)
    rows = given if isinstance(given, list) else [given]
    if not all(isinstance(row, dict) for row in rows):
        raise ApiError(400, "PGRST102", "Empty or invalid json", "Rows are JSON objects.")
    named = [text for key, text in parameters if key == "columns"]
    if named:
        columns = [grammar.unquote(name.strip()) for name in grammar.split(named[-1], "columns")]
    else:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        if any(len(row) != len(columns) for row in rows):
            raise ApiError(400, "PGRST102", "All object keys must match")
    for column in columns:
        if column not in types:
            raise ApiError(
                400,
                "PGRST204",
                f"Could not find the '{column}' column of '{table}' in the schema cache",
            )
    return rows, columns


def _on_conflict(
    schema: Schema,
    table: str,
    columns: list[str],
    parameters: Parameters,
    preferences: Preferences,
) -> Composable:
    if preferences.resolution is None:
        return render.NOTHING
    named = [text for key, text in parameters if key == "on_conflict"]
    keys = [grammar.unquote(name.strip()) for name in grammar.split(",".join(named), "on_conflict")]
    keys = keys or list(schema.primary_keys.get(table, ()))
    if not keys:
        return render.NOTHING
    if preferences.resolution == "ignore-duplicates" or not columns:
        return SQL(" on conflict ({}) do nothing").format(render.identifiers(keys))
    assignments = [
        SQL("{} = {}").format(Identifier(name), Identifier("excluded", name)) for name in columns
    ]
    return SQL(" on conflict ({}) do update set {}").format(
        render.identifiers(keys), render.COMMA.join(assignments)
    )


def _conditions_of_write(node: Node, verb: str) -> list[Composable]:
    """The rows a write is about. A write without a filter is refused, as on a hosted project."""
    if node.limit is not None or node.offset:
        raise unsupported(f"limit and offset of {verb.lower()}")
    if not node.conditions:
        raise ApiError(400, "21000", f"{verb} requires a WHERE clause")
    rendered = [render.condition(one, node.table) for one in node.conditions]
    node.conditions = []
    return rendered


def _written(node: Node, what: Composable, preferences: Preferences) -> Composed:
    total = SQL("(select count(*) from {})").format(WRITTEN) if preferences.count else NO_TOTAL
    if not preferences.representation:
        return SQL("with {} as ({} returning 1) select '', count(*), {} from {}").format(
            WRITTEN, what, total, WRITTEN
        )
    # only the columns that are asked for: the caller may not be allowed to read the others
    needed = node.columns_needed()
    returned = SQL("*") if "*" in needed else render.identifiers(sorted(needed))
    if not needed:
        returned = SQL("1")
    rows = render.query(node, WRITTEN, node.table)
    return SQL("with {} as ({} returning {}) {}").format(
        WRITTEN,
        what,
        _qualified(returned, needed, node.table),
        _as_json(rows, total),
    )


def _qualified(returned: Composable, needed: set[str], table: str) -> Composable:
    """`returning` of an update sees two relations, so names say whose they are."""
    if not needed:
        return returned
    if "*" in needed:
        return SQL("{}.*").format(Identifier(table))
    return render.COMMA.join([Identifier(table, name) for name in sorted(needed)])


def _as_json(rows: Composable, total: Composable) -> Composed:
    return SQL(
        "select coalesce(json_agg(sandbox_row), '[]')::text, count(*), {} from ({}) sandbox_row"
    ).format(total, rows)
