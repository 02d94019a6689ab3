"""What the exposed schema holds: tables, keys, relationships, functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bridge.sandbox.rest.errors import ApiError, unsupported
from bridge.sandbox.rest.grammar import Embed

EXPOSED = "public"

TABLES = """
select c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'v', 'm', 'p', 'f')
order by c.relname, a.attnum
"""
PRIMARY_KEYS = """
select t.relname, array(
  select a.attname::text from unnest(k.conkey) with ordinality u (number, position)
  join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by u.position
)
from pg_constraint k join pg_class t on t.oid = k.conrelid
where k.contype = 'p' and k.connamespace = %s::regnamespace
"""
FOREIGN_KEYS = """
select k.conname, source.relname, target.relname,
  array(
    select a.attname::text from unnest(k.conkey) with ordinality u (number, position)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by u.position
  ),
  array(
    select a.attname::text from unnest(k.confkey) with ordinality u (number, position)
    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.number order by u.position
  ),
  exists (
    select from pg_constraint u
    where u.conrelid = k.conrelid and u.contype in ('p', 'u') and u.conkey <@ k.conkey
  )
from pg_constraint k
join pg_class source on source.oid = k.conrelid
join pg_class target on target.oid = k.confrelid
where k.contype = 'f' and k.connamespace = %s::regnamespace
  and target.relnamespace = k.connamespace and k.conparentid = 0
"""
FUNCTIONS = """
select p.proname, coalesce(p.proargnames, '{}'),
  array(
    select format_type(t, null) from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) t
  ),
  coalesce(p.proargmodes::text[], '{}'), p.pronargdefaults, p.provariadic <> 0, p.proretset,
  r.typtype = 'c' or r.typname = 'record' or coalesce(p.proargmodes::text[] && '{o,b,t}', false),
  r.typname, coalesce((select relname from pg_class where oid = r.typrelid), ''),
  p.provolatile <> 'v'
from pg_proc p join pg_type r on r.oid = p.prorettype
where p.pronamespace = %s::regnamespace and p.prokind = 'f'
  and r.typname not in ('trigger', 'event_trigger')
"""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`source (columns)` references `target (target_columns)`; `unique` if at most one row does."""

    name: str
    source: str
    target: str
    columns: tuple[str, ...]
    target_columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class Relationship:
    """How rows of one table find those of another.

    Attributes:
        on: pairs (column of the other table, column of this one).
        to_one: whether there is at most one.
    """

    table: str
    on: tuple[tuple[str, str], ...]
    to_one: bool


@dataclass(frozen=True, slots=True)
class Argument:
    """One input of a function; an unnamed one has an empty name."""

    name: str
    type: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Function:
    """One function that rpc can call."""

    name: str
    arguments: tuple[Argument, ...]
    variadic: bool
    returns_set: bool
    returns_row: bool
    return_type: str
    return_table: str
    read_only: bool

    def takes(self, names: set[str]) -> bool:
        """Whether a call with exactly these named arguments is one of this function."""
        own = {argument.name for argument in self.arguments}
        needed = {argument.name for argument in self.arguments if not argument.optional}
        return needed <= names <= own and "" not in own

    @property
    def takes_whole_body(self) -> bool:
        """A single unnamed JSON argument gets the body as it is."""
        return (
            len(self.arguments) == 1
            and self.arguments[0].name == ""
            and self.arguments[0].type in {"json", "jsonb"}
        )


