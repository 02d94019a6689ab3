"""The grammar of PostgREST's query strings, as trees. Pure: knows no table and no SQL.

    select=id,name:body->>title,author:people!author_id(name)
    age=gte.18   age=not.in.(1,2)   people.name=ilike.*ann*
    or=(age.lt.18,and(age.gt.60,not.name.eq."a,b"))
    order=created_at.desc.nullslast,payload->>rank

Every function here returns a tree or raises `ApiError` (PGRST100, or 501 for what PostgREST has and
this server has not); nothing is skipped over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bridge.sandbox.rest.errors import ApiError, unparseable, unsupported

COMPARISONS = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
    "isdistinct": "is distinct from",
}
QUANTIFIABLE = {"eq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch"}
TEXT_SEARCHES = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
IS_VALUES = {"null", "not_null", "true", "false", "unknown"}
AGGREGATES = {"count", "sum", "avg", "min", "max"}
MAX_DEPTH = 32
"""Of nested selections and conditions; a limit against nonsense."""

_STEP = re.compile(r"->>?")
_OPERATOR = re.compile(r"(?P<name>[a-z]+)(?:\((?P<modifier>[^()]*)\))?\.")
_CAST = re.compile(r"[A-Za-z_][\w ]*(\[\])?")


@dataclass(frozen=True, slots=True)
class Path:
    """A column, or a place inside a JSON column: `payload->a->>0`."""

    column: str
    steps: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a selection; `*` stands for all."""

    path: Path
    alias: str | None = None
    cast: str | None = None

    @property
    def name(self) -> str:
        """The key it gets in the answer: the alias, or the last step that is no index."""
        if self.alias is not None:
            return self.alias
        names = [key for _, key in self.path.steps if not _is_index(key)]
        return names[-1] if names else self.path.column


@dataclass(frozen=True, slots=True)
class Embed:
    """Rows of a related table inside each row."""

    relation: str
    selection: Selection
    alias: str | None = None
    hint: str | None = None
    inner: bool = False
    spread: bool = False

    @property
    def name(self) -> str:
        """The key it gets in the answer, and the prefix of its filters."""
        return self.alias or self.relation


