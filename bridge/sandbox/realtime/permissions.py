"""What PostgreSQL lets a caller see: rows, columns, private channels.

The connection logs in as `authenticator` and asks every question under the caller's role and
claims, in a transaction that is rolled back.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import psycopg
from loguru import logger
from psycopg.sql import SQL, Composable, Identifier

from bridge.sandbox.pool import Connection
from bridge.sandbox.realtime.channels import Channel

CACHED_S = 5.0
"""How long grants are believed; rows are asked for each time."""

EXTENSIONS = ("broadcast", "presence")
Caller = tuple[str, str]
"""Role and claims as JSON text."""

BECOME = b"""
select set_config('request.jwt.claims', %s, true), set_config('request.jwt.claim.sub', %s, true),
  set_config('request.jwt.claim.role', %s, true), set_config('role', %s, true)
"""


@dataclass(slots=True)
class TableFacts:
    """What is known of a watched table."""

    name: Identifier
    primary_key: tuple[str, ...]
    types: dict[str, str]
    has_row_security: bool
    readable: dict[str, frozenset[str]] = field(default_factory=dict)
    asked_at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        """Whether it may still be believed."""
        return time.monotonic() - self.asked_at < CACHED_S


@dataclass(slots=True)
class Permissions:
    """Asks one question at a time."""

    connection: Connection
    _turn: anyio.Lock = field(default_factory=anyio.Lock)
    _facts: dict[int, TableFacts] = field(default_factory=dict)

    async def facts(self, oid: int, name: Identifier) -> TableFacts:
        """Keys, types and row security of a table."""
        known = self._facts.get(oid)
        if known is not None and known.is_fresh:
            return known
        async with self._turn:
            cursor = await self.connection.execute(
                b"select c.relrowsecurity, coalesce(("
                b" select array_agg(a.attname::text) from pg_index i join pg_attribute a"
                b" on a.attrelid = i.indrelid and a.attnum = any(i.indkey)"
                b" where i.indrelid = c.oid and i.indisprimary), '{}'), ("
                b" select array_agg(array[a.attname::text, t.typname::text] order by a.attnum)"
                b" from pg_attribute a join pg_type t on t.oid = a.atttypid"
                b" where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)"
                b" from pg_class c where c.oid = %s",
                [oid],
            )
            row = await cursor.fetchone()
        if row is None:
            raise LookupError("the table is gone")
        row_security, primary_key, types = row
        made = TableFacts(name, tuple(primary_key), dict(types), row_security)
        self._facts[oid] = made
        return made

    async def readable_columns(self, oid: int, facts: TableFacts, role: str) -> frozenset[str]:
        """The columns that a role may select."""
        if role not in facts.readable:
            async with self._turn:
                cursor = await self.connection.execute(
                    b"select x from unnest(%s::text[]) x"
                    b" where has_column_privilege(%s, %s::oid, x, 'SELECT')",
                    [list(facts.types), role, oid],
                )
                facts.readable[role] = frozenset(name for (name,) in await cursor.fetchall())
        return facts.readable[role]

    async def visible_rows(
        self, facts: TableFacts, callers: Sequence[Caller], rows: Sequence[str]
    ) -> list[set[int]]:
        """For each caller the indexes of the rows that its policies show, by primary key.

        Args:
            facts: of a table with a primary key.
            callers: asked in one round trip; one whose policies fail sees nothing.
            rows: as JSON objects.
        """
        try:
            return await self._ask(facts, callers, rows)
        except psycopg.Error:
            if len(callers) == 1:
                logger.warning("a policy failed for a Realtime subscriber", table=str(facts.name))
                return [set()]
        return [(await self.visible_rows(facts, [caller], rows))[0] for caller in callers]

    async def _ask(
        self, facts: TableFacts, callers: Sequence[Caller], rows: Sequence[str]
    ) -> list[set[int]]:
        same_key: list[Composable] = [
            SQL("t.{0} = r.{0}").format(Identifier(name)) for name in facts.primary_key
        ]
        query = SQL(
            "select a.place from unnest(%s::int[], %s::text[]) a(place, row_text),"
            " lateral jsonb_populate_record(null::{table}, a.row_text::jsonb) r"
            " where exists (select 1 from {table} t where {same_key})"
        ).format(table=facts.name, same_key=SQL(" and ").join(same_key))
        indexes, cursors = list(range(len(rows))), []
        connection = self.connection
        async with (
            self._turn,
            connection.transaction(force_rollback=True),
            connection.pipeline(),
        ):
            for role, claims in callers:
                await connection.execute(BECOME, _identity(role, claims))
                cursors.append(await connection.execute(query, [indexes, list(rows)]))
            return [{index for (index,) in await cursor.fetchall()} for cursor in cursors]

    async def authorize(self, channel: Channel) -> None:
        """Set what the caller may do on a private channel: policies on `realtime.messages` say."""
        channel.may_read, channel.may_write = await self.of_topic(channel.name, channel.caller)

    async def of_topic(self, topic: str, caller: Caller) -> tuple[frozenset[str], frozenset[str]]:
        """The extensions that a caller may read and write on a private topic."""
        connection = self.connection
        probes = {str(uuid.uuid4()): extension for extension in EXTENSIONS}
        async with self._turn, connection.transaction(force_rollback=True):
            await connection.execute(b"set local role service_role")
            for probe, extension in probes.items():
                await connection.execute(
                    b"insert into realtime.messages (id, topic, extension) values (%s, %s, %s)",
                    [probe, topic, extension],
                )
            await connection.execute(b"select set_config('realtime.topic', %s, true)", [topic])
            await connection.execute(BECOME, _identity(*caller))
            cursor = await connection.execute(
                b"select id::text from realtime.messages where id = any(%s::uuid[])", [list(probes)]
            )
            readable = frozenset(probes[probe] for (probe,) in await cursor.fetchall())
            writable = set()
            for extension in EXTENSIONS:
                try:
                    async with connection.transaction():
                        await connection.execute(
                            b"insert into realtime.messages (topic, extension) values (%s, %s)",
                            [topic, extension],
                        )
                except psycopg.Error:
                    continue
                writable.add(extension)
        return readable, frozenset(writable)


def _identity(role: str, claims: str) -> list[str]:
    subject = json.loads(claims).get("sub", "")
    return [claims, str(subject), role, role]