@dataclass(frozen=True, slots=True)
class Schema:
    """A snapshot of the exposed schema."""

    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    primary_keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    foreign_keys: tuple[ForeignKey, ...] = ()
    functions: dict[str, list[Function]] = field(default_factory=dict)

    def function(self, name: str, names: set[str], *, has_body: bool) -> Function:
        """The one function of that name which takes these arguments.

        Raises:
            ApiError: PGRST202 if there is none, PGRST203 if there are several.
        """
        candidates = self.functions.get(name, [])
        fitting = [function for function in candidates if function.takes(names)]
        if not fitting and has_body:
            fitting = [function for function in candidates if function.takes_whole_body]
        if len(fitting) > 1:
            raise ApiError(
                300,
                "PGRST203",
                f"Could not choose the best candidate function between: {EXPOSED}.{name} "
                f"({len(fitting)} overloads take these arguments)",
                None,
                "Try renaming the parameters or the function itself in the database",
            )
        if fitting:
            return fitting[0]
        arguments = ", ".join(sorted(names))
        wanted = f"with parameters {arguments}" if names else "without parameters"
        raise ApiError(
            404,
            "PGRST202",
            f"Could not find the function {EXPOSED}.{name}"
            f"{f'({arguments})' if names else ' without parameters'} in the schema cache",
            f"Searched for the function {EXPOSED}.{name} {wanted}, "
            "but no matches were found in the schema cache.",
        )

    def columns(self, table: str) -> dict[str, str]:
        """Column names of a table, with their types.

        Raises:
            ApiError: PGRST205 if there is no such table.
        """
        try:
            return self.tables[table]
        except KeyError:
            raise ApiError(
                404,
                "PGRST205",
                f"Could not find the table '{EXPOSED}.{table}' in the schema cache",
            ) from None

    def relationship(self, table: str, embed: Embed) -> Relationship:
        """The one relationship an embed means.

        Raises:
            ApiError: PGRST200 if there is none, PGRST201 if the embed must say which.
        """
        found = [*self._to_one(table, embed), *self._to_many(table, embed)]
        if not found:
            if self._joined_by_a_third(table, embed.relation):
                raise unsupported(
                    f"embedding '{embed.relation}' in '{table}' through a third table"
                )
            raise ApiError(
                400,
                "PGRST200",
                f"Could not find a relationship between '{table}' and '{embed.relation}' "
                "in the schema cache",
                f"Searched for a foreign key relationship between '{table}' and "
                f"'{embed.relation}' in the schema '{EXPOSED}', but no matches were found.",
            )
        if len(found) > 1:
            raise ApiError(
                300,
                "PGRST201",
                "Could not embed because more than one relationship was found for "
                f"'{table}' and '{embed.relation}'",
                None,
                "Name the foreign key or its column after an exclamation mark.",
            )
        return found[0]

    def _to_one(self, table: str, embed: Embed) -> list[Relationship]:
        return [
            Relationship(key.target, tuple(zip(key.target_columns, key.columns, strict=True)), True)
            for key in self.foreign_keys
            if key.source == table
            and embed.relation in {key.target, key.name, *key.columns[:1]}
            and embed.hint in {None, key.name, key.target, *key.columns}
        ]

    def _to_many(self, table: str, embed: Embed) -> list[Relationship]:
        return [
            Relationship(
                key.source, tuple(zip(key.columns, key.target_columns, strict=True)), key.unique
            )
            for key in self.foreign_keys
            if key.target == table
            and embed.relation in {key.source, key.name}
            and embed.hint in {None, key.name, key.source, *key.columns}
        ]

    def _joined_by_a_third(self, table: str, other: str) -> bool:
        targets: dict[str, set[str]] = {}
        for key in self.foreign_keys:
            targets.setdefault(key.source, set()).add(key.target)
        return any({table, other} <= found for found in targets.values())


async def read_schema(connection: psycopg.AsyncConnection[Any]) -> Schema:
    """Read the catalogue."""

    async def rows(query: str) -> Sequence[Any]:
        return await (await connection.execute(query.encode(), [EXPOSED])).fetchall()

    tables: dict[str, dict[str, str]] = {}
    for table, column, kind in await rows(TABLES):
        tables.setdefault(table, {})[column] = kind
    keys = {table: tuple(columns) for table, columns in await rows(PRIMARY_KEYS)}
    foreign_keys = tuple(
        ForeignKey(name, source, target, tuple(columns), tuple(target_columns), unique)
        for name, source, target, columns, target_columns, unique in await rows(FOREIGN_KEYS)
    )
    functions: dict[str, list[Function]] = {}
    for row in await rows(FUNCTIONS):
        function = _function(*row)
        functions.setdefault(function.name, []).append(function)
    return Schema(tables, keys, foreign_keys, functions)


def _function(
    name: str,
    names: list[str],
    types: list[str],
    modes: list[str],
    default_count: int,
    variadic: bool,
    returns_set: bool,
    returns_row: bool,
    return_type: str,
    return_table: str,
    read_only: bool,
) -> Function:
    inputs = [index for index in range(len(types)) if not modes or modes[index] in "ibv"]
    required = len(inputs) - default_count
    arguments = tuple(
        Argument(names[index] if index < len(names) else "", types[index], position >= required)
        for position, index in enumerate(inputs)
    )
    return Function(
        name, arguments, variadic, returns_set, returns_row, return_type, return_table, read_only
    )