@dataclass(frozen=True, slots=True)
class Selection:
    """What `select` asks for."""

    fields: tuple[Field, ...] = ()
    embeds: tuple[Embed, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """One comparison. `value` is a tuple for `in`, text otherwise."""

    path: Path
    operator: str
    value: str | tuple[str, ...]
    negated: bool = False
    modifier: str | None = None


@dataclass(frozen=True, slots=True)
class Logic:
    """Conditions joined by `and` or `or`."""

    kind: Literal["and", "or"]
    conditions: tuple[Condition, ...]
    negated: bool = False


Condition = Filter | Logic


@dataclass(frozen=True, slots=True)
class Ordering:
    """One term of `order`."""

    path: Path
    descending: bool = False
    nulls: Literal["first", "last"] | None = None


def parse_selection(text: str, depth: int = 0) -> Selection:
    """`select=…`."""
    if depth > MAX_DEPTH:
        raise unparseable("select parameter", "nested too deeply")
    fields: list[Field] = []
    embeds: list[Embed] = []
    for item in split(text, "select parameter"):
        stripped = item.strip()
        if stripped.endswith(")"):
            embeds.append(_parse_embed(stripped, depth))
        else:
            fields.append(_parse_field(stripped))
    return Selection(tuple(fields), tuple(embeds))


def parse_filter(name: str, text: str) -> Filter:
    """`name=text` of the query string: everything after the operator is the value."""
    return _parse_comparison(parse_path(name), text, in_tree=False)


def parse_logic(kind: str, text: str, *, negated: bool = False, depth: int = 0) -> Logic:
    """`or=(…)` and `and=(…)`."""
    if depth > MAX_DEPTH:
        raise unparseable("logic tree", "nested too deeply")
    if kind not in {"and", "or"}:
        raise unparseable("logic tree", f"unexpected {kind!r}")
    stripped = text.strip()
    if not (stripped.startswith("(") and stripped.endswith(")")):
        raise unparseable(f"logic tree ({text})", "it must be in parentheses")
    conditions = [
        _parse_condition(item.strip(), depth) for item in split(stripped[1:-1], "logic tree")
    ]
    if not conditions:
        raise unparseable(f"logic tree ({text})", "it is empty")
    return Logic("and" if kind == "and" else "or", tuple(conditions), negated)


def parse_order(text: str) -> tuple[Ordering, ...]:
    """`order=a.desc.nullslast,b`."""
    orderings = []
    for item in split(text, "order"):
        if item.rstrip().endswith(")"):
            raise unsupported("ordering by a related table's column")
        name, words = _split_words(item.strip())
        descending = False
        nulls: Literal["first", "last"] | None = None
        for position, word in enumerate(words):
            if word in {"asc", "desc"} and position == 0:
                descending = word == "desc"
            elif word in {"nullsfirst", "nullslast"} and position == len(words) - 1:
                nulls = "first" if word == "nullsfirst" else "last"
            else:
                raise unparseable(f"order ({text})", f"unexpected {word!r}")
        orderings.append(Ordering(parse_path(name), descending, nulls))
    return tuple(orderings)


def parse_path(text: str) -> Path:
    """`column`, `"a column"`, `payload->key->>0`."""
    column, rest = _take_name(text)
    if not column:
        raise unparseable(f"column ({text})", "a name is missing")
    steps = []
    while rest:
        arrow = _STEP.match(rest)
        if arrow is None:
            raise unparseable(f"column ({text})", f"unexpected {rest[:1]!r}")
        key, rest = _take_name(rest[arrow.end() :])
        if not key:
            raise unparseable(f"column ({text})", "a key is missing after the arrow")
        steps.append((arrow.group(), key))
    return Path(column, tuple(steps))


def split_key(text: str) -> list[str]:
    """The dotted parts of a parameter's name, `orders.items.price`; quoted ones keep their dots."""
    parts, current, quoted = [], "", False
    for char in text:
        if char == '"':
            quoted = not quoted
        if char == "." and not quoted:
            parts.append(current)
            current = ""
        else:
            current += char
    return [*parts, current]


def split(text: str, what: str) -> list[str]:
    """Split at the commas that are in no quotes, parentheses or braces.

    A quote opens only where a value or a name may begin; elsewhere it is an ordinary character.
    """
    if not text.strip():
        return []
    items, current, depth, index = [], "", 0, 0
    quoted = False
    while index < len(text):
        char = text[index]
        if quoted and char == "\\":
            current += text[index : index + 2]
            index += 2
            continue
        if char == '"' and (quoted or not current.strip() or current[-1] in ".(,{:->"):
            quoted = not quoted
        elif not quoted:
            depth += (char in "({") - (char in ")}")
            if depth < 0:
                raise unparseable(f"{what} ({text})", f"unexpected {char!r}")
        if char == "," and not quoted and depth == 0:
            items.append(current)
            current = ""
        else:
            current += char
        index += 1
    if quoted or depth:
        raise unparseable(f"{what} ({text})", "unexpected end of input")
    return [*items, current]


def unquote(text: str) -> str:
    """The text of a quoted value (backslash escapes), or the text as it is."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text


def _parse_embed(item: str, depth: int) -> Embed:
    head, _, body = item.partition("(")
    spread = head.startswith("...")
    head = head.removeprefix("...").strip()
    name, *hints = head.split("!")
    alias, colon, relation = name.partition(":")
    if not colon:
        alias, relation = "", name
    aggregate = relation.rpartition(".")[2]
    if body == ")" and aggregate in AGGREGATES:
        raise ApiError(400, "PGRST123", "Use of aggregate functions is not allowed")
    if not relation or (colon and not alias) or (spread and colon):
        raise unparseable(f"select parameter ({item})", "a relation's name is missing")
    joins = [hint for hint in hints if hint in {"inner", "left"}]
    keys = [hint for hint in hints if hint not in {"inner", "left"}]
    if len(joins) > 1 or len(keys) > 1 or "" in hints:
        raise unparseable(f"select parameter ({item})", "more than one hint")
    return Embed(
        relation=unquote(relation.strip()),
        selection=parse_selection(body[:-1], depth + 1),
        alias=unquote(alias.strip()) if alias else None,
        hint=keys[0] if keys else None,
        inner="inner" in joins,
        spread=spread,
    )


def _parse_field(item: str) -> Field:
    if item == "*":
        return Field(Path("*"))
    alias = None
    match = re.match(r'("(?:[^"\\]|\\.)*"|[^":]+):(?!:)', item)
    rest = item
    if match is not None:
        alias, rest = unquote(match[1].strip()), item[match.end() :]
    rest, double_colon, cast = rest.partition("::")
    if double_colon and not _CAST.fullmatch(cast):
        raise unparseable(f"select parameter ({item})", "bad cast")
    path = parse_path(rest)
    if path.column == "*":
        raise unparseable(f"select parameter ({item})", "unexpected '*'")
    return Field(path, alias, cast or None)


def _parse_condition(item: str, depth: int) -> Condition:
    match = re.match(r"(not\.)?(and|or)(?=\()", item)
    if match is not None:
        return parse_logic(
            match[2], item[match.end() :], negated=match[1] is not None, depth=depth + 1
        )
    name, dot, rest = _split_at_dot(item)
    if not dot:
        raise unparseable(f"logic tree ({item})", "an operator is missing")
    return _parse_comparison(parse_path(name), rest, in_tree=True)


def _parse_comparison(path: Path, text: str, *, in_tree: bool) -> Filter:
    negated = text.startswith("not.")
    body = text[4:] if negated else text
    match = _OPERATOR.match(body)
    if match is None:
        raise unparseable(f"filter ({text})", f'unexpected "{body[:1]}" expecting an operator')
    operator, modifier, value = match["name"], match["modifier"], body[match.end() :]
    if operator == "in":
        return Filter(path, operator, _parse_list(text, value, modifier), negated)
    if in_tree:
        value = unquote(value)
    if operator == "is":
        if value.lower() not in IS_VALUES or modifier is not None:
            raise unparseable(f"filter ({text})", "`is` takes null, not_null, true, false, unknown")
        return Filter(path, operator, value.lower(), negated)
    if operator in COMPARISONS:
        allowed = modifier is None or (modifier in {"any", "all"} and operator in QUANTIFIABLE)
    else:
        allowed = operator in TEXT_SEARCHES
    if not allowed:
        raise unparseable(f"filter ({text})", f'unexpected "{operator}" expecting an operator')
    return Filter(path, operator, value, negated, modifier)


def _parse_list(text: str, value: str, modifier: str | None) -> tuple[str, ...]:
    stripped = value.strip()
    if modifier is not None or not (stripped.startswith("(") and stripped.endswith(")")):
        raise unparseable(f"filter ({text})", "`in` takes values in parentheses")
    return tuple(unquote(item.strip()) for item in split_list(stripped[1:-1]))


def split_list(text: str) -> list[str]:
    """The elements of `in.(…)`: only quotes protect a comma there."""
    if not text:
        return []
    items = re.findall(r'(?:^|,)(\s*"(?:[^"\\]|\\.)*"\s*(?=,|$)|[^,]*)', text, flags=re.DOTALL)
    return list(items)


def _take_name(text: str) -> tuple[str, str]:
    """A leading name, quoted or up to the next arrow, and what follows it."""
    if text.startswith('"'):
        match = re.match(r'"((?:[^"\\]|\\.)*)"', text, flags=re.DOTALL)
        if match is None:
            raise unparseable(f"column ({text})", "a quote is not closed")
        return unquote(match.group()), text[match.end() :]
    arrow = _STEP.search(text)
    end = arrow.start() if arrow else len(text)
    name = text[:end].strip()
    if re.search(r'[(),"]', name):
        raise unparseable(f"column ({text})", "unexpected character")
    return name, text[end:]


def _split_at_dot(text: str) -> tuple[str, str, str]:
    """Name, dot, rest, at the first dot that is in no quotes."""
    match = re.match(r'((?:"(?:[^"\\]|\\.)*"|[^".])+)(\.)(.*)', text, flags=re.DOTALL)
    return (match[1], match[2], match[3]) if match else (text, "", "")


def _split_words(text: str) -> tuple[str, list[str]]:
    name, _, rest = _split_at_dot(text)
    return name, rest.split(".") if rest else []


def _is_index(key: str) -> bool:
    return re.fullmatch(r"-?\d+", key) is not None
