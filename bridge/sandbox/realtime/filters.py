"""Filters of `postgres_changes` become SQL booleans: `a=eq.1,b=not.in.(x,y)`."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Identifier, Literal

OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
}
IS_VALUES = {"null", "true", "false", "unknown"}


class BadFilter(ValueError):
    """The filter does not follow the grammar."""


def filter_sql(text: str, row: str) -> Composable:
    """A boolean over the row of that alias. Values are literals of their column's type.

    Raises:
        BadFilter: says what is wrong.
    """
    parts = [_comparison(part, row) for part in _split(text.strip())] if text.strip() else []
    return SQL(" and ").join(parts) if parts else SQL("true")


def _comparison(text: str, row: str) -> Composable:
    name, equals, rest = text.strip().partition("=")
    negated = rest.startswith("not.")
    operator, dot, value = (rest[4:] if negated else rest).partition(".")
    if not name or not equals or not dot:
        raise BadFilter(f"Error parsing `filter` params: {text!r}")
    column = Identifier(row, name)
    if operator == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise BadFilter("`in` filter value must be wrapped by parentheses")
        items = [Literal(_unquote(item)) for item in _split(value[1:-1])]
        made: Composable = SQL("{} in ({})").format(column, SQL(",").join(items))
    elif operator == "is":
        if value not in IS_VALUES:
            raise BadFilter(f"Error parsing `filter` params: is.{value}")
        made = SQL(f"{{}} is {value}").format(column)
    elif operator in OPERATORS:
        literal = Literal(_unquote(value))
        made = SQL("{} {} {}").format(column, SQL(OPERATORS[operator]), literal)
    else:
        raise BadFilter(f"Error parsing `filter` params: unknown operator {operator!r}")
    return SQL("(not ({}))" if negated else "({})").format(made)


def _split(text: str) -> list[str]:
    """At commas outside of quotes and parentheses."""
    items, current, depth, quoted, index = [], "", 0, False, 0
    while index < len(text):
        char = text[index]
        if quoted and char == "\\":
            current += text[index : index + 2]
            index += 2
            continue
        if char == '"' and (quoted or not current or current[-1] in ".(,"):
            quoted = not quoted
        elif not quoted:
            depth += (char == "(") - (char == ")")
        if char == "," and not quoted and depth == 0:
            items.append(current)
            current = ""
        else:
            current += char
        index += 1
    return [*items, current]


def _unquote(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return value
